"""Any number of classes per example."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import explained
from ..taps import call, logits_of
from .metric import Metric
from .task import Task, check_width, described, full_precision, labels_needed


@explained
def mean_average_precision(net: nn.Module, batches: Iterable) -> float:
    """The mean over classes of the average precision of ranking all examples by a class's logit.

    AP = sum_n (R_n - R_{n-1}) P_n over the thresholds, with precision P_n and recall R_n of all
    examples at or above the n-th highest logit (examples of equal logits enter together). Classes
    without a positive example are left out.

    Args:
        net: A network whose answer has logits (B, C).
        batches: Batches with ``x`` and multi-hot labels ``y`` (B, C).

    Returns:
        The mean in [0, 1]; NaN if no class has a positive example.

    Raises:
        ValueError: For logits and labels that do not fit, or batches without labels.

    Example:
        >>> from types import SimpleNamespace
        >>> logits, labels = torch.tensor([[3.0], [2], [1]]), torch.tensor([[1], [0], [1]])
        >>> batch = SimpleNamespace(x=logits, y=labels)
        >>> round(mean_average_precision(torch.nn.Identity(), [batch]), 4)  # (1 + 2/3) / 2
        0.8333
    """
    logits, y = _gathered(net, batches)
    precisions = [
        _average_precision(logits[:, c], y[:, c]) for c in range(y.shape[1]) if bool(y[:, c].any())
    ]
    return sum(precisions) / len(precisions) if precisions else float("nan")


def _average_precision(score: Tensor, positive: Tensor) -> float:
    order = score.argsort(descending=True)
    score, hits = score[order], positive[order].cumsum(0).double()
    last = torch.ones_like(score, dtype=torch.bool)  # the last example of each distinct score
    last[:-1] = score[1:] != score[:-1]
    precision = hits / torch.arange(1, len(hits) + 1)
    found = hits[last]
    gained = torch.diff(found, prepend=found.new_zeros(1)) / hits[-1]
    return float((gained * precision[last]).sum())


@explained
def label_accuracy(net: nn.Module, batches: Iterable) -> float:
    """The share of all (example, class) pairs that are right: the logit is above 0 exactly where
    the label is set.

    Args:
        net: A network whose answer has logits (B, C).
        batches: Batches with ``x`` and multi-hot labels ``y`` (B, C).

    Returns:
        The accuracy in [0, 1]; NaN for no batches.

    Raises:
        ValueError: As ``mean_average_precision`` does.

    Example:
        >>> from types import SimpleNamespace
        >>> logits, labels = torch.tensor([[3.0, -1, -1, 2]]), torch.tensor([[1, 0, 0, 0]])
        >>> batch = SimpleNamespace(x=logits, y=labels)
        >>> label_accuracy(torch.nn.Identity(), [batch])
        0.75
    """
    logits, y = _gathered(net, batches)
    return float(((logits > 0) == y).double().mean())


def _gathered(net, batches) -> tuple[Tensor, Tensor]:
    """All logits and all labels, (N, C) float and bool on the CPU."""
    logits, labels = [], []
    for batch in batches:
        labels_needed(batch.y, "a multi-label metric")
        answer = logits_of(call(net, batch.x))
        _check(answer, batch.y)
        logits.append(full_precision(answer).detach().cpu())
        labels.append(batch.y.bool().cpu())
    if not logits:
        return torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.bool)
    return torch.cat(logits), torch.cat(labels)


@explained
@dataclass(frozen=True, repr=False)
class MultiLabel(Task):
    """Any number of classes per example: logits (B, C), multi-hot labels (B, C) of zeros and ones.

    The label loss is the binary cross-entropy of sigmoid(z), its mean over all pairs; metrics are
    ``mean_average_precision`` and ``label_accuracy``. There is no class axis: the classes do not
    exclude one another, so a softmax over them means nothing.

    Example:
        >>> loss = MultiLabel().loss(torch.zeros(1, 3), torch.tensor([[1, 0, 1]]))
        >>> round(float(loss), 4)  # log 2
        0.6931
    """

    name = "multi_label"
    metrics = (
        Metric(mean_average_precision, higher_is_better=True),
        Metric(label_accuracy, higher_is_better=True),
    )

    def loss(self, logits: Tensor, y) -> Tensor:
        """The binary cross-entropy, its mean over all examples and classes.

        Args:
            logits: (B, C).
            y: (B, C) zeros and ones, of any type.

        Returns:
            A scalar, in float32 or more.

        Raises:
            ValueError: If the batch has no labels, or the shapes differ.
        """
        labels_needed(y, "the binary cross-entropy")
        _check(logits, y)
        logits = full_precision(logits)
        return F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype))

    def check_labels(self, y, classes: int, where: str) -> None:
        """Checks that labels are (N, classes) zeros and ones.

        Args:
            y: The labels of a split, or None.
            classes: How many classes there are.
            where: What the labels are, for the message.

        Raises:
            ValueError: If they are not.
        """
        if y is None:
            return
        if not isinstance(y, Tensor) or y.ndim != 2 or y.shape[1] != classes:
            raise ValueError(
                f"{where} labels are {described(y)}: multi-label data needs zeros and ones of "
                f"shape (N, {classes}), a column per class."
            )
        wrong = ((y != 0) & (y != 1)).any(1).nonzero().flatten()
        if len(wrong):
            raise ValueError(
                f"{where} labels hold other values than 0 and 1 in {len(wrong)} of {len(y)} rows, "
                f"the first at position {int(wrong[0])}: {y[wrong[0]].tolist()}."
            )

    def check_first_batch(self, output, batch, classes: int, name: str) -> None:
        """Checks that the network answers with (B, C) logits for the labels' classes.

        Args:
            output: What the network returned.
            batch: The batch.
            classes: How many classes the dataset has.
            name: The dataset's name.

        Raises:
            ValueError: If it does not.
        """
        logits = self.logits(output)
        if logits.ndim != 2:
            raise ValueError(f"the student answers {described(logits)}: expected logits (B, C).")
        check_width(logits, 1, classes, name)
        if batch.y is not None:
            _check(logits, batch.y)


def _check(logits: Tensor, y) -> None:
    if logits.ndim != 2 or not isinstance(y, Tensor) or y.shape != logits.shape:
        raise ValueError(
            f"multi-label data needs logits (B, C) and labels (B, C); given logits "
            f"{tuple(logits.shape)} and labels {described(y)}."
        )
