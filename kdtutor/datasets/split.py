"""The examples of one part of a dataset, and how a part is cut in two."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import explained
from ..tasks.task import described, is_integer
from .batch import digest, leaves, sent, tree_map
from .convert import check_none_missing


@explained
@dataclass(frozen=True, eq=False)
class Split:
    """The examples of one part of a dataset (train or test).

    Args:
        x: (N, C, H, W) uint8 images, or float features, or a mapping of tensors with N rows. Arrays
            (numpy, pandas) become tensors, here and below.
        y: (N,) int64, or a tensor or a mapping of tensors as the data's task says; None for
            unlabelled data.
        index: (N,) positions in the training set this split was cut from; an example that is
            repeated keeps its position.
        extra: Further tensors with N rows (masks, boxes).
        source: Names the inputs. Default: a digest of x.

    Raises:
        ValueError: For lengths that differ, NaN or Inf among float inputs, and what is no tensor or
            array of numbers.

    Example:
        >>> split = Split(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 0]))
        >>> split.select([2, 0]).index
        tensor([2, 0])
    """

    x: Any
    y: Any
    index: Tensor = None  # type: ignore[assignment]  # always a tensor after construction
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self):
        for name in ("x", "y"):
            made = tree_map(lambda v, name=name: _tensor(name, v), getattr(self, name))
            object.__setattr__(self, name, made)
        object.__setattr__(self, "extra", {k: _tensor(k, v) for k, v in self.extra.items()})
        if not leaves(self.x) or any(not t.ndim for t in leaves(self.x) + leaves(self.y)):
            raise ValueError(
                f"x is {described(self.x)} and y {described(self.y)}: expected a row for each "
                "example in both, and at least one tensor in x."
            )
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
            if t.is_floating_point() and not t.is_meta and not bool(torch.isfinite(t).all()):
                rows = t.flatten(1) if t.ndim > 1 else t[:, None]
                bad = (~torch.isfinite(rows)).any(1).nonzero().flatten()
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

    def to(self, device: torch.device | str | None) -> "Split":
        """The split with inputs and labels on a device; ``index`` and ``extra`` stay.

        Args:
            device: As ``Tensor.to`` takes it.

        Returns:
            The split itself where all lie there already.

        Example:
            >>> Split(torch.zeros(2, 3, dtype=torch.uint8), None).to("meta").x.device
            device(type='meta')
        """
        x, y = (tree_map(lambda t: sent(t, device), v) for v in (self.x, self.y))
        same = all(a is b for a, b in zip(leaves(x) + leaves(y), leaves(self.x) + leaves(self.y)))
        return self if same else Split(x, y, self.index, self.extra, self.source)

    def select(self, positions) -> "Split":
        """The split with only these positions; ``index`` keeps pointing home.

        Args:
            positions: A bool mask (N,), or positions in any order, repeated or not.

        Returns:
            The chosen examples, in this order.

        Example:
            >>> split = Split(torch.arange(3.0)[:, None], None)
            >>> split.select([True, False, True]).x.flatten()
            tensor([0., 2.])
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


def _tensor(name: str, value) -> Tensor:
    """A tensor as it is, an array or a table (numpy, pandas) as a tensor of its values."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise ValueError(f"{name} is sparse; expected a dense tensor: {name}.to_dense().")
        return value
    if hasattr(value, "__array__"):
        import numpy as np

        check_none_missing(name, value)
        array = np.ascontiguousarray(value)
        if array.dtype.kind in "biuf":
            return torch.from_numpy(array.copy())
        raise ValueError(
            f"{name} is an array of {array.dtype}; expected numbers. Class names become indices "
            "with np.unique(names, return_inverse=True)."
        )
    raise ValueError(
        f"{name} is a {type(value).__name__}; expected a tensor, an array, or a mapping of them: "
        "torch.stack(images), torch.tensor(labels)."
    )


def class_indices(split: Split, what: str) -> Tensor:
    """The labels of a split as class indices (N,).

    Args:
        split: Any split.
        what: What needs them, for the message.

    Returns:
        ``split.y``.

    Raises:
        ValueError: If the labels are anything else.

    Example:
        >>> class_indices(Split(torch.zeros(2, 1), torch.tensor([1, 0])), "a test")
        tensor([1, 0])
    """
    if not isinstance(split, Split):
        raise ValueError(
            f"{what} needs examples in memory, and these are read or made batch by batch: change "
            "the dataset behind them."
        )
    if not _is_classes(split.y):
        raise ValueError(
            f"{what} needs one class index per example, whole numbers of shape (N,); the training "
            f"labels are {described(split.y)}. Choose examples with data.train.select(positions) "
            "instead."
        )
    return split.y


def stratified(split: Split, n: int, seed: int) -> Tensor:
    """n positions of a split, spread over the classes in proportion.

    Plain random where the labels are not class indices.

    Args:
        split: Any split.
        n: How many positions.
        seed: Decides which.

    Returns:
        (n,) positions, sorted.

    Example:
        >>> split = Split(torch.zeros(6, 1), torch.tensor([0, 0, 0, 0, 1, 1]))
        >>> split.y[stratified(split, 3, seed=0)]
        tensor([0, 0, 1])
    """
    g = torch.Generator().manual_seed(seed)
    y, rows = split.y, len(split)
    order = torch.randperm(rows, generator=g)
    if _is_classes(y):
        # Rank each example within its class; taking the n smallest relative ranks takes the same
        # share of every class.
        rank = torch.empty(rows)
        for c in y.unique():
            mine = order[y[order] == c]
            rank[mine] = (torch.arange(len(mine)) + 0.5) / len(mine)
        order = order[rank[order].argsort(stable=True)]
    return order[:n].sort().values


def held_out(split: Split, fraction: float, seed: int) -> Tensor:
    """Which rows a validation split of about this fraction takes, in equal shares per class.

    Rows with the same ``index`` are one example, repeated: they all lie on one side, because a
    network must not be validated on what it was trained on. The fraction is of the examples.

    Args:
        split: Any split.
        fraction: Above 0 and below 1.
        seed: Decides which.

    Returns:
        (N,) bool; at least one row is True.

    Example:
        >>> split = Split(torch.arange(4.0)[:, None], None).select([0, 1, 2, 3, 3, 3])
        >>> held = held_out(split, 0.5, seed=0)
        >>> set(split.index[held].tolist()) & set(split.index[~held].tolist())
        set()
    """
    first = _first_rows(split.index)
    # Without repetition this is the split itself, row by row: nothing changes for such data.
    examples = split if len(first) == len(split) else split.select(first)
    chosen = stratified(examples, max(1, round(fraction * len(examples))), seed)
    return torch.isin(split.index, examples.index[chosen])


def _first_rows(index: Tensor) -> Tensor:
    """The first row of each distinct index, in order of appearance."""
    values, group = index.unique(return_inverse=True)
    rows = torch.arange(len(index))
    first = torch.full((len(values),), len(index))
    return first.scatter_reduce(0, group, rows, "amin").sort().values


def _is_classes(y) -> bool:
    return is_integer(y) and y.ndim == 1
