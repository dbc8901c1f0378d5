"""Wrong and right answers to the assignment label_noise."""

from dataclasses import replace

import numpy as np
import torch
from scipy import stats

from kdtutor.ablation.intervals import gain_interval
from kdtutor.course.assignments.label_noise import noise_grid, paired_gains, verdict_of

LIBRARY = {
    # the library spoils a whole dataset, and knows the inclusive noise only
    "my_noisy_labels": None,
    "my_noise_grid": noise_grid,
    "my_paired_gains": None,  # a part of Results.table
    "my_gain_interval": gain_interval,
    "my_verdict": None,
}  # the bench says "clear" and knows no margin


def noisy(
    count=lambda rate, n: round(rate * n),
    order=lambda n, g: torch.randperm(n, generator=g),
    draw=None,
    copy=True,
):
    """Noisy labels, right by default. draw: (classes, how many, generator, inclusive, true labels
    of these) -> new labels.
    """

    def make(y, rate, classes, generator, inclusive):
        hit = order(len(y), generator)[: count(rate, len(y))]
        out = y.clone() if copy else y
        out[hit] = (draw or shifted)(classes, len(hit), generator, inclusive, y[hit])
        return out

    return make


def shifted(C, k, g, inclusive, true):
    return (
        torch.randint(C, (k,), generator=g)
        if inclusive
        else (true + torch.randint(1, C, (k,), generator=g)) % C
    )


def skipping(C, k, g, inclusive, true):
    new = torch.randint(C - 1 + inclusive, (k,), generator=g)
    return new if inclusive else new + (new >= true)


def by_loop(y, rate, classes, generator, inclusive):
    out = y.tolist()
    for i in torch.rand(len(y), generator=generator).argsort()[: round(rate * len(y))].tolist():
        new = out[i]
        while new == out[i] if not inclusive else new is out[i]:
            new = int(torch.randint(classes, (), generator=generator))
            if inclusive:
                break
        out[i] = new
    return torch.tensor(out)


def coin(y, rate, classes, generator, inclusive):
    hit = torch.rand(len(y), generator=generator) < rate
    return torch.where(hit, shifted(classes, len(y), generator, inclusive, y), y)


def shuffled(y, rate, classes, generator, inclusive):
    hit = torch.randperm(len(y), generator=generator)[: round(rate * len(y))]
    out = y.clone()
    out[hit] = y[hit[torch.randperm(len(hit), generator=generator)]]
    return out


def grid(**settings):
    """The study with some settings changed, values or functions of (rates, seeds, epochs)."""
    return lambda *args: replace(
        noise_grid(*args),
        **{k: v(*args) if callable(v) and k != "teacher" else v for k, v in settings.items()},
    )


def gains(
    frame,
    method,
    noise,
    sees,
    *,
    factor=100,
    base_noise=None,
    by_seed=True,
    base_sees=None,
    sort=True,
    drop=True,
    mean=False,
    flip=1,
):
    """Paired gains, right by default, with a switch for each mistake."""
    at = lambda rate: frame[frame["label_noise"] == rate].set_index("seed")
    here, there = at(noise), at(noise if base_noise is None else base_noise)
    taught = here[(here["method"] == method) & ((here["teacher_sees"] == sees) if sees else True)][
        "test_accuracy_last"
    ]
    alone = there[
        (there["method"] == "CrossEntropy")
        & ((there["teacher_sees"] == base_sees) if base_sees else True)
    ]["test_accuracy_last"]
    if mean:
        alone = alone.mean()
    elif not by_seed:
        taught, alone = taught.dropna(), alone.dropna()
        n = min(len(taught), len(alone))
        return factor * (taught.to_numpy()[:n] - alone.to_numpy()[:n])
    elif not sort:
        alone = alone.reindex(taught.index)
    out = flip * factor * (taught - alone)
    out = out.dropna() if drop else out
    return (out.sort_index() if sort else out).to_numpy()


