"""Do the cells that a method finds lie on the parts that decide? For images whose parts are known,
such as ``load("scenes")``.
"""

import torch
from torch import Tensor

from ..datasets.scenes import DECISIVE
from ..errors import explained
from .masks import Foreground, foreground


@explained
def part_cells(part_mask: Tensor, grid: int = 16, parts=DECISIVE, share: float = 0.5) -> Foreground:
    """Cells of which at least a share belongs to one of some parts.

    Args:
        part_mask: (N, H, W) ids, 0 for none.
        grid: Cells to a side.
        parts: The ids that count; by default the decisive parts of ``load("scenes")``.
        share: The part of a cell's pixels, above 0 and at most 1.

    Returns:
        A ``Foreground``.

    Raises:
        ValueError: As ``foreground`` does.

    Example:
        >>> part_cells(torch.tensor([[[1, 2], [0, 2]]]), grid=2, parts=[2]).cells.tolist()
        [[[False, True], [False, True]]]
    """
    inside = torch.isin(torch.as_tensor(part_mask), torch.tensor(list(parts)))
    return foreground(inside, grid, share, f"cells of the parts {', '.join(map(str, parts))}")


@explained
def precision_recall(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Of each image: the share of found cells that are wanted, and of wanted cells that are found.

    Args:
        found, wanted: (N, g, g) bool.

    Returns:
        (precision, recall), each (N,) float64. NaN where nothing is found (precision) or wanted
        (recall): there is no such share.

    Example:
        >>> found = torch.tensor([[[True, True], [False, False]]])
        >>> wanted = torch.tensor([[[True, False], [False, False]]])
        >>> [share.item() for share in precision_recall(found, wanted)]
        [0.5, 1.0]
    """
    both = (found & wanted).sum((1, 2)).double()
    return both / found.sum((1, 2)), both / wanted.sum((1, 2))


@explained
def top_cells(score: Tensor, count: Tensor) -> Tensor:
    """The cells of each image with the highest score; ties go to the first cell.

    Args:
        score: (N, g, g).
        count: (N,), how many of each image.

    Returns:
        (N, g, g) bool.

    Example:
        >>> top_cells(torch.tensor([[[0.1, 0.9], [0.5, 0.5]]]), torch.tensor([2])).tolist()
        [[[False, True], [True, False]]]
    """
    flat = score.flatten(1)
    rank = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < count[:, None]).view_as(score)


@explained
def average_precision(score: Tensor, wanted: Tensor) -> Tensor:
    """The mean precision at each wanted cell when cells are taken in the order of their score.

    Args:
        score: (N, g, g), higher is found first; ties are shared out, so a constant score gets what
            chance would.
        wanted: (N, g, g) bool.

    Returns:
        (N,): 1 if all wanted come first; chance is near the share of wanted cells; NaN for an image
        where nothing is wanted.

    Example:
        >>> score = torch.tensor([[[0.9, 0.1], [0.5, 0.2]]])
        >>> average_precision(score, torch.tensor([[[True, False], [True, False]]])).tolist()
        [1.0]
    """
    from sklearn.metrics import average_precision_score

    rows = [
        average_precision_score(w.numpy(), s.numpy()) if w.any() else float("nan")
        for s, w in zip(score.flatten(1).double().cpu(), wanted.flatten(1).cpu(), strict=True)
    ]
    return torch.tensor(rows)
