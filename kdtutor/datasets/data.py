"""What every dataset becomes: tensors in memory, cut into batches that know which image and which
view they hold.

``Batch`` is what a distiller sees, ``Split`` holds the examples of one part (train or test),
``Data`` is a whole dataset. Images are uint8 in memory and become normalised float32 batch by
batch, on the device, without worker processes."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..tasks import Classification, Task


class Batch(NamedTuple):
    """One mini-batch.

    x: inputs on the device, (B, C, H, W) float for images, or a mapping of tensors.   y: labels
    (B,) or a mapping of tensors. index: (B,) int64 on the CPU, position of each example in the full
    training set. view: (B,) int64 on the CPU, id of the augmented view (same index + same view =
    same pixels), None if the view has no id. source: names the images and the augmentation that
    index and view refer to; the teacher's cache compares it."""

    x: Any
    y: Any
    index: Tensor | None = None
    view: Tensor | None = None
    source: str | None = None


def tree_map(function, value):
    """Applies a function to a tensor, or to every tensor of a mapping."""
    return (
        {k: function(v) for k, v in value.items()}
        if isinstance(value, Mapping)
        else function(value)
    )


def leaves(value) -> list[Tensor]:
    """The tensors of a tensor or of a mapping of tensors."""
    return list(value.values()) if isinstance(value, Mapping) else [value]


