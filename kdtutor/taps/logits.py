"""Run a network on a batch's inputs, and find the logits in whatever it returns."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def call(net: nn.Module, x: Any) -> Any:
    """The network's answer for a batch's x: ``net(x)`` for a tensor, ``net(**x)`` for a mapping.

    Args:
        net: any torch module.
        x: a tensor (B, ...), or a mapping from the names of ``net.forward``'s arguments to tensors.

    Returns:
        What the network returns, as it is; ``logits_of`` finds the logits in it.

    Example:
        >>> import torch
        >>> call(nn.Identity(), torch.ones(2)), call(nn.Identity(), {"input": torch.ones(2)})
        (tensor([1., 1.]), tensor([1., 1.]))
    """
    return net(**x) if isinstance(x, Mapping) else net(x)


def logits_of(output: Any) -> Tensor:
    """The logits in what a network returned: the one place where answers are unwrapped.

    Args:
        output: a tensor is the logits itself. An object with ``.logits`` (the outputs of
            transformers, torchvision's GoogLeNet in training) gives these; a mapping its "logits",
            else its "out" (torchvision's segmentation), else its only tensor; a tuple or list its
            first entry.

    Returns:
        The logits, the very tensor that the network made: same shape, dtype and graph.

    Raises:
        ValueError: where this finds no tensor; it says what the network returned.

    Example:
        >>> import torch
        >>> z, features = torch.zeros(2, 3), torch.ones(2, 8)
        >>> logits_of({"logits": z, "features": features}) is z, logits_of((z, features)) is z
        (True, True)
    """
    found = _candidate(output)
    if isinstance(found, Tensor):
        return found
    raise ValueError(
        f"the network returned {_described(output)}, in which there are no logits to be found. "
        "Expected a tensor, an object with .logits, a mapping with 'logits' or 'out' (or with one "
        "tensor only), or a tuple that begins with a tensor: wrap the network in a module that "
        "returns its logits, or use a task with a logits() of its own."
    )


def _candidate(output: Any) -> Any:
    # The order matters: transformers' outputs are mappings, GoogLeNet's are tuples, and both say
    # by .logits what is meant.
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, Mapping):
        for name in ("logits", "out"):
            if name in output:
                return output[name]
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        return tensors[0] if len(tensors) == 1 else None
    if isinstance(output, (tuple, list)) and output:
        return output[0]
    return None


def _described(output: Any) -> str:
    kind = type(output).__name__
    if isinstance(output, Mapping):
        inside = ", ".join(f"{name!r}: {type(value).__name__}" for name, value in output.items())
        return f"a mapping ({kind}) with {inside or 'no entries'}"
    if isinstance(output, (tuple, list)):
        return f"a {kind} of [{', '.join(type(value).__name__ for value in output)}]"
    if hasattr(output, "logits"):
        return f"a {kind} whose .logits is a {type(output.logits).__name__}"
    return f"a {kind}"


__all__ = ["call", "logits_of"]
