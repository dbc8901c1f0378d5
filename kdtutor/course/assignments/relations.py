"""Checks of the assignment relations: RKD's two losses, similarities with a dead image, and which
moves a loss does not notice.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checks.verdict import Verdict, judge
from ...lessons.relations.checks import check_similarity_loss
from ...methods.relation.rkd import angle_loss, distance_loss
from ...methods.relation.similarity import similarity_loss
from .hints_and_attention import one_way, told

MOVES = ("shift", "scale", "own scales", "turn", "mirror")
LOSSES = {  # of points (B, 2): name -> the moves of the student that it does not notice
    "places": set(),
    "places about the mean": {"shift"},
    "directions from the origin": {"scale", "own scales"},
    "distances": {"shift", "scale", "turn", "mirror"},
    "plain distances": {"shift", "turn", "mirror"},
    "lengths": {"turn", "mirror"},
    "products": {"scale", "turn", "mirror"},
    "cosines": {"scale", "own scales", "turn", "mirror"},
    "directions of edges": {"shift", "scale"},
    "signed corners": {"shift", "scale", "turn"},
    "nothing": set(MOVES),
}


def relation(x: Tensor, name: str) -> Tensor:
    """What the loss of this name (one of ``LOSSES``) sees of points (B, 2); "distances" and
    "products" are the library's, not here.
    """
    unit = F.normalize(x[None] - x[:, None], dim=-1)
    return {
        "places": x,
        "places about the mean": x - x.mean(0),
        "directions from the origin": F.normalize(x, dim=1),
        "plain distances": torch.cdist(x, x),
        "lengths": x.norm(dim=1),
        "cosines": F.normalize(x, dim=1) @ F.normalize(x, dim=1).T,
        "directions of edges": unit,
        "nothing": 0 * x,
        "signed corners": unit[:, :, None, 0] * unit[:, None, :, 1]
        - unit[:, :, None, 1] * unit[:, None, :, 0],
    }[name]


def moved_loss(name: str, factor: float = 1.0) -> Callable:
    """The loss of this name, one of ``LOSSES``, times a factor: ``loss(student, teacher)``, both
    (B, 2).
    """
    library = {"distances": distance_loss, "products": similarity_loss}.get(name)
    return lambda student, teacher: (
        factor
        * (
            library(student, teacher)
            if library
            else (relation(student, name) - relation(teacher, name)).square().mean()
        )
    )


huber_sum = partial(F.smooth_l1_loss, reduction="sum")


def _averages(d: Tensor, pieces: int, all_entries: int, variant: str) -> dict[str, Tensor]:
    """What other functions of the differences d, or other averages, would give. Both RKD losses
    share these mistakes.
    """
    (count, other), total = (
        (pieces, all_entries)[:: 1 if variant == "paper" else -1],
        huber_sum(d, 0 * d),
    )
    return {
        "the two variants are mixed up: 'paper' averages over different images only, 'code' over "
        "all entries.": total / other,
        "the sum must be divided by the number of its terms.": total,
        "it is half of the mean: count each pair twice in the sum and in the divisor, or once in "
        "both.": total / (2 * count),
        "it is twice the mean: count each pair twice in the sum and in the divisor, or once in "
        "both.": 2 * total / count,
        "Huber is ½ d² up to |d| = 1, and |d| − ½ beyond; this is the plain "
        "square.": d.square().sum() / count,
        "Huber goes on as |d| − ½ where |d| > 1; this is ½ d² everywhere.": d.square().sum()
        / (2 * count),
        "these are absolute differences; Huber is ½ d² up to |d| = 1.": d.abs().sum() / count,
    }


def check_distance_loss(function: Callable) -> Verdict:
    """``function(student, teacher, variant)`` (B, ...) each -> a number, as ``distance_loss``."""
    g = torch.Generator().manual_seed(7)
    line = torch.tensor([[0.0], [2], [4]]), torch.tensor([[0.0], [1], [3]])
    cloud, t = torch.randn(7, 3, generator=g), 2 * torch.randn(7, 5, 1, 2, generator=g)
    far = cloud * torch.tensor([1, 1, 1, 1, 1, 1, 30.0])[:, None]

    def step(what, s, t, variant="paper"):
        want, b, (ds, dt) = (
            distance_loss(s, t, variant),
            len(s),
            (torch.cdist(x, x) for x in (s.flatten(1), t.flatten(1))),
        )
        off, end = b * (b - 1), b * (b - 1) if variant == "paper" else b * b
        gap = lambda by: huber_sum(by(ds), by(dt)) / end
        mean = lambda d: d * off / d.sum()
        mistakes = _averages(mean(ds) - mean(dt), off, b * b, variant) | {
            "the distances are not divided by their mean.": gap(lambda d: d),
            "the mean distance runs over all B² entries: the B zeros of the diagonal do not "
            "count.": gap(lambda d: d / d.mean()),
            "the distances are divided by the largest one: divide by their mean.": gap(
                lambda d: d / d.max()
            ),
            "both networks are divided by the same mean: each has its own.": huber_sum(
                ds * off / dt.sum(), mean(dt)
            )
            / end,
            "those are squared distances: take the root first.": gap(lambda d: mean(d**2)),
            "each row is divided by its own mean: take one mean for the batch.": gap(
                lambda d: d * (b - 1) / d.sum(1, keepdim=True)
            ),
        }
        return lambda f: told(
            f(s.clone(), t.clone(), variant), want, what, mistakes, "A division by 0?"
        )

    def slope(what, s):
        def run(f):
            f(leaf := s.clone().requires_grad_(), t.clone(), "paper").backward()
            if leaf.grad is not None and not torch.isfinite(leaf.grad).all():
                return (
                    f"{what}: the gradient is NaN or Inf: the slope of a root at 0 is "
                    f"infinite. torch.cdist knows, or mask the zeros."
                )
            return one_way(f, distance_loss, s, t, "paper")

        return run

    return judge(
        function,
        step("three points on a line (0.0208)", *line),
        step("the same, variant 'code'", *line, "code"),
        step("7 images, shapes (7, 3) and (7, 5, 1, 2)", cloud, t),
        step("one image far away", far, t),
        step("the same, variant 'code'", far, t, "code"),
        slope("7 images", cloud),
        slope("two equal images", cloud[[0, 1, 2, 3, 4, 5, 5]]),
        praise="both variants, Huber at both ends, and finite gradients even for twins.",
    )


def check_angle_loss(function: Callable) -> Verdict:
    """``function(student, teacher, variant)`` (B, ...) each -> a number, as ``angle_loss``."""
    g = torch.Generator().manual_seed(8)
    corners = (
        torch.tensor([[0.0, 0], [2, 0], [1, 3**0.5]]),
        torch.tensor([[0.0, 0], [3, 0], [0, 4]]),
    )
    line, back = torch.tensor([[0.0], [1], [3], [4]]), torch.tensor([[1.0], [3], [0], [-2]])
    s, t, maps = (torch.randn(shape, generator=g) for shape in ((6, 3), (6, 5), (6, 3, 2, 2)))

    def step(what, s, t, variant="paper"):
        want, b, flat = angle_loss(s, t, variant), len(s), (s.flatten(1), t.flatten(1))
        triplets, end = b * (b - 1) * (b - 2), b**3 if variant == "code" else b * (b - 1) * (b - 2)
        edges = [x[None] - x[:, None] for x in flat]
        unit = [F.normalize(e, dim=-1) for e in edges]
        cosines, products = ([e @ e.mT for e in pair] for pair in (unit, edges))
        angles = [
            torch.ones(b, b).fill_diagonal_(0)[:, :, None] * c.clamp(-1, 1).acos() for c in cosines
        ]
        from_origin = [F.normalize(x, dim=1) @ F.normalize(x, dim=1).T for x in flat]
        mistakes = _averages(cosines[0] - cosines[1], triplets, b**3, variant) | {
            "the triplets with j = k are counted too: B(B−1)(B−2) remain of different "
            "images.": huber_sum(*cosines) / (b * (b - 1) ** 2),
            "those are dot products of edges: divide each edge by its length first.": huber_sum(
                *products
            )
            / end,
            "that is the angle itself; its cosine is compared.": huber_sum(*angles) / end,
            "the vertex is an image, not the origin: subtract x_i first.": huber_sum(*from_origin)
            / b**2,
        }
        return lambda f: told(
            f(s.clone(), t.clone(), variant),
            want,
            what,
            mistakes,
            "The edge to oneself has length 0: it must stay 0.",
        )

    return judge(
        function,
        step("6 images, widths 3 and 5", s, t),
        step("an even triangle, teacher 3-4-5 (0.0583)", *corners),
        step("the same, variant 'code'", *corners, "code"),
        step("cosines of +1 and −1", line, back),
        step("maps (6, 3, 2, 2)", maps, t),
        lambda f: one_way(f, angle_loss, s, t, "paper"),
        praise="the angle at every image, both variants, and any widths.",
    )


def check_dead_similarity(function: Callable) -> Verdict:
    """``function(student, teacher)`` as ``similarity_loss``, also with an image whose features are
    all 0.
    """
    s, t = (torch.rand(5, width, generator=torch.Generator().manual_seed(9)) for width in (3, 6))
    dead = s * torch.tensor([1, 1, 0, 1, 1.0])[:, None]

    def gradient(f):
        (loss := f(leaf := dead.clone().requires_grad_(), t.clone())).backward()
        if complaint := told(
            loss,
            similarity_loss(dead, t),
            "an image of zeros",
            {},
            "Its row of G is 0 and must stay 0.",
        ):
            return complaint
        if not torch.isfinite(leaf.grad).all() or leaf.grad.abs().max() > 100:
            return (
                "an image of zeros: the value is right, but the gradient is "
                f"{leaf.grad.abs().max():.1g}. "
                "Divide rows of length 0 by 1, with torch.where."
            )

    return check_similarity_loss(function) and judge(
        function,
        lambda f: one_way(f, similarity_loss, s, t),
        gradient,
        praise="any widths, no unit, and a dead image does no harm.",
    )


def check_invariances(function: Callable) -> Verdict:
    """``function(loss)`` -> the set of those ``MOVES`` of the student that a loss one can only call
    does not notice.
    """
    hints = {
        "shift": "Do your points move far enough?",
        "scale": "Is your factor far from 1?",
        "own scales": "Each image needs a factor of its own; one factor for all is a scale.",
        "turn": "Turn by an angle such as 40°; a turn by 360° changes nothing.",
        "mirror": "Flip one axis only (both: a turn by 180°); points on one line may stay where "
        "they are.",
    }

    def step(name):
        def look(f):
            said = f(moved_loss(name))
            if not isinstance(said, (set, frozenset, list, tuple)) or not set(said) <= set(MOVES):
                return (
                    f"your function returned {said!r}; expected a set out of "
                    f"{', '.join(map(repr, MOVES))}."
                )
            if extra := [m for m in MOVES if m in set(said) - LOSSES[name]]:
                return (
                    f"a loss ({name}) notices {extra}, and you say that it does not. "
                    f"{hints[extra[0]]} "
                    "Take at least five points that lie anyhow, and move the student only."
                )
            if missing := [m for m in MOVES if m in LOSSES[name] - set(said)]:
                return (
                    f"a loss ({name}) does not notice {missing}, and you say that it does. Does "
                    "something else move too, "
                    "or is it rounding? Use a small tolerance such as 1e-6."
                )

        return look

    return judge(
        function,
        *map(
            step,
            ("places", "distances", "products", "cosines", "signed corners", "plain distances"),
        ),
        praise="six losses, and each one's blind spots are found.",
    )
