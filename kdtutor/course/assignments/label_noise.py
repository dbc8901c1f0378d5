"""Checks of the assignment label_noise: two kinds of wrong labels, a grid with its controls, paired
gains, intervals and verdicts.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from scipy import stats

from ...ablation import Grid
from ...ablation.intervals import gain_interval
from ...checks.verdict import UNSOLVED, Verdict, explain, judge
from ...lessons.beyond_compression.checks import _noisy, check_symmetric_noise
from ...models import mlp

NOTHING = "your function returned None. Did you forget `return`?"
VERDICTS = ("helps", "harms", "does not matter", "open")


def small():
    """The student: one hidden layer, nothing that keeps it from learning labels by heart."""
    return mlp(128, inputs=(1, 8, 8))


def careful():
    """The teacher: two hidden layers, and dropout against learning by heart."""
    return mlp((256, 256), inputs=(1, 8, 8), dropout=0.4, input_dropout=0.2)


def noise_grid(rates: Sequence[float], seeds: Sequence[int], epochs: int) -> Grid:
    """The study: labels alone and Hinton's distillation at every rate and at rate 0, with teachers
    of the same and of clean labels.
    """
    return Grid(
        dataset="digits",
        images=300,
        students=[small],
        teacher=careful,
        methods=["CrossEntropy", "Hinton"],
        seeds=list(seeds),
        label_noise=sorted({0.0, *rates}),
        teacher_sees=["same", "clean"],
        epochs=epochs,
        teacher_epochs=2 * epochs,
        fit={"lr": 0.1, "batch_size": 32, "validation": 0.0},
    )


def paired_gains(
    frame: pd.DataFrame, method: str, label_noise: float, teacher_sees: str
) -> np.ndarray:
    """Gains over CrossEntropy in points, a number for each seed that finished both runs, by rising
    seed.
    """
    here = frame[frame["label_noise"] == label_noise].set_index("seed")
    taught = here[(here["method"] == method) & (here["teacher_sees"] == teacher_sees)][
        "test_accuracy_last"
    ]
    alone = here[here["method"] == "CrossEntropy"]["test_accuracy_last"]
    return (100 * (taught - alone)).dropna().sort_index().to_numpy(copy=True)


def verdict_of(low: float, high: float, margin: float) -> str:
    """One of ``VERDICTS`` for a gain with the interval (low, high), where less than ``margin``
    points do not matter.
    """
    if -margin < low and high < margin:
        return "does not matter"
    return "helps" if low > 0 else "harms" if high < 0 else "open"


def noise_complaint(f: Callable, n: int, rate: float, classes: int, seed: int) -> str | None:
    """What is wrong with ``f(y, rate, classes, generator, inclusive)``, or None. All but the exact
    counts allows for six deviations.
    """
    y = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    k, what = round(rate * n), f"{n} labels of {classes} classes at rate {rate:g}"
    for inclusive in (False, True):

        def draw(seed):
            return _noisy(lambda *args: f(*args, inclusive), y, rate, classes, seed)

        got, name = draw(seed), "inclusive" if inclusive else "exclusive"
        if isinstance(got, str):
            return got
        wrong = got != y
        count, stay = (
            int(wrong.sum()),
            k / classes if inclusive else 0.0,
        )  # redrawn labels that keep their class, on average
        if not inclusive and count != k:
            back = (
                count != int(rate * n)
                and count < k
                and classes < 50
                and abs(count - k * (1 - 1 / classes)) < 3 * (k / classes) ** 0.5
            )
            return f"{what}, exclusive: {count} labels are wrong, expected exactly {k}. " + (
                "The new class may be the true one: exclusive noise draws among the *other* "
                "classes."
                if back
                else "`round(rate * N)` of them, neither cut off nor left to a coin."
            )
        if inclusive and not -6 * stay**0.5 - 3 <= count - (k - stay) <= 6 * stay**0.5 + 3:
            return (
                f"{what}, inclusive: {count} labels are wrong, expected about {k - stay:.0f}: the "
                "draw is over *all* classes, so one "
                f"redrawn label in {classes} keeps its class."
            )
        drawn = (
            torch.bincount((got - y)[wrong] % classes, minlength=classes)[1:],
            torch.bincount(got[wrong], minlength=classes),
        )
        if any(
            (times - count / len(times)).abs().max() > 6 * (count / len(times)) ** 0.5 + 3
            for times in drawn
        ):
            return (
                f"{what}, {name}: some wrong classes come much more often than others: every "
                f"one must be equally likely."
            )
        if abs(int(wrong[: n // 2].sum()) - count / 2) > 3 * count**0.5 + 1:
            return (
                f"{what}, {name}: the wrong labels do not lie anywhere: choose the images at "
                f"random, with `torch.randperm`."
            )
        if not torch.equal(got, draw(seed)):
            return (
                f"{name}: the same generator gave different labels: pass `generator=generator` "
                f"to *every* random function."
            )
        if k > 20 and torch.equal(got, draw(seed + 1)):
            return f"{name}: another seed gave the same labels: draw from `generator`."
    return None


def check_noisy_labels(function: Callable) -> Verdict:
    """``function(y, rate, classes, generator, inclusive)`` -> exactly round(rate N) labels drawn
    anew, of all or of the other classes.
    """
    inclusive = check_symmetric_noise(lambda *args: function(*args, True))
    if not inclusive:
        return (
            inclusive
            if inclusive.message == UNSOLVED
            else Verdict(False, f"inclusive=True: {inclusive.message}")
        )
    cases = ((2000, 0.4, 5, 0), (1999, 1.0, 4, 1), (37, 0.35, 10, 2), (900, 0.3, 10, 3))
    return judge(
        function,
        *(lambda f, case=case: noise_complaint(f, *case) for case in cases),
        praise="an exact number, chosen at random, over all classes or over the others, and the "
        "same seed gives the same noise.",
    )


_FACETS = {
    "students": lambda c: c.spec["net"],
    "images": lambda c: c.spec["images"] or "all",
    "methods": lambda c: c.label,
    "rates of label noise": lambda c: c.spec["label_noise"],
    "seeds": lambda c: c.spec["seed"],
    "epochs": lambda c: c.spec["epochs"],
    "fit": lambda c: str(sorted(c.spec["fit"].items())),
    "teachers": lambda c: c.teacher and c.teacher.spec["net"],
    "what the teachers saw": lambda c: (
        c.teacher_sees if c.teacher and c.spec["label_noise"] else None
    ),
    "teachers' epochs": lambda c: c.teacher and c.teacher.spec["epochs"],
}
_HINTS = {
    "methods": "Without CrossEntropy of the same seed there is nothing to subtract.",
    "rates of label noise": "Rate 0 is the control: it shows whether a gain has to do with the "
    "noise at all.",
    "what the teachers saw": "teacher_sees=['same', 'clean'] makes both.",
    "seeds": "Pass on the argument `seeds`.",
    "epochs": "Pass on the argument `epochs`.",
    "teachers' epochs": "Teachers train twice as long: teacher_epochs=2 * epochs.",
    "fit": "fit={'lr': 0.1, 'batch_size': 32, 'validation': 0.0}",
}


def grid_complaint(grid, want: Grid, what: str) -> str | None:
    """How the runs of a grid differ from those of another, or None."""
    if not isinstance(grid, Grid):
        return (
            f"{what}: "
            f"{NOTHING if grid is None else f'expected a Grid, got a {type(grid).__name__}.'}"
        )
    mine, theirs = grid.cells(), want.cells()
    for name, value in _FACETS.items():
        a, b = ({value(c) for c in cells} - {None} for cells in (mine, theirs))
        if a != b:
            return (
                f"{what}: {name} {sorted(a, key=str)}, expected {sorted(b, key=str)}. "
                f"{_HINTS.get(name, '')}"
            ).strip()
    if {c.key for c in mine} != {c.key for c in theirs}:
        return (
            f"{what}: your grid has {len(mine)} runs that differ from the {len(theirs)} "
            f"expected ones: leave other settings as they are."
        )
    return None


def check_noise_grid(function: Callable) -> Verdict:
    """``function(rates, seeds, epochs)`` -> ``Grid`` with the runs of ``noise_grid``."""

    def step(what, *args):
        return lambda f: grid_complaint(f(*args), noise_grid(*args), what)

    return judge(
        function,
        step("rates [0.4], seeds [0, 3, 5], 6 epochs", [0.4], [0, 3, 5], 6),
        step("rates [0.0, 0.2, 0.6], seeds [1, 2], 9 epochs", [0.0, 0.2, 0.6], [1, 2], 9),
        praise="every run has its baseline, every rate its control, and teachers of both kinds.",
    )


def made_up_runs(
    generator: torch.Generator,
    rates: Sequence[float] = (0.0, 0.4),
    seeds: Sequence[int] = (4, 0, 7, 2, 9, 5),
):
    """A table of runs that never took place, rows shuffled: a method's first seed failed, the
    baseline's last, another is absent.
    """
    rows = []
    for rate in rates:
        luck = dict(zip(seeds, torch.randn(len(seeds), generator=generator).tolist()))
        for method, sees, gain in (
            ("CrossEntropy", "same", 0),
            ("Hinton", "same", 3),
            ("Hinton", "clean", 8),
            ("SP", "same", -1),
        ):
            for seed in seeds:
                value = (
                    0.7
                    - 0.3 * rate
                    + 0.02 * luck[seed]
                    + 0.01 * gain
                    + 0.008 * float(torch.randn((), generator=generator))
                )
                failed = (seed == seeds[0] and method != "CrossEntropy") or (
                    seed == seeds[-1] and method == "CrossEntropy"
                )
                if not (method == "Hinton" and seed == seeds[1]):
                    rows.append(
                        dict(
                            method=method,
                            label_noise=rate,
                            teacher_sees=sees,
                            seed=seed,
                            status="diverged" if failed else "finished",
                            test_accuracy_last=np.nan if failed else value,
                        )
                    )
    return (
        pd.DataFrame(rows)
        .iloc[torch.randperm(len(rows), generator=generator).tolist()]
        .reset_index(drop=True)
    )


def check_paired_gains(function: Callable) -> Verdict:
    """``function(frame, method, label_noise, teacher_sees)`` -> (n,) gains over CrossEntropy in
    points, by rising seed.
    """

    def step(frame, what, method, rate, sees):
        want = paired_gains(frame, method, rate, sees)
        at = frame[frame["label_noise"] == rate].set_index("seed")["test_accuracy_last"] * 100
        rows = frame[frame["label_noise"] == rate].set_index("seed")
        taught, alone = (
            at[(rows["method"] == method) & (rows["teacher_sees"] == sees)],
            at[rows["method"] == "CrossEntropy"],
        )
        other = (
            frame[(frame["label_noise"] != rate) & (frame["method"] == "CrossEntropy")].set_index(
                "seed"
            )["test_accuracy_last"]
            * 100
        )
        n = min(len(taught.dropna()), len(alone.dropna()))
        in_order = taught.index[taught.index.isin(alone.dropna().index) & taught.notna()]
        zeros = (taught.fillna(0) - alone.fillna(0)).dropna().sort_index()
        mistakes = {
            "these are shares: multiply by 100, a gain is given in points.": want / 100,
            "the sign is flipped: a gain is method − baseline.": -want,
            "the pairs are matched by position: match them by *seed*.": taught.dropna().to_numpy()[
                :n
            ]
            - alone.dropna().to_numpy()[:n],
            "the values were sorted before subtracting: pair them by seed, not by size.": np.sort(
                taught.dropna().to_numpy()
            )[:n]
            - np.sort(alone.dropna().to_numpy())[:n],
            "you subtract the mean of the baseline: subtract the baseline's run of the *same "
            "seed*.": (taught - alone.mean()).dropna().sort_index().to_numpy(),
            "the baseline comes from another rate of noise: both runs of a pair must have the same "
            "labels.": (taught - other).dropna().sort_index().to_numpy()
            if not other.index.duplicated().any()
            else want * np.nan,
            "the gains are not in the order of rising seeds.": (taught - alone)[
                in_order
            ].to_numpy(),
            "a failed run counts as 0 % here: leave out pairs of which a run "
            "failed.": zeros.to_numpy(),
            "these are the method's accuracies: subtract the baseline.": taught.dropna()
            .sort_index()
            .to_numpy(),
            "this is the mean only: return a gain for every pair.": want.mean(),
            "that is the other kind of teacher: look at `teacher_sees`.": paired_gains(
                frame, method, rate, "same" if sees == "clean" else "clean"
            ),
        }

        def look(f):
            got = f(frame.copy(), method, rate, sees)
            if got is None:
                return f"{what}: {NOTHING}"
            got = torch.as_tensor(np.array(got, dtype=float))
            if got.numel() == 0:
                return (
                    f"{what}: no pairs at all. CrossEntropy has no teacher, all its rows say "
                    f"'same': filter the method's rows only."
                )
            if got.isnan().any():
                return f"{what}: your result holds NaN: leave out pairs of which a run failed."
            return explain(
                got,
                torch.as_tensor(want),
                what,
                {k: torch.tensor(np.array(v)) for k, v in mistakes.items()},
            )

        return look

    frame = made_up_runs(torch.Generator().manual_seed(6))
    return judge(
        function,
        step(frame, "Hinton at rate 0.4, teacher of the same labels", "Hinton", 0.4, "same"),
        step(frame, "Hinton at rate 0.4, teacher of clean labels", "Hinton", 0.4, "clean"),
        step(frame, "SP at rate 0", "SP", 0.0, "same"),
        praise="pairs by seed, in points, and a failed run does no harm.",
    )


def check_gain_interval(function: Callable) -> Verdict:
    """``function(differences, confidence)`` -> (low, high), the t interval of their mean; NaN for
    fewer than two.
    """

    def step(what, gains, confidence):
        gains = np.array(gains)
        n, mean = len(gains), gains.mean()
        want, t = gain_interval(gains, confidence), stats.t.ppf((1 + confidence) / 2, n - 1)
        each = lambda half: (mean - half, mean + half)
        error = gains.std(ddof=1) / n**0.5
        mistakes = {
            "`confidence` is not used: this is a 95 % interval.": gain_interval(gains),
            "the t quantile has n degrees of freedom here: one is used up by the mean, so n − "
            "1.": each(stats.t.ppf((1 + confidence) / 2, n) * error),
            "this is the normal distribution's quantile, for many seeds: with few, Student's t is "
            "larger.": each(stats.norm.ppf((1 + confidence) / 2) * error),
            "1.96 is the quantile for many seeds and 95 %: use stats.t.ppf.": each(1.96 * error),
            "the quantile must leave half of the rest beyond *each* end: (1 + confidence) / "
            "2.": each(stats.t.ppf(confidence, n - 1) * error),
            "the standard deviation divides by n: for a sample take n − 1 (ddof=1).": each(
                t * gains.std() / n**0.5
            ),
            "this is the range of single gains: divide the standard deviation by √n.": each(
                t * gains.std(ddof=1)
            ),
            "the standard deviation is divided by n: divide it by √n.": each(
                t * gains.std(ddof=1) / n
            ),
            "this is one standard error to each side: multiply by the t quantile.": each(error),
            "this is mean ± standard deviation: divide by √n and multiply by the t quantile.": each(
                gains.std(ddof=1)
            ),
            "these are the smallest and the largest gain: they say how single gains scatter.": (
                gains.min(),
                gains.max(),
            ),
            "the ends are swapped: return (low, high).": want[::-1],
        }

        def look(f):
            got = f(gains.copy(), confidence)
            if got is None or np.shape(got) != (2,):
                return f"{what}: {NOTHING if got is None else 'return two numbers, (low, high).'}"
            return explain(
                torch.tensor([float(v) for v in got]),
                want,
                what,
                {k: v for k, v in mistakes.items() if not np.allclose(v, want)},
            )

        return look

    def few(f):
        for gains in ([1.5], []):
            got = f(np.array(gains), 0.95)
            if (
                got is None
                or np.shape(got) != (2,)
                or not np.isnan(np.array(got, dtype=float)).all()
            ):
                return (
                    f"{len(gains)} gains: expected (NaN, NaN), for no interval can be said "
                    f"with fewer than two; got {got!r}."
                )

    return judge(
        function,
        step("five gains at 90 %", [0.4, -1.2, 2.2, 0.9, 1.6], 0.90),
        step("the gains 1, 2, 3 at 95 %", [1.0, 2.0, 3.0], 0.95),
        few,
        praise="Student's quantile, √n, and no interval from a single pair.",
    )


def check_verdict(function: Callable) -> Verdict:
    """``function(low, high, margin)`` -> one of ``VERDICTS``."""
    small_but_clear = (
        "it leaves out 0, but all of it lies within ±margin: clear, and too small "
        "to matter. Ask for that first."
    )
    unclear = "it holds 0, and gains or losses that would matter: nobody can tell."
    cases = (
        (0.7, 3.1, 1.0, "it leaves out 0, above it."),
        (-4.0, -1.5, 1.0, "it leaves out 0, below it."),
        (-0.4, 0.6, 1.0, "all of it lies within ±margin."),
        (-0.6, 2.9, 1.0, unclear),
        (-3.0, 0.2, 1.0, unclear),
        (0.2, 0.7, 1.0, small_but_clear),
        (-0.8, -0.1, 1.0, small_but_clear),
        (0.2, 0.7, 0.5, "the margin is 0.5 here, not 1: the interval reaches beyond it."),
        (-5.0, 5.0, 1.0, unclear),
        (0.0, 2.0, 1.0, "it touches 0, so it does not leave it out."),
        (-1.0, 0.5, 1.0, "it reaches the margin: not all of it lies within."),
        (np.nan, np.nan, 1.0, "there is no interval, so nobody can tell."),
    )

    def step(low, high, margin, why):
        def look(f):
            got, want = f(low, high, margin), verdict_of(low, high, margin)
            what = f"the interval [{low:g}, {high:g}] with margin {margin:g}"
            if got not in VERDICTS:
                return (
                    f"{what}: your function returned {got!r}; expected one of "
                    f"{', '.join(map(repr, VERDICTS))}."
                )
            return None if got == want else f"{what}: you say {got!r}, expected {want!r}: {why}"

        return look

    return judge(
        function,
        *(step(*case) for case in cases),
        praise="clear and unclear, and what is too small to matter, are told apart.",
    )
