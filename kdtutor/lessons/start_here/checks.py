"""Instant checks of lesson 00: temperature softmax, entropy, and the temperature that makes a
teacher half sure.
"""

import math

import torch

from ...checks.verdict import Verdict, compare, judge
from ...softening import soften

ROWS = torch.tensor(
    [[1.0, 2.0, 3.0, 0.5], [0.0, -2.0, 4.0, 1.0]]
)  # not square: a wrong axis cannot hide
LARGE = torch.tensor([[1000.0, 1001.0, 998.0], [0.0, 1.0, -2.0]])


def _tensor(got):
    return None if got is None else torch.as_tensor(got, dtype=torch.float64)


def _same(got, other) -> bool:
    """Whether a wrong result is exactly the one that a known mistake gives."""
    got, other = _tensor(got), _tensor(other)
    return (
        got is not None and got.shape == other.shape and bool(torch.allclose(got, other, atol=1e-5))
    )


def _call(function, value, number, what):
    """(result, None), or (None, the sentence) where the axis was not there or the shapes did not
    fit.
    """
    try:
        return function(value.clone(), number), None
    except NotImplementedError:  # an unsolved exercise, and a RuntimeError too
        raise
    except (IndexError, RuntimeError) as error:
        return None, (
            f"{what} gave {type(error).__name__}: {error}. Count the axis from the end, dim=-1; "
            "and what you divide by "
            "needs keepdim=True in its sum, or its rows no longer line up."
        )


def _first(got, want, what, mistakes) -> str | None:
    """None if right; else the sentence of the known mistake that gives this result, or of
    ``compare``.
    """
    complaint = compare(got, want, what)
    if complaint is None:
        return None
    return next((f"{what}: {hint}" for wrong, hint in mistakes if _same(got, wrong)), complaint)


def check_soften(function) -> Verdict:
    """Checks ``function(logits, temperature)``: a softmax with temperature over the last axis, safe
    for large logits.
    """

    def values(f):
        got, complaint = _call(f, ROWS, 5.0, "4 classes at T = 5")
        if complaint:
            return complaint
        f(given := ROWS.clone(), 5.0)
        if not torch.equal(given, ROWS):
            return (
                "your function changed the logits that it was given. Work on a new tensor: z = "
                "logits / temperature."
            )
        e = (ROWS / 5).exp()
        return _first(
            got,
            soften(ROWS, 5.0),
            "4 classes at T = 5",
            [
                (
                    soften(ROWS, 1.0),
                    "this is the plain softmax, T = 1. The logits must be divided by T before exp; "
                    "a factor that "
                    "comes after exp cancels in the division by the sum.",
                ),
                (
                    soften(ROWS, 0.2),
                    "the shares became sharper, not softer: divide the logits by T, do not "
                    "multiply.",
                ),
                (
                    soften(ROWS.T, 5.0).T,
                    "each column sums to 1, not each row. The classes are the last axis: dim=-1.",
                ),
                (
                    e / e.sum(),
                    "all numbers together sum to 1, not each row. Sum over the last axis only: "
                    "dim=-1, keepdim=True.",
                ),
                (
                    soften(ROWS, 1.0) / 5,
                    "the rows do not sum to 1. T divides the logits, not the probabilities.",
                ),
                (
                    soften(ROWS, 5.0).log(),
                    "these are logarithms of the probabilities: softmax, not log_softmax.",
                ),
                (e, "the rows do not sum to 1: divide by the sum over the last axis."),
                (
                    torch.eye(4)[ROWS.argmax(-1)],
                    "this is a hard answer, all or nothing. Every class keeps a share.",
                ),
            ],
        )

    def shapes(f):
        for shape in ((5,), (2, 3, 5)):
            z = torch.linspace(-2, 2, math.prod(shape)).reshape(shape).sin()
            got, complaint = _call(f, z, 2.0, f"logits of shape {shape}")
            if complaint:
                return complaint
            if complaint := compare(got, soften(z, 2.0), f"logits of shape {shape}"):
                return complaint + " The classes are always the last axis: dim=-1, keepdim=True."

    def stable(f):
        got = f(LARGE.clone(), 1.0)
        if got is not None and not torch.isfinite(_tensor(got)).all():
            return (
                "logits [1000, 1001, 998] and [0, 1, -2] in one batch gave NaN or Inf: exp(1000) "
                "overflows, and subtracting "
                "too much leaves 0/0. Subtract each row's own maximum before exp: the shares stay "
                "the same."
            )
        return compare(got, soften(LARGE, 1.0), "large logits") or compare(
            f(LARGE.clone(), 50.0), soften(LARGE, 50.0), "large logits at T = 50"
        )

    def cold(f):
        complaint = compare(f(ROWS.clone(), 0.5), soften(ROWS, 0.5), "T = 0.5")
        return (
            complaint
            and complaint + " T may be below 1: then the answer is sharper than the plain softmax."
        )

    return judge(
        function,
        values,
        shapes,
        stable,
        cold,
        praise="soft at any T, for any shape, and no overflow.",
    )


