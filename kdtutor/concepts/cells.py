"""Cells and pixels: an image is cut into grid x grid cells; a pixel belongs to the cell that
nearest up-sampling would give it.
"""

from numbers import Integral

import torch
from torch import Tensor


def check_grid(grid: int, height: int, width: int) -> None:
    """Raises ``ValueError`` unless every cell would hold at least one pixel."""
    if not isinstance(grid, Integral) or not 1 <= grid <= min(height, width):
        raise ValueError(
            f"grid={grid} for images of {height} x {width} pixels: expected a whole number from 1 "
            f"to {min(height, width)}, "
            "so that every cell holds a pixel (16 in the paper, for 224 pixels)."
        )


def owners(grid: int, pixels: int, device=None) -> Tensor:
    """(pixels,) int64: which of ``grid`` cells each pixel of one side belongs to, floor(p * grid /
    pixels).
    """
    return torch.arange(pixels, device=device) * grid // pixels


def spread(cells: Tensor, height: int, width: int) -> Tensor:
    """Values of cells (..., g, g) given to all their pixels: (..., height, width)."""
    rows, columns = (owners(cells.shape[-1], n, cells.device) for n in (height, width))
    return cells[..., rows[:, None], columns[None, :]]


def gather(pixels: Tensor, grid: int) -> Tensor:
    """Pixels (..., H, W) added up cell by cell: (..., grid, grid), the transpose of ``spread``."""
    by_row, by_column = (
        torch.nn.functional.one_hot(owners(grid, n, pixels.device), grid).to(pixels.dtype)
        for n in pixels.shape[-2:]
    )
    return by_row.T @ pixels @ by_column
