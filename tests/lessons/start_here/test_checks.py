"""The checks of lesson 00 accept right solutions and name the likely mistake in wrong ones."""

import json
import math
import re

import numpy as np
import pytest
import torch

from kdtutor.lessons.start_here.checks import check_entropy, check_soften, check_temperature_for
from kdtutor.softening import soften


def my_soften(logits, temperature):
    z = logits / temperature
    e = (z - z.max(dim=-1, keepdim=True).values).exp()
    return e / e.sum(dim=-1, keepdim=True)


def my_entropy(probabilities, base=2.0):
    return torch.special.entr(probabilities).sum(dim=-1) / np.log(base)


def my_temperature_for(logits, top=0.5):
    low, high = 1e-4, 1e4
    for _ in range(60):
        middle = (low * high) ** 0.5
        if soften(logits.double(), middle).max() > top:
            low = middle
        else:
            high = middle
    return middle


def _in_place(z, t):
    z /= t
    return z.softmax(-1)


def _one_maximum(z, t):
    e = ((z - z.max()) / t).exp()
    return e / e.sum(-1, keepdim=True)


def _search(z, top=0.5, *, steps=60, low=1e-4, high=1e4, share=lambda p: p.max(), turned=False):
    for _ in range(steps):
        middle = (low * high) ** 0.5
        if (share(soften(z.double(), middle)) > top) != turned:
            low = middle
        else:
            high = middle
    return middle


RIGHT = [
    (check_soften, my_soften),
    (check_soften, soften),
    (check_soften, lambda z, t: (z / t).softmax(-1)),
    (check_soften, lambda z, t: my_soften(z.double(), t).numpy()),
    (check_entropy, my_entropy),
    (
        check_entropy,
        lambda p, b: -torch.where(p > 0, p * p.clamp_min(1e-30).log(), 0).sum(-1) / math.log(b),
    ),
    (check_temperature_for, my_temperature_for),
    (check_temperature_for, lambda z, top: torch.tensor(my_temperature_for(z, top))),
]


@pytest.mark.parametrize("check, function", RIGHT)
def test_a_right_solution_passes(check, function):
    verdict = check(function)
    assert verdict, verdict


WRONG_SOFTEN = {
    "the temperature is forgotten": (lambda z, t: z.softmax(-1), "divided by T before exp"),
    "T comes after exp": (
        lambda z, t: (z.exp() / t) / (z.exp() / t).sum(-1, keepdim=True),
        "cancels",
    ),
    "T multiplies": (lambda z, t: (z * t).softmax(-1), "do not multiply"),
    "T divides the shares": (lambda z, t: z.softmax(-1) / t, "not the probabilities"),
    "the first axis": (lambda z, t: (z / t).softmax(0), "dim=-1"),
    "a fixed axis": (lambda z, t: (z / t).softmax(1), "dim=-1"),
    "the whole batch": (lambda z, t: (z / t).exp() / (z / t).exp().sum(), "all numbers together"),
    "no keepdim": (lambda z, t: (z / t).exp() / (z / t).exp().sum(-1), "keepdim=True"),
    "not stable": (
        lambda z, t: (z / t).exp() / (z / t).exp().sum(-1, keepdim=True),
        "maximum before exp",
    ),
    "one maximum for all rows": (_one_maximum, "own maximum"),
    "logarithms": (lambda z, t: (z / t).log_softmax(-1), "log_softmax"),
    "not divided by the sum": (lambda z, t: (z / t).exp(), "divide by the sum"),
    "a hard answer": (
        lambda z, t: torch.nn.functional.one_hot(z.argmax(-1), z.shape[-1]),
        "hard answer",
    ),
    "in place": (_in_place, "changed the logits"),
    "nothing is returned": (lambda z, t: None, "return"),
    "T below 1 is refused": (lambda z, t: (z / max(t, 1.0)).softmax(-1), "T = 0.5"),
}

