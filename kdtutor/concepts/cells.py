"""Cells and pixels: an image is cut into grid x grid cells; a pixel belongs to the cell that
nearest up-sampling would give it.
"""

from numbers import Integral

import torch
from torch import Tensor

from ..errors import explained


@explained
def check_grid(grid: int, height: int, width: int) -> None:
    """Checks that every cell would hold at least one pixel.

    Args:
        grid: Cells to a side.
        height, width: Of the images, in pixels.

    Raises:
        ValueError: Unless grid is a whole number from 1 to the shorter side.
    """
    if not isinstance(grid, Integral) or not 1 <= grid <= min(height, width):
        raise ValueError(
            f"grid={grid} for images of {height} x {width} pixels: expected a whole number from 1 "
            f"to {min(height, width)}, "
            "so that every cell holds a pixel (16 in the paper, for 224 pixels)."
        )


@explained
def owners(grid: int, pixels: int, device=None) -> Tensor:
    """Which cell each pixel of one side belongs to: floor(p * grid / pixels).

    Args:
        grid: Cells to a side.
        pixels: Pixels to a side.
        device: Of the result.

    Returns:
        (pixels,) int64.

    Example:
        >>> owners(2, 5).tolist()
        [0, 0, 0, 1, 1]
    """
    return torch.arange(pixels, device=device) * grid // pixels


@explained
def spread(cells: Tensor, height: int, width: int) -> Tensor:
    """Values of cells given to all their pixels.

    Args:
        cells: (..., g, g).
        height, width: Of the images, in pixels.

    Returns:
        (..., height, width).

    Example:
        >>> spread(torch.tensor([[1, 2], [3, 4]]), 2, 4).tolist()
        [[1, 1, 2, 2], [3, 3, 4, 4]]
    """
    rows, columns = (owners(cells.shape[-1], n, cells.device) for n in (height, width))
    return cells[..., rows[:, None], columns[None, :]]


@explained
def gather(pixels: Tensor, grid: int) -> Tensor:
    """Pixels added up cell by cell: the transpose of ``spread``.

    Args:
        pixels: (..., H, W), float.
        grid: Cells to a side.

    Returns:
        (..., grid, grid).

    Example:
        >>> gather(torch.ones(2, 4), 2).tolist()
        [[2.0, 2.0], [2.0, 2.0]]
    """
    by_row, by_column = (
        torch.nn.functional.one_hot(owners(grid, n, pixels.device), grid).to(pixels.dtype)
        for n in pixels.shape[-2:]
    )
    return by_row.T @ pixels @ by_column
