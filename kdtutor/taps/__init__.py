"""Read, cut and name the layers of any torch module."""

from .read import (
    Taps,
    call,
    check_same_features,
    dry,
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
    "dry",
    "example_input",
    "input_gradient",
    "layers",
    "shapes",
    "twice_differentiable",
]
