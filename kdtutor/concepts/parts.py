"""Do the cells that a method finds lie on the parts that decide? For images whose parts are known,
such as ``load("scenes")``.
"""

import torch
from torch import Tensor

from ..datasets.scenes import DECISIVE
from .masks import Foreground, foreground


def part_cells(part_mask: Tensor, grid: int = 16, parts=DECISIVE, share: float = 0.5) -> Foreground:
    """Cells of which at least ``share`` belongs to one of ``parts``.   part_mask: (N, H, W) ids, 0
    for none.
    """
    inside = torch.isin(torch.as_tensor(part_mask), torch.tensor(list(parts)))
    return foreground(inside, grid, share, f"cells of the parts {', '.join(map(str, parts))}")


def precision_recall(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """(precision, recall) of each image: the share of found cells that are wanted, and of wanted
    cells that are found.

    found, wanted: (N, g, g) bool. NaN where nothing is found (precision) or wanted (recall): there
    is no such share."""
    both = (found & wanted).sum((1, 2)).double()
    return both / found.sum((1, 2)), both / wanted.sum((1, 2))


def top_cells(score: Tensor, count: Tensor) -> Tensor:
    """(N, g, g) bool: the ``count`` (N,) cells of each image with the highest score (N, g, g); ties
    go to the first cell.
    """
    flat = score.flatten(1)
    rank = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < count[:, None]).view_as(score)


def average_precision(score: Tensor, wanted: Tensor) -> Tensor:
    """(N,): the mean precision at each wanted cell when cells are taken in the order of their
    score; 1 if all wanted come first.

    score: (N, g, g), higher is found first; ties are shared out, so a constant score gets what
    chance would.   wanted: (N, g, g) bool; NaN for an image where nothing is wanted. Chance is near
    the share of wanted cells."""
    from sklearn.metrics import average_precision_score

    rows = [
        average_precision_score(w.numpy(), s.numpy()) if w.any() else float("nan")
        for s, w in zip(score.flatten(1).double().cpu(), wanted.flatten(1).cpu(), strict=True)
    ]
    return torch.tensor(rows)
