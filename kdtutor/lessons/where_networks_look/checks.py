"""Checks of lesson 06: the attention map, the distance of two maps, the share of a map inside a
mask.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...checks.verdict import Verdict, explain, judge
from ...methods.feature.attention_transfer import attention_loss, attention_map
from .figures import share_inside


def check_attention_map(function: Callable) -> Verdict:
    """``function(features, kind, p)`` (B, C, H, W) -> (B, H, W), as ``attention_map``."""
    tiny = torch.tensor([[2.0, 0], [2, 0], [2, 4]]).view(1, 3, 1, 2)
    signed = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(6))

    def step(what, a, kind, p):
        want, other = (
            attention_map(a, kind, p),
            attention_map(a, "max" if kind == "sum" else "sum", p),
        )
        channels = a.shape[1]
        bare = a.pow(p) if float(p).is_integer() else a.abs().pow(p)
        mistakes = {
            "'sum' and 'max' are mixed up, or kind is not used.": other,
            "without the absolute value, positive and negative channels cancel when p is odd: take "
            "|A| first.": bare.sum(1) if kind == "sum" else bare.amax(1),
            "that is the mean over channels: the formula has the sum.": want / channels,
            "the power comes before the sum: each channel's |A| is raised to p, then "
            "added.": a.abs().sum(1).pow(p),
            "the sum comes before the absolute value: take |A| of each channel first.": a.sum(1)
            .abs()
            .pow(p),
            "there is no root in the formula: leave the sum of powers as it is.": want.pow(1 / p),
            "p is not used: that is the map for p = 1.": attention_map(a, kind, 1),
            "p is not used: that is the map for p = 2.": attention_map(a, kind, 2),
            "the map is normalised already: return the plain sum or maximum.": F.normalize(
                want.flatten(1), dim=1
            ).view(want.shape),
            "the maximum of A misses strong negative channels: take |A| first.": a.amax(1)
            .abs()
            .pow(p),
            "keep one map per image: channels are dimension 1, and no other dimension is "
            "summed.": want.sum(0, keepdim=True),
        }
        mistakes = {
            k: v
            for k, v in mistakes.items()
            if v.shape != want.shape or not torch.allclose(v, want)
        }

        def run(f):
            got = f(a.clone(), kind, p)
            if isinstance(got, torch.Tensor) and got.ndim == 4 and got.shape[1] == 1:
                return (
                    f"{what}: your result has shape {tuple(got.shape)}: drop the channel "
                    f"dimension, for instance without keepdim."
                )
            if (
                isinstance(got, torch.Tensor)
                and got.shape != want.shape
                and got.shape == a.sum(0).shape
            ):
                return f"{what}: you summed over the batch: channels are dimension 1."
            return explain(got, want, what, mistakes)

        return run

    return judge(
        function,
        step("three channels at two places, sum of squares (12 and 16)", tiny, "sum", 2),
        step("signed features, sum, p = 2", signed, "sum", 2),
        step("signed features, sum, p = 1", signed, "sum", 1),
        step("signed features, sum, p = 3", signed, "sum", 3),
        step("signed features, max, p = 1", signed, "max", 1),
        step("signed features, max, p = 3", signed, "max", 3),
        praise="sums and maxima of |A|^p, for signed features and odd powers too.",
    )


def check_attention_loss(function: Callable) -> Verdict:
    """``function(student, teacher)`` (B, C, H, W) each, channels may differ -> a number, as
    ``attention_loss`` with p = 2.
    """
    g = torch.Generator().manual_seed(7)
    s, t = torch.randn(4, 3, 3, 5, generator=g), 2 * torch.randn(4, 6, 3, 5, generator=g)
    tiny = [
        torch.tensor([3.0, 4.0]).sqrt().view(1, 1, 1, 2),
        torch.tensor([4.0, 3.0]).sqrt().view(1, 1, 1, 2),
    ]

    def step(what, a, b):
        want, maps = attention_loss(a, b), [attention_map(v) for v in (a, b)]
        flat = [m.flatten(1) for m in maps]
        unit = [F.normalize(m, dim=1) for m in flat]
        d = (unit[0] - unit[1]).norm(dim=1)
        gap = lambda q: (q[0] - q[1]).flatten(1).norm(dim=1).mean()
        mistakes = {
            "that is the public code's mean of squares: the paper's is the length of the "
            "difference, averaged over images.": d.square().mean() / flat[0].shape[1],
            "the square root is missing: the length of the difference, not its "
            "square.": d.square().mean(),
            "the maps are not normalised: divide each by its own length.": gap(flat),
            "only the teacher's map is normalised: both need it.": gap([flat[0], unit[1]]),
            "only the student's map is normalised: both need it.": gap([unit[0], flat[1]]),
            "the whole batch has been normalised at once: each image's map has its own "
            "length.": gap([m / m.norm() for m in flat]),
            "F.normalize works along dimension 1: flatten each map to one row before.": gap(
                [F.normalize(m, dim=1) for m in maps]
            ),
            "the maps are divided by their sum: divide by their length, the root of the sum of "
            "squares.": gap([m / m.sum(1, keepdim=True) for m in flat]),
            "it is summed over the batch: take the mean over images.": d.sum(),
            "one length over the whole batch: take it per image, then the mean.": (
                unit[0] - unit[1]
            ).norm(),
            "the map is the sum of squares (p = 2), not of absolute values.": attention_loss(
                a, b, p=1
            ),
            "the map is the sum over channels, not the maximum.": attention_loss(a, b, kind="max"),
            "the absolute differences are added: the length needs squares and a root.": (
                unit[0] - unit[1]
            )
            .abs()
            .sum(1)
            .mean(),
        }
        mistakes = {k: v for k, v in mistakes.items() if not torch.allclose(v, want)}
        return lambda f: explain(f(a.clone(), b.clone()), want, what, mistakes)

    return judge(
        function,
        step("four images, 3 and 6 channels", s, t),
        step("the maps (3, 4) and (4, 3), distance 0.283", *tiny),
        step("the teacher's features times 10: nothing may change", s, 10 * t),
        praise="each map has length 1, the distance is taken per image, and channels may differ.",
    )


def check_share_inside(function: Callable) -> Verdict:
    """``function(maps, masks)`` (B, h, w), (B, H, W) of 0 and 1 -> (B,), as ``share_inside``."""
    g = torch.Generator().manual_seed(8)
    tiny = torch.tensor([[[6.0, 2], [1, 1]]]), torch.tensor([[[1.0, 1], [0, 0]]])
    same = torch.rand(3, 4, 4, generator=g), (torch.rand(3, 4, 4, generator=g) < 0.4).float()
    larger = same[0], (torch.rand(3, 8, 8, generator=g) < 0.4).float()

    def step(what, maps, masks):
        want, inside = (
            share_inside(maps, masks),
            F.adaptive_avg_pool2d(masks[:, None], maps.shape[1:])[:, 0],
        )
        peak = F.adaptive_max_pool2d(masks[:, None], maps.shape[1:])[:, 0]
        corner = F.interpolate(masks[:, None], maps.shape[1:])[:, 0]
        mass = (maps * inside).sum((1, 2))
        mistakes = {
            "that is the mass inside, not its share: divide by the map's whole mass.": mass,
            "that is the mask's share of the area: the map does not appear in it.": masks.mean(
                (1, 2)
            ),
            "that is the share outside the mask.": 1 - want,
            "you divided by the mask's area: divide by the map's whole mass.": mass
            / inside.sum((1, 2)),
            "you divided by the number of cells: divide by the map's whole mass.": mass
            / maps[0].numel(),
            "you divided by the batch's mass: every image has its own.": mass / maps.sum(),
            "the map is squared: use it as it is.": share_inside(maps.square(), masks),
            "a cell that is partly inside must count in part: average the mask over the cell, not "
            "its maximum.": (maps * peak).sum((1, 2)) / maps.sum((1, 2)),
            "one pixel of the mask stands for a whole cell: average the mask over the cell.": (
                maps * corner
            ).sum((1, 2))
            / maps.sum((1, 2)),
            "cells are counted as inside or outside: a cell that is partly inside must count in "
            "part.": (maps * (inside >= 0.5)).sum((1, 2)) / maps.sum((1, 2)),
        }
        mistakes = {
            k: v
            for k, v in mistakes.items()
            if v.shape != want.shape or not torch.allclose(v, want)
        }

        def run(f):
            got = f(maps.clone(), masks.clone())
            if isinstance(got, torch.Tensor) and got.ndim == 0:
                return f"{what}: your result is one number: return one share per image, (B,)."
            return explain(got, want, what, mistakes)

        return run

    return judge(
        function,
        step("a map (6, 2 / 1, 1), its first row inside: 0.8", *tiny),
        step("three maps, masks of equal size", *same),
        step("masks twice as large as the maps", *larger),
        praise="a share per image, and a cell that is partly inside counts in part.",
    )
