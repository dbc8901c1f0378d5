"""The ablation bench: method x student x seed x corruption in a few lines, resumable, at any scale.

from kdtutor.ablation import Grid, run

grid = Grid(
    dataset="digits",
    teacher="resnet14",
    students=["resnet8"],
    methods=["CrossEntropy", "Hinton", "SP"],
    seeds=range(3),
)
results = run(grid, store="runs/first")
results.table()

What reads results needs pandas and scipy and loads when it is used: a worker only computes.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .choice import MethodChoice, sweep
from .estimate import estimate
from .grid import Cell, Grid
from .grid_file import read_grid, write_grid
from .runner import run
from .store import Store

if TYPE_CHECKING:
    from .results import Results, forecast, load, status

__all__ = [
    "Cell",
    "Grid",
    "MethodChoice",
    "Results",
    "Store",
    "estimate",
    "forecast",
    "load",
    "read_grid",
    "run",
    "status",
    "sweep",
    "write_grid",
]


def __getattr__(name: str):
    if name in __all__:
        return getattr(import_module(".results", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
