"""A frozen network (or several) that answers for a batch, and the exact cache of its answers."""

from .network import GIB, Teacher

__all__ = ["GIB", "Teacher"]
