"""Checks of lesson 10: the map of a linear layer at a given mean entropy, counting concept cells,
when they came and what stayed.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...checks.verdict import Verdict, compare, explain, judge
from ...concepts.first_order import optimum
from ...concepts.maps import HALF_LOG_2PIE
from ...concepts.metrics import (
    baseline_entropy,
    concept_cells,
    richest,
    share_on_foreground,
    stability,
)


def linear_sigma(g: Tensor, target: float) -> Tensor:
    """The solution: sigma_i proportional to 1 / sqrt(g_i), at mean entropy ``target``."""
    log_sigma = -g.log() / 2
    return (log_sigma - log_sigma.mean() + target - HALF_LOG_2PIE).exp()


def check_linear_sigma(function: Callable) -> Verdict:
    """``function(g, target)``, g (n,) > 0 -> sigma (n,) with sigma_i^2 = c / g_i and mean entropy
    ``target``.
    """

    def value(g, target):
        def step(f):
            got, want = f(g.clone(), target), linear_sigma(g, target)
            at = lambda shape, level: (shape.log() - shape.log().mean() + level).exp()
            level = target - HALF_LOG_2PIE
            mistakes = {
                "that is sigma squared: take the root at the end.": want.square(),
                "sigma is proportional to 1 / g here; it is sigma *squared* that goes with 1 / "
                "g.": at(1 / g, level),
                "cells that are read more must get *less* noise: divide by the root of g.": at(
                    g.sqrt(), level
                ),
                "the constant 1/2 log(2 pi e) of the entropy is missing: log sigma is on average "
                "target minus it.": at(g.rsqrt(), target),
                "add 1/2 log(2 pi e) to log sigma to get H, so *subtract* it from the target.": at(
                    g.rsqrt(), target + HALF_LOG_2PIE
                ),
                "the shape is right, but nothing makes the mean entropy the target: scale all "
                "sigmas by one factor.": g.rsqrt(),
                "the mean of sigma is set, but the *entropy*, so log sigma, must have its mean at "
                "the target.": g.rsqrt() / g.rsqrt().mean() * math.exp(level),
                "the same sigma everywhere has the right mean entropy, but it ignores "
                "g.": torch.full_like(g, math.exp(level)),
                "these are the entropies H_i: return sigma.": want.log() + HALF_LOG_2PIE,
                "these are logarithms: take exp at the end.": want.log(),
            }
            return explain(
                got, want, f"g = {[round(v, 2) for v in g.tolist()]}, target {target:g}", mistakes
            )

        return step

    several = torch.rand(9, generator=torch.Generator().manual_seed(0)) + 0.05
    wide = (1e-9, 1e9)
    assert torch.allclose(
        linear_sigma(several, -1.0),
        optimum(several.view(1, 3, 3), -1.0, bounds=wide).flatten(),
        rtol=1e-4,
    )
    return judge(
        function,
        value(torch.tensor([16.0, 1.0]), -2.8),
        value(several, -1.0),
        value(several / 50, -2.0),
        praise="what is read twice as strongly (g four times) gets half the noise, and the total "
        "is the target.",
    )


def counts(entropy: Tensor, foreground: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The solution: N_fg, N_bg and lambda of each image, (N,) each."""
    concepts = concept_cells(entropy, foreground, threshold)
    n_fg, n_bg = (concepts & foreground).sum((1, 2)), (concepts & ~foreground).sum((1, 2))
    return n_fg, n_bg, share_on_foreground(n_fg, n_bg)


def check_counts_of_concepts(function: Callable) -> Verdict:
    """``function(entropy (N, g, g), foreground (N, g, g) bool, threshold)`` -> (N_fg (N,), N_bg
    (N,), lambda (N,)).
    """

    def value(what, entropy, fg, b):
        level, back = baseline_entropy(entropy, fg), ~fg
        own = ((entropy * back).sum((1, 2)) / back.sum((1, 2)))[:, None, None]
        front = ((entropy * fg).sum((1, 2)) / fg.sum((1, 2))).mean()

        def counted(concepts):
            n_fg, n_bg = (
                (concepts & fg).sum((1, 2)).double(),
                (concepts & back).sum((1, 2)).double(),
            )
            return torch.stack([n_fg, n_bg, n_fg / (n_fg + n_bg).clamp(min=1)])

        want = counted(level - entropy > b)
        n_fg, n_bg, share = want
        mistakes = {
            "H-bar is a mean over *all* images, one number for the network: this takes one for "
            "each image.": counted(own - entropy > b),
            "H-bar is the mean of the *background* cells only: here the object's cells are in "
            "it.": counted(entropy.mean() - entropy > b),
            "H-bar is the mean of the *background*: this takes the object's.": counted(
                front - entropy > b
            ),
            "first the mean of each image's background, then over images: here images with more "
            "background count more.": counted(entropy[back].mean() - entropy > b),
            "concept cells lie *below* H-bar: H-bar - H > b.": counted(entropy - level > b),
            "strictly more than b: a cell exactly at H-bar - b is no concept.": counted(
                level - entropy >= b
            ),
            "the threshold b is missing: every cell below H-bar is counted.": counted(
                level > entropy
            ),
            "N_fg and N_bg are swapped.": torch.stack(
                [n_bg, n_fg, n_bg / (n_fg + n_bg).clamp(min=1)]
            ),
            "lambda is N_fg / (N_fg + N_bg), not N_fg / N_bg.": torch.stack(
                [n_fg, n_bg, n_fg / n_bg.clamp(min=1)]
            ),
            "lambda is a share of the *concept* cells, not of all cells of the "
            "object.": torch.stack([n_fg, n_bg, n_fg / fg.sum((1, 2)).clamp(min=1)]),
        }

        def step(f):
            got = f(entropy.clone(), fg.clone(), b)
            if not isinstance(got, (tuple, list, Tensor)) or len(got) != 3:
                return (
                    compare(got, want, what)
                    if got is None
                    else f"{what}: expected three tensors, N_fg, N_bg and lambda."
                )
            rows = [torch.as_tensor(v).double() for v in got]
            if any(r.shape != (len(entropy),) for r in rows):
                return (
                    f"{what}: shapes {[tuple(r.shape) for r in rows]}, expected "
                    f"({len(entropy)},) each: a number per image, no mean over images."
                )
            if rows[2].isnan().any():
                return (
                    f"{what}: lambda is NaN for an image without any concept cell: there it is 0."
                )
            return explain(torch.stack(rows), want, what, mistakes)

        return step

    g = torch.Generator().manual_seed(3)
    some = torch.randn(5, 6, 6, generator=g).double() + torch.arange(5).double()[:, None, None] / 2
    fg = torch.rand(5, 6, 6, generator=g) < torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6])[:, None, None]
    some -= 0.8 * fg
    tie, box = torch.full((2, 4, 4), 2.0).double(), torch.zeros(2, 4, 4, dtype=torch.bool)
    box[:, :2, :2] = True
    tie[0, 0] = torch.tensor(
        [1.0, 1.5, 2.0, 2.0]
    )  # H-bar stays 2: one cell far below it, one exactly 0.5 below
    return judge(
        function,
        value("5 images", some, fg, 0.3),
        value("a cell exactly at b, an image without concepts", tie, box, 0.5),
        praise="one H-bar for the network, strictly more than b below it, and lambda 0 where "
        "nothing is known.",
    )


