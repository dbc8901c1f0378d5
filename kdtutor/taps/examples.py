"""An input to try a network on, before there are any data."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

# A small batch of a network's inputs: a tensor, or a mapping of its arguments' names to tensors.
Example = Tensor | Mapping[str, Tensor] | None


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
    shape = getattr(net, "input_shape", None)
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


__all__ = ["Example", "example_input", "for_network"]
