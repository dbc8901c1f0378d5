"""Figures of lesson 05: what a layer holds, and what FitNet, FSP, AB and Jacobian matching take
from it.

Every function draws from given numbers only: nothing is trained or loaded here. S counts seeds, C
channels, (H, W) places."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter

from ...display.style import BLUE, CYCLE, DASHES, MAP, MARKERS, ORANGE, ROLE, figure, styled

SIGNED = "PuOr"  # two-sided colour map that colour-blind readers can tell apart


def _array(values) -> np.ndarray:
    return np.asarray(values, dtype=float)


def _bare(ax) -> None:
    """A picture without ticks and grid, in a thin frame."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, color="0.6", linewidth=0.8)


@styled
def draw_maps(
    image, rows: Mapping[str, object], first: int = 0, count: int = 6, shared: bool = False
):
    """Feature maps beside the image they answer, a row per network and a column per channel.

    image: (H, W).   rows: words -> (C, h, w) features.   first, count: which channels; ``first``
    moves down where there are too few. shared: one colour scale for all rows, else one per row,
    from 0 or the smallest value shown to the largest."""
    rows = {name: _array(maps) for name, maps in rows.items()}
    count = min([count, *map(len, rows.values())])
    first = min([first, *(len(maps) - count for maps in rows.values())])
    shown = {name: maps[first : first + count] for name, maps in rows.items()}
    fig = plt.figure(figsize=(10.5, 0.6 + 1.5 * len(rows)))
    grid = fig.add_gridspec(len(rows), 1 + count, width_ratios=[1.5] + [1] * count)
    ax = fig.add_subplot(grid[:, 0])
    ax.imshow(_array(image), cmap="gray_r")
    ax.set_title("image", loc="center")
    _bare(ax)
    for r, (name, maps) in enumerate(shown.items()):
        scale = list(shown.values()) if shared else [maps]
        limits = dict(
            vmin=min(0.0, *(m.min() for m in scale)), vmax=max(1e-6, *(m.max() for m in scale))
        )
        axes = [fig.add_subplot(grid[r, 1 + c]) for c in range(count)]
        for c, ax in enumerate(axes):
            picture = ax.imshow(maps[c], cmap=MAP, **limits)
            _bare(ax)
            if r == 0:
                ax.set_title(f"channel {first + c}", loc="center", fontsize=10, fontweight="normal")
        axes[0].set_ylabel(name, fontsize=10)
        fig.colorbar(picture, ax=axes, aspect=9, pad=0.015).ax.tick_params(labelsize=9)
    plt.close(fig)
    return fig


