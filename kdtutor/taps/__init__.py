"""Read, cut and name the layers of any torch module."""

from .cut import cut
from .inputs import example_input, input_gradient, shapes
from .logits import call, logits_of
from .modes import eval_mode, twice_differentiable
from .read import Taps, check_same_features, layers

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
