"""What makes two runs the same (``identity``), the run directory, and state files."""

from .directory import RunDirectory
from .files import CannotWrite, replace_file
from .provenance import environment
from .state import load_state, load_weights, save_state, save_weights

__all__ = [
    "CannotWrite",
    "RunDirectory",
    "environment",
    "load_state",
    "load_weights",
    "replace_file",
    "save_state",
    "save_weights",
]
