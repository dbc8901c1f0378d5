"""What networks see of the inputs in memory: images scaled and normalised, the rest unchanged."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .batch import sent


def is_image(name: str, t: Tensor) -> bool:
    """Whether an entry of a mapping x holds images: uint8 of shape (N, C, H, W), and no "mask" in
    its name.

    Args:
        name: The entry's name.
        t: The entry.

    Returns:
        True for images; token ids, masks (N, H, W) and float maps are none.

    Example:
        >>> is_image("image", torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
        True
        >>> is_image("part_mask", torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
        False
    """
    return t.dtype == torch.uint8 and t.ndim == 4 and "mask" not in name.lower()


def normalised(images: Tensor, mean=(), std=()) -> Tensor:
    """uint8 images as float32: (x/255 - mean) / std, in channels-last layout.

    Args:
        images: (B, C, H, W) uint8; inputs of any other type pass unchanged.
        mean: Per channel, of pixels scaled to [0, 1]; empty: only scaled.
        std: Per channel.

    Returns:
        The same shape.

    Example:
        >>> white = torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)
        >>> float(normalised(white)), float(normalised(white, (0.5,), (0.25,)))
        (1.0, 2.0)
    """
    if images.dtype != torch.uint8:
        return images
    x = images.float()
    if mean:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        # Made here and sent: made there, every batch would wait for the GPU.
        mean, std = (torch.tensor(v).view(shape) for v in (mean, std))
        scale, shift = (sent(t, x.device) for t in (1 / (255 * std), mean / std))
        x.mul_(scale).sub_(shift)
    else:
        x.mul_(1 / 255)
    # Channels last comes at the end: per-channel arithmetic in that layout has an inner loop of
    # three (measured: half as fast).
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def inputs(x, mean=(), std=()):
    """A batch's x as networks see it.

    Args:
        x: A tensor, or a mapping whose images (``is_image``) alone are changed.
        mean: As in ``normalised``.
        std: As in ``normalised``.

    Returns:
        The same form.

    Example:
        >>> mask = torch.ones(1, 2, 2, dtype=torch.uint8)
        >>> inputs({"mask": mask})["mask"].dtype
        torch.uint8
    """
    if not isinstance(x, Mapping):
        return normalised(x, mean, std)
    return {k: normalised(t, mean, std) if is_image(k, t) else t for k, t in x.items()}
