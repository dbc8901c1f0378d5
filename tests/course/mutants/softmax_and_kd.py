"""Wrong and right answers to the assignment softmax_and_kd."""

import itertools

import torch
import torch.nn.functional as F

from kdtutor.course.assignments.softmax_and_kd import DIAGNOSES
from kdtutor.softening import distillation_kl, soften
from kdtutor.softening import loss as softening

LIBRARY = {
    "my_soften": soften,
    "my_log_soften": softening._log_soften,
    "my_distillation_kl": distillation_kl,
    "my_diagnosis": None,
}  # a test of a loss: the library has none


def in_place(z, T):
    z /= T
    return z.softmax(-1)


def naive(z, T):
    e = (z / T).exp()
    return e / e.sum(-1, keepdim=True)


def log_by_hand(z, T):
    z = z / T
    z = z - z.amax(-1, keepdim=True)
    return z - z.exp().sum(-1, keepdim=True).log()


def kl(
    student_T=lambda T: T,
    teacher_T=lambda T: T,
    factor=lambda T: T**2,
    swap=False,
    divide=len,
    log=True,
    detach=True,
):
    """A distillation loss, right by default, with a switch for each mistake."""

    def loss(s, t, T):
        s, t = (t, s) if swap else (s, t.detach() if detach else t)
        log_p = F.log_softmax(t / teacher_T(T), -1)
        log_q = F.log_softmax(s / student_T(T), -1) if log else (s / student_T(T)).softmax(-1).log()
        return factor(T) * F.kl_div(log_q, log_p, reduction="sum", log_target=True) / divide(s)

    return loss


def cross_entropy(s, t, T):
    return -(T**2) * (soften(t.detach(), T) * F.log_softmax(s / T, -1)).sum(-1).mean()


def by_loop(s, t, T):
    rows = [
        (
            soften(b.detach(), T) * (F.log_softmax(b.detach() / T, -1) - F.log_softmax(a / T, -1))
        ).sum()
        for a, b in zip(s, t)
    ]
    return T**2 * sum(rows) / len(rows)


def diagnosis(T=3.0, s=None, t=None, extreme=1000.0, rename=None, drop=()):
    """A diagnosis, right by default: T and logits are what it probes with."""
    g = torch.Generator().manual_seed(5)
    s = torch.randn(4, 5, generator=g) if s is None else s
    t = 2 * torch.randn(4, 5, generator=g) if t is None else t

    plain = kl()  # rounds as the losses to be told apart do

    def find(loss):
        expected = {
            "right": plain(s, t, T),
            "no T²": plain(s, t, T) / T**2,
            "mean over classes": plain(s, t, T) / s.shape[-1],
            "swapped": plain(t, s, T),
            "teacher not softened": kl(teacher_T=lambda T: 1)(s, t, T),
        }
        value = loss(s, t, T)
        found = min(
            (name for name in expected if name not in drop),
            key=lambda name: abs(value - expected[name]),
        )
        if found == "right" and extreme and not torch.isfinite(loss(extreme * s, extreme * t, T)):
            return "unstable"
        return (rename or {}).get(found, found)

    return find


def from_memory():
    """Knows in which order the visible check asks, and looks at nothing."""
    answers = itertools.cycle(DIAGNOSES)
    return lambda loss: next(answers)


def by_double_precision(loss):
    g = torch.Generator().manual_seed(6)
    s, t = torch.randn(3, 7, generator=g).double(), torch.randn(3, 7, generator=g).double()
    return diagnosis(T=2.5, s=s, t=t)(loss)


RIGHT = {
    "soften-test": [
        soften,
        lambda z, T: (z / T).softmax(-1),
        lambda z, T: (z / T - (z / T).logsumexp(-1, keepdim=True)).exp(),
    ],
    "log-soften-test": [softening._log_soften, log_by_hand],
    "distillation-kl-test": [distillation_kl, kl(), by_loop],
    "diagnosis-test": [diagnosis(), diagnosis(T=6.0), by_double_precision],
}
WRONG = {
    "soften-test": {
        "plain softmax, T unused": lambda z, T: z.softmax(-1),
        "multiplies by T": lambda z, T: (z * T).softmax(-1),
        "softmax over the batch": lambda z, T: (z / T).softmax(0),
        "divides by the sum of everything": lambda z, T: (
            (e := (z / T - (z / T).amax()).exp()) / e.sum()
        ),
        "no subtraction of the maximum": naive,
        "divides the shares by T": lambda z, T: z.softmax(-1) / T,
        "logarithms": lambda z, T: F.log_softmax(z / T, -1),
        "clamps large logits": lambda z, T: (z / T).clamp(max=50).softmax(-1),
        "changes its input": in_place,
        "T rounded to a whole number": lambda z, T: (z / max(1, int(T))).softmax(-1),
    },
    "log-soften-test": {
        "logarithm of the softmax": lambda z, T: (z / T).softmax(-1).log(),
        "a small constant inside the logarithm": lambda z, T: ((z / T).softmax(-1) + 1e-9).log(),
        "T divides the logarithms": lambda z, T: F.log_softmax(z, -1) / T,
        "T unused": lambda z, T: F.log_softmax(z, -1),
        "over the batch": lambda z, T: F.log_softmax(z / T, 0),
        "not normalised": lambda z, T: z / T,
        "logsumexp by hand, overflows": lambda z, T: (
            z / T - (z / T).exp().sum(-1, keepdim=True).log()
        ),
        "probabilities": lambda z, T: (z / T).softmax(-1),
        "base 2": lambda z, T: F.log_softmax(z / T, -1) / 0.6931472,
    },
    "distillation-kl-test": {
        "log of softmax, unstable": kl(log=False),
        "mean over batch and classes": kl(divide=lambda s: s.numel()),
        "T² missing": kl(factor=lambda T: 1),
        "T instead of T²": kl(factor=lambda T: T),
        "KL arguments swapped": kl(swap=True),
        "T on the student's side only": kl(teacher_T=lambda T: 1),
        "T on the teacher's side only": kl(student_T=lambda T: 1),
        "sum over the batch": kl(divide=lambda s: 1),
        "softmax over the batch": lambda s, t, T: kl()(s.T, t.T, T) * s.shape[1] / s.shape[0],
        "soft cross-entropy": cross_entropy,
        "gradient reaches the teacher": kl(detach=False),
        "no gradient for the student": lambda s, t, T: distillation_kl(s.detach(), t, T),
    },
    "diagnosis-test": {
        "probes at T = 1": diagnosis(T=1.0),
        "T² equals the number of classes": diagnosis(T=5**0.5),
        "student equals teacher": diagnosis(s=torch.ones(2, 5), t=torch.ones(2, 5)),
        "never tries extreme logits": diagnosis(extreme=None),
        "extreme logits not large enough": diagnosis(extreme=10.0),
        "does not know the swap": diagnosis(drop=("swapped",)),
        "two diagnoses mixed up": diagnosis(
            rename={"no T²": "mean over classes", "mean over classes": "no T²"}
        ),
        "always right": lambda loss: "right",
        "knows the order of the visible check": from_memory(),
    },
}
