"""Fully connected networks: the 1200-1200 teacher and 800-800 student of Hinton, Vinyals, Dean
(2015), section 3, on MNIST.

The teacher was regularised with dropout and constraints on its weights, the student not at all. The
rates and the bound are not in that paper; Srivastava et al. (JMLR 2014, appendix A) advise to drop
0.5 of the hidden units and 0.2 of the inputs, and a norm of at most 3 to 4."""

import math
from collections.abc import Sequence
from functools import partial
from numbers import Integral, Real

from torch import Tensor, nn

from ..errors import explained
from .common import check_counts, check_rates, initialise


@explained
def constrain_(module: nn.Module, max_norm: float) -> nn.Module:
    """Scales down, in place, the incoming weights of every unit whose L2 norm exceeds ``max_norm``.

    A unit is a row of a linear layer's weight or a filter of a convolution's; biases and shorter
    rows stay as they are.

    Args:
        module: A single layer or any network.
        max_norm: The bound, above 0.

    Returns:
        The module.

    Raises:
        ValueError: Unless ``max_norm`` > 0.

    Source:
        Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout" (JMLR 2014).

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> _ = layer.weight.data.copy_(layer.weight.new_tensor([[3.0, 4.0]]))
        >>> round(constrain_(layer, 1.0).weight.norm().item(), 4)
        1.0
    """
    _check_norm(max_norm)
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            # Through .data, which autograd does not watch: or else two forward passes before one
            # backward pass (two views of a batch) would end in "a variable needed for gradient
            # computation has been modified". The second clips nothing.
            layer.weight.data.renorm_(p=2, dim=0, maxnorm=max_norm)
    return module


def _check_norm(max_norm: float) -> None:
    if not isinstance(max_norm, Real) or not max_norm > 0:
        raise ValueError(
            "max_norm bounds the length of a unit's incoming weights and must be > 0, got "
            f"{max_norm!r}."
        )


def _constrain_before_forward(layer: nn.Module, args, max_norm: float) -> None:
    if layer.training:
        constrain_(layer, max_norm)


class MLP(nn.Module):
    """See ``mlp``."""

    def __init__(
        self,
        hidden: Sequence[int],
        classes: int,
        input_shape: tuple[int, ...],
        dropout: float,
        input_dropout: float,
        max_norm: float | None,
    ):
        super().__init__()
        self.input_shape, self.classes = input_shape, classes
        widths = [math.prod(input_shape), *hidden]
        self.input_dropout = nn.Dropout(input_dropout)
        for i, width in enumerate(hidden, start=1):
            layer = nn.Linear(widths[i - 1], width)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if max_norm is not None:
                # A partial of a module-level function, called with the layer it sits on: so copies
                # and pickles keep working.
                layer.register_forward_pre_hook(
                    partial(_constrain_before_forward, max_norm=max_norm)
                )
            self.add_module(f"fc{i}", layer)
            self.add_module(f"relu{i}", nn.ReLU())
            self.add_module(f"dropout{i}", nn.Dropout(dropout))
        self.fc = nn.Linear(widths[-1], classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        values, expected = math.prod(x.shape[1:]), math.prod(self.input_shape)
        if x.dim() < 2 or values != expected:
            raise ValueError(
                f"this MLP takes {expected} values per sample {self.input_shape}, but the batch "
                "has shape "
                f"{tuple(x.shape)}: {values} values per sample. Build it with "
                f"inputs={tuple(x.shape[1:])}."
            )
        x = x.flatten(1)
        for layer in self.children():
            x = layer(x)
        return x


@explained
def mlp(
    hidden: int | Sequence[int] = (800, 800),
    classes: int = 10,
    inputs: int | Sequence[int] = 784,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    max_norm: float | None = None,
) -> MLP:
    """A ReLU network of fully connected layers.

    Layers to tap: input_dropout, fc1, relu1, dropout1, fc2, ..., fc (the logits).

    Args:
        hidden: The widths of the hidden layers, or one width; () is a linear classifier.
        classes: How many, at least 2.
        inputs: Values per sample, or their shape (C, H, W).
        dropout: Probability in [0, 1) of dropping a hidden unit.
        input_dropout: Probability in [0, 1) of dropping an input.
        max_norm: Bounds the norm of each hidden unit's incoming weights, at the start of every
            forward pass in training mode, so that any training loop obeys it without knowing. The
            last step of a training can exceed it by that step: ``constrain_`` once more. None: no
            bound.

    Returns:
        Images (B, C, H, W), or vectors (B, inputs), -> logits (B, classes). A batch of the wrong
        size is a ``ValueError`` at the call, with both sizes.

    Raises:
        ValueError: For fewer than 2 classes, any other count below 1, rates outside [0, 1),
            max_norm <= 0.

    Source:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015), section 3.

    Example:
        >>> import torch
        >>> mlp(16, inputs=(1, 4, 4))(torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 10])
    """
    # Integral is numpy's whole numbers too, of which type checkers do not know that int is one.
    widths = (int(hidden),) if isinstance(hidden, (int, Integral)) else tuple(hidden)
    if isinstance(inputs, (int, Integral)):
        check_counts(inputs=inputs)
        inputs = _as_image(int(inputs))
    check_counts(
        classes=classes,
        **{f"hidden[{i}]": width for i, width in enumerate(widths)},
        **{f"inputs[{i}]": size for i, size in enumerate(inputs)},
    )
    check_rates(dropout=dropout, input_dropout=input_dropout)
    if max_norm is not None:
        _check_norm(max_norm)
    return MLP(widths, classes, tuple(inputs), dropout, input_dropout, max_norm)


def _as_image(inputs: int) -> tuple[int, int, int]:
    """784 -> (1, 28, 28): a (C, H, W) for a number of values, so that every network here has an
    input_shape of three.
    """
    side = math.isqrt(inputs)
    return (1, side, side) if side * side == inputs else (1, 1, inputs)
