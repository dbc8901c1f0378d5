"""Wrong and right answers to the assignment relations."""

import itertools
import math

import torch
import torch.nn.functional as F

from kdtutor.course.assignments.relations import LOSSES, MOVES
from kdtutor.methods.relation.rkd import angle_loss, distance_loss
from kdtutor.methods.relation.similarity import similarity_loss

LIBRARY = {
    "my_distance_loss": distance_loss,
    "my_angle_loss": angle_loss,
    "my_similarity_loss": similarity_loss,
    "my_invariances": None,
}  # a test of a loss: the library has none


def huber(s, t):
    return F.smooth_l1_loss(s, t, reduction="sum")


def off_diagonal(d):
    return d.sum() / (len(d) * (len(d) - 1))


def root(x):
    return (x[:, None] - x[None]).square().sum(-1).sqrt()


def masked_root(x):
    squares = (x[:, None] - x[None]).square().sum(-1)
    return torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)


def distance(
    by=lambda x: torch.cdist(x, x),
    unit=off_diagonal,
    end=huber,
    swap=False,
    detach=True,
    flat=True,
    over=None,
    pairs=1,
):
    """A distance loss, right by default, with a switch for each mistake."""

    def loss(student, teacher, variant="paper"):
        b, both = len(student), (student, teacher.detach() if detach else teacher)
        d = [by(x.flatten(1) if flat else x) for x in both]
        total = end(*(v / unit(v) for v in d))
        return total / (
            over(b) if over else b * b if (variant == "code") != swap else pairs * b * (b - 1)
        )

    return loss


def averaged(x):
    x = x.flatten(2).mean(2) if x.ndim > 2 else x
    return torch.cdist(x, x)


def same_unit(student, teacher, variant="paper"):
    unit = off_diagonal(torch.cdist(teacher.flatten(1), teacher.flatten(1)))
    return distance(unit=lambda d: unit)(student, teacher, variant)


def upper_pairs(student, teacher, variant="paper"):
    """Right: each pair once."""
    b, (i, j) = len(student), torch.triu_indices(len(student), len(student), 1)
    d = [(x.flatten(1)[i] - x.flatten(1)[j]) for x in (student, teacher.detach())]
    d = [torch.where((v != 0).any(1), v.norm(dim=1), 0) for v in d]
    return 2 * huber(*(v / v.mean() for v in d)) / (b * b if variant == "code" else b * (b - 1))


def angle(
    unit=lambda e: F.normalize(e, dim=-1),
    of=lambda c: c,
    end=huber,
    swap=False,
    detach=True,
    over=None,
    origin=False,
):
    """An angle loss, right by default."""

    def loss(student, teacher, variant="paper"):
        b, both = (
            len(student),
            (x.flatten(1) for x in (student, teacher.detach() if detach else teacher)),
        )
        edges = [unit((x if origin else x[None] - x[:, None]).expand(b, b, -1)) for x in both]
        total = end(*(of(e @ e.mT) for e in edges))
        return total / (
            over(b) if over else b**3 if (variant == "code") != swap else b * (b - 1) * (b - 2)
        )

    return loss


def angle_by_loop(student, teacher, variant="paper"):
    b, total = len(student), 0
    s, t = student.flatten(1), teacher.detach().flatten(1)
    for i, j, k in itertools.permutations(range(b), 3):
        a, c = (F.cosine_similarity(x[j] - x[i], x[k] - x[i], dim=0) for x in (s, t))
        total = total + F.smooth_l1_loss(a, c)
    return total / (b**3 if variant == "code" else b * (b - 1) * (b - 2))


def radians(c):
    return c.clamp(-1 + 1e-6, 1 - 1e-6).acos()


def guarded(m):
    length = m.norm(dim=1, keepdim=True)
    return m / torch.where(length > 0, length, 1)


def similarity(
    unit=guarded, before=lambda x: x, end=lambda d: d.square().mean(), detach=True, flat=True
):
    """A similarity loss, right by default."""

    def loss(student, teacher):
        grams = []
        for x in (student, teacher.detach() if detach else teacher):
            x = before(x.flatten(1) if flat else x)
            grams.append(unit(x @ x.mT))
        return end(grams[0] - grams[1])

    return loss


def similarity_by_loop(student, teacher):
    total = 0
    s, t = student.flatten(1), teacher.detach().flatten(1)
    for i in range(len(s)):
        rows = [x @ x[i] for x in (s, t)]
        rows = [r / r.norm() if r.detach().norm() > 0 else 0 * r for r in rows]
        total = total + (rows[0] - rows[1]).square().sum()
    return total / len(s) ** 2


POINTS = torch.randn(7, 2, generator=torch.Generator().manual_seed(11))


def turned(x, degrees):
    a = math.radians(degrees)
    return x @ torch.tensor(
        [[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]], dtype=x.dtype
    )


def invariances(x=POINTS, tolerance=1e-6, both=False, drop=(), swap=False, **moves):
    """The blind spots of a loss, right by default."""
    moves = {
        "shift": lambda x: x + torch.tensor([2.0, 1.0]),
        "scale": lambda x: 3 * x,
        "own scales": lambda x: torch.linspace(0.4, 2.3, len(x))[:, None] * x,
        "turn": lambda x: turned(x, 50),
        "mirror": lambda x: x * torch.tensor([1.0, -1.0]),
    } | {name.replace("_", " "): move for name, move in moves.items()}

    def find(loss):
        value = lambda y: loss(x, y) if swap else loss(y, y if both else x)
        return {
            name for name, move in moves.items() if name not in drop and value(move(x)) < tolerance
        }

    return find


