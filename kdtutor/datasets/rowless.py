"""What data have in common whose training part has no rows in memory."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..tasks import Task
from .data import Data
from .split import Split


class Rowless:
    """The base of ``GeneratedData`` and of what ``from_loaders`` returns: their batches have no
    view id, there is nothing to augment and nothing to cut a validation split off. Splits with rows
    may stand beside the training part, to measure on.
    """

    name: str
    classes: tuple[str, ...]
    task: Task
    train: Any
    validation: Any
    test: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]

    augment = None
    views = None

    def _check_rows(self) -> None:
        """Raises ``ValueError`` for a split with rows whose labels the task does not allow."""
        for part, split in (("validation", self.validation), ("test", self.test)):
            if isinstance(split, Split):
                self.task.check_labels(split.y, len(self.classes), f"{self.name}: {part}")

    @cached_property
    def _measured(self) -> Data:
        """The rows that there are, as ordinary data."""
        held = next(
            (split for split in (self.test, self.validation) if isinstance(split, Split)),
            Split(torch.zeros(0, 1), None),
        )
        return Data(
            self.name, self.classes, held, held, mean=self.mean, std=self.std, task=self.task
        )

    def holdout(self, fraction: float, seed: int = 0) -> tuple[Any, Any]:
        """(train, validation): the validation split that was given, since nothing can be cut off.

        Args:
            fraction: 0 leaves validation out; any other fraction has no further meaning.
            seed: Not used.

        Returns:
            The two parts, the second None if there is none.
        """
        return self.train, self.validation if fraction else None

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 images as the float32 that networks see; see ``Data.normalised``.

        Args:
            images: (B, C, H, W).

        Returns:
            The normalised images.
        """
        return self._measured.normalised(images)
