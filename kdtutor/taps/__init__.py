"""Read, cut and name the layers of any torch module."""

from .cut import cut
from .outputs import call, logits_of
from .read import (
    Taps,
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
    "cut",
    "eval_mode",
    "example_input",
    "input_gradient",
    "layers",
    "logits_of",
    "shapes",
    "twice_differentiable",
]
