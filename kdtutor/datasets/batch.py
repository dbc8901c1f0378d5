"""A mini-batch, and small steps on tensors or mappings of tensors."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One mini-batch: what a distiller sees.

    Args:
        x: Inputs on the device, (B, C, H, W) float for images, or a mapping of tensors.
        y: Labels: (B,) class indices, label maps, a mapping (boxes), or None.
        index: (B,) int64 on the CPU, position of each example in the full training set.
        view: (B,) int64 on the CPU, id of the augmented view (same index + same view = same
            pixels); None if the view has no id.
        source: Names the images and the augmentation that index and view refer to; the teacher's
            cache compares it.

    Example:
        >>> Batch(torch.zeros(2, 4), torch.tensor([0, 1])).y.tolist()
        [0, 1]
    """

    x: Any
    y: Any
    index: Tensor | None = None
    view: Tensor | None = None
    source: str | None = None


def tree_map(function, value):
    """A function of a tensor, or of every tensor of a mapping; None stays None."""
    if value is None:
        return None
    return (
        {k: function(v) for k, v in value.items()}
        if isinstance(value, Mapping)
        else function(value)
    )


def leaves(value) -> list[Tensor]:
    """The tensors of a tensor or of a mapping of tensors; none of None."""
    if value is None:
        return []
    return list(value.values()) if isinstance(value, Mapping) else [value]


def digest(tensors: Sequence[Tensor]) -> str:
    """Twelve hex digits that name the exact contents, shapes and types of some tensors."""
    h = hashlib.blake2b(digest_size=6)
    for t in tensors:
        t = t.detach().cpu().contiguous()
        h.update(f"{t.dtype}{tuple(t.shape)}".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy() if t.numel() else b"")
    return h.hexdigest()
