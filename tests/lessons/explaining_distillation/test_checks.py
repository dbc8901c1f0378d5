"""The checks of lesson 10 pass right solutions, and name the mistake of plausible wrong ones."""

import json
import math
import re

import pytest
import torch

from kdtutor.lessons.explaining_distillation.checks import (
    check_counts_of_concepts,
    check_course,
    check_linear_sigma,
    counts,
    course,
    linear_sigma,
)


def unsolved(*args):
    raise NotImplementedError


LEVEL = -0.5 * math.log(2 * math.pi * math.e)


def sigma(power=-0.5, constant=LEVEL, finish=torch.exp, centre=lambda s: s.mean()):
    def f(g, target):
        log_sigma = power * g.log()
        return finish(log_sigma - centre(log_sigma) + target + constant)

    return f


@pytest.mark.parametrize("right", [linear_sigma, sigma()])
def test_linear_sigma_right(right):
    assert check_linear_sigma(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (sigma(finish=lambda v: (2 * v).exp()), "sigma squared"),
        (sigma(power=-1), "goes with 1 / g"),
        (sigma(power=0.5), "get \\*less\\* noise"),
        (sigma(constant=0), "is missing"),
        (sigma(constant=0.5 * math.log(2 * math.pi * math.e)), "subtract"),
        (lambda g, t: g.rsqrt(), "nothing makes the mean"),
        (sigma(power=0), "ignores g"),
        (sigma(finish=lambda v: v), "logarithms"),
        (lambda g, t: sigma()(g, t).log() + 0.5 * math.log(2 * math.pi * math.e), "entropies"),
        (sigma(centre=lambda s: s.exp().mean().log()), "mean at the target"),
        (sigma(finish=lambda v: 1.1 * v.exp()), "off by"),
        (lambda g, t: sigma()(g, t).mean(), "shape"),
        (lambda g, t: None, "None"),
        (unsolved, "nothing to check yet"),
        (lambda g: g, "TypeError"),
    ],
)
def test_linear_sigma_wrong(wrong, word):
    verdict = check_linear_sigma(wrong)
    assert not verdict and re.search(word, verdict.message), verdict


def counted(
    level=None,
    concept=lambda gap, b: gap > b,
    share=lambda f, b, fg: f / (f + b).clamp(min=1),
    order=(0, 1, 2),
):
    """A solution, right by default, with a switch for each mistake."""

    def f(entropy, fg, b):
        back = ~fg
        own = (entropy * back).sum((1, 2)) / back.sum((1, 2))
        H = own.mean() if level is None else level(entropy, fg, own)
        found = concept(H - entropy, b)
        n_fg, n_bg = (found & fg).sum((1, 2)), (found & back).sum((1, 2))
        result = n_fg, n_bg, share(n_fg, n_bg, fg)
        return tuple(result[i] for i in order)

    return f


@pytest.mark.parametrize(
    "right", [counts, counted(), lambda *a: torch.stack([v.double() for v in counted()(*a)])]
)
def test_counts_right(right):
    assert check_counts_of_concepts(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (counted(level=lambda e, fg, own: own[:, None, None]), "over \\*all\\* images"),
        (counted(level=lambda e, fg, own: e.mean()), "object's cells are in it"),
        (
            counted(level=lambda e, fg, own: ((e * fg).sum((1, 2)) / fg.sum((1, 2))).mean()),
            "this takes the object's",
        ),
        (counted(level=lambda e, fg, own: e[~fg].mean()), "more background count more"),
        (counted(concept=lambda gap, b: -gap > b), "below"),
        (counted(concept=lambda gap, b: gap >= b), "strictly"),
        (counted(concept=lambda gap, b: gap > 0), "threshold b is missing"),
        (lambda *a: (lambda f, b, s: (b, f, b / (f + b).clamp(min=1)))(*counted()(*a)), "swapped"),
        (counted(share=lambda f, b, fg: f / b.clamp(min=1)), "not N_fg / N_bg"),
        (counted(share=lambda f, b, fg: f / fg.sum((1, 2)).clamp(min=1)), "concept"),
        (counted(share=lambda f, b, fg: f / (f + b)), "NaN"),
        (lambda *a: tuple(v.double().mean() for v in counted()(*a)), "a number per image"),
        (counted(order=(0, 1)), "three tensors"),
        (lambda *a: None, "None"),
        (unsolved, "nothing to check yet"),
        (lambda *a: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_counts_wrong(wrong, word):
    verdict = check_counts_of_concepts(wrong)
    assert not verdict and re.search(word, verdict.message), verdict


def walked(
    best=lambda n: (n == n.max(0).values).int().argmax(0),
    spread=lambda d: d.var(correction=0),
    above=lambda c: c[-1],
    below=lambda c: c.any(0).sum((1, 2)).clamp(min=1),
    look=lambda d, k: d[k],
):
    """A solution, right by default, with a switch for each mistake."""

    def f(concepts, distance):
        d = look(distance, best(concepts.sum((2, 3)))).double()
        return d.mean(), spread(d), (above(concepts).sum((1, 2)) / below(concepts)).mean()

    return f


def ratio_of_sums(concepts, distance):
    return (*walked()(concepts, distance)[:2], concepts[-1].sum() / concepts.any(0).sum())


@pytest.mark.parametrize(
    "right", [course, walked(), lambda *a: torch.stack([v.double() for v in walked()(*a)])]
)
def test_course_right(right):
    assert check_course(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (
            walked(best=lambda n: len(n) - 1 - n.flip(0).eq(n.max(0).values).int().argmax(0)),
            "\\*first\\*",
        ),
        (walked(spread=lambda d: d.std(correction=0)), "root"),
        (walked(spread=lambda d: d.var()), "divide by N"),
        (
            walked(best=lambda n: n.double().mean(1).argmax().expand(n.shape[1])),
            "one epoch for all",
        ),
        (walked(look=lambda d, k: k), "number of the epoch"),
        (ratio_of_sums, "divides the sums"),
        (walked(below=lambda c: c.all(0).sum((1, 2)).clamp(min=1)), "union.*at every epoch"),
        (walked(above=lambda c: c.all(0)), "last"),
        (walked(below=lambda c: c.sum((2, 3)).max(0).values.clamp(min=1)), "single epoch"),
        (walked(below=lambda c: c.any(0).sum((1, 2))), "NaN"),
        (lambda *a: walked()(*a)[:2], "three numbers"),
        (walked(look=lambda d, k: 2 * d[k]), "off by"),
        (lambda c, d: (d[walked.__defaults__[0](c.sum((2, 3)))], 0, 0), "single numbers"),
        (lambda *a: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_course_wrong(wrong, word):
    verdict = check_course(wrong)
    assert not verdict and re.search(word, verdict.message), verdict


def test_the_folded_solutions_of_the_notebook_pass(repo):
    cells = json.loads(
        (repo / "notebooks" / "10_explaining_distillation.ipynb").read_text(encoding="utf-8")
    )["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    scope = {"torch": torch, "math": math}
    for solution in re.findall(r"<summary>Solution</summary>\s+```python\n(.*?)```", text, re.S):
        exec(solution, scope)
    assert check_linear_sigma(scope["my_sigma"])
    assert check_counts_of_concepts(scope["my_counts"])
    assert check_course(scope["my_course"])
