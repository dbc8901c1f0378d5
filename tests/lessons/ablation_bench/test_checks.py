"""The checks of lesson 14 pass right solutions, and name the mistake of plausible wrong ones."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
from scipy import stats

from kdtutor.ablation import Grid
from kdtutor.ablation.results import gain_interval
from kdtutor.lessons.ablation_bench.checks import (
    check_count_runs,
    check_holm,
    check_paired_interval,
    count_runs,
    paired_interval,
)
from kdtutor.lessons.ablation_bench.figures import holm, unpaired_interval


def unsolved(*args):
    raise NotImplementedError


def interval(t=None, ddof=1, root=True, sign=1, by_seed=True, swap=False, everyone=False):
    """A solution of exercise 1, right by default, with a switch for each mistake."""

    def f(method, baseline):
        if not by_seed:
            gains = np.subtract(list(method.values()), list(baseline.values()))
        else:
            gains = np.array([method[s] - baseline[s] for s in method if everyone or s in baseline])
        n = len(gains)
        half = (
            (t or (lambda n: stats.t.ppf(0.975, n - 1)))(n)
            * gains.std(ddof=ddof)
            / (n**0.5 if root else 1)
        )
        low, high = sorted((sign * gains.mean() - half, sign * gains.mean() + half))
        return (high, low) if swap else (low, high)

    return f


def by_scipy(method, baseline):
    both = sorted(method.keys() & baseline.keys())
    found = stats.ttest_rel(
        [method[s] for s in both], [baseline[s] for s in both]
    ).confidence_interval()
    return np.array([found.low, found.high])


def as_tensor(method, baseline):
    return torch.tensor(paired_interval(method, baseline))


@pytest.mark.parametrize("right", [paired_interval, interval(), by_scipy, as_tensor])
def test_paired_interval_right(right):
    verdict = check_paired_interval(right)
    assert verdict and "failed run" in verdict.message


def sorted_first(method, baseline):
    both = method.keys() & baseline.keys()
    return gain_interval(
        np.subtract(sorted(method[s] for s in both), sorted(baseline[s] for s in both))
    )


def unpaired(method, baseline):
    return unpaired_interval(list(method.values()), list(baseline.values()))


@pytest.mark.parametrize(
    "wrong, word",
    [
        (unpaired, "independent groups"),
        (interval(t=lambda n: 1.96), "Student's t"),
        (interval(t=lambda n: stats.norm.ppf(0.975)), "Student's t"),
        (interval(t=lambda n: 2.0), "rule of thumb"),
        (interval(t=lambda n: stats.t.ppf(0.975, n)), "n − 1"),
        (interval(t=lambda n: stats.t.ppf(0.95, n - 1)), "90 %"),
        (interval(ddof=0), "ddof=1"),
        (interval(root=False), "√n"),
        (interval(t=lambda n: 1.0), "one standard error"),
        (interval(sign=-1), "sign"),
        (interval(swap=True), "swapped"),
        (interval(by_seed=False), "by position"),
        (sorted_first, "not by size"),
        (lambda m, b: torch.tensor(1.0), "two numbers"),
        (lambda m, b: torch.zeros(2, 2), "two numbers"),
        (interval(everyone=True), "*both*"),
        (lambda m, b: 1.0, "two numbers"),
        (lambda m, b: None, "None"),
        (lambda m, b: (0.0, 9.0), "off by"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_paired_interval_wrong(wrong, word):
    verdict = check_paired_interval(wrong)
    assert not verdict and word in verdict.message


def product(students, methods, seeds, noise):
    return len(students) * len(methods) * len(seeds) * len(noise)


def as_set(students, methods, seeds, noise, teacher):
    runs = set(itertools.product(students, methods, noise, seeds))
    return len(
        runs
        | (
            {(teacher, "CrossEntropy", rate, 0) for rate in noise}
            if any(methods.values())
            else set()
        )
    )


@pytest.mark.parametrize("right", [count_runs, as_set])
def test_count_runs_right(right):
    assert check_count_runs(right)


@pytest.mark.parametrize(
    "seeds, noise, students",
    [
        ((0, 1), (0.0, 0.4), ["mlp8"]),
        ((0, 1), (0.0,), ["mlp8", "mlp24"]),
        ((1, 2), (0.0,), ["mlp24"]),
    ],
)
def test_the_count_is_the_number_of_runs_that_a_grid_has(seeds, noise, students):
    grid = Grid(
        images=60,
        teacher="mlp24",
        students=students,
        methods=["CrossEntropy", "Hinton", "DML"],
        seeds=seeds,
        label_noise=noise,
    )
    distinct = {c.key for c in [*grid.cells(), *grid.teachers()]}
    assert count_runs(
        students, {"CrossEntropy": False, "Hinton": True, "DML": False}, seeds, noise, "mlp24"
    ) == len(distinct)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda s, m, x, n, t: product(s, m, x, n), "teachers are missing"),
        (lambda s, m, x, n, t: product(s, m, x, n) + len(n), "none is trained"),
        (
            lambda s, m, x, n, t: product(s, m, x, n) + any(m.values()),
            "each rate of noise has its own",
        ),
        (lambda s, m, x, n, t: product(s, m, x, [0]), "rates of noise are missing"),
        (lambda s, m, x, n, t: product(s, m, x, n) + len(n) * sum(m.values()), "every method"),
        (
            lambda s, m, x, n, t: product(s, m, x, n) + len(n) * len(s) * any(m.values()),
            "every student",
        ),
        (
            lambda s, m, x, n, t: product(s, m, x, n) + len(n) * len(x) * any(m.values()),
            "every seed",
        ),
        (
            lambda s, m, x, n, t: product(s, m, x, n) + len(s) * len(x) * len(n) * sum(m.values()),
            "every run",
        ),
        (lambda s, m, x, n, t: product(s, m, x, n) + len(n) * any(m.values()), "counted twice"),
        (
            lambda s, m, x, n, t: product(s, m, x, n) + len(n) * any(m.values()) * (t not in s),
            "one more",
        ),
        (
            lambda s, m, x, n, t: (
                product(s, m, x, n) + len(n) * any(m.values()) * (t not in s or 0 not in x)
            ),
            "from the labels alone",
        ),
        (lambda s, m, x, n, t: 7, "expected 3"),
        (lambda s, m, x, n, t: 3.0, "whole number"),
        (lambda s, m, x, n, t: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_count_runs_wrong(wrong, word):
    verdict = check_count_runs(wrong)
    assert not verdict and word in verdict.message


def step_down(p, alpha):
    m, survives = len(p), [False] * len(p)
    for place, i in enumerate(sorted(range(m), key=lambda i: p[i])):
        if p[i] > alpha / (m - place):
            break
        survives[i] = True
    return survives


def going_on(p, alpha):
    order = sorted(range(len(p)), key=lambda i: p[i])
    return [p[i] <= alpha / (len(p) - order.index(i)) for i in range(len(p))]


def step_up(p, alpha, limit=lambda m, place: 1 / (m - place)):
    m, survives = len(p), [False] * len(p)
    order = sorted(range(m), key=lambda i: p[i])
    last = max(
        (place for place, i in enumerate(order) if p[i] <= alpha * limit(m, place)), default=-1
    )
    for i in order[: last + 1]:
        survives[i] = True
    return survives


def off_by_one(p, alpha):
    return step_down([*list(p), 1.0], alpha)[:-1]


def strictly_below(p, alpha):
    return step_down(p, np.nextafter(alpha, 0))


@pytest.mark.parametrize(
    "right", [holm, step_down, strictly_below, lambda p, a: np.array(step_down(p, a)).astype(int)]
)
def test_holm_right(right):
    assert check_holm(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda p, a: [x <= a for x in p], "no correction"),
        (lambda p, a: [x <= a / len(p) for x in p], "Bonferroni"),
        (going_on, "stops"),
        (step_up, "step-*up*"),
        (lambda p, a: step_up(p, a, lambda m, place: (place + 1) / m), "Benjamini"),
        (lambda p, a: sorted(step_down(p, a), reverse=True), "sorted"),
        (lambda p, a: [not x for x in step_down(p, a)], "swapped"),
        (lambda p, a: step_down(p, a)[:-1], "shape"),
        (lambda p, a: [min(1, x * len(p)) for x in p], "True or False"),
        (off_by_one, "off by one"),
        (lambda p, a: step_down(p, 0.05), "α = 0.10"),
        (lambda p, a: [False] if len(p) == 1 else step_down(p, a), "p = 0.04"),
        (lambda p, a: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_holm_wrong(wrong, word):
    verdict = check_holm(wrong)
    assert not verdict and word in verdict.message


def test_the_folded_solutions_of_the_notebook_pass(repo):
    cells = json.loads(
        (repo / "notebooks" / "14_the_ablation_bench.ipynb").read_text(encoding="utf-8")
    )["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    scope = {"np": np, "stats": stats, "itertools": itertools}
    for solution in re.findall(r"<summary>Solution</summary>\s+```python\n(.*?)```", text, re.S):
        exec(solution, scope)
    assert check_paired_interval(scope["my_paired_interval"])
    assert check_count_runs(scope["my_count_runs"])
    assert check_holm(scope["my_holm"])
