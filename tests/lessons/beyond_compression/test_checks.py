"""The checks of lesson 09 pass right solutions, and name the mistake of plausible wrong ones."""

import json
import re

import pytest
import torch

from kdtutor.datasets.corruption import imbalanced_counts
from kdtutor.lessons.beyond_compression.checks import (
    check_counts,
    check_symmetric_noise,
    check_wrong_label_answers,
    wrong_label_answers,
)


def unsolved(*args):
    raise NotImplementedError


def noise(
    exact=True,
    exclusive=False,
    shuffle=False,
    one=False,
    first=False,
    twice=False,
    short=0,
    inplace=False,
    fixed=False,
    half=False,
    floating=False,
    replay=False,
):
    """A solution, right by default, with a switch for each mistake."""

    def f(y, rate, classes, generator):
        g = torch.Generator().manual_seed(5) if fixed else None if replay else generator
        out, n = y if inplace else y.clone(), round(rate * len(y))
        chosen = torch.randperm(len(y), generator=g)[:n]
        if not exact:
            chosen = (torch.rand(len(y), generator=g) < rate).nonzero().flatten()
        if first:
            chosen = torch.arange(n)
        if twice:
            chosen = torch.randint(len(y), (n,), generator=g)
        drawn = torch.randint(classes - short, (len(chosen),), generator=g)
        if half:
            drawn = torch.randint(classes, (len(chosen),), generator=g).minimum(drawn)
        if one and len(chosen):
            drawn = drawn[:1].expand(len(chosen))
        if exclusive:
            drawn = (
                y[chosen] + 1 + torch.randint(classes - 1, (len(chosen),), generator=g)
            ) % classes
        if shuffle:
            drawn = y[chosen][torch.randperm(len(chosen), generator=g)]
        out[chosen] = drawn
        return out.float() if floating else out

    return f


def by_order(y, rate, classes, generator):
    """Another right way: everyone gets a number, the smallest are redrawn."""
    rank = torch.rand(len(y), generator=generator).argsort().argsort()
    return torch.where(
        rank < round(rate * len(y)), torch.randint(classes, (len(y),), generator=generator), y
    )


@pytest.mark.parametrize("right", [noise(), by_order])
def test_symmetric_noise_right(right):
    verdict = check_symmetric_noise(right)
    assert verdict and "exact number" in verdict.message


@pytest.mark.parametrize(
    "wrong, word",
    [
        (noise(exact=False), "exactly 400"),
        (noise(twice=True), "no image twice"),
        (noise(exclusive=True), "the true one included"),
        (noise(shuffle=True), "do not shuffle"),
        (noise(one=True), "share one new label"),
        (noise(first=True), "only the first"),
        (noise(short=1), "about 75%|about 1000"),
        (noise(half=True), "uniformly|about 1000"),
        (noise(inplace=True), "changed `y` itself"),
        (noise(fixed=True), "another seed"),
        (noise(replay=True), "every"),
        (noise(floating=True), "whole-number"),
        (lambda y, r, c, g: noise()(y, r, c, g)[:-1], "shape"),
        (lambda y, r, c, g: noise()(y, r, c, g) + 1, "numbered|rate 0"),
        (lambda y, r, c, g: torch.randint(c, y.shape, generator=g), "rate 0"),
        (lambda y, r, c, g: y.clone(), "nothing changed"),
        (lambda y, r, c, g: None, "None"),
        (unsolved, "nothing to check yet"),
        (lambda y: y, "TypeError"),
    ],
)
def test_symmetric_noise_wrong(wrong, word):
    verdict = check_symmetric_noise(wrong)
    assert not verdict and re.search(word, verdict.message), verdict


def counts(start=1, a=lambda n, b: n * (1 + b), whole=round, power=True, exponent_in_b=True):
    def f(C, gamma, n_max, n_min):
        b = (n_min * (C**gamma if exponent_in_b else C) - n_max) / (n_max - n_min)
        return [
            whole(a(n_max, b) / (b + (c**gamma if power else c * gamma)))
            for c in range(start, C + start)
        ]

    return f


@pytest.mark.parametrize(
    "right", [imbalanced_counts, counts(), lambda *a: torch.tensor(counts()(*a))]
)
def test_counts_right(right):
    assert check_counts(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (counts(start=0), "from 1 to C"),
        (counts(whole=int), "cut off"),
        (counts(whole=float), "round them"),
        (counts(power=False), "power"),
        (counts(exponent_in_b=False), "missing in b"),
        (counts(a=lambda n, b: n), r"n_max \* \(1 \+ b\)"),
        (counts(a=lambda n, b: n * b), r"not n_max \* b"),
        (lambda *a: counts()(*a)[::-1], "reversed"),
        (
            lambda C, g, top, low: [round(top * (low / top) ** (c / (C - 1))) for c in range(C)],
            "same factor",
        ),
        (lambda *a: counts()(*a)[1:], "shape"),
        (lambda *a: [n + 1 for n in counts()(*a)], "off by"),
        (lambda *a: None, "None"),
        (unsolved, "nothing to check yet"),
        (lambda *a: [None], "raised"),
    ],
)
def test_counts_wrong(wrong, word):
    verdict = check_counts(wrong)
    assert not verdict and re.search(word, verdict.message), verdict


def shares(keep=lambda given, clean: given != clean, scale=1.0, answer=lambda z: z.argmax(1)):
    def f(logits, given, clean):
        k = keep(given, clean)
        return tuple(scale * (answer(logits) == goal)[k].double().mean() for goal in (clean, given))

    return f


@pytest.mark.parametrize(
    "right", [wrong_label_answers, shares(), lambda *a: torch.stack(shares()(*a))]
)
def test_wrong_label_answers_right(right):
    assert check_wrong_label_answers(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda *a: shares()(*a)[::-1], "swapped"),
        (shares(keep=lambda g, c: slice(None)), "all images"),
        (shares(keep=lambda g, c: g == c), "label is *right*"),
        (shares(scale=100), "percentages"),
        (shares(answer=lambda z: z.argmin(1)), "argmin"),
        (lambda z, g, c: tuple(((z.argmax(1) == t) & (g != c)).sum() for t in (c, g)), "counts"),
        (
            lambda z, g, c: tuple(((z.argmax(1) == t) & (g != c)).double().mean() for t in (c, g)),
            "divided by all images",
        ),
        (shares(scale=0.9), "off by"),
        (lambda *a: shares()(*a)[0], "two numbers|raised"),
        (lambda *a: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_wrong_label_answers_wrong(wrong, word):
    verdict = check_wrong_label_answers(wrong)
    assert not verdict and any(w in verdict.message for w in word.split("|")), verdict


def test_the_folded_solutions_of_the_notebook_pass(repo):
    cells = json.loads(
        (repo / "notebooks" / "09_beyond_compression.ipynb").read_text(encoding="utf-8")
    )["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    scope = {"torch": torch}
    for solution in re.findall(r"<summary>Solution</summary>\s+```python\n(.*?)```", text, re.S):
        exec(solution, scope)
    assert check_symmetric_noise(scope["my_noise"])
    assert check_counts(scope["my_counts"])
    assert check_wrong_label_answers(scope["my_answers"])
