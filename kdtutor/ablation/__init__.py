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
"""

from .choice import MethodChoice, sweep
from .estimate import estimate
from .grid import Cell, Grid
from .grid_file import read_grid, write_grid
from .results import Results, forecast, load, status
from .runner import run
from .store import Store

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
