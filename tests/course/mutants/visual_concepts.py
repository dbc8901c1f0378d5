"""Wrong and right answers to the assignment visual_concepts."""

import math

import torch

from kdtutor.concepts.first_order import optimum as library_optimum
from kdtutor.concepts.maps import HALF_LOG_2PIE as K
from kdtutor.concepts.maps import entropy
from kdtutor.concepts.metrics import concept_cells, stability
from kdtutor.course.assignments.visual_concepts import (
    concept_counts,
    learning_speed,
    linear_sensitivity,
)

LIBRARY = {
    "my_entropy": entropy,
    "my_sensitivity": None,  # the library's asks any network, image by image
    "my_optimum": None,  # the library's also keeps sigma within bounds, which needs a search
    "my_concept_cells": concept_cells,
    "my_concept_counts": None,  # a part of concept_metrics
    "my_learning_speed": None,  # a part of concept_metrics
    "my_stability": stability,
}


def blocks(squares, shape, grid):
    C, H, W = shape
    return squares.reshape(C, grid, H // grid, grid, W // grid).sum(dim=(0, 2, 4))


def by_loop(weight, shape, grid):
    C, H, W = shape
    g = torch.zeros(grid, grid)
    for row in weight.reshape(-1, H, W):
        for r in range(H):
            for c in range(W):
                g[r * grid // H, c * grid // W] += row[r, c] ** 2
    return g


def by_unfolding(weight, shape, grid):
    C, H, W = shape
    pooled = torch.nn.functional.avg_pool2d(
        weight.square().sum(0).view(1, *shape), (H // grid, W // grid)
    )
    return pooled.sum((0, 1)) * (H // grid) * (W // grid)


def best(power=-0.5, target_of=lambda h: h.mean((1, 2), keepdim=True), constant=K):
    """Noise at a target entropy, right by default."""

    def make(g, target):
        s = g**power
        return s * (target - target_of(s.log() + constant)).exp()

    return make


def exact(g, target):
    return library_optimum(g, target, bounds=(1e-9, 1e9))


def concepts(
    bar="right", strict=True, flip=False, both=False, threshold=None, only_foreground=False
):
    """Concept cells, right by default. bar: which mean is the baseline."""

    def make(entropy, cells, threshold_=0.2):
        b = threshold_ if threshold is None else threshold
        of = lambda side: (entropy * side).sum((1, 2)) / side.sum((1, 2)).clamp(min=1)
        some = ~cells.flatten(1).all(1)
        level = {
            "right": lambda: of(~cells)[some].mean(),
            "all cells": lambda: entropy.mean(),
            "pooled": lambda: entropy[~cells].mean(),
            "foreground": lambda: of(cells)[cells.flatten(1).any(1)].mean(),
            "each image": lambda: of(~cells)[:, None, None],
            "zero": lambda: of(~cells).mean(),
            "nan": lambda: ((entropy * ~cells).sum((1, 2)) / (~cells).sum((1, 2))).mean(),
            "median": lambda: entropy[~cells].median(),
        }[bar]()
        gap = level - entropy
        gap = -gap if flip else gap.abs() if both else gap
        found = gap > b if strict else gap >= b
        return found & cells if only_foreground else found

    return make


def by_image(entropy, cells, threshold=0.2):
    means = [float(h[~fg].double().mean()) for h, fg in zip(entropy, cells) if (~fg).any()]
    return entropy < sum(means) / len(means) - threshold


def counts(fg_bg=lambda c, m: (c & m, c & ~m), share=None, mean=torch.mean, order=1):
    """The three numbers, right by default. share: (n_fg, n_bg) -> lambda."""

    def make(concepts, cells):
        n_fg, n_bg = (side.sum((1, 2)).double() for side in fg_bg(concepts, cells))
        lam = (share or (lambda a, b: (a / (a + b).clamp(min=1)).mean()))(n_fg, n_bg)
        return (*(mean(n_fg), mean(n_bg))[::order], lam)

    return make


def counts_by_loop(concepts, cells):
    rows = []
    for c, m in zip(concepts, cells):
        a, b = int(c[m].sum()), int(c[~m].sum())
        rows.append((a, b, a / (a + b) if a + b else 0.0))
    return [sum(column) / len(rows) for column in zip(*rows)]


def speed(
    pick=lambda n: n.argmax(0),
    hop=lambda w: (w[1:] - w[:-1]).norm(dim=1),
    base=lambda w: w[0].norm(),
    add=lambda h: h.cumsum(0),
    shift=0,
    std=lambda d: d.var(correction=0),
):
    """D_mean and D_std, right by default, with a switch for each mistake."""

    def make(n_fg, weights):
        way = add(hop(weights) / base(weights))
        way = torch.cat([way.new_zeros(shift), way])
        d = way[pick(n_fg)]
        return d.mean(), std(d)

    return make


def last(n):
    return len(n) - 1 - n.flip(0).argmax(0)


def speed_by_loop(n_fg, weights):
    found = []
    for image in n_fg.T.tolist():
        m = image.index(max(image)) + 1
        found.append(
            sum(
                float((weights[k] - weights[k - 1]).norm() / weights[0].norm())
                for k in range(1, m + 1)
            )
        )
    mean = sum(found) / len(found)
    return mean, sum((d - mean) ** 2 for d in found) / len(found)


def kept(top=lambda s: s[-1].sum((1, 2)), bottom=lambda s: s.any(0).sum((1, 2)), safe=True):
    """rho, right by default."""
    return lambda s: top(s) / (bottom(s).clamp(min=1) if safe else bottom(s))


def kept_by_sets(s):
    rho = []
    for image in s.transpose(0, 1):
        sets = [set(map(tuple, epoch.nonzero().tolist())) for epoch in image]
        union = set().union(*sets)
        rho.append(len(sets[-1]) / len(union) if union else 0.0)
    return torch.tensor(rho)


RIGHT = {
    "entropy-test": [
        entropy,
        lambda s: 0.5 * (2 * math.pi * math.e * s**2).log(),
        lambda s: torch.distributions.Normal(0.0, s).entropy(),
    ],
    "sensitivity-test": [linear_sensitivity, by_loop, by_unfolding],
    "optimum-test": [
        exact,
        best(),
        lambda g, t: torch.stack([math.exp(t - K) * (m.log().mean().exp() / m).sqrt() for m in g]),
    ],
    "concept-cells-test": [concept_cells, concepts(), by_image],
    "counts-test": [concept_counts, counts(), counts_by_loop],
    "speed-test": [learning_speed, speed(), speed_by_loop],
    "rho-test": [stability, kept(), kept_by_sets],
}
WRONG = {
    "entropy-test": {
        "log σ alone": lambda s: s.log(),
        "½ log 2π, without e": lambda s: s.log() + 0.5 * math.log(2 * math.pi),
        "log 2πe, without the half": lambda s: s.log() + 2 * K,
        "log σ² instead of log σ": lambda s: 2 * s.log() + K,
        "half of log σ": lambda s: 0.5 * s.log() + K,
        "the sign of log σ": lambda s: K - s.log(),
        "bits": lambda s: entropy(s) / math.log(2),
        "summed": lambda s: entropy(s).sum(),
        "never below 0": lambda s: entropy(s).clamp(min=0),
        "σ instead of its logarithm": lambda s: s + K,
    },
    "sensitivity-test": {
        "not squared": lambda w, shape, grid: blocks(w.sum(0), shape, grid),
        "absolute values": lambda w, shape, grid: blocks(w.abs().sum(0), shape, grid),
        "outputs added before squaring": lambda w, shape, grid: blocks(
            w.sum(0).square(), shape, grid
        ),
        "channels added before squaring": lambda w, shape, grid: blocks(
            w.view(len(w), *shape).sum(1).square().sum(0).flatten(), (1, *shape[1:]), grid
        ),
        "pixels added before squaring": lambda w, shape, grid: sum(
            blocks(row, (1, *shape[1:]), grid).square()
            for row in w.reshape(-1, shape[1] * shape[2])
        ),
        "the root": lambda w, shape, grid: linear_sensitivity(w, shape, grid).sqrt(),
        "mean over a cell's pixels": lambda w, shape, grid: (
            linear_sensitivity(w, shape, grid) * grid**2 / (shape[1] * shape[2])
        ),
        "mean over outputs": lambda w, shape, grid: linear_sensitivity(w, shape, grid) / len(w),
        "rows and columns exchanged": lambda w, shape, grid: linear_sensitivity(w, shape, grid).T,
        "every so-many-th pixel": lambda w, shape, grid: (
            w.square()
            .sum(0)
            .view(shape[0], shape[1] // grid, grid, shape[2] // grid, grid)
            .sum((0, 1, 3))
        ),
        "channels last": lambda w, shape, grid: blocks(
            w.square().sum(0).view(*shape[1:], shape[0]).permute(2, 0, 1), shape, grid
        ),
        "the first channel only": lambda w, shape, grid: blocks(
            w.view(len(w), *shape)[:, :1].square().sum(0), (1, *shape[1:]), grid
        ),
    },
    "optimum-test": {
        "σ ∝ 1/g": best(power=-1.0),
        "σ ∝ √g": best(power=0.5),
        "the same σ everywhere": best(power=0.0),
        "no level": lambda g, t: g.rsqrt(),
        "constant forgotten in the level": best(constant=0.0),
        "the sum is the target": best(target_of=lambda h: h.sum((1, 2), keepdim=True)),
        "one level for all images": best(target_of=lambda h: h.mean()),
        "log of the mean": lambda g, t: math.exp(t - K) * (g.mean((1, 2), keepdim=True) / g).sqrt(),
        "σ²": lambda g, t: exact(g, t).square(),
        "the entropies": lambda g, t: entropy(exact(g, t)),
        "always the target −2.8": lambda g, t: exact(g, -2.8),
    },
    "concept-cells-test": {
        "mean over all cells": concepts("all cells"),
        "mean of the foreground": concepts("foreground"),
        "background of all images pooled": concepts("pooled"),
        "a baseline for each image": concepts("each image"),
        "an image without background counts as 0": concepts("zero"),
        "an image without background gives NaN": concepts("nan"),
        "median instead of mean": concepts("median"),
        "the sign": concepts(flip=True),
        "both directions": concepts(both=True),
        "at least b": concepts(strict=False),
        "always b = 0.2": concepts(threshold=0.2),
        "no threshold": concepts(threshold=0.0),
        "foreground only": concepts(only_foreground=True),
    },
    "counts-test": {
        "totals": counts(mean=torch.sum),
        "share of the means": counts(share=lambda a, b: a.sum() / (a + b).sum()),
        "images without concepts left out": counts(
            share=lambda a, b: (a / (a + b))[a + b > 0].mean()
        ),
        "images without concepts have share 1": counts(
            share=lambda a, b: torch.where(a + b > 0, a / (a + b).clamp(min=1), 1.0).mean()
        ),
        "0/0": counts(share=lambda a, b: (a / (a + b)).mean()),
        "foreground over background": counts(share=lambda a, b: (a / b.clamp(min=1)).mean()),
        "exchanged": counts(order=-1),
        "cells, not concepts": counts(fg_bg=lambda c, m: (m, ~m)),
        "background counts all concepts": counts(
            fg_bg=lambda c, m: (c & m, c), share=lambda a, b: (a / b.clamp(min=1)).mean()
        ),
        "share of the background": counts(share=lambda a, b: (b / (a + b).clamp(min=1)).mean()),
    },
    "speed-test": {
        "the last of equal maxima": speed(pick=last),
        "the straight way": speed(hop=lambda w: (w[1:] - w[0]).norm(dim=1), add=lambda h: h),
        "not divided": speed(base=lambda w: 1.0),
        "divided by the weights before each step": speed(base=lambda w: w[:-1].norm(dim=1)),
        "squared": speed(
            hop=lambda w: (w[1:] - w[:-1]).square().sum(1), base=lambda w: w[0].square().sum()
        ),
        "one step too few": speed(shift=1),
        "one step only": speed(add=lambda h: h),
        "root": speed(std=lambda d: d.std(correction=0)),
        "divided by N − 1": speed(std=lambda d: d.var()),
        "epochs, not the way": speed(hop=lambda w: torch.ones(len(w) - 1), base=lambda w: 1.0),
        "the last epoch": speed(pick=lambda n: torch.full((n.shape[1],), len(n) - 1)),
        "the maximum of the mean curve": speed(
            pick=lambda n: n.double().mean(1).argmax().expand(n.shape[1])
        ),
        "the fewest concepts": speed(pick=lambda n: n.argmin(0)),
    },
    "rho-test": {
        "intersection above": kept(top=lambda s: s.all(0).sum((1, 2))),
        "the first epoch above": kept(top=lambda s: s[0].sum((1, 2))),
        "the first epoch below": kept(bottom=lambda s: s[0].sum((1, 2))),
        "epochs added up": kept(bottom=lambda s: s.sum((0, 2, 3))),
        "union without the last epoch": kept(bottom=lambda s: s[:-1].any(0).sum((1, 2))),
        "largest count below": kept(bottom=lambda s: s.sum((2, 3)).amax(0)),
        "all cells below": kept(bottom=lambda s: torch.full((s.shape[1],), s[0, 0].numel())),
        "upside down": lambda s: s.any(0).sum((1, 2)) / s[-1].sum((1, 2)).clamp(min=1),
        "0/0": kept(safe=False),
        "mean over images": lambda s: stability(s).mean(),
    },
}
