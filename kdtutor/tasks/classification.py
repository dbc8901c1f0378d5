"""One class per example."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from ..errors import explained
from ..taps import call, logits_of
from .label_term import LabelTerm
from .metric import Metric
from .task import check_range, check_width, described, full_precision, is_integer, labels_needed


@explained
def accuracy(net: nn.Module, batches: Iterable) -> float:
    """Top-1 accuracy of a classifier: the share of examples whose largest logit is the label's.

    Args:
        net: A network whose answer has logits (B, C).
        batches: Batches with ``x`` and labels ``y`` (B,), or probabilities (B, C), of which the
            largest is the label.

    Returns:
        The accuracy in [0, 1]; NaN for no batches.

    Raises:
        ValueError: For logits that are not (B, C), or batches without labels.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> batch = SimpleNamespace(x=torch.eye(3), y=torch.tensor([0, 1, 0]))
        >>> round(accuracy(torch.nn.Identity(), [batch]), 4)
        0.6667
    """
    right: int | Tensor = 0
    seen = 0
    for batch in batches:
        labels_needed(batch.y, "accuracy")
        logits = logits_of(call(net, batch.x))
        if logits.ndim != 2 or logits.shape[0] != len(batch.y):
            raise ValueError(
                f"accuracy needs logits (batch, classes); the network gave {tuple(logits.shape)} "
                f"for {len(batch.y)} labels. Pass metric= for other tasks."
            )
        y = batch.y.argmax(1) if is_soft(batch.y) else batch.y
        right += (logits.argmax(1) == y).sum()
        seen += len(batch.y)
    return float(right) / seen if seen else float("nan")


def is_soft(y) -> TypeGuard[Tensor]:
    """Whether labels have the form of probabilities: floats, a row per example, two columns or
    more.
    """
    return isinstance(y, Tensor) and y.is_floating_point() and y.ndim == 2 and y.shape[1] > 1


@explained
@dataclass(frozen=True, repr=False)
class Classification(LabelTerm):
    """One class per example: logits (B, C), labels (B,) whole numbers 0..C-1, or soft labels, rows
    of probabilities (B, C) as mixup makes them.

    The label loss is the mean cross-entropy, -log softmax(z)_y, or -sum_c y_c log softmax(z)_c;
    the metric is top-1 ``accuracy``. ``label_smoothing`` and ``class_weights`` change the loss as
    in ``torch.nn.CrossEntropyLoss``, not the metric.

    Example:
        >>> import torch
        >>> loss = Classification().loss(torch.zeros(2, 4), torch.tensor([0, 3]))
        >>> round(float(loss), 4)  # log 4
        1.3863
    """

    name = "classification"
    class_axis = 1
    metrics = (Metric(accuracy, higher_is_better=True),)

    def as_labels(self, y):
        """A column (N, 1) of whole numbers as (N,), bools as 0 and 1; all else as it is.

        Args:
            y: Labels of any form, or None.

        Returns:
            The labels.

        Example:
            >>> Classification().as_labels(torch.tensor([[True], [False]]))
            tensor([1, 0])
        """
        if isinstance(y, Tensor) and y.dtype in (torch.uint16, torch.uint32, torch.uint64):
            y = y.long()  # torch computes nothing with these
        if isinstance(y, Tensor) and y.dtype == torch.bool and (y.ndim == 1 or y.shape[1:] == (1,)):
            y = y.long()
        return y[:, 0] if is_integer(y) and y.ndim == 2 and y.shape[1] == 1 else y

    def loss(self, logits: Tensor, y) -> Tensor:
        """The mean cross-entropy.

        Args:
            logits: (B, C).
            y: (B,) whole numbers, or (B, C) probabilities.

        Returns:
            A scalar, in float32 or more.

        Raises:
            ValueError: If the batch has no labels, or the shapes do not fit.
        """
        labels_needed(y, "the cross-entropy")
        self._check(logits, y)
        logits = full_precision(logits)
        return self.cross_entropy(logits, y.to(logits.dtype) if is_soft(y) else y.long())

    def check_labels(self, y, classes: int, where: str) -> None:
        """Checks that labels are (N,) whole numbers in 0..classes-1, or (N, classes) rows of
        probabilities.

        Args:
            y: The labels of a split, or None.
            classes: How many classes there are.
            where: What the labels are, for the message.

        Raises:
            ValueError: If they are not.
        """
        if classes:
            self.check_weights(classes, "the dataset")
        if y is None:
            return
        if is_soft(y):
            _check_rows(y, classes, where)
            return
        if not is_integer(y) or y.ndim != 1:
            raise ValueError(
                f"{where} labels are {described(y)}: classification needs one class index per "
                "example, whole numbers of shape (N,), or rows of probabilities (N, C). "
                f"{_remedy(y)} For other labels give the data their task= (kdtutor.tasks)."
            )
        if len(y):
            low, high = int(y.min()), int(y.max())
            if low < 0 or high >= classes:
                check_range(y, classes, None, where)

    def check_first_batch(self, output, batch, classes: int, name: str) -> None:
        """Checks that the network answers with (B, C) logits for at least the dataset's classes.

        Args:
            output: What the network returned.
            batch: The batch.
            classes: How many classes the dataset has.
            name: The dataset's name.

        Raises:
            ValueError: If it does not.
        """
        logits = self.logits(output)
        if batch.y is not None:
            self._check(logits, batch.y)
        if logits.ndim != 2:
            raise ValueError(f"the student answers {described(logits)}: expected logits (B, C).")
        check_width(logits, 1, classes, name)
        if logits.shape[1] == 1:
            raise ValueError(
                f"the student answers for a single class, of which a softmax is always sure: "
                f"nothing could be learned from {name}. Two classes need two outputs; one number "
                "to be predicted is task=Regression(), one yes or no task=MultiLabel()."
            )
        self.check_weights(logits.shape[1], "the student's answer")

    def _check(self, logits: Tensor, y) -> None:
        expected = logits.shape if is_soft(y) else logits.shape[:1]
        fits = isinstance(y, Tensor) and (is_soft(y) or not y.is_floating_point())
        if logits.ndim != 2 or not fits or y.shape != expected:
            raise ValueError(
                f"classification needs logits (B, C) and class indices (B,), or probabilities "
                f"(B, C); given logits {tuple(logits.shape)} and labels {described(y)}."
            )


def _check_rows(y: Tensor, classes: int, where: str) -> None:
    """Raises ``ValueError`` unless each row holds one probability for each class."""
    if classes and y.shape[1] != classes:
        raise ValueError(
            f"{where} labels are rows of {y.shape[1]} numbers but there are {classes} classes: "
            "soft labels have a probability for each."
        )
    wrong = (~(y >= 0).all(1) | ((y.double().sum(1) - 1).abs() > 1e-4)).nonzero().flatten()
    if len(wrong):
        first = [round(v, 4) for v in y[wrong[0]].tolist()[:8]]
        raise ValueError(
            f"{where} labels are no probabilities in {len(wrong)} of {len(y)} rows, the first at "
            f"position {int(wrong[0])}: {first}{' ...' if y.shape[1] > 8 else ''}. Soft labels are "
            ">= 0 and sum to 1; where several classes may be right at once the task is "
            "MultiLabel(), as in Data(..., task=MultiLabel())."
        )


def _remedy(y) -> str:
    """What to do about labels that are no class indices, where they tell it."""
    if not isinstance(y, Tensor) or y.ndim > 2:
        return ""
    if y.is_floating_point():
        return "Classes stored as floats: y.long(); numbers to be predicted: task=Regression()."
    if y.ndim == 2:
        return "One-hot rows: y.argmax(1); several classes at once: task=MultiLabel()."
    return ""
