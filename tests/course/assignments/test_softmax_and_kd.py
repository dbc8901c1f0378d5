"""The checks of the assignment softmax_and_kd name the mistake of plausible wrong answers."""

import pytest
import torch
import torch.nn.functional as F

from kdtutor.checks import check_diagnosis, check_log_soften
from kdtutor.checks.verdict import UNSOLVED
from kdtutor.course.assignments.softmax_and_kd import DIAGNOSES, faulty_loss
from kdtutor.softening import distillation_kl
from tests.course.mutants import softmax_and_kd as answers


def unsolved(*arguments):
    raise NotImplementedError


@pytest.mark.parametrize("right", answers.RIGHT["log-soften-test"])
def test_right_log_soften(right):
    assert check_log_soften(right)


@pytest.mark.parametrize(
    "what, word",
    [
        ("logarithm of the softmax", "logsumexp"),
        ("a small constant inside the logarithm", "falsifies"),
        ("T divides the logarithms", "finished logarithms"),
        ("T unused", "T is not used"),
        ("over the batch", "each column"),
        ("not normalised", "not normalised"),
        ("logsumexp by hand, overflows", "overflows"),
        ("probabilities", "logarithm is missing"),
        ("base 2", "base 2"),
    ],
)
def test_wrong_log_soften(what, word):
    verdict = check_log_soften(answers.WRONG["log-soften-test"][what])
    assert not verdict and word in verdict.message


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda z, T: -F.log_softmax(z / T, -1), "sign"),
        (lambda z, T: F.log_softmax(z * T, -1), "multiply by T"),
        (lambda z, T: (z / T) - (z / T).amax(-1, keepdim=True), "but not the logarithm of the sum"),
        (lambda z, T: F.log_softmax(z / T, 1), "dim"),
        (lambda z, T: None, "None"),
        (lambda z, T: F.log_softmax(z / T, -1) / 2.3025851, "base 10"),
    ],
)
def test_other_wrong_log_soften(wrong, word):
    verdict = check_log_soften(wrong)
    assert not verdict and word in verdict.message


@pytest.mark.parametrize(
    "what, word",
    [
        ("probes at T = 1", "At T = 1 the factor"),
        ("T² equals the number of classes", "choose T and C apart"),
        ("never tries extreme logits", "±1000"),
        ("extreme logits not large enough", "±1000"),
        ("does not know the swap", "KL(student ‖ teacher)"),
        ("always right", "called 'right'"),
    ],
)
def test_wrong_diagnosis(what, word):
    verdict = check_diagnosis(answers.WRONG["diagnosis-test"][what])
    assert not verdict and word in verdict.message


def test_a_diagnosis_must_be_one_of_the_six():
    assert "expected one of 'right'" in check_diagnosis(lambda loss: "wrong").message
    assert "returned None" in check_diagnosis(lambda loss: None).message
    assert check_diagnosis(unsolved).message == check_log_soften(unsolved).message == UNSOLVED


@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_the_faulty_losses_have_the_fault_that_they_are_named_after(scale):
    s, t = torch.randn(3, 5), 2 * torch.randn(3, 5)
    right = distillation_kl(scale * s, scale * t, 3.0)
    value = {name: faulty_loss(name, scale)(s, t, 3.0) for name in DIAGNOSES}
    assert torch.allclose(value["right"], right) and torch.allclose(value["unstable"], right)
    assert torch.allclose(9 * value["no T²"], right) and torch.allclose(
        5 * value["mean over classes"], right
    )
    assert torch.allclose(value["swapped"], distillation_kl(scale * t, scale * s, 3.0))
    assert torch.allclose(
        faulty_loss("teacher not softened", scale)(s, t, 1.0),
        distillation_kl(scale * s, scale * t, 1.0),
    )
    assert abs(value["teacher not softened"] - right) > 0.1 * right
    extreme = {
        name: bool(torch.isfinite(faulty_loss(name)(1000 * s, 1000 * t, 3.0))) for name in DIAGNOSES
    }
    assert extreme == {name: name != "unstable" for name in DIAGNOSES}
