"""Numbers instead of classes."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import explained
from ..taps import call, logits_of
from .metric import Metric
from .task import Task, described, full_precision, labels_needed


@explained
def mse(net: nn.Module, batches: Iterable) -> float:
    """The mean squared error over all values of all batches: less is better.

    Args:
        net: A network whose answer has the shape of the labels.
        batches: Batches with ``x`` and labels ``y``, (B,) or (B, D) float.

    Returns:
        The error, >= 0; NaN for no batches.

    Raises:
        ValueError: For an answer of another shape than the labels, or batches without labels.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> batch = SimpleNamespace(x=torch.tensor([1.0, 2.0]), y=torch.tensor([0.0, 4.0]))
        >>> mse(torch.nn.Identity(), [batch])
        2.5
    """
    total, seen = 0.0, 0
    for batch in batches:
        labels_needed(batch.y, "the mean squared error")
        values = logits_of(call(net, batch.x))
        _check(values, batch.y)
        total += (full_precision(values) - batch.y).square().sum().double()
        seen += batch.y.numel()
    return float(total) / seen if seen else float("nan")


@explained
@dataclass(frozen=True, repr=False)
class Regression(Task):
    """Numbers per example: labels (B,) or (B, D) float, and answers of exactly the same shape.

    The label loss and the metric are the mean squared error. A shape (B, 1) against (B,) is an
    error, because broadcasting would compare every example with every other. An augmentation leaves
    the numbers as they are: if yours are places in the image, give a task of your own.

    Example:
        >>> import torch
        >>> float(Regression().loss(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])))
        2.5
    """

    name = "regression"
    metrics = (Metric(mse, higher_is_better=False),)

    def loss(self, logits: Tensor, y) -> Tensor:
        """The mean squared error over all values.

        Args:
            logits: The network's values, (B,) or (B, D).
            y: Float labels of the same shape.

        Returns:
            A scalar, in float32 or more.

        Raises:
            ValueError: If the batch has no labels, or the shapes differ.
        """
        labels_needed(y, "the mean squared error")
        _check(logits, y)
        return (full_precision(logits) - y).square().mean()

    def check_labels(self, y, classes: int, where: str) -> None:
        """Checks that labels are float, (N,) or (N, D).

        Args:
            y: The labels of a split, or None.
            classes: Not used.
            where: What the labels are, for the message.

        Raises:
            ValueError: If they are not.
        """
        if y is None:
            return
        if not isinstance(y, Tensor) or not y.is_floating_point() or y.ndim not in (1, 2):
            raise ValueError(
                f"{where} labels are {described(y)}: regression needs float numbers of shape (N,) "
                "or (N, D); whole numbers become such with y.float()."
            )

    def check_first_batch(self, output, batch, classes: int, name: str) -> None:
        """Checks that the network's answer has the labels' shape.

        Args:
            output: What the network returned.
            batch: The batch.
            classes: Not used.
            name: The dataset's name.

        Raises:
            ValueError: If it has not.
        """
        if batch.y is not None:
            _check(self.logits(output), batch.y)


def _check(values: Tensor, y) -> None:
    if not isinstance(y, Tensor) or values.shape != y.shape:
        raise ValueError(
            f"regression needs answers and labels of one shape, (B,) or (B, D); given answers "
            f"{tuple(values.shape)} and labels {described(y)}. For (B, 1) against (B,) squeeze the "
            "network's answer or give the labels a second axis."
        )
