"""Where the task's object is, cell by cell: the foreground that tells task-relevant concepts from
the others.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import explained
from .cells import check_grid, gather


@explained
@dataclass(frozen=True, eq=False)
class Foreground:
    """Which cells of N images are foreground.

    Attributes:
        cells: (N, g, g) bool, True on the foreground.
        source: Where the masks come from, as the report will state it.
    """

    cells: Tensor
    source: str

    def __len__(self) -> int:
        return len(self.cells)

    def select(self, rows) -> "Foreground":
        """The foreground of these images only.

        Args:
            rows: Positions or a bool mask.
        """
        return Foreground(self.cells[torch.as_tensor(rows)], self.source)


@explained
def foreground(
    masks, grid: int = 16, share: float = 0.5, source: str = "given masks"
) -> Foreground:
    """Foreground cells from pixel masks: those of which at least ``share`` of the pixels are.

    Args:
        masks: (N, H, W) or (N, 1, H, W), nonzero on the object; or a ``Split`` of a dataset with
            ``extra["object_mask"]`` (scenes, VOC 2012, CUB-200-2011).
        grid: Cells to a side.
        share: The part of a cell's pixels, above 0 and at most 1.
        source: Where the masks come from; a split says so itself.

    Returns:
        A ``Foreground``.

    Raises:
        ValueError: For other shapes, a share or grid out of range, and a split without masks: see
            ``central_box``.

    Example:
        >>> mask = torch.tensor([[[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]])
        >>> foreground(mask, grid=2).cells.tolist()
        [[[True, False], [False, False]]]
    """
    if hasattr(masks, "extra"):
        if "object_mask" not in masks.extra:
            raise ValueError(
                "this dataset has no object masks: pass your own (N, H, W), or take "
                "central_box(len(images), grid), "
                "which assumes that objects stand in the middle."
            )
        masks, source = masks.extra["object_mask"], "the dataset's object masks"
    masks = torch.as_tensor(masks)
    masks = masks.squeeze(1) if masks.ndim == 4 and masks.shape[1] == 1 else masks
    if masks.ndim != 3:
        raise ValueError(
            f"masks have shape {tuple(masks.shape)}, expected (N, H, W): one mask per image, "
            "without channels."
        )
    if not 0 < share <= 1:
        raise ValueError(
            f"share={share}: expected the part of a cell's pixels, above 0 and at most 1."
        )
    check_grid(grid, *masks.shape[1:])
    inside, pixels = (
        gather((masks != 0).double(), grid),
        gather(torch.ones(masks.shape[1:], dtype=torch.float64), grid),
    )
    return Foreground(inside >= share * pixels - 1e-9, source)


@explained
def central_box(n: int, grid: int = 16) -> Foreground:
    """The authors' stand-in where a dataset has no masks: the cells in the middle.

    Rows and columns 2 to 13 of 16; of other grids all but an eighth at each edge, at least one
    cell.

    Args:
        n: How many images.
        grid: Cells to a side, at least 3.

    Returns:
        A ``Foreground`` of n equal images.

    Raises:
        ValueError: For less than one image or a grid without a middle.

    Example:
        >>> central_box(1, grid=4).cells.sum().item()
        4
    """
    if n < 1 or grid < 3:
        raise ValueError(
            f"central_box({n}, grid={grid}): expected at least one image and 3 cells to a side, "
            "so that there is a middle."
        )
    low = max(1, (grid + 4) // 8)
    high = grid - low
    cells = torch.zeros(n, grid, grid, dtype=torch.bool)
    cells[:, low:high, low:high] = True
    return Foreground(
        cells, f"no masks: the central box, rows and columns {low} to {high - 1} of {grid}"
    )
