"""What a network makes of inputs: the shapes of its layers, its gradient by the pixels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import explained
from .examples import Example, for_network, trial
from .logits import logits_of
from .modes import eval_mode
from .read import Taps


@explained
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
        (gradient, logits, features), all detached; the gradient has the shape and type of x.

    Raises:
        ValueError: for inputs that are no single tensor of floating-point numbers, and where the
            score does not depend on them by steps that torch can differentiate.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> gradient, logits, _ = input_gradient(net, torch.rand(4, 2), lambda z, _: z[:, 1])
        >>> torch.equal(gradient[0], net.weight[1]), tuple(logits.shape)
        (True, (4, 3))
    """
    check_pixels(x, "a gradient by the inputs")
    x = x.detach().requires_grad_()
    with eval_mode(net), torch.enable_grad():
        output, features = Taps(net, layers)(for_network(net, x))
        logits = logits_of(output)
        gradient = gradient_by(x, score(logits, features), type(net).__name__)
    return gradient, logits.detach(), {k: v.detach() for k, v in features.items()}


def gradient_by(x: Tensor, score: Tensor, who: str, create_graph: bool = False) -> Tensor:
    """d sum(score) / d x.

    Args:
        x: inputs with ``requires_grad``, from which the score was computed.
        score: any shape.
        who: whose score it is, for the message.
        create_graph: whether the gradient shall be differentiated itself.

    Returns:
        The shape of x.

    Raises:
        ValueError: where no differentiable step leads from x to the score.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> gradient_by(x, 3 * x, "the line").tolist()
        [3.0, 3.0]
    """
    found = None
    if score.requires_grad:
        (found,) = torch.autograd.grad(score.sum(), x, create_graph=create_graph, allow_unused=True)
    if found is None:
        raise ValueError(
            f"the answer of {who} has no gradient by its inputs: does its forward run under "
            "torch.no_grad(), detach, or turn the inputs into whole numbers? Methods that "
            "differentiate by the pixels (BSS, AT-gradient, Jacobian) need one."
        )
    return found


def check_pixels(x: Any, who: str) -> None:
    """Checks that inputs can be differentiated by.

    Args:
        x: a batch's inputs.
        who: who asks, for the message: "BSS".

    Raises:
        ValueError: unless they are one tensor of floating-point numbers.

    Example:
        >>> check_pixels(torch.rand(2, 3), "BSS")
    """
    if isinstance(x, Tensor) and x.is_floating_point():
        return
    given = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
    if isinstance(x, Mapping):
        given = f"a mapping with {', '.join(map(repr, x))}"
    raise ValueError(
        f"{who} differentiates by the pixels and needs inputs that are one tensor of "
        f"floating-point numbers, not {given}: use a method that compares answers, features or "
        "relations."
    )


@explained
def shapes(
    net: nn.Module, paths: Sequence[str], example: Example = None
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
    with eval_mode(net), trial(net, example) as x:
        _, features = Taps(net, paths)(x)
    return {path: tuple(f.shape[1:]) for path, f in features.items()}


__all__ = ["check_pixels", "gradient_by", "input_gradient", "shapes"]
