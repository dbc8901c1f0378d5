"""Batches that a function makes: no rows, no files, as many as are asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..tasks import NoLabels, Task
from .batch import Batch
from .split import Split

Make = Callable[[torch.Generator, int, torch.device], tuple[Any, Any]]


@dataclass(frozen=True)
class Drawn:
    """A part of a dataset that is drawn anew each epoch: it has no rows to select.

    Args:
        steps: Batches per epoch, whatever their size.
        source: Names what makes them.
    """

    steps: int
    source: str
    x: Any = None
    y: Any = None

    def __len__(self) -> int:
        return self.steps


@dataclass(frozen=True, eq=False)
class GeneratedData:
    """A dataset whose batches a function makes, for ``fit`` like any other.

    Args:
        name: What tables call it.
        make: (generator, batch_size, device) -> (x, y); all chance comes from the generator (on the
            CPU), so that the same seed gives the same batches.
        steps_per_epoch: Batches that count as an epoch, whatever their size.
        classes: Names of the classes, if there are any.
        task: What a label is; by default there are none.
        validation, test: Fixed examples to measure on, or None.

    Raises:
        ValueError: For ``steps_per_epoch`` below 1.

    Example:
        >>> noise = GeneratedData("noise", lambda g, n, device: (torch.randn(n, 8, generator=g), None), 3)
        >>> [tuple(b.x.shape) for b in noise.batches(noise.train, 4)]
        [(4, 8), (4, 8), (4, 8)]
    """

    name: str
    make: Make
    steps_per_epoch: int
    classes: tuple[str, ...] = ()
    task: Task = NoLabels()
    validation: Split | None = None
    test: Split | None = None
    augment = None
    views = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self):
        if not isinstance(self.steps_per_epoch, int) or self.steps_per_epoch < 1:
            raise ValueError(
                f"steps_per_epoch={self.steps_per_epoch!r}: expected a whole number of at least 1."
            )

    @property
    def train(self) -> Drawn:
        """What is trained on."""
        return Drawn(self.steps_per_epoch, f"generated/{self.name}")

    def holdout(self, fraction: float, seed: int = 0) -> tuple[Drawn, Split | None]:
        """(train, validation): nothing is cut off, because nothing is there before it is drawn."""
        return self.train, self.validation if fraction else None

    def steps(self, split, batch_size: int) -> int:
        """Batches of an epoch."""
        return split.steps if isinstance(split, Drawn) else max(1, len(split) // batch_size)

    def batches(
        self,
        split: Drawn | Split,
        batch_size: int,
        *,
        shuffle: torch.Generator | None = None,
        augment: bool = False,
        view: int | None = None,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """``steps_per_epoch`` fresh batches, or those of a fixed split in order."""
        if isinstance(split, Drawn):
            generator = torch.Generator().manual_seed(0) if shuffle is None else shuffle
            for _ in range(split.steps):
                x, y = self.make(generator, batch_size, torch.device(device))
                yield Batch(x, y, source=split.source)
            return
        from .data import Data

        fixed = Data(self.name, self.classes, split, split, task=self.task)
        yield from fixed.batches(split, batch_size, device=device)
