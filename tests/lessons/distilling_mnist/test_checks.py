"""The checks of lesson 01 pass what is right and name what is wrong."""

import math

import pytest
import torch.nn.functional as F

from kdtutor.lessons.distilling_mnist.checks import (
    check_distillation_loss,
    check_ensemble_targets,
    check_gap_closed,
)
from kdtutor.softening import soften


def my_loss(s, t, T):
    log_q, log_p = F.log_softmax(s / T, 1), F.log_softmax(t.detach() / T, 1)
    return T**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def kl(s, t, T, reduction="batchmean"):
    return F.kl_div(F.log_softmax(s / T, 1), soften(t.detach(), T), reduction=reduction)


def entropy(p):
    return -(p * p.log()).sum(1).mean()


@pytest.mark.parametrize("loss", [my_loss, lambda s, t, T: T * T * kl(s, t, T)])
def test_right_losses_pass(loss):
    verdict = check_distillation_loss(loss)
    assert verdict, verdict.message


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda s, t, T: kl(s, t, T), "T² times too small"),
        (lambda s, t, T: T**2 * kl(s, t, T, "mean"), "number of classes"),
        (lambda s, t, T: kl(s, t, T, "mean"), "number of classes"),
        (lambda s, t, T: T**2 * kl(s, t, T, "sum"), "divide by the number of images"),
        (lambda s, t, T: T**2 * kl(t, s, T), "reversed|no gradient"),
        (lambda s, t, T: my_loss(t.detach(), s, T) + 0 * s.sum(), "reversed"),
        (
            lambda s, t, T: (
                T**2 * F.kl_div(F.log_softmax(s / T, 1), soften(t), reduction="batchmean")
            ),
            "teacher must be softened",
        ),
        (
            lambda s, t, T: (
                T**2 * F.kl_div(F.log_softmax(s, 1), soften(t, T), reduction="batchmean")
            ),
            "student must be softened",
        ),
        (lambda s, t, T: T * kl(s, t, T), "not T"),
        (lambda s, t, T: my_loss(s, t, T) + T**2 * entropy(soften(t, T)), "cross-entropy"),
        (
            lambda s, t, T: T**2 * F.kl_div(soften(s, T), soften(t, T), reduction="batchmean"),
            "log-probabilities",
        ),
        (
            lambda s, t, T: T**2 * ((soften(s, T) - soften(t, T)) ** 2).sum(1).mean(),
            "squared difference",
        ),
        (
            lambda s, t, T: (
                T**2 * (soften(t, T) * (soften(t, T).log() - F.log_softmax(s / T, 1))).sum(1).mean()
            ),
            "teacher, who must not learn",
        ),
        (lambda s, t, T: my_loss(s, t, T).item(), "no gradient"),
        (lambda s, t, T: my_loss(s.detach(), t, T), "no gradient"),
        (
            lambda s, t, T: (
                T**2
                * (soften(t.detach(), T) * (soften(t.detach(), T) / soften(s, T)).log())
                .sum(1)
                .mean()
            ),
            "log_softmax",
        ),
        (lambda s, t, T: None, "return"),
        (lambda s, t, T: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_wrong_losses_are_named(wrong, words):
    verdict = check_distillation_loss(wrong)
    assert not verdict and any(w in verdict.message for w in words.split("|")), verdict.message


def my_targets(z, T, mean):
    return soften(z, T).mean(0) if mean == "arithmetic" else soften(z.mean(0), T)


def product(z, T, mean):
    if mean == "arithmetic":
        return soften(z, T).mean(0)
    p = soften(z, T).prod(0) ** (1 / len(z))
    return p / p.sum(-1, keepdim=True)


@pytest.mark.parametrize("targets", [my_targets, product])
def test_right_targets_pass(targets):
    assert check_ensemble_targets(targets)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (
            lambda z, T, mean: my_targets(
                z, T, {"arithmetic": "geometric", "geometric": "arithmetic"}[mean]
            ),
            "swapped",
        ),
        (lambda z, T, mean: my_targets(z, T, "arithmetic"), "swapped"),
        (lambda z, T, mean: my_targets(z, 1.0, mean), "not softened"),
        (lambda z, T, mean: soften(z, T).mean(1), "over the batch|shape"),
        (lambda z, T, mean: soften(z, T).sum(0), "divide by their number"),
        (lambda z, T, mean: z.mean(0), "softmax is missing"),
        (
            lambda z, T, mean: (
                my_targets(z, T, mean) if mean == "arithmetic" else soften(z, T).prod(0) ** (1 / 3)
            ),
            "sum to 1",
        ),
        (
            lambda z, T, mean: (
                my_targets(z, T, mean)
                if mean == "arithmetic"
                else (lambda p: p / p.sum(-1, keepdim=True))(soften(z, T).prod(0))
            ),
            "M-th root",
        ),
        (lambda z, T, mean: soften(my_targets(z, T, mean), T), "softened twice"),
    ],
)
def test_wrong_targets_are_named(wrong, words):
    verdict = check_ensemble_targets(wrong)
    assert not verdict and any(w in verdict.message for w in words.split("|")), verdict.message


def test_the_right_gap_passes():
    assert check_gap_closed(
        lambda teacher, alone, distilled: (alone - distilled) / (alone - teacher)
    )


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda t, a, d: (d - t) / (a - t), "left"),
        (lambda t, a, d: (a - d) / a, "not by the student's"),
        (lambda t, a, d: a - d, "difference"),
        (lambda t, a, d: (a - t) / (a - d), "upside down"),
        (lambda t, a, d: 100 * (a - d) / (a - t), "per cent"),
        (lambda t, a, d: (d - a) / (a - t), "sign"),
        (lambda t, a, d: (a - d) / t, "starts at the teacher"),
        (lambda t, a, d: max(0, (a - d) / (a - t)), "worse than alone"),
        (lambda t, a, d: min(1, (a - d) / (a - t)), "better than the teacher"),
        (lambda t, a, d: math.nan, "NaN"),
    ],
)
def test_wrong_gaps_are_named(wrong, words):
    verdict = check_gap_closed(wrong)
    assert not verdict and words in verdict.message, verdict.message


@pytest.mark.parametrize(
    "check", [check_distillation_loss, check_ensemble_targets, check_gap_closed]
)
def test_unsolved_exercises_say_so(check):
    def unsolved(*args):
        raise NotImplementedError

    assert "nothing to check yet" in check(unsolved).message
