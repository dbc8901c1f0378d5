"""Response distillation: the teacher's answers are the knowledge."""

from .boundary_support import BSS
from .hinton import Hinton

__all__ = ["BSS", "Hinton"]
