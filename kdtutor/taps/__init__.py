"""Read, cut and name the layers of any torch module."""

from .read import (
    Taps,
    call,
    check_same_features,
    eval_mode,
    example_input,
    input_gradient,
    layers,
    shapes,
    twice_differentiable,
)

__all__ = [
    "Taps",
    "call",
    "check_same_features",
    "eval_mode",
    "example_input",
    "input_gradient",
    "layers",
    "shapes",
    "twice_differentiable",
]
