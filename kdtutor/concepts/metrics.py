"""Cheng, Rao, Chen, Zhang: Explaining Knowledge Distillation by Quantifying the Knowledge (CVPR
2020): the six metrics.

How many cells a layer knows on the object and beside it (N_fg, N_bg, lambda), when it came to know
them (D_mean, D_std), and how much of what it once knew it still knows (rho)."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import check_variant, explained
from .given import notes_on, read_epochs, read_maps, read_masks
from .report import METRICS, ConceptReport


@explained
def baseline_entropy(entropy: Tensor, cells: Tensor) -> Tensor:
    """H-bar: the mean over images of the mean entropy of their background cells.

    Args:
        entropy: (..., N, g, g), in nats.
        cells: (N, g, g) bool, True on the foreground.

    Returns:
        (...). Images without background are left out.

    Source:
        Cheng et al. 2020 (CVPR, arXiv 2003.03622).

    Example:
        >>> cells = torch.tensor([[[True, False], [False, False]]])
        >>> baseline_entropy(torch.tensor([[[0.0, 1.0], [2.0, 3.0]]]), cells).item()
        2.0
    """
    background = (~cells).to(entropy.dtype)
    count = background.sum((-1, -2))
    of_image = (entropy * background).sum((-1, -2)) / count.clamp(min=1)
    return of_image[..., count > 0].mean(-1)


@explained
def concept_cells(entropy: Tensor, cells: Tensor, threshold: float = 0.2) -> Tensor:
    """Which cells are visual concepts: H-bar - H_i > b, strictly.

    Args:
        entropy: (..., N, g, g), in nats.
        cells: (N, g, g) bool, True on the foreground.
        threshold: b, in nats.

    Returns:
        Bool, of the entropy's shape.

    Example:
        >>> cells = torch.tensor([[[True, False], [False, False]]])
        >>> concept_cells(torch.tensor([[[0.0, 1.0], [2.0, 3.0]]]), cells).tolist()
        [[[True, True], [False, False]]]
    """
    return baseline_entropy(entropy, cells)[..., None, None, None] - entropy > threshold


@explained
def share_on_foreground(n_fg: Tensor, n_bg: Tensor) -> Tensor:
    """lambda of each image: N_fg / (N_fg + N_bg), 0 where there is no concept at all.

    Args:
        n_fg, n_bg: Concepts on the foreground and beside it, one shape.

    Returns:
        The same shape, in [0, 1].

    Example:
        >>> share_on_foreground(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0])).tolist()
        [0.75, 0.0]
    """
    return n_fg / (n_fg + n_bg).clamp(min=1)


@explained
def stability(concepts: Tensor) -> Tensor:
    """rho of each image: |S_M| / |S_1 or ... or S_M|, 0 where the union is empty.

    Args:
        concepts: (M, N, g, g) bool, over checkpoints.

    Returns:
        (N,) float64, in [0, 1].

    Example:
        >>> stability(torch.tensor([[[[True, False]]], [[[False, True]]]])).tolist()
        [0.5]
    """
    return concepts[-1].sum((1, 2)).double() / concepts.any(0).sum((1, 2)).clamp(min=1)


@explained
def richest(n_fg: Tensor) -> Tensor:
    """m-hat of each image: the checkpoint with the most foreground concepts, the first in a tie.

    Args:
        n_fg: (M, N), over checkpoints.

    Returns:
        (N,) int64, positions 0 to M - 1.

    Example:
        >>> richest(torch.tensor([[1, 2], [4, 2]])).tolist()
        [1, 0]
    """
    return (n_fg == n_fg.max(0).values).int().argmax(0)


@explained
def concept_metrics(
    maps,
    masks,
    *,
    epochs: Sequence[int] | None = None,
    distance: Sequence[float] | None = None,
    threshold: float = 0.2,
    variant: str = "paper",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ConceptReport:
    """The six metrics of one network, from the maps of some images over its checkpoints.

    N_fg, N_bg and lambda (at the last checkpoint): how many cells the layer knows on the object and
    beside it, and their share. D_mean, D_std: when it came to know them. rho: how much of what it
    once knew it still knows. H-bar is the mean over images, anew at each checkpoint; metrics divide
    by the number of images, in both variants.

    Images are left out, and counted in the report's notes, if their map is dead or off target at
    any checkpoint. With a single checkpoint D and rho are NaN, with a warning: they compare
    checkpoints. An image without foreground counts with N_fg = 0, and one that never has a
    foreground concept in D with its first checkpoint, as the first maximum is taken.

    Args:
        maps: A ``Trajectory``; or ``EntropyMaps``, or entropies (N, g, g), or a sequence of them in
            the order of training, or (M, N, g, g).
        masks: A ``Foreground``, pixel masks (N, H, W) of the images' size, cell masks (N, g, g), or
            a dataset's split with masks; None: the ``central_box``, as the report will say.
        epochs: Of the checkpoints; by default the trajectory's, or 1, 2, ...
        distance: (M,) how far the weights had come at each checkpoint, the sum of
            ||w_k - w_(k-1)|| / ||w_0|| (``weight_distance``); without it D_mean and D_std are NaN.
        threshold: b, in nats.
        variant: "paper": D and rho look at checkpoints after training began (epoch > 0), and
            ``distance`` should add up epochs. "code": all checkpoints given, ``distance`` adds up
            steps. In both D_std is what the paper prints, the variance over images in squared
            units, whatever its name says.
        resamples, confidence, seed: Of the bootstrap intervals over images (H-bar held fixed).

    Returns:
        A ``ConceptReport``.

    Raises:
        ValueError: For numbers or sizes that differ, settings out of range, no foreground or no
            background anywhere, or no image left.

    Source:
        Cheng et al. 2020 (CVPR, arXiv 2003.03622).

    Example:
        >>> fg = torch.tensor([[[True, False], [False, False]]])
        >>> early = torch.tensor([[[2.0, 1.0], [2.0, 3.0]]])
        >>> late = torch.tensor([[[0.0, 2.0], [2.0, 2.0]]])
        >>> report = concept_metrics([early, late], fg, resamples=10)
        >>> report.n_fg, report.n_bg, report.lam, report.rho
        (1.0, 0.0, 1.0, 1.0)
    """
    check_variant(variant)
    epochs = getattr(maps, "epochs", None) if epochs is None else epochs
    entropy, good, size = read_maps(maps)
    m, n, grid = entropy.shape[:3]
    fg = read_masks(masks, n, grid, size)
    epochs = read_epochs(epochs, m)
    if distance is not None and len(distance) != m:
        raise ValueError(
            f"distance has {len(distance)} numbers for {m} checkpoints: expected one for each."
        )
    if not threshold > 0:
        raise ValueError(
            f"threshold={threshold}: expected b > 0, in nats (0.2 in the authors' code)."
        )
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"confidence={confidence}, resamples={resamples}: expected a share such as 0.95, and "
            "at least one."
        )
    notes = notes_on(fg, good)
    kept = good.nonzero().flatten()
    entropy, cells = entropy[:, kept], fg.cells[kept]

    concepts = concept_cells(entropy, cells, threshold)
    n_fg, n_bg = ((concepts & side).sum((-1, -2)).double() for side in (cells, ~cells))  # (M, N)
    path = list(range(m)) if variant == "code" else [k for k in range(m) if epochs[k] > 0]
    images = {"n_fg": n_fg[-1], "n_bg": n_bg[-1], "lambda": share_on_foreground(n_fg[-1], n_bg[-1])}
    nothing = torch.full((len(kept),), torch.nan, dtype=torch.float64)
    if len(path) > 1:
        best = torch.tensor(path)[richest(n_fg[path])]
        images["rho"] = stability(concepts[path] & cells)
        images["epoch"] = torch.tensor(epochs)[best]
        images["distance"] = (
            nothing if distance is None else torch.as_tensor(distance, dtype=torch.float64)[best]
        )
    else:
        images |= {
            "rho": nothing,
            "epoch": torch.full((len(kept),), epochs[-1]),
            "distance": nothing,
        }
        notes.append("a single checkpoint: D_mean, D_std and rho compare checkpoints and are NaN")
        warnings.warn(f"{notes[-1]}.", stacklevel=3)
    share = share_on_foreground(n_fg, n_bg).mean(1)
    way = [torch.nan] * m if distance is None else [float(d) for d in distance]
    course = {
        "epoch": epochs,
        "n_fg": n_fg.mean(1).tolist(),
        "n_bg": n_bg.mean(1).tolist(),
        "lambda": share.tolist(),
        "baseline": baseline_entropy(entropy, cells).tolist(),
        "distance": way,
    }
    values, intervals = _bootstrap(images, variant, resamples, confidence, seed)
    images["image"] = kept
    return ConceptReport(
        values,
        intervals,
        images,
        course,
        concepts,
        cells,
        fg.source,
        variant,
        threshold,
        confidence,
        notes,
    )


@explained
def effective_images(maps, masks, epochs: Sequence[int] | None = None, after: int = 40) -> Tensor:
    """The authors' choice of images: those whose background has the higher mean entropy.

    At every checkpoint from epoch ``after`` on (or at the last). An image that is all foreground or
    all background is none of them. It favours the paper's picture of the object: a selection to
    report, not a default.

    Args:
        maps, masks, epochs: As in ``concept_metrics``.
        after: The first epoch that counts.

    Returns:
        (N,) bool.

    Raises:
        ValueError: For numbers or sizes that differ.

    Example:
        >>> fg = torch.tensor([[[True, False], [False, False]]]).repeat(2, 1, 1)
        >>> maps = torch.tensor([[[0.0, 2.0], [2.0, 2.0]], [[3.0, 2.0], [2.0, 2.0]]])
        >>> effective_images(maps, fg).tolist()
        [True, False]
    """
    epochs = getattr(maps, "epochs", None) if epochs is None else epochs
    entropy, good, size = read_maps(maps)
    cells = read_masks(masks, entropy.shape[1], entropy.shape[2], size).cells
    late = (
        []
        if epochs is None
        else [k for k, e in enumerate(read_epochs(epochs, len(entropy))) if e >= after]
    )
    mean = lambda side: (
        (entropy[late or [-1]] * side).sum((-1, -2)) / side.sum((-1, -2))
    )  # NaN, so False, where a side is empty
    return good & (mean(~cells) > mean(cells)).all(0)


def _bootstrap(
    images: dict, variant: str, resamples: int, confidence: float, seed: int
) -> tuple[dict, dict]:
    """The metrics over the images, and their percentile intervals over images drawn with
    replacement.
    """

    def summary(rows):
        far = images["distance"][rows]
        return {
            "n_fg": images["n_fg"][rows].mean(-1),
            "n_bg": images["n_bg"][rows].mean(-1),
            "lambda": images["lambda"][rows].mean(-1),
            "d_mean": far.mean(-1),
            "d_std": far.var(-1, correction=0),  # in the paper, too, "std" is a variance
            "rho": images["rho"][rows].mean(-1),
        }

    n = len(images["n_fg"])
    drawn = summary(torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed)))
    ends = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    values = {k: float(v) for k, v in summary(torch.arange(n)).items()}
    return values, {k: tuple(torch.quantile(drawn[k], ends).tolist()) for k in METRICS}