def digest(tensors: Sequence[Tensor]) -> str:
    """Twelve hex digits that name the exact contents, shapes and types of some tensors."""
    h = hashlib.blake2b(digest_size=6)
    for t in tensors:
        t = t.detach().cpu().contiguous()
        h.update(f"{t.dtype}{tuple(t.shape)}".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy() if t.numel() else b"")
    return h.hexdigest()


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of one part of a dataset.

    x: (N, C, H, W) uint8 images, or float features, or a mapping of tensors with N rows.   y: (N,)
    int64 or a mapping. index: (N,) positions in the training set this split was cut from.   extra:
    further tensors with N rows (masks, boxes). Raises ``ValueError`` for lengths that differ and
    for NaN or Inf among float inputs."""

    x: Any
    y: Any
    index: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self):
        n = len(leaves(self.x)[0])
        for name, t in (
            [("x", t) for t in leaves(self.x)]
            + [("y", t) for t in leaves(self.y)]
            + list(self.extra.items())
        ):
            if len(t) != n:
                raise ValueError(
                    f"{name} has {len(t)} rows but the split has {n} examples: every tensor needs "
                    "one row each."
                )
            if t.is_floating_point() and not bool(torch.isfinite(t).all()):
                bad = (
                    (~torch.isfinite(t.flatten(1) if t.ndim > 1 else t[:, None]))
                    .any(1)
                    .nonzero()
                    .flatten()
                )
                raise ValueError(
                    f"{name}: {len(bad)} of {n} examples hold NaN or Inf, the first at position "
                    f"{int(bad[0])}. "
                    "Clean or drop them before training."
                )
        if self.index is None:
            object.__setattr__(self, "index", torch.arange(n))
        if not self.source:
            object.__setattr__(self, "source", digest(leaves(self.x)))

    def __len__(self) -> int:
        return len(self.index)

    def select(self, positions) -> "Split":
        """The split with only these positions (a bool mask or positions, in this order); ``index``
        keeps pointing home.
        """
        positions = torch.as_tensor(positions)
        positions = (
            positions.nonzero().flatten() if positions.dtype == torch.bool else positions.long()
        )
        take = lambda t: t[positions]
        return Split(
            tree_map(take, self.x),
            tree_map(take, self.y),
            self.index[positions],
            {k: take(v) for k, v in self.extra.items()},
            self.source,
        )


@dataclass(frozen=True, eq=False)
class Data:
    """A dataset: ``train`` and ``test`` splits, class names, the augmentation of training batches
    and the normalisation.

    mean, std: per channel, of pixels scaled to [0, 1]; a batch holds (x/255 - mean) / std. Empty:
    no normalisation. augment: None, or an augmentation of ``datasets.augment`` (or any callable of
    a uint8 batch; its views have no id). Raises ``ValueError`` for labels outside 0..C-1."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    augment: Any = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    task: Task = Classification()

    def __post_init__(self):
        for part, split in (("train", self.train), ("test", self.test)):
            y = split.y
            if isinstance(y, Tensor) and y.ndim == 1 and len(y) and not y.is_floating_point():
                low, high = int(y.min()), int(y.max())
                if low < 0 or high >= len(self.classes):
                    raise ValueError(
                        f"{self.name}: {part} labels run from {low} to {high}, but "
                        f"{len(self.classes)} classes allow "
                        f"0 to {len(self.classes) - 1} only. Check the labels or the list of "
                        "class names."
                    )

    def __repr__(self) -> str:
        shape = "x".join(map(str, leaves(self.train.x)[0].shape[1:]))
        return (
            f"Data({self.name}: {len(self.train)} train, {len(self.test)} test, "
            f"{len(self.classes)} classes, {shape}, "
            f"augment={self.augment!r})"
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

    def without(self, *classes: int) -> "Data":
        """The data whose *training* set lacks these classes; the classes stay in the label space
        and in the test set.
        """
        gone = torch.tensor([int(c) for c in classes])
        return replace(
            self,
            name=f"{self.name}-without-{'-'.join(map(str, classes))}",
            train=self.train.select(~torch.isin(self.train.y, gone)),
        )

    def subset(self, n: int, seed: int = 0) -> "Data":
        """The data with about n training examples, drawn in equal shares per class under a seed."""
        if not 0 < n <= len(self.train):
            raise ValueError(
                f"a subset of {n} was asked for, but {self.name} has {len(self.train)} training "
                "examples."
            )
        return replace(
            self,
            name=f"{self.name}-{n}",
            train=self.train.select(_stratified(self.train.y, n, seed)),
        )

    def holdout(self, fraction: float, seed: int = 0) -> tuple[Split, Split | None]:
        """Cuts the training set into (train, validation), in equal shares per class; fraction 0
        keeps everything for training.
        """
        if not 0 <= fraction < 1:
            raise ValueError(
                f"validation fraction {fraction}: expected 0 (no validation split) or a fraction "
                "below 1."
            )
        if fraction == 0:
            return self.train, None
        held = torch.zeros(len(self.train), dtype=torch.bool)
        held[_stratified(self.train.y, max(1, round(fraction * len(self.train))), seed)] = True
        return self.train.select(~held), self.train.select(held)

    def steps(self, split, batch_size: int) -> int:
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
        """Batches of a split. shuffle: a CPU generator that decides order and views (None: in
        order).

        With ``augment`` the training augmentation is applied to whole batches, drawn at random or
        as the one fixed ``view``; view ids are then its own, else 0. A last batch smaller than the
        others is kept unless ``drop_last``; it is never dropped if it is the only one."""
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
            x, y = (
                tree_map(lambda t: t.index_select(0, there), v) for v in (x_all, y_all)
            )  # ten times as fast as t[there]
            ids = torch.full((len(rows),), view or 0)
            if change is not None and self.views is not None:
                ids = change.sample(len(rows), shuffle) if view is None else ids
                x = change(x, ids)
            elif change is not None:
                x, ids = change(x), None
            yield Batch(tree_map(self.normalised, x), y, split.index[rows], ids, source)


def _stratified(y, n: int, seed: int) -> Tensor:
    """n positions, spread over the classes in proportion (plain random where y is not class
    labels), sorted.
    """
    g = torch.Generator().manual_seed(seed)
    rows = len(leaves(y)[0])
    order = torch.randperm(rows, generator=g)
    if isinstance(y, Tensor) and y.ndim == 1 and not y.is_floating_point():
        # Rank each example within its class; taking the n smallest relative ranks takes the same
        # share of every class.
        rank = torch.empty(rows)
        for c in y.unique():
            mine = order[y[order] == c]
            rank[mine] = (torch.arange(len(mine)) + 0.5) / len(mine)
        order = order[rank[order].argsort(stable=True)]
    return order[:n].sort().values
