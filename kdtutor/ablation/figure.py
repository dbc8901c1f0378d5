"""Figures of the ablation bench: gains over the baseline with their intervals."""

import numpy as np
import pandas as pd

from ..display.style import BLACK, BLUE, ORANGE, figure, styled

# words, colour, marker, its face, does the interval leave out 0?
KINDS = (
    ("interval leaves out 0: clear", BLUE, "o", BLUE, True),
    ("interval includes 0", ORANGE, "s", "white", False),
)


@styled
def draw_gains(table: pd.DataFrame, columns: int = 3):
    """Each method's gain over the baseline, with its confidence interval, in a panel per setting.

    Filled round marks: the interval leaves out 0; a mark without an interval has fewer than two
    seeds.

    Args:
        table: As ``Results.table`` gives it: rows by setting and method, columns gain, low, high,
            clear, seeds.
        columns: The most panels side by side.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: Where no method has a gain.
    """
    flat = table.reset_index()
    flat = flat[flat["gain"].notna()]
    if not len(flat):
        raise ValueError(
            "no method has a gain: the grid needs the baseline, CrossEntropy, with the same seeds."
        )
    settings = [c for c in table.index.names if c and c != "method"]
    panels = list(flat.groupby(settings, sort=False, dropna=False)) if settings else [((), flat)]
    methods = list(dict.fromkeys(flat["method"]))[::-1]
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    fig, axes = figure(
        rows,
        columns,
        width=3.3 * columns + 2.2,
        height=rows * (0.36 * len(methods) + 0.75) + 0.75,
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    for ax, (key, part) in zip(axes.flat, panels):
        part = part.set_index("method").reindex(methods)
        y = np.arange(len(methods))
        ax.axvline(0, color=BLACK, linestyle="--", linewidth=1.2)
        for words, color, marker, face, clear in KINDS:
            here = np.array(
                [not pd.isna(value) and bool(value) == clear for value in part["clear"]]
            )
            gain, low, high = (part[c].to_numpy(float)[here] for c in ("gain", "low", "high"))
            spread = np.nan_to_num(np.array([gain - low, high - gain]))
            ax.errorbar(
                gain,
                y[here],
                xerr=spread,
                fmt=marker,
                color=color,
                markerfacecolor=face,
                markersize=7,
                capsize=3,
                linewidth=1.8,
                label=words,
            )
        ax.set(
            yticks=y,
            yticklabels=methods,
            ylim=(-0.6, len(methods) - 0.4),
            title=", ".join(
                f"{name} {value:g}" if isinstance(value, float) else f"{value}"
                for name, value in zip(settings, key)
            )
            or "all runs",
        )
        ax.tick_params(axis="y", length=0)
    for ax in axes[-1]:
        unit = table.attrs.get("unit", " (% points)")
        ax.set_xlabel("gain over labels" + (", points" if unit else ""))
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    seeds = sorted({int(n) for n in flat.get("pairs", flat["seeds"])})
    fig.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        fontsize=10,
        title_fontsize=10,
        title="paired intervals over "
        f"{' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds",
    )
    return fig
