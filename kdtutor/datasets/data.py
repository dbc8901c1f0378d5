"""A whole dataset in memory: splits, classes, task, augmentation, normalisation; cut into batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..tasks import Classification, Task
from .batch import Batch, leaves, tree_map
from .split import Split, drawn, held_out
from .targets import check_movable, move_targets


@dataclass(frozen=True, eq=False)
class Data:
    """A dataset. Images are uint8 in memory and become normalised float32 batch by batch, on the
    device, without worker processes.

    Args:
        name: What tables call it.
        classes: Their names; () where there are none.
        train, test: The splits; test may be None.
        augment: None, an augmentation of ``datasets.augment``, or any callable of a uint8 batch
            (whose views then have no id).
        mean, std: Per channel, of pixels scaled to [0, 1]; a batch holds (x/255 - mean) / std.
            Empty: pixels in [0, 1].
        task: What a label is.
        images: Of inputs that are a mapping, the entries that hold images, to be normalised.

    Raises:
        ValueError: For labels that the task does not allow, targets that the augmentation cannot
            move, and uint8 entries of a mapping of which it is not said whether they are images.

    Example:
        >>> x, y = torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.arange(6) % 2
        >>> data = Data("own", ("even", "odd"), Split(x[:4], y[:4]), Split(x[4:], y[4:]))
        >>> next(data.batches(data.train, 4)).x.dtype
        torch.float32
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split | None = None
    augment: Any = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    task: Task = Classification()
    images: tuple[str, ...] | None = None

    def __post_init__(self):
        for part, split in (("train", self.train), ("test", self.test)):
            if split is None:
                continue
            if split.y is not None:
                self.task.check_labels(split.y, len(self.classes), f"{self.name}: {part}")
            named = split.x.items() if isinstance(split.x, Mapping) else ()
            unsaid = [k for k, t in named if t.dtype == torch.uint8]
            if unsaid and self.images is None:
                raise ValueError(
                    f"{self.name}: {', '.join(map(repr, unsaid))} of the inputs hold uint8. Are "
                    "they images, to be divided by 255, or masks, to be left alone? Say which are "
                    f"images: Data(..., images=({unsaid[0]!r},)), or images=() for none."
                )
        check_movable(self.task, self.augment, self.train.x, self.train.y, self.name)

    def __repr__(self) -> str:
        shape = "x".join(map(str, leaves(self.train.x)[0].shape[1:]))
        tested = 0 if self.test is None else len(self.test)
        return (
            f"Data({self.name}: {len(self.train)} train, {tested} test, {len(self.classes)} "
            f"classes, {shape}, augment={self.augment!r})"
        )

    @property
    def views(self) -> int | None:
        """How many distinct views of one image the augmentation can make; None when its views have
        no id.
        """
        return 1 if self.augment is None else getattr(self.augment, "views", None)

    def augmented(self, augment) -> "Data":
        """The same data with another augmentation (None: none)."""
        return replace(self, augment=augment)

    def class_indices(self, what: str) -> Tensor:
        """The training labels (N,), for what needs one class per example.

        Args:
            what: Who asks, for the message.

        Raises:
            ValueError: Where the labels are something else.
        """
        y = self.train.class_indices
        if y is None:
            given = (
                "no labels"
                if self.train.y is None
                else [tuple(t.shape) for t in leaves(self.train.y)]
            )
            raise ValueError(
                f"{what} needs one class index per example, (N,) whole numbers; {self.name} has "
                f"{given} (task {self.task!r})."
            )
        return y

    def without(self, *classes: int) -> "Data":
        """The data whose *training* set lacks these classes; the classes stay in the label space
        and in the test set. Raises ``ValueError`` unless labels are one class per example.
        """
        gone = torch.tensor([int(c) for c in classes])
        return replace(
            self,
            name=f"{self.name}-without-{'-'.join(map(str, classes))}",
            train=self.train.select(~torch.isin(self.class_indices("without"), gone)),
        )

    def subset(self, n: int, seed: int = 0) -> "Data":
        """The data with about n training examples, drawn under a seed: in equal shares per class
        where there are classes, else at random.
        """
        if not 0 < n <= len(self.train):
            raise ValueError(
                f"a subset of {n} was asked for, but {self.name} has {len(self.train)} training "
                "examples."
            )
        train = self.train.select(drawn(self.train, n, seed))
        return replace(self, name=f"{self.name}-{n}", train=train)

    def holdout(self, fraction: float, seed: int = 0) -> tuple[Split, Split | None]:
        """Cuts the training set in two, in equal shares per class; copies of one example (the same
        ``index``) stay on one side.

        Args:
            fraction: Of the examples, to hold out; 0 keeps everything for training.
            seed: Decides which.

        Returns:
            (train, validation); the second is None for 0.

        Raises:
            ValueError: For a fraction outside [0, 1).
        """
        if not 0 <= fraction < 1:
            raise ValueError(
                f"validation fraction {fraction}: expected 0 (no validation split) or a fraction "
                "below 1."
            )
        if fraction == 0:
            return self.train, None
        held = held_out(self.train, max(1, round(fraction * len(self.train))), seed)
        return self.train.select(~held), self.train.select(held)

    def steps(self, split: Split, batch_size: int) -> int:
        """Batches of an epoch, without a last, smaller one."""
        return max(1, len(split) // batch_size)

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 images (B, C, H, W) as the float32 that networks see; float inputs pass unchanged."""
        if images.dtype != torch.uint8:
            return images
        x = images.float()
        if self.mean:
            shape = (1, -1) + (1,) * (x.ndim - 2)
            mean, std = (
                torch.tensor(v, device=x.device).view(shape) for v in (self.mean, self.std)
            )
            x.mul_(1 / (255 * std)).sub_(mean / std)
        else:
            x.mul_(1 / 255)
        # Channels last comes at the end: per-channel arithmetic in that layout has an inner loop of
        # three (measured: half as fast).
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

    def _inputs(self, x):
        if isinstance(x, Mapping):
            return {k: self.normalised(v) if k in (self.images or ()) else v for k, v in x.items()}
        return self.normalised(x)

    def batches(
        self,
        split: Split,
        batch_size: int,
        *,
        shuffle: torch.Generator | None = None,
        augment: bool = False,
        view: int | None = None,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """Batches of a split.

        Args:
            split: Of this dataset.
            batch_size: Examples per batch.
            shuffle: A CPU generator that decides order and views (None: in order).
            augment: Apply the training augmentation, to whole batches: views drawn at random, or
                the one fixed ``view``; masks and boxes move with their pixels.
            view: The id of that one view.
            device: Where batches lie.
            drop_last: Leave out a last batch that is smaller than the others; it is never left out
                if it is the only one.

        Yields:
            ``Batch``; view ids are the augmentation's own, else 0.
        """
        order = (
            torch.randperm(len(split), generator=shuffle)
            if shuffle is not None
            else torch.arange(len(split))
        )
        x_all, y_all = (tree_map(lambda t: t.to(device), v) for v in (split.x, split.y))
        change = self.augment if augment else None
        source = f"{split.source}/{change!r}/{self.mean}/{self.std}"
        for start in range(0, len(split), batch_size):
            rows = order[start : start + batch_size]
            if drop_last and start and len(rows) < batch_size:
                return
            there = rows.to(device, non_blocking=True)
            take = lambda t: t.index_select(0, there)  # ten times as fast as t[there]
            x, y = tree_map(take, x_all), tree_map(take, y_all)
            ids = torch.full((len(rows),), view or 0)
            if change is not None and self.views is not None:
                ids = change.sample(len(rows), shuffle) if view is None else ids
                x, y = change(x, ids), move_targets(self.task, change, y, ids, x.shape[2:])
            elif change is not None:
                x, ids = change(x), None
            yield Batch(self._inputs(x), y, split.index[rows], ids, source)
