"""Online distillation: the teacher learns too."""

from .mutual import DML
from .one import ONE

__all__ = ["DML", "ONE"]