@styled
def draw_hint_stage(losses: Mapping[str, object], dead: Mapping[str, Sequence[int]], units: int):
    """FitNet's first stage at several rates: the hint loss over the epochs (left), the units that
    ended dead (right).

    losses: words -> (S, E).   dead: the same words -> S counts of units that are 0 for every image.
    units: how many there are."""
    fig, (left, right) = figure(1, 2, width=10.5, height=3.9, width_ratios=[1.35, 1])
    for i, (name, values) in enumerate(losses.items()):
        values = np.atleast_2d(_array(values))
        epochs = range(1, values.shape[1] + 1)
        left.fill_between(
            epochs, values.min(0), values.max(0), color=CYCLE[i], alpha=0.2, linewidth=0
        )
        left.plot(
            epochs,
            values.mean(0),
            color=CYCLE[i],
            linestyle=DASHES[i],
            marker=MARKERS[i],
            markersize=5,
            markevery=max(1, len(epochs) // 8),
            label=name,
        )
        counts = _array(dead[name])
        right.barh(i, counts.mean(), color=CYCLE[i], alpha=0.35, height=0.75)
        right.plot(
            counts,
            i + np.linspace(-0.16, 0.16, len(counts)),
            linestyle="",
            marker=MARKERS[i],
            color=CYCLE[i],
            markersize=7,
        )
    left.set(
        yscale="log",
        xlabel="epoch of the first stage",
        ylabel="hint loss (log scale)",
        title="The hint loss",
    )
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend(fontsize=9.5, loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2)
    right.set_yticks(range(len(dead)), dead, fontsize=9.5)
    right.set(
        xlim=(-0.02 * units, 1.02 * units),
        xlabel=f"dead units, of {units}",
        title="Dead at the end",
    )
    right.invert_yaxis()
    return fig


@styled
def draw_flows(matrices: Mapping[str, object], first: str, second: str):
    """FSP matrices side by side: words -> (m, n). One colour scale, which ends at the first
    matrix's largest entry.

    first, second: names of the two layers whose channels are the rows and the columns.
    """
    matrices = {name: _array(m) for name, m in matrices.items()}
    top = max(1e-6, next(iter(matrices.values())).max())
    fig, axes = figure(1, len(matrices), width=10.5, height=2.9, sharey=True, squeeze=False)
    for ax, (name, matrix) in zip(axes[0], matrices.items()):
        shown = ax.imshow(
            matrix,
            cmap=MAP,
            vmin=min(0.0, *(m.min() for m in matrices.values())),
            vmax=top,
            aspect="auto",
        )
        ax.set(xlabel=f"channel of {second}", title=name)
        ax.grid(False)
    axes[0, 0].yaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel(f"channel of {first}")
    above = any(m.max() > top for m in matrices.values())
    fig.colorbar(
        shown, ax=axes, label="entry of G", extend="max" if above else "neither", aspect=14
    )
    return fig


@styled
def draw_hinge(margin: float = 1.0, value: float = 0.5, response: float = 3.0):
    """AB's loss of one neuron against the student's value, for a teacher's neuron that fires (left)
    and one that is silent (right).

    margin: where the loss ends, on the teacher's side.   value: the student's, marked by a star.
    response: the firing teacher's value, whose squared distance is drawn beside for comparison
    (-response where it is silent)."""
    fig, axes = figure(1, 2, width=10.5, height=3.7, sharey=True)
    s = np.linspace(-4, 4, 401)
    for ax, side, title in zip(
        axes, (1, -1), ("Teacher fires: go right of +margin", "Teacher silent: go left of −margin")
    ):
        hinge = lambda v: np.maximum(margin - side * np.asarray(v), 0) ** 2
        ax.axvspan(*sorted((0, -4 * side)), color="0.92", linewidth=0)
        ax.plot(
            s,
            (s - side * response) ** 2,
            color=ORANGE,
            linestyle="--",
            label=f"squared distance to {side * response:g}".replace("-", "−"),
        )
        ax.plot(s, hinge(s), color=BLUE, linewidth=2.5, label="AB loss")
        ax.axvline(
            side * margin,
            color=ROLE["label"],
            linestyle=":",
            label=f"margin: {side * margin:+.2g}".replace("-", "−"),
        )
        ax.plot(
            value,
            hinge(value),
            "*",
            color=BLUE,
            markersize=17,
            markeredgecolor=ROLE["label"],
            label=f"this neuron: loss {hinge(value):.2f}",
        )
        ax.text(-2 * side, 14.6, "wrong side", ha="center", va="top", fontsize=10)
        ax.set(
            xlim=(-4, 4), ylim=(-0.6, 15.5), xlabel="student's value before its ReLU", title=title
        )
        ax.legend(fontsize=9.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    axes[0].set_ylabel("loss of one neuron")
    return fig


@styled
def draw_agreement(shares: Mapping[str, Mapping[str, Sequence[float]]]):
    """How many neurons decide as the teacher's do: {"before": {layer: S shares}, "after": ...},
    shares in [0, 1]; a dot per seed.
    """
    fig, ax = figure(width=9, height=3.6)
    offsets = np.linspace(-0.26, 0.26, len(shares))
    for i, (words, layers) in enumerate(shares.items()):
        for place, values in enumerate(map(_array, layers.values())):
            at = place + offsets[i]
            ax.plot([at - 0.11, at + 0.11], [values.mean()] * 2, color=ROLE["label"], linewidth=2)
            ax.plot(
                at + np.linspace(-0.06, 0.06, len(values)),
                values,
                linestyle="",
                marker=MARKERS[i],
                color=CYCLE[i],
                markersize=7,
                label=words if place == 0 else None,
            )
    names = list(next(iter(shares.values())))
    ax.set_xticks(range(len(names)), names)
    ax.axhline(0.5, color=ROLE["label"], linestyle="--", linewidth=1, label="a coin: 50%")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(ylim=(None, 1), ylabel="same decision as the teacher", title="Do the same neurons fire?")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def draw_jacobians(images, jacobians: Mapping[str, object]):
    """Derivatives with respect to the pixels as pictures, each divided by its length; above each,
    its cosine with the first row's.

    images: (K, H, W).   jacobians: words -> (K, H, W), the teacher's first. Orange: more ink there
    lowers the response; purple: raises it."""
    unit = {
        name: j / np.sqrt((j**2).sum((1, 2), keepdims=True)).clip(1e-30)
        for name, j in zip(jacobians, map(_array, jacobians.values()))
    }
    teacher, reach = next(iter(unit.values())), max(np.abs(j).max() for j in unit.values())
    fig, axes = figure(
        1 + len(unit), len(images), width=8.6, height=1.45 * (1 + len(unit)), squeeze=False
    )
    for k, image in enumerate(images):
        axes[0, k].imshow(_array(image), cmap="gray_r")
        for r, j in enumerate(unit.values(), start=1):
            shown = axes[r, k].imshow(j[k], cmap=SIGNED, vmin=-reach, vmax=reach)
            if r > 1:
                axes[r, k].set_title(
                    f"cos = {(j[k] * teacher[k]).sum():.2f}".replace("-", "−"),
                    loc="center",
                    fontsize=9.5,
                    fontweight="normal",
                )
    for ax in axes.flat:
        _bare(ax)
    for ax, name in zip(axes[:, 0], ["image", *unit]):
        ax.set_ylabel(name, fontsize=10)
    fig.colorbar(shown, ax=axes[1:], label="derivative, length 1", aspect=25, pad=0.02)
    return fig


@styled
def draw_comparison(ours: Mapping[str, Sequence[float]], published: Mapping[str, Sequence[float]]):
    """Change of the test error against distillation of answers (KD), in % points: a dot per run, a
    bar at the mean; below 0 is better.

    ours: method -> one difference per seed.   published: method -> one difference per pair of
    networks."""
    ours, published = (
        {name: _array(table[name]) for name in table} for table in (ours, published)
    )  # mappings, or frames
    fig, axes = figure(
        1, 2, width=10.5, height=3.8, width_ratios=[len(ours), max(3, len(published))]
    )
    for ax, groups, title in zip(
        axes,
        (ours, published),
        ("Here: digits, a dot per seed", "Published: a dot per network pair"),
    ):
        for i, values in enumerate(groups.values()):
            ax.plot(
                i + np.linspace(-0.2, 0.2, len(values)),
                values,
                linestyle="",
                marker=MARKERS[i],
                color=CYCLE[i],
                alpha=0.8,
                markersize=7,
            )
            ax.plot([i - 0.32, i + 0.32], [values.mean()] * 2, color=ROLE["label"], linewidth=2.5)
        ax.axhline(0, color=ROLE["label"], linestyle="--", linewidth=1)
        ax.set_xticks(range(len(groups)), groups, fontsize=9.5)
        ax.set(xlim=(-0.6, len(groups) - 0.4), ylabel="change in error, % points", title=title)
    return fig
