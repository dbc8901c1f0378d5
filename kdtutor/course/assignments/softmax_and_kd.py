"""Checks of the assignment softmax_and_kd: logarithms of soft answers, and a test that names what
is wrong with a loss.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...checks.verdict import Verdict, compare, explain, judge
from ...softening import soften

DIAGNOSES = ("right", "no T²", "mean over classes", "swapped", "teacher not softened", "unstable")


def check_log_soften(function: Callable) -> Verdict:
    """``function(logits, temperature)`` -> (..., C), the logarithms of ``soften``, finite for any
    logits.
    """
    z = torch.tensor([[1.0, 2.0, 3.0, 0.5], [0.0, -2.0, 4.0, 1.0]])
    wide = torch.tensor([[0.0, 100.0, 1000.0], [-500.0, 0.0, 300.0]])

    def want(logits, T):
        return F.log_softmax(logits / T, dim=-1)

    def step(what, T):
        mistakes = {
            "these are probabilities: the logarithm is missing.": soften(z, T),
            "the sign is wrong: logarithms of probabilities are never positive.": -want(z, T),
            "T must divide the logits, before anything else; you divide the finished "
            "logarithms.": want(z, 1.0) / T,
            "T is not used: this is the plain log-softmax.": want(z, 1.0),
            "you multiply by T: divide the logits by it.": want(z, 1 / T),
            "each column is normalised, not each row: the classes are the last axis, dim=-1.": want(
                z.T, T
            ).T,
            "the rows are not normalised: subtract the logarithm of the sum of the exponentials.": z
            / T,
            "the largest logit is subtracted, but not the logarithm of the sum.": z / T
            - (z / T).amax(-1, keepdim=True),
            "this is the logarithm to base 2: use the natural one.": want(z, T) / math.log(2),
            "this is the logarithm to base 10: use the natural one.": want(z, T) / math.log(10),
        }
        return lambda f: explain(f(z.clone(), T), want(z, T), what, mistakes)

    def extreme(f):
        got = f(wide.clone(), 1.0)
        if got is not None and not torch.isfinite(torch.as_tensor(got)).all():
            return (
                "logits such as [0, 100, 1000] give -Inf or NaN: the softmax underflows to 0 (or "
                "exp overflows) before the logarithm "
                "is taken. Subtract the logarithm of the sum instead: log p = z/T - logsumexp(z/T)."
            )
        complaint = compare(got, want(wide, 1.0), "logits such as [0, 100, 1000]")
        return (
            complaint
            and complaint
            + " A small constant inside the logarithm hides the problem and falsifies the value."
        )

    def shapes(f):
        for shape in ((2, 3, 5), (5,)):
            logits = torch.linspace(-2, 2, math.prod(shape)).reshape(shape).sin()
            if complaint := compare(
                f(logits.clone(), 2.0), want(logits, 2.0), f"logits of shape {shape}"
            ):
                return complaint + " The classes are always the last axis: dim=-1, keepdim=True."

    return judge(
        function,
        step("4 classes at T = 1", 1.0),
        step("4 classes at T = 5", 5.0),
        extreme,
        shapes,
        praise="right at any T, for any shape, and finite where the softmax itself underflows.",
    )


def faulty_loss(diagnosis: str, scale: float = 1.0) -> Callable:
    """A distillation loss ``loss(student_logits, teacher_logits, temperature)`` with the named
    fault, one of ``DIAGNOSES``.

    scale multiplies both logits first: a scaled loss has the same fault and other values. "right"
    has none."""

    def loss(student_logits, teacher_logits, temperature):
        s, t, T = scale * student_logits, scale * teacher_logits, temperature
        if diagnosis == "swapped":
            s, t = t, s
        log_p, log_q = F.log_softmax(t / T, dim=-1), F.log_softmax(s / T, dim=-1)
        if diagnosis == "teacher not softened":
            log_p = F.log_softmax(t, dim=-1)
        if diagnosis == "unstable":
            log_q = (s / T).softmax(-1).log()
        total = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
        return (
            total
            * (1 if diagnosis == "no T²" else T**2)
            / (s.numel() if diagnosis == "mean over classes" else len(s))
        )

    return loss


def check_diagnosis(function: Callable) -> Verdict:
    """``function(loss)`` -> one of ``DIAGNOSES``: what is wrong with a loss that one can only
    call."""
    hints = {
        "right": "Is there an input on which a correct loss differs from your expected value by "
        "rounding? Use a tolerance.",
        "no T²": "At T = 1 the factor T² does not show: call the loss at another T, such as 3.",
        "mean over classes": "It is too small by the number of classes C. Where T² = C, a missing "
        "T² looks the same: choose T and C apart.",
        "swapped": "Compare with KL(student ‖ teacher). For two classes or near logits the two "
        "directions may nearly agree.",
        "teacher not softened": "At T = 1 it does not show. Compute the loss with the student at T "
        "= 3 and the teacher at T = 1.",
        "unstable": "For ordinary logits it is exactly right. Call it with logits such as ±1000, "
        "and look for Inf or NaN.",
    }

    def step(name):
        def look(f):
            said = f(
                lambda student_logits, teacher_logits, temperature: faulty_loss(name)(
                    student_logits, teacher_logits, temperature
                )
            )
            if said not in DIAGNOSES:
                return (
                    f"your function returned {said!r}; expected one of "
                    f"{', '.join(map(repr, DIAGNOSES))}."
                )
            return (
                None
                if said == name
                else f"a loss whose diagnosis is {name!r} was called {said!r}. {hints[name]}"
            )

        return look

    return judge(
        function,
        *map(step, DIAGNOSES),
        praise="all five faults are told apart, and the right loss is left in peace.",
    )