def by_dictionary(frame, method, label_noise, teacher_sees):
    value = {}
    for row in frame.itertuples():
        if (
            row.label_noise == label_noise
            and row.status == "finished"
            and (row.method == "CrossEntropy" or row.teacher_sees == teacher_sees)
        ):
            value[row.method, row.seed] = row.test_accuracy_last
    both = [s for m, s in value if m == method and ("CrossEntropy", s) in value]
    return [100 * (value[method, s] - value["CrossEntropy", s]) for s in sorted(both)]


def wrong(**switches):
    return lambda frame, method, noise, sees: gains(frame, method, noise, sees, **switches)


def interval(
    quantile=lambda c, n: stats.t.ppf((1 + c) / 2, n - 1),
    ddof=1,
    divide=lambda n: n**0.5,
    few=True,
    order=1,
):
    def make(differences, confidence=0.95):
        n = len(differences)
        if n < 2:
            return (
                (np.nan, np.nan)
                if few
                else (np.mean(differences), np.mean(differences))
                if n
                else (0.0, 0.0)
            )
        half = quantile(confidence, n) * np.std(differences, ddof=ddof) / divide(n)
        return tuple((np.mean(differences) + np.array([-half, half]))[::order])

    return make


def by_scipy(differences, confidence=0.95):
    if len(differences) < 2:
        return np.nan, np.nan
    return stats.t.interval(
        confidence, len(differences) - 1, np.mean(differences), stats.sem(differences)
    )


def says(
    low,
    high,
    margin,
    first=True,
    strict=True,
    signs=("helps", "harms"),
    unclear="open",
    inside=lambda low, h, m: -m < low and h < m,
):
    if first and inside(low, high, margin):
        return "does not matter"
    up, down = (low > 0, high < 0) if strict else (low >= 0, high <= 0)
    return signs[0] if up else signs[1] if down else unclear


def verdict(**switches):
    return lambda low, high, margin: says(low, high, margin, **switches)


