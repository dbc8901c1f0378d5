"""What makes two runs the same (``identity``), the run directory, and state files."""

from .directory import RunDirectory
from .files import CannotWrite, replace_file
from .identity import describe, named, short_hash
from .kinds import parts
from .provenance import environment
from .state import load_state, save_state
from .weights import load_weights, save_weights

__all__ = [
    "CannotWrite",
    "RunDirectory",
    "describe",
    "environment",
    "load_state",
    "load_weights",
    "named",
    "parts",
    "replace_file",
    "save_state",
    "save_weights",
    "short_hash",
]
