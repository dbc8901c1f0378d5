"""Widgets for the lessons: each is a few lines on top of a pure draw function of ``kdtutor.plots``."""

from .panel import choice, panel, slider

__all__ = ["choice", "panel", "slider"]
