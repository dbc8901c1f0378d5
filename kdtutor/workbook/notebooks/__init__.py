"""The lesson notebooks: list them, execute them, keep them clean, and say what is wrong with one.

A committed lesson is executed from top to bottom and shows its figures, so that it reads well where
nothing runs (GitHub). It keeps nothing that changes from run to run: no times, no widget state. In
a widget's place stands a short note, and the same figure drawn once, without the widget, in the
same or the next cell."""

from .execute import LessonError, lessons, run, swallowed
from .normal import NOTE, normalise
from .policy import problems

__all__ = ["NOTE", "LessonError", "lessons", "normalise", "problems", "run", "swallowed"]