WRONG_ENTROPY = {
    "the sign": (lambda p, b: -my_entropy(p, b), "sign"),
    "always nats": (lambda p, b: my_entropy(p, math.e), "nats"),
    "always bits": (lambda p, b: my_entropy(p, 2), "the base must be used"),
    "base 10": (lambda p, b: my_entropy(p, 10), "base 10"),
    "NaN for 0": (lambda p, b: -(p * p.log()).sum(-1) / math.log(b), "0 * log(0) = 0"),
    "a constant instead of the convention": (
        lambda p, b: -(p * (p + 1e-6).log()).sum(-1) / math.log(b),
        "0 * log(0) as 0",
    ),
    "the mean": (
        lambda p, b: torch.special.entr(p).mean(-1) / math.log(b),
        "mean over the classes",
    ),
    "scaled": (lambda p, b: torch.special.entr(p).sum(-1) / math.log(p.shape[-1]), "not scaled"),
    "perplexity": (lambda p, b: b ** my_entropy(p, b), "perplexity"),
    "no weights": (lambda p, b: -p.log().sum(-1) / math.log(b), "weight"),
    "Gini": (lambda p, b: 1 - (p * p).sum(-1), "Gini"),
    "the first axis": (lambda p, b: torch.special.entr(p).sum(0) / math.log(b), "dim=-1"),
    "one number for all": (lambda p, b: torch.special.entr(p).sum() / math.log(b), "one per row"),
    "the axis is kept": (
        lambda p, b: torch.special.entr(p).sum(-1, keepdim=True) / math.log(b),
        "without keepdim",
    ),
    "a fixed axis": (lambda p, b: torch.special.entr(p).sum(1) / math.log(b), "dim=-1"),
}

WRONG_SEARCH = {
    "the share itself": (lambda z, top: soften(z, 1.0).max(), "probability"),
    "top is ignored": (lambda z, top: my_temperature_for(z, 0.5), "argument `top`"),
    "the inverse": (lambda z, top: 1 / my_temperature_for(z, top), "1/T"),
    "too few steps": (lambda z, top: _search(z, top, steps=9), "halve the interval"),
    "turned around": (lambda z, top: _search(z, top, turned=True), "right side"),
    "high is too low": (lambda z, top: _search(z, top, high=20.0), "above 20"),
    "low is too high": (lambda z, top: _search(z, top, low=1.0), "below 1"),
    "the first class": (
        lambda z, top: _search(z, top, share=lambda p: p[0]),
        "largest logit, not the first",
    ),
    "two classes only": (
        lambda z, top: float(z.topk(2).values.diff().abs()) / math.log(top / (1 - top) + 1e-9),
        "T",
    ),
    "a negative number": (lambda z, top: -my_temperature_for(z, top), "finite and > 0"),
    "nothing is returned": (lambda z, top: None, "return"),
}

WRONG = [
    pytest.param(check, function, word, id=f"{check.__name__}-{name}")
    for check, wrong in (
        (check_soften, WRONG_SOFTEN),
        (check_entropy, WRONG_ENTROPY),
        (check_temperature_for, WRONG_SEARCH),
    )
    for name, (function, word) in wrong.items()
]


@pytest.mark.parametrize("check, function, word", WRONG)
def test_a_wrong_solution_is_caught_and_the_mistake_named(check, function, word):
    verdict = check(function)
    assert not verdict
    assert word in verdict.message, verdict.message


def test_the_folded_solutions_of_the_lesson_pass(repo):
    cells = json.loads((repo / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ]
    folded = re.findall(
        r"```python\n(.*?)```",
        "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown"),
        re.S,
    )
    there = {"torch": torch, "np": np, "soften": soften}
    exec("\n".join(folded), there)
    for check, name in (
        (check_soften, "my_soften"),
        (check_entropy, "my_entropy"),
        (check_temperature_for, "my_temperature_for"),
    ):
        assert check(there[name]), name


@pytest.mark.parametrize("check", [check_soften, check_entropy, check_temperature_for])
def test_an_unsolved_exercise_says_not_yet(check):
    def stub(*args):
        raise NotImplementedError

    assert (
        repr(check(stub)).startswith("✘ not yet") and "nothing to check yet" in check(stub).message
    )
