"""The classroom: a course directory for nbgrader, private inputs for hidden tests, and grading that
no submission can stop.

``new_course`` makes a course directory, ``grade`` autogrades an assignment, ``hidden_generator``
draws a hidden test's inputs. ``guard`` runs in a submission's kernel. Only ``grade`` needs
nbgrader: ``pip install "kdtutor[classroom]"``."""

from .folder import assignment_names, new_course
from .grading import Outcome, grade
from .seeds import hidden_generator

__all__ = ["Outcome", "assignment_names", "grade", "hidden_generator", "new_course"]
