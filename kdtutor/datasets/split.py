"""The examples of one part of a dataset, and how some of them are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .batch import digest, leaves, tree_map


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of one part of a dataset (train or test).

    Args:
        x: (N, C, H, W) uint8 images, or float features, or a mapping of tensors with N rows.
        y: (N,) int64 class indices, label maps (N, H, W), a mapping with N rows (boxes: see
            ``pad_boxes``), or None for unlabelled data.
        index: (N,) positions in the training set that this split was cut from; an example that is
            there twice has its position twice.
        extra: Further tensors with N rows (masks, boxes), for analyses.
        source: Names the contents of x; computed where it is not given.

    Raises:
        ValueError: For lengths that differ, and for NaN or Inf among float inputs.

    Example:
        >>> split = Split(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
        >>> len(split), split.select([3, 0]).index.tolist()
        (4, [3, 0])
    """

    x: Any
    y: Any = None
    index: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self):
        n = len(leaves(self.x)[0])
        named = [("x", t) for t in leaves(self.x)] + [("y", t) for t in leaves(self.y)]
        for name, t in [*named, *self.extra.items()]:
            if len(t) != n:
                raise ValueError(
                    f"{name} has {len(t)} rows but the split has {n} examples: every tensor needs "
                    "one row each."
                )
            if t.is_floating_point() and not bool(torch.isfinite(t).all()):
                rows = t.flatten(1) if t.ndim > 1 else t[:, None]
                bad = (~torch.isfinite(rows)).any(1).nonzero().flatten()
                raise ValueError(
                    f"{name}: {len(bad)} of {n} examples hold NaN or Inf, the first at position "
                    f"{int(bad[0])}. Clean or drop them before training."
                )
        if self.index is None:
            object.__setattr__(self, "index", torch.arange(n))
        if not self.source:
            object.__setattr__(self, "source", digest(leaves(self.x)))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def class_indices(self) -> Tensor | None:
        """The labels, where they are one class index per example; else None."""
        y = self.y
        plain = isinstance(y, Tensor) and y.ndim == 1 and not y.is_floating_point()
        return y if plain else None

    def select(self, positions) -> "Split":
        """The split with only some of its examples; ``index`` keeps pointing home.

        Args:
            positions: A bool mask, or positions, in the order that is wanted.

        Returns:
            The smaller split.
        """
        positions = torch.as_tensor(positions)
        positions = positions.nonzero().flatten() if positions.dtype == torch.bool else positions
        take = lambda t: t[positions.long()]
        extra = {k: take(v) for k, v in self.extra.items()}
        x, y = (tree_map(take, v) for v in (self.x, self.y))
        return Split(x, y, take(self.index), extra, self.source)


def drawn(split: Split, n: int, seed: int) -> Tensor:
    """(n,) positions, sorted: in equal shares of the classes where there are class indices, else
    plain random.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    y = split.class_indices
    if y is not None:
        # Rank each example within its class; taking the n smallest relative ranks takes the same
        # share of every class.
        rank = torch.empty(len(split))
        for c in y.unique():
            mine = order[y[order] == c]
            rank[mine] = (torch.arange(len(mine)) + 0.5) / len(mine)
        order = order[rank[order].argsort(stable=True)]
    return order[:n].sort().values


def held_out(split: Split, n: int, seed: int) -> Tensor:
    """(N,) bool: about n examples to hold out, so that no example lies on both sides.

    Where examples are there several times (the same ``index``, as after oversampling), they are
    drawn once each and taken with all their copies.
    """
    first: dict[int, int] = {}
    for position, home in enumerate(split.index.tolist()):
        first.setdefault(home, position)
    if len(first) == len(split):
        held = torch.zeros(len(split), dtype=torch.bool)
        held[drawn(split, n, seed)] = True
        return held
    once = split.select(list(first.values()))
    share = max(1, round(n * len(once) / len(split)))
    return torch.isin(split.index, once.index[drawn(once, share, seed)])
