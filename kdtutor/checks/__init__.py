"""Instant checks for the exercises: ``check_…(your_function)`` returns a verdict with a hint. One module per lesson."""

from .verdict import Verdict

__all__ = ["Verdict"]
