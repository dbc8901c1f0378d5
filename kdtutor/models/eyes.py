"""What ``adapt`` does to a batch and to an answer, and the checks of what it was given."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch.nn.functional as F
from torch import Tensor

RED, GREEN, BLUE = 0.299, 0.587, 0.114  # their share in the luminance, as in ITU-R BT.601
LARGEST = 2.0  # a mean beyond it is not of pixels in [0, 1]
Numbers = tuple[float, ...]
Output = str | int | Callable[[Any], Any] | None


def in_channels(x: Tensor, channels: int) -> Tensor:
    """Grey images repeated for every channel, or the luminance of coloured ones.

    Args:
        x: (B, C, H, W).
        channels: 1 or 3.

    Returns:
        (B, channels, H, W).

    Raises:
        ValueError: for other channels than one and three.

    Example:
        >>> import torch
        >>> in_channels(torch.ones(1, 3, 2, 2), 1).shape
        torch.Size([1, 1, 2, 2])
    """
    given = x.shape[1]
    if given == channels:
        return x
    if given == 1:
        return x.expand(-1, channels, -1, -1)
    if (given, channels) == (3, 1):
        return RED * x[:, :1] + GREEN * x[:, 1:2] + BLUE * x[:, 2:]
    raise ValueError(
        f"the images have {given} channels and the network takes {channels}: only one channel "
        "becomes three, and three become one."
    )


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation, antialiased where a side shrinks.

    Args:
        x: (B, C, H, W).
        size: height and width.

    Returns:
        (B, C, *size); ``x`` itself where it has this size.

    Example:
        >>> import torch
        >>> resized(torch.ones(1, 3, 8, 8), (4, 6)).shape
        torch.Size([1, 3, 4, 6])
    """
    height, width = x.shape[2], x.shape[3]
    if height == size[0] and width == size[1]:
        return x
    shrinks = bool(height > size[0]) or bool(width > size[1])
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=shrinks)


def picked(answer: Any, output: Output, who: str) -> Any:
    """One of the answers of a network.

    Args:
        answer: what it returned.
        output: a key, a position, an attribute's name, or a function of the answer.
        who: the network's name, for the message.

    Returns:
        The entry.

    Raises:
        ValueError: where it is not there, with what is.

    Example:
        >>> picked({"out": 1, "aux": 2}, "aux", "net"), picked((1, 2), 0, "net")
        (2, 1)
    """
    if callable(output):
        return output(answer)
    sequence = isinstance(answer, (tuple, list))
    if isinstance(answer, Mapping):
        if output in answer:
            return answer[output]
        there = f"the keys {', '.join(map(repr, answer))}"
    elif isinstance(answer, Tensor):
        there = "one tensor only: leave output= out"
    elif isinstance(output, int) and sequence and -len(answer) <= output < len(answer):
        return answer[output]
    elif isinstance(output, str) and hasattr(answer, output):
        return getattr(answer, output)
    else:
        names = getattr(answer, "_fields", None) or getattr(answer, "__dict__", {})
        named = ", ".join(name for name in names if name[0] != "_")
        parts = [f"the positions 0 to {len(answer) - 1}"] if sequence else []
        there = " and ".join(parts + ([f"the attributes {named}"] if named else [])) or "nothing"
    raise ValueError(
        f"output={output!r} is not in what {who} returned, a {type(answer).__name__}: it has "
        f"{there}."
    )


def check_size(size) -> tuple[int, int] | None:
    """Height and width of one number or two. Raises ``ValueError`` unless both are at least 1."""
    if size is None:
        return None
    sides: Any = (size, size) if not isinstance(size, (tuple, list)) else tuple(size)
    whole = [isinstance(s, Integral) and not isinstance(s, bool) and int(s) > 0 for s in sides]
    if len(sides) != 2 or not all(whole):
        raise ValueError(
            f"size={size!r}: expected height and width in pixels, each at least 1, or one number "
            "for both."
        )
    return int(sides[0]), int(sides[1])


def check_classes(classes, count: int) -> tuple[int, ...] | None:
    """The positions. Raises ``ValueError`` for what are none, and for one twice or beyond."""
    if classes is None:
        return None
    chosen: list[Any] = classes.tolist() if isinstance(classes, Tensor) else list(classes)
    if not chosen or not all(isinstance(c, Integral) and not isinstance(c, bool) for c in chosen):
        raise ValueError(
            f"classes={classes!r}: expected positions among the network's own classes, as [3, 1, "
            "7], in the student's order."
        )
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"classes={chosen} names a class twice: each of them once.")
    check_among(chosen, count or max(chosen) + 1)
    return tuple(map(int, chosen))


def check_among(classes: Sequence[int], count: int) -> None:
    """Raises ``ValueError`` for a class that the network does not have."""
    wrong = [c for c in classes if not 0 <= c < count]
    if wrong:
        raise ValueError(
            f"classes= holds {wrong[0]}, but the network answers for {count} classes, 0 to "
            f"{count - 1}."
        )


def check_normalisation(mean, std, data) -> tuple[Numbers, Numbers, Numbers, Numbers] | None:
    """The network's own mean and std, and those of the batches that arrive; None where neither was
    given. Raises ``ValueError`` for the one without the other, and numbers that cannot be.
    """
    if (mean is None) != (std is None):
        raise ValueError("adapt takes mean= and std= together: the network's own normalisation.")
    if mean is None:
        return None
    if data is None:
        raise ValueError(
            "mean= and std= say how the network was trained; say as well how the batches that "
            "arrive were normalised, so that it can be undone: data=data, or data=(mean, std), or "
            "data=((), ()) for pixels in [0, 1]."
        )
    stated = data if isinstance(data, (tuple, list)) else _stated(data)
    if stated is None or len(stated) != 2:
        raise ValueError(
            f"data is a {type(data).__name__}: expected something with mean and std, such as a "
            "Data, or the pair (mean, std)."
        )
    own = _numbers("mean", mean), _numbers("std", std)
    theirs = _numbers("mean", stated[0]) or (0.0,), _numbers("std", stated[1]) or (1.0,)
    for what, (m, s) in (("mean= and std=", own), ("data=", theirs)):
        if len(m) != len(s) or not m or not all(map(math.isfinite, m + s)) or not min(s) > 0:
            raise ValueError(
                f"{what}: {len(m)} means and the standard deviations {s}; expected as many of "
                "both, one per channel or one for all, all finite, and deviations > 0."
            )
    if (max(own[0]) > LARGEST) != (max(theirs[0]) > LARGEST):
        raise ValueError(
            f"mean={own[0]} and data={theirs} are of pixels in different units, 0 to 255 and 0 to "
            "1: both are expected for pixels in [0, 1]; divide mean and std by 255."
        )
    return (*own, *theirs)


def _stated(data) -> tuple | None:
    found = getattr(data, "mean", data), getattr(data, "std", data)
    return None if any(f is data or callable(f) for f in found) else found


def _numbers(name: str, values) -> Numbers:
    listed = [values] if isinstance(values, Real) else [] if values is None else list(values)
    if not all(isinstance(v, Real) or (isinstance(v, Tensor) and v.ndim == 0) for v in listed):
        raise ValueError(f"{name}={values!r}: expected numbers, one per channel or one for all.")
    return tuple(map(float, listed))


__all__ = [
    "check_among",
    "check_classes",
    "check_normalisation",
    "check_size",
    "in_channels",
    "picked",
    "resized",
]
