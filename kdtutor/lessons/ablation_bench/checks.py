"""Checks of lesson 14: the interval of a paired gain, the number of runs of a grid, and Holm's
correction.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy import stats

from ...ablation.results import gain_interval
from ...checks.verdict import Verdict, compare, explain, judge
from .figures import holm, unpaired_interval


def paired_interval(
    method: Mapping[int, float], baseline: Mapping[int, float]
) -> tuple[float, float]:
    """The solution: the 95 % t interval of the gains of the seeds that both have."""
    return gain_interval([method[s] - baseline[s] for s in method if s in baseline])


def _half_widths(gains, quantile: float, ddof: int = 1, root: bool = True) -> tuple[float, float]:
    half = quantile * np.std(gains, ddof=ddof) / (len(gains) ** 0.5 if root else 1)
    return np.mean(gains) - half, np.mean(gains) + half


def check_paired_interval(function: Callable) -> Verdict:
    """``function(method, baseline)``: {seed: accuracy in percent} of each -> (low, high), the 95 %
    t interval of the mean paired gain.
    """
    method, baseline = {0: 91.2, 1: 93.1, 2: 90.4, 3: 92.0}, {0: 92.5, 1: 90.1, 2: 88.9, 3: 91.6}
    shuffled = {s: baseline[s] for s in (2, 0, 3, 1)}

    def value(what, method, baseline):
        both = [s for s in method if s in baseline]
        gains, n = np.array([method[s] - baseline[s] for s in both]), len(both)
        want, t = gain_interval(gains), stats.t.ppf(0.975, n - 1)
        mistakes = {
            "the pairs are ignored: this is the interval of two independent groups. Subtract "
            "within each seed first.": unpaired_interval(
                [method[s] for s in both], [baseline[s] for s in both]
            ),
            "1.96 is the quantile for many seeds: with few, Student's t for n − 1 degrees of "
            "freedom is larger.": _half_widths(gains, stats.norm.ppf(0.975)),
            "1.96 is the quantile for many seeds; use Student's t for n − 1 degrees of "
            "freedom.": _half_widths(gains, 1.96),
            "2 is a rule of thumb for many seeds; use Student's t for n − 1 degrees of "
            "freedom.": _half_widths(gains, 2.0),
            "the t quantile has n degrees of freedom here: one is used up by the mean, so n − "
            "1.": _half_widths(gains, stats.t.ppf(0.975, n)),
            "this is a 90 % interval: 2.5 % must lie beyond *each* end, so ask for the quantile "
            "0.975.": _half_widths(gains, stats.t.ppf(0.95, n - 1)),
            "the standard deviation divides by n: for a sample take n − 1 (ddof=1).": _half_widths(
                gains, t, ddof=0
            ),
            "this is the range of single gains: divide the standard deviation by √n for their "
            "mean.": _half_widths(gains, t, root=False),
            "this is one standard error to each side: multiply by the t quantile.": _half_widths(
                gains, 1.0
            ),
            "the sign is flipped: a gain is method − baseline.": (-want[1], -want[0]),
            "the ends are swapped: return (low, high).": want[::-1],
            "the accuracies were sorted before subtracting: pair them by *seed*, not by "
            "size.": gain_interval(
                np.subtract(sorted(method[s] for s in both), sorted(baseline[s] for s in both))
            ),
        }
        if list(method) != list(baseline) and len(method) == len(baseline):
            by_place = np.subtract(list(method.values()), list(baseline.values()))
            mistakes[
                "the pairs are matched by position: match them by *seed*, the keys of the two "
                "dictionaries."
            ] = gain_interval(by_place)

        def step(f):
            got = f(dict(method), dict(baseline))
            if got is None or np.shape(got) != (2,):
                return (
                    compare(None, 0.0, what)
                    if got is None
                    else f"{what}: return two numbers, (low, high)."
                )
            return explain(
                torch.tensor([float(x) for x in got]),
                want,
                what,
                {k: tuple(v) for k, v in mistakes.items()},
            )

        return step

    def missing(f):
        partial = {s: v for s, v in baseline.items() if s != 1} | {7: 95.0}
        try:
            return value(
                "seed 1 of the baseline failed, and seed 7 of the method is missing",
                method,
                partial,
            )(f)
        except (KeyError, ValueError) as error:
            return (
                f"a run that failed is missing: your function raised {type(error).__name__}. "
                f"Use only the seeds that *both* have."
            )

    return judge(
        function,
        value("four seeds", method, baseline),
        value("the same runs, listed in another order", method, shuffled),
        missing,
        praise="pairs by seed, Student's quantile, and a failed run does no harm.",
    )


def count_runs(
    students: Sequence[str],
    methods: Mapping[str, bool],
    seeds: Sequence[int],
    noise: Sequence[float],
    teacher: str,
) -> int:
    """The solution: what decides a run as a tuple, in a set; teachers included."""
    runs = set()
    for student in students:
        for method, taught in methods.items():
            for rate in noise:
                runs |= {(student, method, rate, seed) for seed in seeds}
                if taught:
                    runs.add((teacher, "CrossEntropy", rate, 0))
    return len(runs)


def check_count_runs(function: Callable) -> Verdict:
    """``function(students, methods, seeds, noise, teacher)`` -> int: all distinct trainings of a
    grid, the teachers' included.

    methods: {name: does it learn from a teacher?}. A teacher is a CrossEntropy run of seed 0, one
    per rate of noise."""

    def value(what, *args):
        students, methods, seeds, noise, teacher = args
        want, plain = count_runs(*args), len(students) * len(methods) * len(seeds) * len(noise)
        taught = sum(methods.values())
        mistakes = {
            "the teachers are missing: they are trained too.": plain,
            "the rates of noise are missing: each is a setting of its own.": plain // len(noise),
            "one teacher is not enough: it sees the noisy labels, so each rate of noise has its "
            "own.": plain + 1,
            "a teacher for every method is too many: all methods share it.": plain
            + len(noise) * taught,
            "a teacher for every student is too many: all students share it.": plain
            + len(noise) * len(students),
            "a teacher for every run is too many: it is trained once per rate of noise.": plain
            + len(students) * taught * len(seeds) * len(noise),
            "a teacher for every seed is too many: its own seed is 0, whatever the students' "
            "is.": plain + len(noise) * len(seeds),
        }
        if not taught:
            mistakes = {
                "nobody here learns from a teacher, so none is trained.": plain + len(noise)
            }
        elif teacher in students and 0 not in seeds:
            mistakes = {
                "the teacher's network is a student here, but its seed, 0, is not among the "
                "students' seeds: its run is one more.": plain
            } | mistakes
        elif teacher in students and 0 in seeds and "CrossEntropy" not in methods:
            mistakes = {
                "the teacher's network is a student here, but no student learns from the labels "
                "alone: the teacher is a run of its own.": plain
            } | mistakes
        elif want < plain + len(noise):
            mistakes = {
                "here the teacher's network is also a student, and its CrossEntropy run of seed 0 "
                "is counted twice: equal runs "
                "are done once.": plain + len(noise)
            } | mistakes

        def step(f):
            got = f(*args)
            if got is not None and not isinstance(got, (int, np.integer)):
                return f"{what}: return a whole number, not a {type(got).__name__}."
            complaint = explain(
                got if got is None else int(got),
                want,
                what,
                {k: v for k, v in mistakes.items() if v != want},
            )
            return complaint and (
                complaint
                if got is None or "off by" not in complaint
                else f"{what}: {got} runs, expected {want}."
            )

        return step

    labels, both = {"CrossEntropy": False}, {"CrossEntropy": False, "Hinton": True, "SP": True}
    return judge(
        function,
        value(
            "one student, labels only, three seeds",
            ["resnet8"],
            labels,
            [0, 1, 2],
            [0.0],
            "resnet20",
        ),
        value(
            "three students, three methods, five seeds, two rates of noise",
            ["resnet8", "resnet14", "resnet26"],
            both,
            [0, 1, 2, 3, 4],
            [0.0, 0.4],
            "resnet20",
        ),
        value(
            "one student is the teacher's network",
            ["resnet8", "resnet20"],
            both,
            [0, 1, 2],
            [0.0, 0.2, 0.4],
            "resnet20",
        ),
        value(
            "the same, but seed 0 is not among the students' seeds",
            ["resnet8", "resnet20"],
            both,
            [1, 2],
            [0.0],
            "resnet20",
        ),
        value(
            "no CrossEntropy among the methods",
            ["resnet20"],
            {"Hinton": True},
            [0],
            [0.0],
            "resnet20",
        ),
        praise="every training is counted once, the teachers' too.",
    )


def check_holm(function: Callable) -> Verdict:
    """``function(p_values, alpha)`` -> a list of True or False: which claims survive Holm's
    correction, in the order given.
    """
    examples = {
        "the lesson's example, p = 0.030, 0.004, 0.300, 0.015": (
            [0.030, 0.004, 0.300, 0.015],
            0.05,
        ),
        "p = 0.04, 0.001, 0.03, 0.024, 0.02": ([0.04, 0.001, 0.03, 0.024, 0.02], 0.05),
        "p = 0.03, 0.04": ([0.03, 0.04], 0.05),
        "p = 0.024, 0.001, 0.02": ([0.024, 0.001, 0.02], 0.05),
        "one claim, p = 0.04": ([0.04], 0.05),
        "p = 0.04, 0.001, 0.2, 0.3": ([0.04, 0.001, 0.2, 0.3], 0.05),
        "α = 0.10, p = 0.06, 0.02, 0.04": ([0.06, 0.02, 0.04], 0.10),
    }

    def value(what, p, alpha):
        def step(f):
            got, want = f(list(p), alpha), holm(p, alpha)
            if got is None:
                return compare(None, 0.0, what)
            got = np.asarray(got)
            if got.shape != want.shape:
                return (
                    f"{what}: your result has shape {got.shape}, expected one True or False "
                    f"for each of the {len(p)} p-values."
                )
            if not np.isin(got, (0, 1)).all():
                return (
                    f"{what}: return True or False for each claim, not numbers such as "
                    f"{got.ravel()[0]:.3g}."
                )
            if (got == want).all():
                return None
            # Only a mistake that explains all examples is named.
            all_of_it = [np.asarray(f(list(q), level)).tolist() for q, level in examples.values()]
            for sentence, wrong in _HOLM_MISTAKES.items():
                if all_of_it == [
                    wrong(np.array(q), level).tolist() for q, level in examples.values()
                ]:
                    return f"{what}: {sentence}"
            return f"{what}: {got.astype(bool).tolist()}, expected {want.tolist()}."

        return step

    return judge(
        function,
        *(value(what, *example) for what, example in examples.items()),
        praise="smallest first, growing limits, and a stop at the first that fails.",
    )


def _by_rank(rule: Callable) -> Callable:
    """(p, alpha) -> answers in the order of p, from a rule for sorted p-values: (p, alpha, their
    number m, places 0..m-1) -> answers.
    """

    def answers(p, alpha):
        order, m = p.argsort(), len(p)
        return rule(p[order], alpha, m, np.arange(m))[order.argsort()]

    return answers


def _up_to_the_last(passed: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(passed[::-1])[::-1]


_HOLM_MISTAKES = {
    "this is no correction: every p-value is compared with α itself.": lambda p, alpha: p <= alpha,
    "this is Bonferroni, α/m for all: right but too strict. Holm's limits grow: α/m, α/(m − 1), …, "
    "α.": lambda p, alpha: p <= alpha / len(p),
    "this goes on after the first claim that fails: there Holm stops, and all later ones fail "
    "too.": _by_rank(lambda p, alpha, m, i: p <= alpha / (m - i)),
    "this is the step-*up* procedure (Hochberg): begin with the smallest p-value and stop at the "
    "first that fails.": _by_rank(lambda p, alpha, m, i: _up_to_the_last(p <= alpha / (m - i))),
    "this is Benjamini and Hochberg, which keeps the share of false alarms small, not their "
    "presence.": _by_rank(lambda p, alpha, m, i: _up_to_the_last(p <= alpha * (i + 1) / m)),
    "the answers are sorted by p-value: return them in the order in which the claims "
    "came.": lambda p, alpha: holm(p, alpha)[p.argsort()],
    "True and False are swapped: True is a claim that survives.": lambda p, alpha: ~holm(p, alpha),
    "the limits are off by one: the smallest of m p-values is compared with α/m, the next with "
    "α/(m − 1).": _by_rank(lambda p, alpha, m, i: np.minimum.accumulate(p <= alpha / (m - i + 1))),
}
