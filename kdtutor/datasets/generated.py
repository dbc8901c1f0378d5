"""Batches that are made rather than read: by a formula, a simulator, or a generator network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import explained
from ..tasks import NoLabels, Task
from .batch import Batch, sent, tree_map
from .pixels import inputs
from .rowless import Rowless
from .split import Split


@dataclass(frozen=True, eq=False)
class Generated:
    """The training part of ``GeneratedData``: it has no rows, only a number of batches per epoch.

    Args:
        steps: Batches per epoch; also its ``len``, whatever the batch size.
        source: Names it.

    Example:
        >>> len(Generated(10, "noise")), Generated(10, "noise").y
        (10, None)
    """

    steps: int
    source: str
    x: None = None
    y: None = None
    index: Tensor = field(default_factory=lambda: torch.arange(0))
    extra: dict = field(default_factory=dict)

    def __len__(self) -> int:
        return self.steps


@explained
@dataclass(frozen=True, eq=False)
class GeneratedData(Rowless):
    """A dataset without rows: every training batch is made when it is needed.

    It stands where a ``Data`` stands in ``fit``. Its batches have no index and no view id, so a
    teacher's answers cannot be cached, and methods that keep something per example cannot use it.

    Args:
        name: What it is called.
        make: ``make(generator, batch_size, device) -> (x, y)``, y None without labels. All chance
            must come from ``generator``, a CPU ``torch.Generator``: the same state, the same batch.
        steps_per_epoch: How many batches an epoch has, for any batch size.
        classes: The names of the classes, () without.
        task: What a label is. Default: there is none.
        validation: Measured after each epoch, None for nothing.
        test: Measured at the end, None for nothing.
        mean: Per channel, as in ``Data``; for uint8 images, made or read.
        std: Per channel.

    Raises:
        ValueError: For fewer than one step, or labels that the task does not allow.

    Example:
        >>> noise = GeneratedData(
        ...     "noise", lambda g, n, device: (torch.randn(n, 3, generator=g), None), 5
        ... )
        >>> len(list(noise.batches(noise.train, 2)))
        5
    """

    name: str
    make: Callable[[torch.Generator, int, Any], tuple]
    steps_per_epoch: int
    classes: tuple[str, ...] = ()
    task: Task = field(default_factory=NoLabels)
    validation: Split | None = None
    test: Split = None  # type: ignore[assignment]  # always a split after construction
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self):
        if not callable(self.make):
            raise ValueError(
                f"make={self.make!r}: expected a function (generator, batch_size, device) -> "
                "(x, y)."
            )
        if not isinstance(self.steps_per_epoch, int) or self.steps_per_epoch < 1:
            raise ValueError(
                f"steps_per_epoch={self.steps_per_epoch!r}: expected a whole number, 1 or more."
            )
        if self.test is None:
            object.__setattr__(self, "test", Split(torch.zeros(0, 1), None))
        self._check_rows()

    def __repr__(self) -> str:
        return (
            f"GeneratedData({self.name}: {self.steps_per_epoch} batches per epoch, "
            f"{len(self.test)} test, {len(self.classes)} classes, task={self.task!r})"
        )

    @cached_property
    def train(self) -> Generated:
        """What ``fit`` trains on."""
        return Generated(self.steps_per_epoch, f"generated/{self.name}")

    def steps(self, split, batch_size: int, drop_last: bool = True) -> int:
        """How many batches a pass has: ``steps_per_epoch`` for the training part.

        Args:
            split: ``train``, or a split with rows.
            batch_size: Examples per batch.
            drop_last: Leave out a last, smaller batch.

        Returns:
            The number of batches.
        """
        if isinstance(split, Generated):
            return split.steps
        return self._measured.steps(split, batch_size, drop_last)

    def batches(
        self,
        split,
        batch_size: int,
        *,
        shuffle: torch.Generator | None = None,
        augment: bool = False,
        view: int | None = None,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Batch]:
        """Batches: ``steps_per_epoch`` made ones for the training part, else those of a split.

        Args:
            split: ``train``, or a split with rows.
            batch_size: Examples per batch.
            shuffle: The generator that ``make`` draws from. None: one seeded with 0.
            augment: No meaning for what is made.
            view: No meaning for what is made.
            device: Where x and y go.
            drop_last: No meaning for what is made.
            epoch: No meaning for what is made.

        Returns:
            An iterator of ``Batch``.

        Raises:
            ValueError: If ``make`` returns something else than (x, y), or labels that the task does
                not allow.
        """
        if not isinstance(split, Generated):
            yield from self._measured.batches(
                split, batch_size, shuffle=shuffle, device=device, drop_last=drop_last
            )
            return
        generator = torch.Generator().manual_seed(0) if shuffle is None else shuffle
        for step in range(split.steps):
            made = self.make(generator, batch_size, device)
            if not isinstance(made, tuple) or len(made) != 2:
                raise ValueError(
                    f"{self.name}: make returned {type(made).__name__}, expected a pair (x, y); "
                    "without labels (x, None)."
                )
            if not step:
                where = f"{self.name}: the made batch's"
                self.task.check_labels(made[1], len(self.classes), where)
            x, y = (tree_map(lambda t: sent(t, device), v) for v in made)
            yield Batch(inputs(x, self.mean, self.std), y, None, None, split.source)
