"""A mini-batch, and the small tools for what is a tensor, a mapping of tensors, or nothing."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One mini-batch: what a distiller sees.

    Args:
        x: Inputs on the device, (B, C, H, W) float for images, or a mapping of tensors.
        y: Labels (B,), or a tensor or a mapping of tensors as the task says; None without labels.
        index: (B,) int64 on the CPU, position of each example in the full training set; None for
            batches that are made rather than read.
        view: (B,) int64 on the CPU, id of the augmented view (same index + same view = same
            pixels), None if the view has no id.
        source: Names the images and the augmentation that index and view refer to; the teacher's
            cache compares it.

    Example:
        >>> Batch(torch.zeros(2, 3), torch.tensor([0, 1])).index is None
        True
    """

    x: Any
    y: Any
    index: Tensor | None = None  # type: ignore[assignment]  # a tuple has a method of this name
    view: Tensor | None = None
    source: str | None = None


def tree_map(function, value):
    """Applies a function to a tensor, or to every tensor of a mapping; None stays None.

    Args:
        function: Called with each tensor.
        value: A tensor, a mapping of tensors, or None.

    Returns:
        The results, in the same form.

    Example:
        >>> tree_map(len, {"a": torch.zeros(2)}), tree_map(len, None)
        ({'a': 2}, None)
    """
    if value is None:
        return None
    return (
        {k: function(v) for k, v in value.items()}
        if isinstance(value, Mapping)
        else function(value)
    )


def sent(t: Tensor, device: torch.device | str | None) -> Tensor:
    """The tensor on a device, without waiting for a GPU to take it.

    The loop may so run ahead of the GPU. The other way, from a GPU, it waits: values that a CPU
    may read must be there.

    Args:
        t: Any tensor.
        device: As ``Tensor.to`` takes it.

    Returns:
        ``t`` itself where it lies there already, else a copy.

    Example:
        >>> sent(torch.ones(2), "meta").device
        device(type='meta')
    """
    return t.to(device, non_blocking=t.device.type == "cpu")


def leaves(value) -> list[Tensor]:
    """The tensors of a tensor or of a mapping of tensors; none of None.

    Args:
        value: A tensor, a mapping of tensors, or None.

    Returns:
        The tensors, in the mapping's order.

    Example:
        >>> len(leaves({"a": torch.zeros(2), "b": torch.ones(2)})), leaves(None)
        (2, [])
    """
    if value is None:
        return []
    return list(value.values()) if isinstance(value, Mapping) else [value]


def digest(tensors: Sequence[Tensor]) -> str:
    """Twelve hex digits that name the exact contents, shapes and types of some tensors.

    Args:
        tensors: Any tensors, on any device.

    Returns:
        The digits.

    Example:
        >>> digest([torch.zeros(2)]) == digest([torch.zeros(2)])
        True
        >>> digest([torch.zeros(2)]) == digest([torch.zeros(1, 2)])
        False
    """
    h = hashlib.blake2b(digest_size=6)
    for t in tensors:
        t = t.detach().cpu().contiguous()
        h.update(f"{t.dtype}{tuple(t.shape)}".encode())
        # As bytes, because numpy has no bfloat16.
        if t.numel():
            h.update(t.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return h.hexdigest()
