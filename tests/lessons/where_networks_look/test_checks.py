"""The checks of lesson 06 pass right solutions, and name the mistake of plausible wrong ones."""

import pytest
import torch
import torch.nn.functional as F

from kdtutor.lessons.where_networks_look.checks import (
    check_attention_loss,
    check_attention_map,
    check_share_inside,
)
from kdtutor.lessons.where_networks_look.figures import share_inside
from kdtutor.methods.feature.attention_transfer import attention_loss, attention_map


def unsolved(*args):
    raise NotImplementedError


# --- The map


def mapped(
    absolute=True,
    reduce=lambda v, kind: v.sum(1) if kind == "sum" else v.amax(1),
    after=lambda v, p: v,
):
    def f(a, kind, p):
        return after(reduce((a.abs() if absolute else a) ** p, kind), p)

    return f


def loop(a, kind, p):
    out = torch.zeros(len(a), *a.shape[2:])
    for b, i, j in torch.cartesian_prod(*map(torch.arange, out.shape)).tolist():
        powers = [abs(float(v)) ** p for v in a[b, :, i, j]]
        out[b, i, j] = sum(powers) if kind == "sum" else max(powers)
    return out


@pytest.mark.parametrize("right", [attention_map, mapped(), loop])
def test_attention_map_right(right):
    assert check_attention_map(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (mapped(absolute=False), "absolute value"),
        (
            mapped(reduce=lambda v, kind: v.mean(1) if kind == "sum" else v.amax(1)),
            "mean over channels",
        ),
        (
            lambda a, kind, p: a.abs().sum(1) ** p if kind == "sum" else a.abs().amax(1) ** p,
            "before the sum",
        ),
        (
            lambda a, kind, p: a.sum(1).abs() ** p if kind == "sum" else a.abs().amax(1) ** p,
            "comes before",
        ),
        (mapped(after=lambda v, p: v ** (1 / p)), "no root"),
        (mapped(reduce=lambda v, kind: v.sum(1)), "kind is not used"),
        (lambda a, kind, p: attention_map(a, "max" if kind == "sum" else "sum", p), "mixed up"),
        (lambda a, kind, p: attention_map(a, kind, 2), "p is not used"),
        (lambda a, kind, p: attention_map(a, kind, 1), "p is not used"),
        (
            mapped(after=lambda v, p: F.normalize(v.flatten(1), dim=1).view(v.shape)),
            "normalised already",
        ),
        (
            lambda a, kind, p: attention_map(a, kind, p) if kind == "sum" else a.amax(1).abs() ** p,
            "negative channels",
        ),
        (mapped(reduce=lambda v, kind: v.sum(0) if kind == "sum" else v.amax(0)), "over the batch"),
        (
            mapped(
                reduce=lambda v, kind: (
                    v.sum(1, keepdim=True) if kind == "sum" else v.amax(1, keepdim=True)
                )
            ),
            "keepdim",
        ),
        (lambda *a: None, "None"),
        (lambda *a: 1.01 * attention_map(*a), "off by"),
        (unsolved, "nothing to check yet"),
        (lambda a: a, "TypeError"),
    ],
)
def test_attention_map_wrong(wrong, word):
    verdict = check_attention_map(wrong)
    assert not verdict and word in verdict.message


# --- The loss


def lossy(
    p=2,
    unit=lambda q: F.normalize(q, dim=1),
    distance=lambda d: d.norm(dim=1).mean(),
    teacher_unit=None,
):
    def f(s, t):
        q_s, q_t = (a.abs().pow(p).sum(1).flatten(1) for a in (s, t))
        return distance(unit(q_s) - (teacher_unit or unit)(q_t))

    return f


def columns(s, t):
    q_s, q_t = (F.normalize(a.square().sum(1)) for a in (s, t))
    return (q_s - q_t).flatten(1).norm(dim=1).mean()


@pytest.mark.parametrize("right", [attention_loss, lossy(), lambda s, t: lossy()(s, t).item()])
def test_attention_loss_right(right):
    assert check_attention_loss(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda s, t: attention_loss(s, t, variant="code"), "mean of squares"),
        (lossy(distance=lambda d: d.square().sum(1).mean()), "square root is missing"),
        (lossy(unit=lambda q: q), "not normalised"),
        (lossy(unit=lambda q: q, teacher_unit=lambda q: F.normalize(q, dim=1)), "only the teacher"),
        (lossy(teacher_unit=lambda q: q), "only the student"),
        (lossy(unit=lambda q: q / q.norm()), "whole batch"),
        (columns, "F.normalize"),
        (lossy(unit=lambda q: q / q.sum(1, keepdim=True)), "divided by their sum"),
        (lossy(distance=lambda d: d.norm(dim=1).sum()), "summed over the batch"),
        (lossy(distance=torch.norm), "over the whole batch"),
        (lossy(p=1), "sum of squares"),
        (lambda s, t: attention_loss(s, t, kind="max"), "maximum"),
        (lossy(distance=lambda d: d.abs().sum(1).mean()), "absolute differences"),
        (lossy(distance=lambda d: d.norm(dim=1)), "shape"),
        (lambda s, t: None, "None"),
        (unsolved, "nothing to check yet"),
        (lambda s, t: F.mse_loss(s, t), "raised"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_attention_loss_wrong(wrong, word):
    verdict = check_attention_loss(wrong)
    assert not verdict and word in verdict.message


# --- The share


def shared(
    pool=F.adaptive_avg_pool2d,
    cells=lambda m: m,
    result=lambda mass, maps, inside: mass / maps.sum((1, 2)),
):
    def f(maps, masks):
        inside = cells(pool(masks[:, None], maps.shape[1:])[:, 0])
        return result((maps * inside).sum((1, 2)), maps, inside)

    return f


def spread(maps, masks):
    """The other way round: every cell's mass is spread over its pixels."""
    large = F.interpolate(maps[:, None], masks.shape[1:])[:, 0]
    return (large * masks).sum((1, 2)) / large.sum((1, 2))


@pytest.mark.parametrize("right", [share_inside, shared(), spread])
def test_share_inside_right(right):
    assert check_share_inside(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (shared(result=lambda mass, maps, inside: mass), "not its share"),
        (lambda maps, masks: masks.mean((1, 2)), "share of the area"),
        (lambda maps, masks: 1 - share_inside(maps, masks), "outside"),
        (shared(result=lambda mass, maps, inside: mass / inside.sum((1, 2))), "mask's area"),
        (shared(result=lambda mass, maps, inside: mass / maps[0].numel()), "number of cells"),
        (shared(result=lambda mass, maps, inside: mass / maps.sum()), "batch's mass"),
        (lambda maps, masks: share_inside(maps**2, masks), "squared"),
        (shared(pool=F.adaptive_max_pool2d), "not its maximum"),
        (shared(pool=lambda m, size: F.interpolate(m, size)), "one pixel"),
        (shared(cells=lambda m: (m >= 0.5).float()), "inside or outside"),
        (lambda maps, masks: share_inside(maps, masks).mean(), "one number"),
        (lambda maps, masks: (maps * masks).sum((1, 2)) / maps.sum((1, 2)), "raised"),
        (lambda *a: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_share_inside_wrong(wrong, word):
    verdict = check_share_inside(wrong)
    assert not verdict and word in verdict.message
