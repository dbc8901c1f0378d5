"""Verdicts: the same three outcomes for every exercise, and a sentence that helps rather than a
traceback.
"""

import math

import numpy as np
import pytest
import torch

from kdtutor.checks import Verdict
from kdtutor.checks.verdict import compare, judge


def halves(function):
    return compare(function(4.0), 2.0, "half of 4")


def of_zero(function):
    return compare(function(0.0), 0.0, "half of 0")


def check(function):
    return judge(function, halves, of_zero, praise="that is how to halve.")


def stub(x):
    """Half of x."""
    raise NotImplementedError


@pytest.mark.parametrize(
    "function, passed, says",
    [
        (lambda x: x / 2, True, "that is how to halve"),
        (stub, False, "replace `raise NotImplementedError`"),
        (lambda x: None, False, "returned None. Did you forget `return`?"),
        (lambda x: x, False, "half of 4: off by 2"),
        (lambda x: x / 2 + (x == 0), False, "half of 0: off by 1"),
        (
            lambda x: torch.full((2, 3), x),
            False,
            "half of 4: your result has shape (2, 3), expected ()",
        ),
        (lambda x: float("nan"), False, "holds NaN or Inf"),
        (lambda x: math.inf, False, "holds NaN or Inf"),
        (lambda x: 1 / 0, False, "your function raised ZeroDivisionError"),
        (lambda: 2.0, False, "your function raised TypeError"),
        (lambda x: "two", False, "returned a str, expected a tensor"),
    ],
)
def test_each_way_to_answer_gets_its_own_sentence(function, passed, says):
    verdict = check(function)
    assert bool(verdict) is verdict.passed is passed
    assert says in verdict.message


def test_a_verdict_reads_well_without_colour():
    assert repr(check(lambda x: x / 2)) == "✔ passed: that is how to halve."
    assert repr(check(stub)).startswith("✘ not yet: nothing to check yet")


def test_the_first_failing_step_decides_and_later_ones_do_not_run():
    ran = []
    steps = [
        lambda f: ran.append(1),
        lambda f: ran.append(2) or "the second is wrong",
        lambda f: ran.append(3),
    ]
    assert judge(stub, *steps, praise="").message == "the second is wrong"
    assert ran == [1, 2]


def test_several_verdicts_join_to_the_first_that_failed():
    good, bad, worse = Verdict(True, "good"), Verdict(False, "bad"), Verdict(False, "worse")
    assert (
        (good | bad | worse) is bad
        and (good | Verdict(True, "also")).message == "also"
        and (bad | good) is bad
    )


def test_stopping_the_kernel_is_not_a_wrong_answer():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(interrupted)


@pytest.mark.parametrize(
    "got",
    [
        [1.0, 2.0],
        (1, 2),
        np.array([1.0, 2.0]),
        torch.tensor([1.0, 2.0], dtype=torch.float64),
        torch.tensor([1.0, 2.0], requires_grad=True),
        torch.tensor([1, 2]),
    ],
)
def test_numbers_of_any_kind_compare(got):
    assert compare(got, torch.tensor([1.0, 2.0]), "the pair") is None


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_the_tolerance_is_absolute_below_one_and_relative_above(size):
    want = torch.tensor([size, -size])
    slack = 1e-5 * max(1.0, size)
    assert compare(want + 0.5 * slack, want, "x") is None
    assert "off by" in compare(want + 3 * slack, want, "x")
    assert compare(want + 3 * slack, want, "x", tolerance=1e-4) is None
