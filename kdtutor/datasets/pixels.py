"""What networks see of the inputs in memory: images scaled and normalised, the rest unchanged."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batch import sent

BYTES = 100.0  # images that reach so far are not scaled to [0, 1]


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
        images: (B, C, H, W) uint8. Floats count as pixels in [0, 1] already: (x - mean) / std;
            without a mean they pass unchanged, as inputs of any other type do.
        mean: Per channel, of pixels scaled to [0, 1]; empty: only scaled.
        std: Per channel.

    Returns:
        The same shape.

    Example:
        >>> white = torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)
        >>> float(normalised(white)), float(normalised(white, (0.5,), (0.25,)))
        (1.0, 2.0)
    """
    bytes_ = images.dtype == torch.uint8
    if not bytes_ and not (mean and images.is_floating_point()):
        return images
    x = images.float() if bytes_ else images.clone()
    if mean:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        # Made here and sent: made there, every batch would wait for the GPU.
        mean, std = (torch.tensor(v).view(shape) for v in (mean, std))
        factor = 1 / (255 * std) if bytes_ else 1 / std
        scale, shift = (sent(t.to(x.dtype), x.device) for t in (factor, mean / std))
        x.mul_(scale).sub_(shift)
    else:
        x.mul_(1 / 255)
    # Channels last comes at the end: per-channel arithmetic in that layout has an inner loop of
    # three (measured: half as fast).
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def as_numbers(values) -> Any:
    """A list, a tensor or an array of numbers as a tuple; all else as it is.

    Args:
        values: One number per channel.

    Returns:
        The tuple.

    Example:
        >>> as_numbers(torch.tensor([0.5, 0.25])), as_numbers(0.5)
        ((0.5, 0.25), 0.5)
    """
    if isinstance(values, Tensor):
        usable = not values.is_meta and values.layout == torch.strided
        values = values.tolist() if usable else values
    elif hasattr(values, "__array__"):
        values = np.asarray(values).tolist()
    return tuple(values) if isinstance(values, list) else values


def check_normalisation(mean, std, x, name: str) -> None:
    """Checks that there is a mean and a deviation for each channel, or for all.

    Args:
        mean: As in ``Data``.
        std: The same.
        x: The training inputs, None where they are not known.
        name: The dataset's name, for the message.

    Raises:
        ValueError: For numbers that are no such pair.

    Example:
        >>> check_normalisation((0.5,), (0.25,), torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "d")
    """
    given = f"{name}: mean={mean!r} and std={std!r}"
    try:
        if not isinstance(mean, tuple) or not isinstance(std, tuple):
            raise TypeError("no tuple")
        numbers = [*map(float, mean), *map(float, std)]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{given}: expected one number per channel each, as (0.5, 0.5, 0.5)."
        ) from error
    if len(mean) != len(std) or not all(map(math.isfinite, numbers)) or min(std, default=1) <= 0:
        raise ValueError(
            f"{given}: expected as many numbers in each, finite, those of std above 0."
        )
    if mean and x is not None:
        check_images(mean, std, x, name)


def check_images(mean: tuple, std: tuple, x, name: str) -> None:
    """Checks that a mean and a deviation are those of these images.

    Args:
        mean: Per channel, not empty.
        std: The same.
        x: Inputs; of a mapping the bytes alone are images (``is_image``), else floats, too.
        name: The dataset's name, for the messages.

    Raises:
        ValueError: For another number of channels.

    A warning for floats that are plainly bytes, with a mean of pixels in [0, 1].

    Example:
        >>> check_images((0.5,), (0.25,), torch.rand(2, 3, 4, 4), "d")
    """
    for key, t in (x if isinstance(x, Mapping) else {"": x}).items():
        floats = not isinstance(x, Mapping) and t.is_floating_point() and t.ndim == 4
        if not floats and not is_image(key, t):
            continue
        if len(mean) not in (1, t.shape[1]):
            raise ValueError(
                f"{name}: mean={mean!r} and std={std!r} are for {len(mean)} channels, and the "
                f"images have {t.shape[1]}."
            )
        if floats and t.numel() and 0 <= min(mean) <= max(mean) <= 1:
            low, high = (float(v) for v in t.aminmax())
            if low >= 0 and high > BYTES:
                warnings.warn(
                    f"the images of {name} are floats from {low:.3g} to {high:.3g}, and mean="
                    f"{mean!r} is of pixels in [0, 1]: divide the images by 255, or leave them "
                    "bytes (uint8), which are scaled.",
                    stacklevel=6,
                )


def check_view(change, given, made, look: bool) -> None:
    """Checks what an augmentation without numbered views made of a batch.

    Args:
        change: The augmentation.
        given: The batch before.
        made: What it returned.
        look: Look at the values, too.

    Raises:
        ValueError: For anything but as many examples, and for floats beyond [0, 1] made of bytes:
            the test images are scaled, so these would be of another kind.

    Example:
        >>> x = torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)
        >>> check_view("half", x, x / 255, look=True)
    """
    if not isinstance(given, Tensor):
        return
    if not isinstance(made, Tensor) or len(made) != len(given):
        what = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(
            f"augment={change!r} was given {tuple(given.shape)} and returned {what}: it takes a "
            "whole batch and returns as many examples. A transform of single images: "
            "datasets.per_image(transform)."
        )
    if look and given.dtype == torch.uint8 and made.is_floating_point() and made.numel():
        low, high = (float(v) for v in made.aminmax())
        if low < -1e-6 or high > 1 + 1e-6:
            raise ValueError(
                f"augment={change!r} made floats from {low:.3g} to {high:.3g} of bytes; expected "
                "bytes (uint8), or floats in [0, 1], which Data(mean=, std=) normalises like the "
                "test images. Divide by 255, and leave normalisation to Data."
            )


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
