"""One class per example."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..taps import call, logits_of
from .metric import Metric
from .task import (
    Task,
    check_range,
    check_width,
    described,
    full_precision,
    is_integer,
    labels_needed,
)


def accuracy(net: nn.Module, batches: Iterable) -> float:
    """Top-1 accuracy of a classifier: the share of examples whose largest logit is the label's.

    Args:
        net: A network whose answer has logits (B, C).
        batches: Batches with ``x`` and labels ``y`` (B,).

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
    right, seen = 0, 0
    for batch in batches:
        labels_needed(batch.y, "accuracy")
        logits = logits_of(call(net, batch.x))
        if logits.ndim != 2 or logits.shape[0] != len(batch.y):
            raise ValueError(
                f"accuracy needs logits (batch, classes); the network gave {tuple(logits.shape)} "
                f"for {len(batch.y)} labels. Pass metric= for other tasks."
            )
        right += (logits.argmax(1) == batch.y).sum()
        seen += len(batch.y)
    return float(right) / seen if seen else float("nan")


@dataclass(frozen=True, repr=False)
class Classification(Task):
    """One class index per example: logits (B, C), labels (B,) whole numbers 0..C-1.

    The label loss is the mean cross-entropy, -log softmax(z)_y; the metric is top-1 ``accuracy``.

    Example:
        >>> import torch
        >>> loss = Classification().loss(torch.zeros(2, 4), torch.tensor([0, 3]))
        >>> round(float(loss), 4)  # log 4
        1.3863
    """

    name = "classification"
    class_axis = 1
    metrics = (Metric(accuracy, higher_is_better=True),)

    def loss(self, logits: Tensor, y) -> Tensor:
        """The mean cross-entropy.

        Args:
            logits: (B, C).
            y: (B,) whole numbers.

        Returns:
            A scalar, in float32 or more.

        Raises:
            ValueError: If the batch has no labels, or the shapes do not fit.
        """
        labels_needed(y, "the cross-entropy")
        self._check(logits, y)
        return F.cross_entropy(full_precision(logits), y.long())

    def check_labels(self, y, classes: int, where: str) -> None:
        """Checks that labels are (N,) whole numbers in 0..classes-1.

        Args:
            y: The labels of a split, or None.
            classes: How many classes there are.
            where: What the labels are, for the message.

        Raises:
            ValueError: If they are not.
        """
        if y is None:
            return
        if not is_integer(y) or y.ndim != 1:
            raise ValueError(
                f"{where} labels are {described(y)}: classification needs one class index per "
                "example, whole numbers of shape (N,). For other labels give the data their task= "
                "(kdtutor.tasks)."
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

    def _check(self, logits: Tensor, y) -> None:
        if logits.ndim != 2 or not isinstance(y, Tensor) or y.shape != logits.shape[:1]:
            raise ValueError(
                f"classification needs logits (B, C) and class indices (B,); given logits "
                f"{tuple(logits.shape)} and labels {described(y)}."
            )
