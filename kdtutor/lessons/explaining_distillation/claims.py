"""Figures of lesson 10, drawn from tables: who agrees with the paper's claims, and which method's
cells lie on the parts that decide.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ...concepts import report
from ...display.style import BLACK, CYCLE, MAP, MARKERS, figure, styled

METRICS = {
    "n_fg": "N$_{fg}$",
    "n_bg": "N$_{bg}$",
    "lambda": "λ",
    "d_mean": "D$_{mean}$",
    "d_std": "D$_{std}$",
    "rho": "ρ",
}
CLAIMS = {
    m: "↑" if sign > 0 else "↓" for m, sign in report.METRICS.items()
}  # when distilled, as the paper has it


@styled
def draw_agreement(panels: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]):
    """How often the sign of (distilled - baseline) is the paper's claim.   panels: title -> (hits,
    trials), both with a row per kind of comparison and the six metrics as columns. An arrow beside
    the metric: the claim; dark: never, bright: always.
    """
    heights = [len(hits) for hits, _ in panels.values()]
    fig, axes = figure(
        1, len(panels), width=5.4 * len(panels), height=0.44 * max(heights) + 1.3, squeeze=False
    )
    for ax, (title, (hits, trials)) in zip(axes[0], panels.items()):
        hits, trials = hits[list(METRICS)], trials[list(METRICS)]
        share = (hits / trials.where(trials > 0)).to_numpy(float)
        ax.imshow(share, cmap=MAP, vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(share):
            words = "–" if np.isnan(value) else f"{int(hits.iat[i, j])}/{int(trials.iat[i, j])}"
            ax.text(
                j,
                i,
                words,
                ha="center",
                va="center",
                color="black" if value > 0.5 or np.isnan(value) else "white",
            )
        ax.set_xticks(range(len(METRICS)), [f"{METRICS[m]} {CLAIMS[m]}" for m in METRICS])
        ax.set_yticks(range(len(hits)), hits.index)
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.grid(False)
        ax.set_title(title, pad=28)
    return fig


@styled
def draw_parts(table: pd.DataFrame):
    """How well each method's cells find the known ones: a dot per run, a bar at the mean, chance as
    a dotted line.

    table: columns method, precision, recall, average_precision, a row per run; the row "chance" is
    drawn as the line."""
    columns = {
        "precision": "precision: found cells that\nlie on deciding parts",
        "recall": "recall: cells of deciding parts\nthat are found",
        "average_precision": "average precision\nof the ranking of all cells",
    }
    methods = [m for m in table["method"].unique() if m != "chance"]
    fig, axes = figure(1, 3, width=10.5, height=0.45 * len(methods) + 1.5, sharey=True)
    for ax, (column, words) in zip(axes, columns.items()):
        for i, method in enumerate(methods):
            values = table.loc[table["method"] == method, column].to_numpy(float)
            ax.plot(
                values,
                np.full(len(values), i),
                MARKERS[i % 6],
                color=CYCLE[i % 6],
                markersize=7,
                alpha=0.6,
                markeredgecolor="white",
            )
            ax.plot([np.nanmean(values)] * 2, [i - 0.32, i + 0.32], color=BLACK, linewidth=2.2)
        chance = table.loc[table["method"] == "chance", column].mean()
        if chance == chance:
            ax.axvline(chance, color=BLACK, linestyle=":", linewidth=1.5)
            ax.annotate(
                "chance",
                (chance, -0.62),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=9.5,
                va="center",
            )
        ax.set_title(words, fontsize=10.5, fontweight="normal")
        ax.set(xlim=(0, 1), ylim=(len(methods) - 0.5, -0.9))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.grid(False, axis="y")
        ax.set_yticks(range(len(methods)), methods)
    return fig
