"""kdtutor: a workbook that teaches and analyses knowledge distillation.

Importing the package needs torch, numpy and safetensors only; pandas, matplotlib and the widgets load when they are used,
so that training runs on a bare GPU machine without the notebook stack.
"""

from . import datasets, methods, models, softening, taps, teacher, training
from .budget import budget, pick
from .teacher import Teacher
from .training import History, evaluate, fit

__version__ = "0.1.0"
__all__ = ["History", "Teacher", "budget", "datasets", "evaluate", "fit", "methods", "models", "pick", "softening", "taps",
           "teacher", "training"]
