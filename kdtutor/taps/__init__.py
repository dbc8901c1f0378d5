"""Read, cut and name the layers of any torch module."""

from .cut import cut
from .examples import Example, example_input
from .inputs import input_gradient, shapes
from .logits import call, logits_of
from .modes import eval_mode, twice_differentiable
from .read import Taps, check_same_features, layers
from .wrapped import bare, unwrapped
from .written_down import to_eval

__all__ = [
    "Example",
    "Taps",
    "bare",
    "call",
    "check_same_features",
    "cut",
    "eval_mode",
    "example_input",
    "input_gradient",
    "layers",
    "logits_of",
    "shapes",
    "to_eval",
    "twice_differentiable",
    "unwrapped",
]
