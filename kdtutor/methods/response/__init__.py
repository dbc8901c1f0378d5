"""Response distillation: the teacher's answers are the knowledge."""

from .hinton import Hinton

__all__ = ["Hinton"]
