"""Checks of the assignment visual_concepts: entropies by hand, and the six numbers that Cheng et
al. (2020) compute from them.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...checks.verdict import Verdict, compare, explain, judge
from ...concepts.cells import gather
from ...concepts.first_order import optimum
from ...concepts.maps import HALF_LOG_2PIE, entropy
from ...concepts.metrics import (
    baseline_entropy,
    concept_cells,
    richest,
    share_on_foreground,
    stability,
)

K = HALF_LOG_2PIE
WIDE = (1e-12, 1e12)  # bounds of sigma that never matter


def linear_sensitivity(weight: Tensor, shape: tuple[int, int, int], grid: int) -> Tensor:
    """g (grid, grid) of the linear layer f(x) = weight x: the sum of all squared weights that
    belong to a cell.
    """
    return gather(weight.square().sum(0).view(shape).sum(0), grid)


def concept_counts(concepts: Tensor, cells: Tensor) -> tuple[float, float, float]:
    """Means over images of N_fg, N_bg and lambda."""
    n_fg, n_bg = ((concepts & side).sum((1, 2)).double() for side in (cells, ~cells))
    return float(n_fg.mean()), float(n_bg.mean()), float(share_on_foreground(n_fg, n_bg).mean())


def learning_speed(n_fg: Tensor, weights: Tensor) -> tuple[float, float]:
    """D_mean and D_std from the foreground concepts (M, N) after epochs 1..M and the weights (M +
    1, P) after epochs 0..M.
    """
    way = ((weights[1:] - weights[:-1]).norm(dim=1) / weights[0].norm()).cumsum(0)[richest(n_fg)]
    return float(way.mean()), float(way.var(correction=0))


def _numbers(got, want, what: str, mistakes: dict, names: str) -> str | None:
    """As ``explain``, for several numbers at once."""
    if got is None:
        return compare(None, 0.0, what)
    if not isinstance(got, (tuple, list, Tensor)) or len(got) != len(want):
        return f"{what}: return {len(want)} numbers, {names}."
    got = torch.stack([torch.as_tensor(v).double() for v in got])
    if got.isnan().any():
        return f"{what}: your result holds NaN: an image without any concept has λ = 0, not 0/0."
    return explain(got, torch.tensor(want).double(), what, mistakes)


def check_differential_entropy(function: Callable) -> Verdict:
    """``function(sigma)`` -> log sigma + 1/2 log(2 pi e), elementwise."""

    def step(what, s):
        mistakes = {
            "the constant ½ log(2πe) is missing.": s.log(),
            "this is ½ log(2π): the e is missing.": s.log() + 0.5 * math.log(2 * math.pi),
            "this is log(2πe) without the ½.": s.log() + 2 * K,
            "you take the logarithm of σ²: halve it, or take that of σ.": 2 * s.log() + K,
            "the ½ belongs to the constant only; log σ stands alone.": 0.5 * s.log() + K,
            "the sign of log σ is wrong.": K - s.log(),
            "this is in bits: use the natural logarithm.": entropy(s) / math.log(2),
            "this is in base 10.": entropy(s) / math.log(10),
            "return an entropy for every element, not their sum.": entropy(s).sum(),
            "return an entropy for every element, not their mean.": entropy(s).mean(),
            "the logarithm of σ is missing.": s + K,
        }
        return lambda f: explain(f(s.clone()), entropy(s), what, mistakes)

    return judge(
        function,
        step("σ = 0.01, 0.5, 3", torch.tensor([0.01, 0.5, 3.0])),
        step("a map of 2 × 3 cells", torch.tensor([[0.2, 1.0, 0.03], [2.0, 0.7, 0.001]])),
        praise="wider noise has more entropy, and a narrow one may have less than 0.",
    )


def check_cell_sensitivity(function: Callable) -> Verdict:
    """``function(weight, shape, grid)`` -> (grid, grid): the sum of the squared weights of each
    cell, over outputs, channels, pixels.
    """

    def step(what, outputs, shape, grid, seed):
        w = torch.randn(outputs, math.prod(shape), generator=torch.Generator().manual_seed(seed))
        c, h, wide = shape
        cube, cells = w.view(outputs, *shape), lambda pixels: gather(pixels, grid)
        right = linear_sensitivity(w, shape, grid)
        mistakes = {
            "the weights are not squared.": cells(cube.sum((0, 1))),
            "these are absolute values: square them.": cells(cube.abs().sum((0, 1))),
            "square each weight first; you add the outputs before.": cells(
                cube.sum(0).square().sum(0)
            ),
            "square each weight first; you add the channels before.": cells(
                cube.sum(1).square().sum(0)
            ),
            "square each weight first; you add a cell's pixels before.": torch.stack(
                [cells(x).square() for x in cube.flatten(0, 1)]
            ).sum(0),
            "this is the root: g is the *squared* norm.": right.sqrt(),
            "add the pixels of a cell, do not average them.": right / (h * wide / grid**2),
            "add the outputs, do not average them.": right / outputs,
            "add the channels, do not average them.": right / c,
            "rows and columns of the cells are exchanged.": right.T,
            "the inputs are flattened channel by channel: view(C, H, W).": cells(
                w.square().sum(0).view(h, wide, c).sum(2)
            ),
            "only the first channel counts here.": cells(cube[:, 0].square().sum(0)),
            "pixels that lie side by side belong to one cell; you take every "
            "so-many-th.": cube.square()
            .sum((0, 1))
            .view(h // grid, grid, wide // grid, grid)
            .sum((0, 2)),
        }
        return lambda f: explain(f(w.clone(), shape, grid), right, what, mistakes)

    return judge(
        function,
        step("3 outputs, 2 × 4 × 6 inputs, 2 × 2 cells", 3, (2, 4, 6), 2, 1),
        step("5 outputs, 3 × 9 × 6 inputs, 3 × 3 cells", 5, (3, 9, 6), 3, 2),
        praise="all squared weights that a cell's noise meets, added up.",
    )


def check_highest_entropy(function: Callable) -> Verdict:
    """``function(g, target)`` -> sigma (N, n, n) with sigma_i² ∝ 1/g_i in each image, and mean
    entropy ``target``.
    """

    def step(what, n, size, target, seed):
        g = torch.exp(
            1.5 * torch.randn(n, size, size, generator=torch.Generator().manual_seed(seed))
        )
        want, level = (
            optimum(g, target, bounds=WIDE),
            lambda s: (target - entropy(s).mean((1, 2), keepdim=True)).exp() * s,
        )
        whole = (target - entropy(g.rsqrt()).mean()).exp() * g.rsqrt()
        mistakes = {
            "σ itself is proportional to 1/g here; it is σ² that is.": level(1 / g),
            "σ grows with g here: what is read gets *less* noise.": level(g.sqrt()),
            "the level is missing: scale σ so that each image's mean entropy is the "
            "target.": g.rsqrt(),
            "the constant ½ log(2πe) is missing in the level.": want * math.exp(K),
            "this is σ²: take the root.": want.square(),
            "these are the entropies: return σ.": entropy(want),
            "one level for all images: each image has its own.": whole,
            "the *sum* of the entropies is the target here: their mean should be.": want
            * math.exp(target / size**2 - target),
            "take the mean of the entropies for the level, not their sum.": (
                target - entropy(g.rsqrt()).sum((1, 2), keepdim=True)
            ).exp()
            * g.rsqrt(),
            "σ is the same for all cells here, whatever g is.": torch.full_like(
                g, math.exp(target - K)
            ),
            "the mean of log g is not the logarithm of the mean of g.": math.exp(target - K)
            * (g.mean((1, 2), keepdim=True) / g).sqrt(),
            "the mean of σ is set here, not that of its logarithm.": math.exp(target - K)
            * g.rsqrt()
            / g.rsqrt().mean((1, 2), keepdim=True),
        }
        return lambda f: explain(f(g.clone(), target), want, what, mistakes)

    return judge(
        function,
        step("one image, 2 × 2 cells, target −2.8", 1, 2, -2.8, 1),
        step("three images, 4 × 4 cells, target −1", 3, 4, -1.0, 2),
        praise="the entropy is as high as the change allows, and every image discards equally "
        "much.",
    )


def check_visual_concepts(function: Callable) -> Verdict:
    """``function(entropy, cells, threshold)`` -> bool (N, g, g): H-bar − H_i > b."""

    def step(what, h, cells, b):
        want, bar = concept_cells(h, cells, b), baseline_entropy(h, cells)
        share = lambda side: (h * side).sum((1, 2)) / side.sum((1, 2)).clamp(min=1)
        mistakes = {
            "the sign is flipped: a concept has *lower* entropy than the background.": h - bar > b,
            "distance in both directions: only cells *below* H̄ count.": (h - bar).abs() > b,
            "H̄ is the mean of the *background*, not of all cells.": h.mean() - h > b,
            "H̄ is the mean of the *background*; this is that of the foreground.": share(cells)[
                cells.any(1).any(1)
            ].mean()
            - h
            > b,
            "first the mean of each image's background, then the mean over images: here images "
            "with much background weigh more.": h[~cells].mean() - h > b,
            "H̄ is one number for all images: the mean of the images' means.": share(~cells)[
                :, None, None
            ]
            - h
            > b,
            "an image without background has no mean, and counts as 0 here: leave it out of "
            "H̄.": share(~cells).mean() - h > b,
            "the threshold b is not used.": bar - h > 0,
            "concepts may lie on the background too: return all of them.": want & cells,
            "“more than b” is strict: > instead of >=.": bar - h >= b,
            "0.2 is only the default: use `threshold`.": bar - h > 0.2,
        }

        def look(f):
            got = f(h.clone(), cells.clone(), b)
            complaint = explain(got, want, what, mistakes)
            if complaint and "off by" in complaint:
                wrong = int((torch.as_tensor(got).bool() != want).sum())
                return (
                    f"{what}: {wrong} of {want.numel()} cells are wrong. Return True or False "
                    f"for each."
                )
            return complaint

        return look

    g = torch.Generator().manual_seed(3)
    h = (
        -2.8
        + 0.4 * torch.randn(3, 4, 4, generator=g)
        + torch.tensor([-0.5, 1.2, -0.2])[:, None, None]
    )
    cells = torch.zeros(3, 4, 4, dtype=torch.bool)
    cells[0, 1:3, 1:3], cells[1, :3], cells[2, 0, 0] = True, True, True
    full = torch.cat([cells, torch.ones(1, 4, 4, dtype=torch.bool)])
    at = torch.tensor(
        [[[-2.5, -2.375], [-2.5, -2.75]], [[-2.0, -2.0], [-2.5, -3.25]]]
    )  # H-bar = -2.25: -2.5 lies exactly b = 0.25 below
    edge = torch.tensor([[[False, True], [False, True]], [[False, False], [True, True]]])
    return judge(
        function,
        step("three images of 4 × 4 cells, b = 0.2", h, cells, 0.2),
        step("the same, b = 0.5", h, cells, 0.5),
        step("with an image that is all foreground", torch.cat([h, h[:1] - 0.3]), full, 0.2),
        step("an entropy exactly b below H̄", at, edge, 0.25),
        praise="one baseline for all images, and every cell that is clearly below it.",
    )


def check_concept_counts(function: Callable) -> Verdict:
    """``function(concepts, cells)`` -> (N_fg, N_bg, lambda), means over images."""

    def step(what, concepts, cells):
        want = concept_counts(concepts, cells)
        fg, bg = ((concepts & side).sum((1, 2)).double() for side in (cells, ~cells))
        three = lambda a, b, c: torch.stack([torch.as_tensor(v).double() for v in (a, b, c)])
        share = share_on_foreground(fg, bg)
        mistakes = {
            "N_fg comes first, then N_bg.": three(bg.mean(), fg.mean(), share.mean()),
            "λ is the share on the *foreground*.": three(
                fg.mean(), bg.mean(), share_on_foreground(bg, fg).mean()
            ),
            "foreground and background are exchanged.": three(
                bg.mean(), fg.mean(), share_on_foreground(bg, fg).mean()
            ),
            "N_fg and N_bg are totals: average over the images.": three(
                fg.sum(), bg.sum(), share.mean()
            ),
            "λ is the mean of the images' shares, not the share of the means.": three(
                fg.mean(), bg.mean(), fg.sum() / (fg + bg).sum()
            ),
            "an image without any concept counts with λ = 0; you leave it out.": three(
                fg.mean(), bg.mean(), share[fg + bg > 0].mean()
            ),
            "an image without any concept counts with λ = 0, not 1.": three(
                fg.mean(), bg.mean(), torch.where(fg + bg > 0, share, 1.0).mean()
            ),
            "λ divides by *all* concepts, not by those on the background.": three(
                fg.mean(), bg.mean(), (fg / bg.clamp(min=1)).mean()
            ),
            "λ divides by the number of concepts, not of cells.": three(
                fg.mean(), bg.mean(), (fg / cells[0].numel()).mean()
            ),
            "count the concepts, not the cells: `concepts & cells`.": three(
                cells.sum((1, 2)).double().mean(),
                (~cells).sum((1, 2)).double().mean(),
                cells.double().mean(),
            ),
            "N_bg counts the concepts beside the object only.": three(
                fg.mean(), (fg + bg).mean(), share.mean()
            ),
        }
        return lambda f: _numbers(
            f(concepts.clone(), cells.clone()), want, what, mistakes, "(N_fg, N_bg, λ)"
        )

    g = torch.Generator().manual_seed(4)
    some = torch.rand(5, 4, 4, generator=g) < torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])[:, None, None]
    cells = torch.zeros(5, 4, 4, dtype=torch.bool)
    cells[:, 1:3, 1:] = True
    none = some.clone()
    none[1] = False
    return judge(
        function,
        step("five images", some, cells),
        step("one of them without any concept", none, cells),
        praise="each image counts once.",
    )


def check_learning_speed(function: Callable) -> Verdict:
    """``function(n_fg, weights)`` -> (D_mean, D_std)."""

    def step(what, n_fg, w):
        hop, base, best = (w[1:] - w[:-1]).norm(dim=1), w[0].norm(), richest(n_fg)
        path = (hop / base).cumsum(0)
        both = lambda way, spread=lambda d: d.var(correction=0): torch.stack(
            [way.mean(), spread(way)]
        ).double()
        before = torch.cat([path.new_zeros(1), path])
        mistakes = {
            "the last of several equal maxima: take the first.": both(
                path[len(n_fg) - 1 - richest(n_fg.flip(0))]
            ),
            "this is the straight way from w₀: add up the lengths of the single steps.": both(
                ((w[1:] - w[0]).norm(dim=1) / base)[best]
            ),
            "divide by the length of w₀.": both(path[best] * base),
            "divide by the length of w₀, not by that of the weights before each step.": both(
                (hop / w[:-1].norm(dim=1)).cumsum(0)[best]
            ),
            "the lengths are squared: take the norm.": both(
                (hop.square() / base.square()).cumsum(0)[best]
            ),
            "one step too few: n_fg[0] stands after epoch 1, when the weights have moved "
            "once.": both(before[best]),
            "one step only: add up all steps until m̂.": both((hop / base)[best]),
            "D_std is a variance, as the paper prints it: this is its root.": both(
                path[best], lambda d: d.std(correction=0)
            ),
            "D_std divides by N − 1 here: divide by N.": both(path[best], lambda d: d.var()),
            "these are epochs: return the way of the weights.": both(best + 1.0),
            "each image has its own m̂; this is the whole way.": both(
                path[-1].expand(n_fg.shape[1])
            ),
            "each image has its own m̂; this is that of the mean curve.": both(
                path[n_fg.double().mean(1).argmax()].expand(n_fg.shape[1])
            ),
            "m̂ has the *most* foreground concepts, not the fewest.": both(path[richest(-n_fg)]),
        }
        return lambda f: _numbers(
            f(n_fg.clone(), w.clone()), learning_speed(n_fg, w), what, mistakes, "(D_mean, D_std)"
        )

    clear = torch.tensor([[1, 5, 0, 2], [3, 4, 2, 1], [6, 3, 1, 1], [4, 2, 1, 7], [4, 1, 1, 3]])
    equal = torch.tensor([[1, 5, 0, 2], [3, 5, 2, 1], [6, 4, 2, 1], [6, 2, 2, 7], [4, 1, 1, 3]])
    w = (
        torch.randn(6, 5, generator=torch.Generator().manual_seed(5))
        * torch.tensor([[2.0], [1], [0.8], [0.6], [0.5], [0.4]])
    ).cumsum(0)
    return judge(
        function,
        step("four images, five epochs, no two equal maxima", clear, w),
        step("with equal maxima", equal, w),
        praise="when each image was known best, and how far the weights had come by then.",
    )


def check_kept_concepts(function: Callable) -> Verdict:
    """``function(concepts)`` -> (N,): rho = |S_M| / |S_1 or ... or S_M| of each image, 0 where the
    union is empty.
    """

    def step(what, s):
        count = lambda t: t.sum((1, 2)).double()
        union, divide = count(s.any(0)), lambda a, b: a / b.clamp(min=1)
        mistakes = {
            "return a number for each image, not their mean.": stability(s).mean(),
            "this is the *intersection* of all epochs above the union: above stands the last epoch "
            "alone.": divide(count(s.all(0)), union),
            "you divide by the first epoch's concepts: divide by the union of all epochs.": divide(
                count(s[-1]), count(s[0])
            ),
            "you add up the epochs: a cell that was known twice counts once in a union.": divide(
                count(s[-1]), s.sum((0, 2, 3)).double()
            ),
            "the last epoch belongs to the union too.": divide(count(s[-1]), count(s[:-1].any(0))),
            "the largest number of concepts is not the number of cells in the union.": divide(
                count(s[-1]), s.sum((2, 3)).amax(0).double()
            ),
            "the fraction is upside down.": divide(union, count(s[-1])),
            "the *last* epoch stands above, not the first.": divide(count(s[0]), union),
            "these are shares of all cells: divide by the union.": count(s[-1]) / s[0, 0].numel(),
        }

        def look(f):
            got = f(s.clone())
            if isinstance(got, Tensor) and got.isnan().any():
                return f"{what}: 0/0 is NaN: where nothing was ever known, ρ is 0."
            return explain(got, stability(s).double(), what, mistakes)

        return look

    s = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(6)) < 0.3
    empty = s.clone()
    empty[:, 1] = False
    return judge(
        function,
        step("three images, four epochs", s),
        step("nothing was ever known about the second image", empty),
        praise="what the last epoch still knows, of all that was ever known.",
    )
