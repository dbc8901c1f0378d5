"""Widgets for the lessons: each is a few lines on top of a pure draw function of ``kdtutor.plots``."""

from .panel import choice, panel, slider

__all__ = ["bench", "choice", "panel", "slider"]


def __getattr__(name: str):
    if name == "bench":  # the form brings the whole bench with it: only where it is used
        from .form import bench
        return bench
    raise AttributeError(f"module 'kdtutor.widgets' has no attribute {name!r}")
