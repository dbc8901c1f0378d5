"""Figures of lesson 14: seed noise, paired intervals, false alarms, and the published gains beside
measured ones.

Every function draws from given numbers only: nothing is trained or loaded here. Accuracies and
gains are in percent and points."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT

from ...ablation.intervals import holm, paired_intervals, unpaired_interval
from ...display.style import BLACK, BLUE, CYCLE, DASHES, MARKERS, ORANGE, figure, styled

__all__ = [
    "draw_alarms",
    "draw_coverage",
    "draw_flips",
    "draw_pairs",
    "draw_published",
    "draw_ranks",
    "holm",
    "paired_intervals",
    "unpaired_interval",
]
QUIET = "0.72"


@styled
def draw_ranks(accuracies: pd.DataFrame, moved: int = 3):
    """Who is first, second, ... for each seed alone and for the mean: one line per method.

    accuracies: in percent, a row per method, a column per seed.   moved: lines that change by at
    least so many places between two seeds are coloured."""
    columns = [f"seed {c} alone" for c in accuracies] + [f"mean of {accuracies.shape[1]}"]
    values = np.column_stack([accuracies.to_numpy(float), accuracies.mean(axis=1)])
    ranks = (-values).argsort(0, kind="stable").argsort(0, kind="stable") + 1
    fig, ax = figure(width=9.5, height=0.34 * len(ranks) + 1.2)
    x, coloured = np.arange(len(columns)), 0
    for name, rank, value in zip(accuracies.index, ranks, values):
        far = np.ptp(rank[:-1]) >= moved
        style = dict(
            color=CYCLE[coloured % 6], linestyle=DASHES[coloured % 6], linewidth=2.4, zorder=3
        )
        style = style if far else dict(color=QUIET, zorder=2)
        ax.plot(
            x,
            rank,
            marker="o",
            markersize=15,
            markerfacecolor="white",
            markeredgewidth=style.get("linewidth", 1.2),
            **style,
        )
        for at, (place, _number) in enumerate(zip(rank, value)):
            ax.text(at, place, place, ha="center", va="center", fontsize=9, zorder=4)
        ax.text(
            -0.13,
            rank[0],
            name,
            ha="right",
            va="center",
            fontsize=10,
            weight="bold" if far else "normal",
        )
        ax.text(
            x[-1] + 0.13,
            rank[-1],
            f"{name}  {value[-1]:.1f} %",
            ha="left",
            va="center",
            fontsize=10,
            weight="bold" if far else "normal",
        )
        coloured += far
    ax.set_xticks(x, columns)
    ax.set(
        xlim=(-1.0, x[-1] + 1.3),
        ylim=(len(ranks) + 0.6, 0.4),
        yticks=[],
        title="The order of the methods, first place on top",
    )
    ax.xaxis.tick_top()
    ax.tick_params(axis="x", length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return fig


@styled
def draw_flips(bins: Sequence[str], shares: Mapping[str, Sequence[float]], pairs: Sequence[int]):
    """How often one run each picks the wrong winner of two methods, by the gap between the two
    methods' means.

    bins: words for the gaps.   shares: name -> a share (0 to 1) per bin.   pairs: the number of
    pairs of methods in each bin."""
    fig, ax = figure(width=9, height=3.6)
    x, width = np.arange(len(bins)), 0.8 / len(shares)
    for i, (name, values) in enumerate(shares.items()):
        at = x + width * (i - (len(shares) - 1) / 2)
        bars = ax.bar(
            at,
            100 * np.asarray(values),
            0.92 * width,
            color=(ORANGE, BLUE)[i % 2],
            hatch=("///", "")[i % 2],
            edgecolor="white",
            label=name,
        )
        ax.bar_label(bars, fmt="%.0f", fontsize=10, padding=2)
    ax.axhline(50, color=BLACK, linestyle="--", linewidth=1)
    ax.text(len(bins) - 0.52, 51, "a coin", ha="right", va="bottom", fontsize=10)
    ax.set_xticks(x, [f"{words}\n({count} pairs)" for words, count in zip(bins, pairs)])
    ax.set(
        ylim=(0, 60),
        xlabel="gap between the means of the two methods, points",
        ylabel="wrong winner, %",
        title="One run of each: how often does the worse method win?",
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.7, 0.78))
    return fig


@styled
def draw_pairs(
    baseline: Sequence[float],
    method: Sequence[float],
    names: tuple[str, str] = ("labels", "method"),
    confidence: float = 0.95,
):
    """Runs of two methods with the same seeds, joined in pairs (left); the interval of the gain
    with and without the pairs (right).

    baseline, method: accuracies in percent, one per seed, in the same order.
    """
    first, second = (np.asarray(v, float) for v in (baseline, method))
    fig, (left, right) = figure(1, 2, width=10, height=3.5, width_ratios=[1, 1.5])
    for i, pair in enumerate(zip(first, second)):
        left.plot(
            (0, 1),
            pair,
            color=CYCLE[i % 6],
            linestyle=DASHES[i % 6],
            marker=MARKERS[i % 6],
            markersize=8,
        )
    left.set_xticks((0, 1), names)
    left.set(xlim=(-0.35, 1.35), ylabel="test accuracy, %", title="A line per seed")
    gains = second - first
    rows = [
        ("every pair's own gain", None, None),
        ("paired", paired_intervals(gains, confidence), BLUE),
        ("unpaired", unpaired_interval(second, first, confidence), ORANGE),
    ]
    for y, (_name, interval, color) in enumerate(rows):
        if interval is None:
            for i, gain in enumerate(gains):
                right.plot(gain, y, MARKERS[i % 6], color=CYCLE[i % 6], markersize=9, alpha=0.85)
        else:
            low, high = map(float, interval)
            right.errorbar(
                gains.mean(),
                y,
                xerr=[[gains.mean() - low], [high - gains.mean()]],
                fmt="o",
                color=color,
                markersize=8,
                capsize=5,
                linewidth=2.4,
            )
            right.text(
                gains.mean(),
                y - 0.15,
                f"{low:+.2f} to {high:+.2f}".replace("-", "−"),
                ha="center",
                va="bottom",
                fontsize=10,
                bbox=dict(facecolor="white", edgecolor="none", pad=1),
            )
    right.axvline(0, color=BLACK, linestyle="--", linewidth=1.2)
    right.set_yticks(range(3), [r[0] for r in rows])
    right.set(
        ylim=(2.5, -0.6),
        xlabel=f"gain of {names[1]} over {names[0]}, points",
        title=f"{100 * confidence:g} % intervals from the same numbers",
    )
    return fig


@styled
def draw_coverage(
    low,
    high,
    truth: float,
    shares: Mapping[str, Sequence[float]],
    counts: Sequence[int],
    seeds: int,
    title: str = "",
):
    """Left: intervals of many repeated experiments around the true gain. Right: how often a gain is
    called clear, by the number of seeds.

    low, high: ends of the intervals (E,), drawn from bottom to top; those that miss the truth are
    thick.   shares: name -> share (0 to 1) for each of ``counts`` seeds; ``seeds`` is marked."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    fig, (left, right) = figure(1, 2, width=10.5, height=4.2, width_ratios=[1.25, 1])
    y, missed = np.arange(len(low)), (low > truth) | (high < truth)
    for which, color, wide, marker in ((~missed, BLUE, 1.3, "o"), (missed, CYCLE[5], 3, "s")):
        left.hlines(y[which], low[which], high[which], color=color, linewidth=wide)
        left.plot((low[which] + high[which]) / 2, y[which], marker, color=color, markersize=4)
    left.axvline(0, color=BLACK, linestyle="--", linewidth=1.2)
    left.axvline(truth, color=BLACK, linewidth=1.2)
    left.set(
        yticks=[],
        ylabel=f"{len(low)} experiments, {seeds} seeds each",
        xlabel="gain, points  (solid line: the truth, dashed: 0)",
        title=title,
    )
    edge = 1.1 * max(np.quantile(np.abs([low, high]), 0.97), abs(truth), 0.5)
    left.set_xlim(-edge, edge)
    left.legend(
        handles=[
            Line2D(
                [],
                [],
                color=BLUE,
                linewidth=1.3,
                marker="o",
                markersize=4,
                label="covers the truth",
            ),
            Line2D(
                [], [], color=CYCLE[5], linewidth=3, marker="s", markersize=4, label="misses it"
            ),
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=2,
    )
    for i, (name, values) in enumerate(shares.items()):
        right.plot(
            counts,
            100 * np.asarray(values),
            color=(BLUE, ORANGE)[i % 2],
            linestyle=DASHES[i],
            marker=MARKERS[i],
            markersize=5,
            label=name,
        )
    right.axvline(seeds, color=BLACK, linestyle=":", linewidth=1.4)
    right.axhline(5, color="0.5", linewidth=1)
    right.text(max(counts), 6, "5 %", ha="right", va="bottom", fontsize=9.5, color="0.35")
    right.set(
        ylim=(0, 104),
        xlabel="seeds (dotted: yours)",
        ylabel="called clear, %",
        title="How often is it called clear?",
    )
    right.set_xticks(sorted({min(counts), 5, 10, 15, max(counts)}))
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    return fig


@styled
def draw_alarms(alarms: Mapping[str, Sequence[int]], methods: int, seeds: int):
    """How many of ``methods`` methods that change nothing are called clear: a histogram over
    repeated experiments.

    alarms: name of a rule -> number of false alarms in each experiment.
    """
    fig, ax = figure(width=9, height=3.5)
    top = max(4, int(np.quantile(np.concatenate([np.asarray(v) for v in alarms.values()]), 0.995)))
    x, width = np.arange(top + 1), 0.84 / len(alarms)
    for i, (name, values) in enumerate(alarms.items()):
        values = np.minimum(np.asarray(values), top)
        shares = 100 * np.bincount(values, minlength=top + 1) / len(values)
        bars = ax.bar(
            x + width * (i - (len(alarms) - 1) / 2),
            shares,
            0.92 * width,
            color=(ORANGE, BLUE)[i % 2],
            hatch=("///", "")[i % 2],
            edgecolor="white",
            label=f"{name}: at least one in {100 * np.mean(values > 0):.0f} % of experiments",
        )
        ax.bar_label(
            bars, [f"{s:.0f}" if s >= 0.5 else "" for s in shares], fontsize=9.5, padding=2
        )
    ax.set_xticks(x, [*map(str, x[:-1]), f"{top} or more"])
    ax.set(
        ylim=(0, 112),
        xlabel=f"false alarms among {methods} methods",
        ylabel="experiments, %",
        title=f"{methods} methods that change nothing, {seeds} seeds each",
    )
    ax.legend(loc="upper right")
    return fig


def _signed(gain: float) -> str:
    """+1.2, −0.3, 0.0"""
    return "0.0" if abs(gain) < 0.05 else f"{gain:+.1f}".replace("-", "−")


@styled
def draw_published(
    tables: Mapping[str, pd.DataFrame],
    ours: pd.DataFrame,
    title: str = "ours",
    limit: float = 3.0,
    floor: float = -10.0,
):
    """Published gains over the baseline, as numbers on colours, and measured ones beside them
    (filled: clear; hollow: not).

    tables: title -> gains in points, a row per method and a column per network, the same methods in
    each.   ours: a row per method, columns gain, low, high; methods that it lacks stay empty.
    limit: gains beyond it have the strongest colour.   floor: intervals that reach below it are cut
    off there, at an arrow."""
    first = next(iter(tables.values()))
    methods, widths = list(first.index), [t.shape[1] for t in tables.values()]
    fig, axes = figure(
        1,
        len(tables) + 1,
        width=12.5,
        height=0.36 * len(methods) + 2.2,
        width_ratios=[*widths, 5.5],
    )
    for ax, (name, table) in zip(axes, tables.items()):
        image = ax.imshow(table.loc[methods], cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
        for (row, column), gain in np.ndenumerate(table.loc[methods].to_numpy(float)):
            ax.text(
                column,
                row,
                _signed(gain),
                ha="center",
                va="center",
                fontsize=9,
                color="white" if abs(gain) > 0.72 * limit else BLACK,
            )
        ax.set_xticks(
            range(table.shape[1]),
            table.columns,
            rotation=60,
            ha="right",
            rotation_mode="anchor",
            fontsize=9.5,
        )
        ax.set(title=name, yticks=range(len(methods)), yticklabels=methods if ax is axes[0] else [])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.grid(False)
    fig.colorbar(
        image,
        ax=list(axes[:-1]),
        location="bottom",
        shrink=0.4,
        aspect=40,
        extend="both",
        label="gain, points (orange: worse)",
    )
    right, shown = axes[-1], ours.reindex(methods)
    y, (gain, low, high) = (
        np.arange(len(methods)),
        (shown[c].to_numpy(float) for c in ("gain", "low", "high")),
    )
    clear, known = (low > 0) | (high < 0), np.isfinite(gain)
    left = floor if (known & (np.minimum(gain, low) < floor)).any() else None
    for which, face in ((known & clear, BLACK), (known & ~clear, "white")):
        right.errorbar(
            gain[which],
            y[which],
            xerr=[(gain - low)[which], (high - gain)[which]],
            fmt="o",
            color=BLACK,
            ecolor="0.45",
            markerfacecolor=face,
            markersize=5,
            capsize=3,
            linewidth=1.4,
        )
    beyond = known & (low < floor)
    right.plot(
        np.full(beyond.sum(), floor),
        y[beyond],
        marker=CARETLEFT,
        linestyle="",
        color="0.45",
        markersize=9,
    )
    right.axvline(0, color=BLACK, linestyle="--", linewidth=1.2)
    right.set(
        ylim=(len(methods) - 0.5, -0.5),
        yticks=y,
        yticklabels=methods,
        xlabel="gain, points",
        title=title,
    )
    right.set_xlim(left=left)
    right.tick_params(axis="y", length=0)
    return fig
