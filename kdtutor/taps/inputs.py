"""Inputs of a network: one to try it on, what its layers make of it, its gradient by them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .logits import logits_of
from .modes import eval_mode
from .read import Taps


def input_gradient(
    net: nn.Module,
    x: Tensor,
    score: Callable[[Tensor, dict[str, Tensor]], Tensor],
    layers: Sequence[str] = (),
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """d score / d x of a network in eval mode, which is left as it was.

    Args:
        net: any torch module whose answer holds logits (``logits_of``).
        x: inputs (B, ...), floating point.
        score: (logits, features) -> (B,) values; each depends on its own image alone, so row b is
            the gradient of image b's score.
        layers: paths of features that the score reads.

    Returns:
        (gradient, logits, features), all detached; the gradient has the shape of x.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> gradient, logits, _ = input_gradient(net, torch.rand(4, 2), lambda z, _: z[:, 1])
        >>> torch.equal(gradient[0], net.weight[1]), tuple(logits.shape)
        (True, (4, 3))
    """
    x = leaf(x)
    with eval_mode(net), torch.enable_grad():
        output, features = Taps(net, layers)(x)
        logits = logits_of(output)
        gradient = slope(score(logits, features).sum(), x)
    return gradient, logits.detach(), {k: v.detach() for k, v in features.items()}


def leaf(x: Tensor) -> Tensor:
    """Inputs by which one can differentiate: the same values, with a gradient of their own.

    Args:
        x: inputs (B, ...).

    Returns:
        The same shape and values.

    Raises:
        ValueError: for what has no derivative: whole numbers (token ids), and mappings of several
            inputs.

    Example:
        >>> leaf(torch.ones(2)).requires_grad
        True
    """
    if isinstance(x, Tensor) and x.is_floating_point():
        return x.detach().requires_grad_()
    given = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
    raise ValueError(
        f"the inputs are {given}, and this method differentiates by them (input gradients, "
        "Jacobians): it needs one tensor of floating-point numbers. Give the network its "
        "embeddings or normalised images instead, or take another method."
    )


def slope(value: Tensor, x: Tensor, create_graph: bool = False) -> Tensor:
    """d value / d x.

    Args:
        value: a scalar.
        x: what ``leaf`` made.
        create_graph: shall the slope be differentiated itself?

    Returns:
        The shape of x.

    Raises:
        ValueError: for a value that does not depend on x.

    Example:
        >>> x = leaf(torch.tensor([1.0, 2.0]))
        >>> slope(x.square().sum(), x).tolist()
        [2.0, 4.0]
    """
    found = None
    if value.requires_grad:
        (found,) = torch.autograd.grad(value, x, create_graph=create_graph, allow_unused=True)
    if found is None:
        raise ValueError(
            "what shall be differentiated by the inputs does not depend on them: choose a layer "
            "behind them, and detach nothing on the way."
        )
    return found


def example_input(net: nn.Module, example: Tensor | None = None, random: bool = False) -> Tensor:
    """An input for a dry run, on the network's device.

    Args:
        net: any torch module.
        example: the input to take. Default: one of the ``input_shape`` (channels, height, width)
            that kdtutor's models carry.
        random: numbers in [0, 1), always the same, instead of zeros.

    Returns:
        The example, or a batch of two.

    Raises:
        ValueError: without example and ``input_shape``, and for an example in bytes.

    Example:
        >>> from kdtutor.models import resnet8
        >>> example_input(resnet8(classes=3, channels=1)).shape
        torch.Size([2, 1, 32, 32])
    """
    weight = next(net.parameters(), torch.empty(0))
    if example is not None:
        if example.dtype == torch.uint8:
            raise ValueError(
                "example= holds bytes (uint8), and networks take normalised images: pass "
                "data.normalised(data.train.x[:2])."
            )
        return example.to(weight.device)
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


def no_input(who: str, x, error: RuntimeError) -> ValueError:
    """The error for an example that a network cannot run on.

    Args:
        who: the network, or networks.
        x: the example.
        error: what torch said.

    Returns:
        A ``ValueError`` to raise.

    Example:
        >>> str(no_input("ResNet", torch.zeros(2, 5), RuntimeError("Expected 4D")))[:61]
        'ResNet cannot run on the example, (2, 5) torch.float32: Expec'
    """
    given = f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
    return ValueError(
        f"{who} cannot run on the example, {given}: {error}. Pass example=, a small batch of the "
        "inputs that the method will be given."
    )


def shapes(
    net: nn.Module, paths: Sequence[str], example: Tensor | None = None
) -> dict[str, tuple[int, ...]]:
    """The shapes of layers' features, without the batch dimension: one dry run in eval mode that
    leaves no trace.

    Args:
        net: any torch module.
        paths: the layers, as ``Taps`` takes them.
        example: see ``example_input``.

    Returns:
        {path: shape}.

    Raises:
        ValueError: as ``Taps`` and ``example_input`` do.

    Example:
        >>> shapes(nn.Sequential(nn.Conv2d(3, 8, 3)), ["0"], torch.zeros(1, 3, 8, 8))
        {'0': (8, 6, 6)}
    """
    with eval_mode(net):
        _, features = Taps(net, paths)(example_input(net, example))
    return {path: tuple(f.shape[1:]) for path, f in features.items()}


__all__ = ["example_input", "input_gradient", "leaf", "no_input", "shapes", "slope"]