def from_memory():
    """Knows in which order the visible check asks, and looks at nothing."""
    order = "places", "distances", "products", "cosines", "signed corners", "plain distances"
    answers = itertools.cycle([LOSSES[name] for name in order])
    return lambda loss: next(answers)


RIGHT = {
    "distance-loss-test": [distance_loss, distance(), distance(by=masked_root), upper_pairs],
    "angle-loss-test": [
        angle_loss,
        angle(),
        angle_by_loop,
        angle(unit=lambda e: guarded(e.flatten(0, 1)).view(e.shape)),
    ],
    "similarity-loss-test": [similarity_loss, similarity(), similarity_by_loop],
    "invariances-test": [
        invariances(),
        invariances(swap=True),
        invariances(x=3 * POINTS[:5] + 1),
        invariances(
            x=POINTS.double(),
            shift=lambda x: x + 1.5,
            own_scales=lambda x: x * torch.arange(1, 8)[:, None],
            mirror=lambda x: x.flip(1),
        ),
    ],
}
WRONG = {
    "distance-loss-test": {
        "plain root, NaN gradient": distance(by=root),
        "not divided by the mean": distance(unit=lambda d: 1),
        "mean over all B² entries inside": distance(unit=lambda d: d.mean()),
        "divided by the largest": distance(unit=lambda d: d.max()),
        "each row by its own mean": distance(unit=lambda d: d.sum(1, keepdim=True) / (len(d) - 1)),
        "the teacher's mean for both": same_unit,
        "squared distances": distance(by=lambda x: torch.cdist(x, x).square()),
        "squares instead of Huber": distance(end=lambda s, t: (s - t).square().sum()),
        "½ d² everywhere": distance(end=lambda s, t: 0.5 * (s - t).square().sum()),
        "absolute differences": distance(end=lambda s, t: (s - t).abs().sum()),
        "variants swapped": distance(swap=True),
        "always over B²": distance(over=lambda b: b * b),
        "summed": distance(over=lambda b: 1),
        "half of the mean": distance(pairs=2),
        "maps averaged over places": distance(by=averaged, flat=False),
        "gradient reaches the teacher": distance(detach=False),
        "the unit has no gradient": distance(unit=lambda d: off_diagonal(d).detach()),
    },
    "angle-loss-test": {
        "0 / 0 for an image and itself": angle(unit=lambda e: e / e.norm(dim=-1, keepdim=True)),
        "edges not divided by their length": angle(unit=lambda e: e),
        "cosines seen from the origin": angle(origin=True, over=lambda b: b**3),
        "angles instead of cosines": angle(of=radians),
        "squares instead of Huber": angle(end=lambda s, t: (s - t).square().sum()),
        "½ d² everywhere": angle(end=lambda s, t: 0.5 * (s - t).square().sum()),
        "absolute differences": angle(end=lambda s, t: (s - t).abs().sum()),
        "variants swapped": angle(swap=True),
        "always over B³": angle(over=lambda b: b**3),
        "triplets with j = k counted": angle(over=lambda b: b * (b - 1) ** 2),
        "each triangle once in the divisor": angle(over=lambda b: b * (b - 1) * (b - 2) / 2),
        "summed": angle(over=lambda b: 1),
        "gradient reaches the teacher": angle(detach=False),
        "student detached": lambda s, t, variant="paper": angle()(s.detach(), t, variant),
    },
    "similarity-loss-test": {
        "F.normalize explodes on a dead image": similarity(unit=lambda m: F.normalize(m, dim=1)),
        "0 / 0 on a dead image": similarity(unit=lambda m: m / m.norm(dim=1, keepdim=True)),
        "a small constant in the divisor": similarity(
            unit=lambda m: m / (m.norm(dim=1, keepdim=True) + 1e-8)
        ),
        "rows not normalised": similarity(unit=lambda m: m),
        "features normalised instead": similarity(before=guarded, unit=lambda m: m),
        "features and rows normalised": similarity(before=guarded),
        "columns normalised and not squared": similarity(end=lambda d: d.abs().mean()),
        "G as a whole": similarity(unit=lambda m: m / m.norm()),
        "rows sum to 1": similarity(unit=lambda m: m / m.sum(1, keepdim=True)),
        "divided by B": similarity(end=lambda d: d.square().sum() / len(d)),
        "summed": similarity(end=lambda d: d.square().sum()),
        "a root": similarity(end=lambda d: d.norm() / len(d)),
        "gradient reaches the teacher": similarity(detach=False),
    },
    "invariances-test": {
        "two points": invariances(x=POINTS[:2]),
        "points on the mirror's line": invariances(x=POINTS * torch.tensor([1.0, 0.0])),
        "points on a line through the origin": invariances(
            x=torch.linspace(0.5, 3, 6)[:, None] * torch.tensor([[1.0, 0.7]])
        ),
        "mirror is a turn by 180°": invariances(mirror=lambda x: -x),
        "own scales are one scale": invariances(own_scales=lambda x: 1.7 * x),
        "own scales of both signs": invariances(
            own_scales=lambda x: torch.linspace(-2, 2.5, len(x))[:, None] * x
        ),
        "turn by 360°": invariances(turn=lambda x: turned(x, 360)),
        "moves too small": invariances(shift=lambda x: x + 1e-4),
        "tolerance too large": invariances(tolerance=0.05),
        "tolerance 0": invariances(tolerance=1e-30),
        "both are moved": invariances(both=True),
        "scale moves, too": invariances(scale=lambda x: 2 * x + 1),
        "no mirror": invariances(drop=("mirror",)),
        "no own scales": invariances(drop=("own scales",)),
        "everything": lambda loss: set(MOVES),
        "knows the order of the visible check": from_memory(),
    },
}