RIGHT = {
    "noisy-labels-test": [noisy(), noisy(draw=skipping), by_loop],
    "noise-grid-test": [
        noise_grid,
        lambda r, s, e: replace(noise_grid(r, s, e), label_noise=[0.0, *r], seeds=[*s][::-1]),
        lambda r, s, e: replace(
            noise_grid(r, s, e), methods=["Hinton", "CrossEntropy"], teacher_sees=["clean", "same"]
        ),
    ],
    "paired-gains-test": [paired_gains, wrong(), by_dictionary],
    "gain-interval-test": [gain_interval, interval(), by_scipy],
    "verdict-test": [
        verdict_of,
        verdict(),
        lambda low, h, m: (
            "does not matter"
            if max(abs(low), abs(h)) < m
            else "open"
            if not low > 0 and not h < 0
            else "helps"
            if low > 0
            else "harms"
        ),
    ],
}
WRONG = {
    "noisy-labels-test": {
        "a coin for every label": coin,
        "the number cut off": noisy(count=lambda rate, n: int(rate * n)),
        "the first images": noisy(order=lambda n, g: torch.arange(n)),
        "images drawn with replacement": noisy(
            order=lambda n, g: torch.randint(n, (n,), generator=g)
        ),
        "always inclusive": noisy(draw=lambda C, k, g, i, y: torch.randint(C, (k,), generator=g)),
        "always exclusive": noisy(draw=lambda C, k, g, i, y: shifted(C, k, g, False, y)),
        "the last class never drawn": noisy(
            draw=lambda C, k, g, i, y: (
                torch.randint(C - 1, (k,), generator=g) if i else shifted(C, k, g, i, y)
            )
        ),
        "the next class": noisy(
            draw=lambda C, k, g, i, y: shifted(C, k, g, i, y) if i else (y + 1) % C
        ),
        "one new label for all": noisy(
            draw=lambda C, k, g, i, y: (
                shifted(C, 1, g, True, y).expand(k)
                if i
                else (y + torch.randint(1, C, (1,), generator=g)) % C
            )
        ),
        "one of two neighbours": noisy(
            draw=lambda C, k, g, i, y: (
                shifted(C, k, g, i, y) if i else (y + 1 + torch.randint(2, (k,), generator=g)) % C
            )
        ),
        "the old labels shuffled": shuffled,
        "the generator not used": lambda y, r, C, g, i: noisy()(y, r, C, None, i),
        "always the same seed": lambda y, r, C, g, i: noisy()(
            y, r, C, torch.Generator().manual_seed(0), i
        ),
        "changes its input": noisy(copy=False),
    },
    "noise-grid-test": {
        "no baseline": grid(methods=["Hinton"]),
        "no control": grid(label_noise=lambda r, s, e: [x for x in r if x] or [0.5]),
        "rates not passed on": grid(label_noise=[0.0, 0.4]),
        "seeds counted from 0": grid(seeds=lambda r, s, e: range(len(s))),
        "one seed": grid(seeds=lambda r, s, e: [s[0]]),
        "teachers of the same labels only": grid(teacher_sees=["same"]),
        "teachers of clean labels only": grid(teacher_sees=["clean"]),
        "teachers train no longer": grid(teacher_epochs=None),
        "epochs not passed on": grid(epochs=6, teacher_epochs=12),
        "all images": grid(images=None),
        "settings of fit forgotten": grid(fit={}),
        "the student is its own kind of teacher": lambda r, s, e: replace(
            noise_grid(r, s, e), teacher=noise_grid(r, s, e).students[0]
        ),
        "another seed of the noise": grid(corruption_seed=1),
    },
    "paired-gains-test": {
        "shares, not points": wrong(factor=1),
        "baseline minus method": wrong(flip=-1),
        "matched by position": wrong(by_seed=False),
        "the baseline's mean": wrong(mean=True),
        "the baseline of clean labels": wrong(base_noise=0.0),
        "the baseline filtered by its teacher": lambda f, m, n, s: gains(f, m, n, s, base_sees=s),
        "teachers of both kinds": lambda f, m, n, s: gains(f, m, n, None),
        "in the order of the table": wrong(sort=False),
        "failed runs kept as NaN": wrong(drop=False),
        "failed runs count as 0": lambda f, m, n, s: gains(
            f.fillna({"test_accuracy_last": 0.0}), m, n, s
        ),
        "the mean only": lambda f, m, n, s: gains(f, m, n, s).mean(),
    },
    "gain-interval-test": {
        "normal quantile": interval(lambda c, n: stats.norm.ppf((1 + c) / 2)),
        "1.96": interval(lambda c, n: 1.96),
        "n degrees of freedom": interval(lambda c, n: stats.t.ppf((1 + c) / 2, n)),
        "one-sided quantile": interval(lambda c, n: stats.t.ppf(c, n - 1)),
        "always 95 %": interval(lambda c, n: stats.t.ppf(0.975, n - 1)),
        "standard deviation over n": interval(ddof=0),
        "not divided by √n": interval(divide=lambda n: 1),
        "divided by n": interval(divide=lambda n: n),
        "one standard error": interval(lambda c, n: 1),
        "ends swapped": interval(order=-1),
        "an interval from one pair": interval(few=False),
        "range of the gains": lambda d, confidence=0.95: (
            (np.min(d), np.max(d)) if len(d) > 1 else (np.nan, np.nan)
        ),
    },
    "verdict-test": {
        "no margin": verdict(first=False),
        "margin asked last": lambda low, h, m: (
            verdict(first=False, unclear=None)(low, h, m)
            or ("does not matter" if -m < low and h < m else "open")
        ),
        "unclear means no effect": verdict(unclear="does not matter"),
        "signs swapped": verdict(signs=("harms", "helps")),
        "0 at the end counts as left out": verdict(strict=False),
        "by the middle": lambda low, h, m: (
            "does not matter" if abs(low + h) / 2 < m else "helps" if low + h > 0 else "harms"
        ),
        "the margin includes its ends": verdict(inside=lambda low, h, m: -m <= low and h <= m),
        "one end within the margin": verdict(inside=lambda low, h, m: -m < low < m or -m < h < m),
        "margin of 1 whatever is asked": verdict(inside=lambda low, h, m: low > -1 and h < 1),
        "must be larger than the margin": lambda low, h, m: (
            "helps"
            if low > m
            else "harms"
            if h < -m
            else "does not matter"
            if -m < low and h < m
            else "open"
        ),
    },
}
