"""An input to try a network on, before there are any data, and what is said where it refuses."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import explained, said_by_us
from .wrapped import bare

# A small batch of a network's inputs: a tensor, or a mapping of its arguments' names to tensors.
Example = Tensor | Mapping[str, Tensor] | None


class CannotRun(ValueError):
    """A network refuses an input in its own way."""


@contextmanager
def attempt(who: str, net: nn.Module, x: Any, advice: str = "") -> Iterator[None]:
    """Inside, whatever a network's forward raises becomes one sentence.

    Args:
        who: "teacher", "student".
        net: the network that runs.
        x: its inputs.
        advice: a further sentence.

    Raises:
        CannotRun: with the network, the inputs and the error. ``ValueError`` passes as it is: it is
            a sentence already.

    Example:
        >>> try:
        ...     with attempt("student", nn.Linear(4, 2), torch.zeros(2, 3)):
        ...         raise RuntimeError("wrong size")
        ... except ValueError as error:
        ...     print(error)
        the student (Linear) cannot run on inputs of float32 of shape (2, 3): wrong size.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a foreign forward method refuses in its own way
        if isinstance(error, ValueError) and said_by_us(error):
            raise
        said = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise CannotRun(
            f"the {who} ({type(net).__name__}) cannot run on inputs of {_described(x)}: {said}."
            f"{advice and ' '}{advice}"
        ) from error


def _described(x: Any) -> str:
    if isinstance(x, Mapping):
        return "a mapping with " + ", ".join(f"{k!r}: {_described(v)}" for k, v in x.items())
    if isinstance(x, Tensor):
        return f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"
    return type(x).__name__


@contextmanager
def trial(net: nn.Module, example: Example = None, random: bool = False) -> Iterator[Any]:
    """Inside, a dry run: ``attempt`` with the input for it, in the network's own type.

    Args:
        net: any torch module.
        example: as for ``example_input``.
        random: the same.

    Returns:
        A context that gives the input.

    Raises:
        CannotRun: where the network refuses it.

    Example:
        >>> with trial(nn.Linear(4, 2), torch.zeros(2, 4)) as x:
        ...     nn.Linear(4, 2)(x).shape
        torch.Size([2, 2])
    """
    x = for_network(net, example_input(net, example, random))
    advice = (
        "That is the input_shape that it states: pass example=, a small batch of the inputs that "
        "it takes, such as data.normalised(data.train.x[:2])."
    )
    with attempt("network", net, x, advice if example is None else ""):
        yield x


def for_network(net: nn.Module, x: Any) -> Any:
    """The inputs in the network's own floating-point type, as one in half precision needs them.

    Args:
        net: any torch module; the type of its first floating-point parameter counts.
        x: a tensor, or a mapping of tensors; whole numbers stay what they are.

    Returns:
        ``x`` itself where nothing is to be done.

    Example:
        >>> for_network(nn.Linear(2, 2).half(), torch.zeros(1, 2)).dtype
        torch.float16
    """
    kind = next((p.dtype for p in net.parameters() if p.is_floating_point()), None)
    cast = lambda t: t.to(kind) if kind and t.is_floating_point() and t.dtype != kind else t
    return {k: cast(v) for k, v in x.items()} if isinstance(x, Mapping) else cast(x)


def stated_shape(net: nn.Module) -> tuple[int, ...] | None:
    """The ``input_shape`` that a network states, also inside what only runs it.

    Args:
        net: any torch module.

    Returns:
        The shape without the batch, None where none is stated. An adapter's network states nothing
        of what arrives there.

    Example:
        >>> from kdtutor.models import resnet8
        >>> stated_shape(nn.DataParallel(resnet8()))
        (3, 32, 32)
    """
    shape = getattr(net, "input_shape", None) or getattr(bare(net), "input_shape", None)
    return None if shape is None else tuple(shape)


@explained
def example_input(net: nn.Module, example: Example = None, random: bool = False) -> Any:
    """An input for a dry run, on the network's device.

    Args:
        net: any torch module.
        example: the input to take, a tensor or a mapping of named arguments. Default: one of the
            ``input_shape`` (channels, height, width) that kdtutor's models carry.
        random: numbers in [0, 1), always the same, instead of zeros.

    Returns:
        The example, or a batch of two.

    Raises:
        ValueError: without example and ``input_shape``, and for an example in bytes.
        TypeError: for an example that is neither a tensor nor a mapping of tensors.

    Example:
        >>> from kdtutor.models import resnet8
        >>> example_input(resnet8(classes=3, channels=1)).shape
        torch.Size([2, 1, 32, 32])
    """
    weight = next(net.parameters(), torch.empty(0))
    if example is not None:
        return _checked(example, weight.device)
    shape = stated_shape(net)
    if shape is None:
        raise ValueError(
            f"{type(net).__name__} does not say its input_shape: pass example=, a small batch of "
            "its inputs, or set net.input_shape = (channels, height, width)."
        )
    x = (
        torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
        if random
        else torch.zeros(2, *shape)
    )
    return x.to(weight)


def _checked(example: Any, device: torch.device) -> Any:
    parts = list(example.values()) if isinstance(example, Mapping) else [example]
    wrong = [t for t in parts if not isinstance(t, Tensor)]
    if wrong or not parts:
        raise TypeError(
            f"example= {'holds' if isinstance(example, Mapping) else 'is'} a "
            f"{type(wrong[0] if wrong else example).__name__}; expected a small batch of inputs, a "
            "tensor such as data.normalised(data.train.x[:2]), or a mapping of named tensors."
        )
    # Of a mapping, what Data would take for images.
    images = (
        [t for k, t in example.items() if t.ndim == 4 and "mask" not in k]
        if isinstance(example, Mapping)
        else parts
    )
    if any(t.dtype == torch.uint8 for t in images):
        raise ValueError(
            "example= holds bytes (uint8), and networks take normalised images: pass "
            "data.normalised(data.train.x[:2])."
        )
    if isinstance(example, Mapping):
        return {k: t.to(device) for k, t in example.items()}
    return example.to(device)


__all__ = [
    "CannotRun",
    "Example",
    "attempt",
    "example_input",
    "for_network",
    "stated_shape",
    "trial",
]