def course(concepts: Tensor, distance: Sequence[float]) -> tuple[float, float, float]:
    """The solution: D_mean, D_std (the paper's, a variance) and rho from foreground concepts (M, N,
    g, g) and distances (M,).
    """
    at = torch.as_tensor(distance, dtype=torch.float64)[richest(concepts.sum((2, 3)))]
    return float(at.mean()), float(at.var(correction=0)), float(stability(concepts).double().mean())


def check_course(function: Callable) -> Verdict:
    """``function(concepts (M, N, g, g) bool, distance (M,))`` -> (D_mean, D_std, rho), as in the
    paper.
    """

    def value(what, concepts, distance):
        n, m = concepts.sum((2, 3)).double(), len(concepts)
        at, last = distance[richest(n)], distance[m - 1 - n.flip(0).argmax(0)]
        union, final, common = (
            c.sum((1, 2)).double() for c in (concepts.any(0), concepts[-1], concepts.all(0))
        )
        rho = (final / union.clamp(min=1)).mean()
        d = torch.stack([at.mean(), at.var(correction=0)])
        want = torch.tensor(course(concepts, distance), dtype=torch.float64)
        mistakes = {
            "of several epochs with most concepts take the *first*.": torch.stack(
                [last.mean(), last.var(correction=0), rho]
            ),
            "D_std is a variance, as the paper prints it: this is its root.": torch.stack(
                [d[0], d[1] ** 0.5, rho]
            ),
            "divide by N, not by N - 1 (`correction=0`).": torch.stack([d[0], at.var(), rho]),
            "m-hat belongs to each image: this takes one epoch for all.": torch.stack(
                [distance[n.mean(1).argmax()], torch.zeros(()).double(), rho]
            ),
            "D_mean looks up the *distance* at the epoch m-hat, this is the number of the "
            "epoch.": torch.stack([(r := richest(n).double()).mean(), r.var(correction=0), rho]),
            "rho is averaged over images: this divides the sums.": torch.stack(
                [*d, final.sum() / union.sum()]
            ),
            "rho divides by the *union* over epochs, this by the cells that are concepts at every "
            "epoch.": torch.stack([*d, (final / common.clamp(min=1)).mean()]),
            "rho has the *last* epoch above the line: this takes the cells that are concepts at "
            "every epoch.": torch.stack([*d, (common / union.clamp(min=1)).mean()]),
            "rho divides by the union, this by the largest number of a single epoch.": torch.stack(
                [*d, (final / n.amax(0).clamp(min=1)).mean()]
            ),
        }

        def step(f):
            got = f(concepts.clone(), distance.clone())
            if not isinstance(got, (tuple, list, Tensor)) or len(got) != 3:
                return (
                    compare(got, want, what)
                    if got is None
                    else f"{what}: expected three numbers, D_mean, D_std and rho."
                )
            rows = [torch.as_tensor(v).double() for v in got]
            if any(r.numel() != 1 for r in rows):
                return (
                    f"{what}: shapes {[tuple(r.shape) for r in rows]}, expected three single "
                    f"numbers, over all images."
                )
            if rows[2].isnan().any():
                return (
                    f"{what}: rho is NaN: an image that never had a concept has an empty "
                    f"union; there rho is 0."
                )
            return explain(torch.stack([r.flatten()[0] for r in rows]), want, what, mistakes)

        return step

    g = torch.Generator().manual_seed(1)
    many = (
        torch.rand(6, 8, 5, 5, generator=g)
        < torch.tensor([0.1, 0.25, 0.4, 0.55, 0.4, 0.45])[:, None, None, None]
    )
    many[4, :4] = many[3, :4].flip(2)  # as many cells, but others: four ties
    empty = many.clone()
    empty[:, 2] = False
    way = torch.tensor([0.2, 0.5, 0.6, 0.9, 1.3, 1.4], dtype=torch.float64)
    return judge(
        function,
        value("6 epochs, 8 images", many, way),
        value("an image without concepts", empty, way),
        praise="each image's first richest epoch, the spread over images, and the share of the "
        "union that is still known.",
    )