def check_entropy(function) -> Verdict:
    """Checks ``function(probabilities, base)``: the entropy over the last axis, in bits for base 2
    and in nats for base e.
    """
    p = torch.tensor([[0.5, 0.25, 0.25], [0.7, 0.2, 0.1]])
    nats = torch.special.entr(p).sum(-1)

    def bits(f):
        return _first(
            f(p.clone(), 2.0),
            nats / math.log(2),
            "[0.5, 0.25, 0.25] and [0.7, 0.2, 0.1] in bits",
            [
                (
                    -nats / math.log(2),
                    "the sign is wrong: logarithms of probabilities are negative, entropy is not.",
                ),
                (
                    nats,
                    "these are nats (natural logarithm). For bits divide by log(2), or use the "
                    "logarithm to base 2.",
                ),
                (nats / math.log(10), "this is the logarithm to base 10. For bits use base 2."),
                (nats / math.log(2) / 3, "this is the mean over the classes: entropy is the sum."),
                (
                    nats / math.log(3),
                    "this is divided by log(C), the largest value possible. Entropy itself is not "
                    "scaled.",
                ),
                (
                    2 ** (nats / math.log(2)),
                    "this is the perplexity, 2 to the power of the entropy.",
                ),
                (
                    -p.log2().sum(-1),
                    "every logarithm needs its weight: sum p * log(p), not log(p).",
                ),
                (1 - (p * p).sum(-1), "this is the Gini impurity; entropy sums -p * log(p)."),
                (
                    torch.special.entr(p).sum(0) / math.log(2),
                    "you summed over the rows; the classes are the last axis: dim=-1.",
                ),
                (
                    torch.special.entr(p).sum() / math.log(2),
                    "one number for the whole batch; expected one per row: sum over dim=-1.",
                ),
                (
                    (nats / math.log(2))[:, None],
                    "the class axis is still there; sum over it without keepdim.",
                ),
            ],
        )

    def other_base(f):
        got = f(p.clone(), math.e)
        return _first(
            got,
            nats,
            "the same in nats (base = e)",
            [
                (
                    nats / math.log(2),
                    "still in bits: the base must be used. log to any base is log(p) / log(base).",
                )
            ],
        )

    def certain(f):
        got = f(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]), 2.0)
        if got is not None and not torch.isfinite(_tensor(got)).all():
            return (
                "a class with probability 0 gave NaN or Inf. By convention 0 * log(0) = 0: see "
                "torch.special.entr, torch.where."
            )
        complaint = compare(
            got, torch.tensor([0.0, 1.0]), "sure answers, [1, 0, 0] and [0.5, 0.5, 0]", 1e-6
        )
        return complaint and complaint + " Do not add a constant to p: treat 0 * log(0) as 0."

    def shapes(f):
        for p, want in (
            (torch.full((4,), 1 / 4), torch.tensor(2.0)),
            (torch.full((2, 3, 8), 1 / 8), torch.full((2, 3), 3.0)),
        ):
            what = f"equal shares of shape {tuple(p.shape)}"
            got, complaint = _call(f, p, 2.0, what)
            if complaint := complaint or compare(got, want, what):
                return complaint

    return judge(
        function,
        bits,
        other_base,
        certain,
        shapes,
        praise="right in bits and in nats, and 0 * log(0) is 0.",
    )


def check_temperature_for(function) -> Verdict:
    """Checks ``function(logits, top)``: the temperature at which the largest share of
    soften(logits, T) is ``top``.
    """
    cases = [
        (torch.tensor([1.0, 2.0, 3.0]), 0.5),
        (torch.tensor([12.0, 1.0, 0.0, 3.0, 2.0]), 0.5),
        (torch.tensor([30.0, -20.0, 5.0, 10.0]), 0.3),
        (torch.tensor([0.1, 0.0, -0.1, 0.05]), 0.9),
        (torch.tensor([5.0, 4.0, 1.0]), 0.8),
    ]

    def case(f, z, top):
        got = f(z.clone(), top)
        what = f"logits {[round(v, 2) for v in z.tolist()]}, largest share {top}"
        if got is None:
            return f"{what}: your function returned None. Did you forget `return`?"
        t = float(got)
        if not 0 < t < math.inf:
            return f"{what}: T = {t:g}, but a temperature is finite and > 0."
        share = lambda t: soften(z.double(), t).max().item()
        if abs(share(t) - top) < 1e-3:
            return None
        found = f"{what}: at your T = {t:.4g} the largest share is {share(t):.3f}. "
        if abs(share(1 / t) - top) < 1e-3:
            return found + "You returned 1/T."
        if abs(share(t) - 0.5) < 1e-3:
            return found + "You looked for 0.5; use the argument `top`."
        if abs(t - top) < 1e-6 or abs(t - share(1.0)) < 1e-3:
            return found + "You returned a probability; expected the temperature itself."
        if abs(share(t) - top) < 0.05:
            return found + "Nearly: halve the interval more often (60 times is cheap)."
        if share(t) < top:
            return found + (
                "That is too soft: T must be lower. Does your search move to the right side (a "
                "higher T makes the "
                "largest share smaller), start below the answer (T may be far below 1) and use "
                "every class?"
            )
        return found + (
            "That is too sharp: T must be higher. Does your search move to the right side (a "
            "higher T makes the "
            "largest share smaller), reach far enough (T may be above 20) and use the largest "
            "logit, not the first?"
        )

    steps = [lambda f, z=z, top=top: case(f, z, top) for z, top in cases]
    return judge(function, *steps, praise="every teacher becomes exactly as unsure as you ask.")
