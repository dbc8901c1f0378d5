"""Data without labels."""

from dataclasses import dataclass

from torch import Tensor

from ..errors import explained
from .task import Task, described


@explained
@dataclass(frozen=True, repr=False)
class NoLabels(Task):
    """No labels at all: y is None, there is no label loss and no metric.

    For training by a teacher's answers alone. To measure something after each epoch, pass
    ``metric=`` to ``fit``.

    Example:
        >>> NoLabels().metrics
        ()
    """

    name = "no_labels"

    def loss(self, logits: Tensor, y) -> Tensor:
        """There is none.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "the data has no labels (task NoLabels), so there is no label loss: leave the label "
            "term out (a weight of 0), or give the data labels and their task=."
        )

    def check_labels(self, y, classes: int, where: str) -> None:
        """Checks that there are no labels.

        Args:
            y: Must be None.
            classes: Not used.
            where: What the labels are, for the message.

        Raises:
            ValueError: If there are labels.
        """
        if y is not None:
            raise ValueError(
                f"{where} has labels ({described(y)}) but the task is NoLabels: pass y=None, or "
                "the task= that reads them."
            )
