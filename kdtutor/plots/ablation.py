"""Figures of the ablation bench: gains over the baseline with their intervals."""

import numpy as np
import pandas as pd

from .style import BLACK, BLUE, ORANGE, figure, styled


@styled
def draw_gains(table: pd.DataFrame, columns: int = 3):
    """Each method's gain over the baseline, with its confidence interval, in a panel per setting.

    table: as ``Results.table`` gives it: rows by setting and method, columns gain, low, high, clear, seeds. Filled marks: the interval
    leaves out 0. Raises ``ValueError`` where no method has a gain.
    """
    flat = table.reset_index()
    flat = flat[flat["gain"].notna()]
    if not len(flat):
        raise ValueError("no method has a gain: the grid needs the baseline, CrossEntropy, with the same seeds.")
    settings = [c for c in table.index.names if c and c != "method"]
    panels = list(flat.groupby(settings, sort=False, dropna=False)) if settings else [((), flat)]
    methods = list(dict.fromkeys(flat["method"]))[::-1]
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    fig, axes = figure(rows, columns, width=3.4 * columns + 1, height=rows * (0.34 * len(methods) + 1.1), squeeze=False, sharex=True,
                       sharey=True)
    for ax, (key, part) in zip(axes.flat, panels):
        part = part.set_index("method").reindex(methods)
        y = np.arange(len(methods))
        ax.axvline(0, color=BLACK, linestyle="--", linewidth=1.2)
        for color, marker, face, clear in ((BLUE, "o", BLUE, True), (ORANGE, "s", "white", False)):
            here = np.array([value is not None and value == clear for value in part["clear"]])
            gain, low, high = (part[c].to_numpy(float)[here] for c in ("gain", "low", "high"))
            spread = np.nan_to_num(np.array([gain - low, high - gain]))
            ax.errorbar(gain, y[here], xerr=spread, fmt=marker, color=color, markerfacecolor=face, markersize=7, capsize=3, linewidth=1.6)
        ax.set(yticks=y, yticklabels=methods, title=", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{value}"
                                                              for name, value in zip(settings, key)) or "all runs")
    for ax in axes[-1]:
        ax.set_xlabel("gain over labels, points")
    for ax in axes.flat[len(panels):]:
        ax.set_axis_off()
    return fig
