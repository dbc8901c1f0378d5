"""Figures of lesson 08: networks that learn together, and the branches and the gate of a native
ensemble.

Every function draws from given numbers only: nothing is trained or loaded here. S counts seeds, M
branches, C classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from ...display.style import BLUE, CYCLE, DASHES, GREEN, MARKERS, ORANGE, ROLE, figure, styled
from ...softening import soften

NAMES = ("A", "B")


def _bands(
    ax,
    x: Sequence[float],
    curves: Mapping[str, object],
    reach: tuple[float, float] = (0, 100),
    every: int = 1,
) -> None:
    """A line through the mean of each (S, len(x)) array, and a band between two percentiles of the
    S values.
    """
    for i, (name, values) in enumerate(curves.items()):
        values = np.atleast_2d(np.asarray(values, dtype=float))
        ax.fill_between(
            x, *np.percentile(values, reach, axis=0), color=CYCLE[i], alpha=0.18, linewidth=0
        )
        ax.plot(
            x,
            values.mean(0),
            color=CYCLE[i],
            linestyle=DASHES[i],
            marker=MARKERS[i],
            markersize=6,
            markevery=every,
            label=name,
        )


def mutual_pulls(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of KL(second || first), two answers (C,) > 0, by the logits of the first and,
    if nobody forbids it, of the second.
    """
    log_ratio = (second / first).log()
    return first - second, second * (log_ratio - (second * log_ratio).sum())


@styled
def draw_pull(first: Tensor, second: Tensor, label: int, classes: Sequence[str]):
    """Answers of networks A and B to one image, and how A's mutual term KL(p_B || p_A) would change
    the logits of each.

    first, second: probabilities (C,), all > 0, of A and of B.   label: the right class, marked with
    a star. Middle: the step that A takes, minus its gradient.   Right, hatched: the step that B
    would take too if its answer were not a constant."""
    fig, axes = figure(1, 3, width=10.5, height=3.6, width_ratios=[1.25, 1, 1])
    x, names = (
        np.arange(len(first)),
        [f"{c} ★" if i == label else str(c) for i, c in enumerate(classes)],
    )
    for shift, p, name, color in zip((-0.2, 0.2), (first, second), NAMES, (BLUE, ORANGE)):
        axes[0].bar(
            x + shift,
            p.numpy(),
            0.38,
            color=color,
            hatch="" if name == "A" else "...",
            edgecolor="white",
            label=f"network {name}",
        )
    axes[0].set(ylim=(0, 1.05), ylabel="probability", title="Answers")
    axes[0].legend(loc="upper right", ncols=2, columnspacing=1, handlelength=1.4)
    titles = "What A's loss does to A", "… to B, if not detached"
    for ax, gradient, title, color, hatch in zip(
        axes[1:], mutual_pulls(first, second), titles, (BLUE, ORANGE), ("", "///")
    ):
        ax.bar(x, -gradient.numpy(), 0.6, color=color, hatch=hatch, edgecolor="white")
        ax.axhline(0, color=ROLE["label"], linewidth=0.8)
        ax.set(ylim=(-1.05, 1.05), title=title)
    axes[1].set_ylabel("logit: down ←  step  → up", fontsize=9.5)
    for ax in axes:
        ax.set_xticks(x, names)
    return fig


@styled
def draw_cohorts(sizes: Sequence[int], saved: Mapping[str, object]):
    """Test errors saved against the number of networks K: means, with bars from the worst to the
    best seed; above 0 is better.

    saved: name -> (S, len(sizes)), the errors of one network that was trained apart minus those of
    the rival, seed by seed."""
    fig, ax = figure(width=9.5, height=3.7)
    for i, (name, values) in enumerate(saved.items()):
        values = np.atleast_2d(np.asarray(values, dtype=float))
        mean, x = values.mean(0), np.asarray(sizes) + 0.07 * (i - 1)
        ax.errorbar(
            x,
            mean,
            [mean - values.min(0), values.max(0) - mean],
            color=CYCLE[i],
            linestyle=DASHES[i],
            marker=MARKERS[i],
            markersize=7,
            capsize=4,
            elinewidth=1,
            label=name,
        )
    ax.axhline(0, color=ROLE["label"], linestyle="--", linewidth=1)
    ax.set_xticks(sizes)
    ax.set(
        xlabel="number of networks K",
        ylabel="test errors saved",
        title="Compared with one network that trained apart",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def draw_lives(epochs: Sequence[int], panels: Mapping[str, Mapping[str, object]]):
    """Curves over the epochs of training, on logarithmic axes, so that late gaps show as well as
    early ones.

    panels: title -> {name of the curve: (S, len(epochs)), all > 0}; one panel each, one legend for
    all."""
    fig, axes = figure(1, len(panels), width=10.5, height=3.7, squeeze=False)
    for ax, (title, curves) in zip(axes[0], panels.items()):
        _bands(ax, epochs, curves, every=max(1, len(epochs) // 6))
        ax.set(title=title, xlabel="epoch", yscale="log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


@styled
def draw_flatness(sizes: Sequence[float], losses: Mapping[str, object]):
    """Training loss after noise on all weights, against the noise's size. losses: name -> (S,
    len(sizes)).
    """
    fig, ax = figure(width=8.5, height=3.4)
    _bands(ax, sizes, losses)
    ax.set(
        xlabel="noise: standard deviation added to every weight",
        ylabel="training loss",
        title="How flat is the ground?",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def draw_one(trunk: int, branch: int, gate: int, branches: int = 3):
    """ONE as a diagram: one trunk, ``branches`` upper halves, a gate. trunk, branch, gate: their
    numbers of parameters.

    Blue: what is deployed. Orange: what only training needs. Solid arrows carry images' features,
    dashed ones the ensemble's answer."""
    fig, ax = figure(width=10.5, height=4.6)
    ax.set(xlim=(0, 10.5), ylim=(0, 4.6))
    ax.set_axis_off()
    heights = np.linspace(4.0, 2.2, branches)

    def box(x, y, w, h, words, color, kept=False):
        ax.add_patch(
            FancyBboxPatch(
                (x - w / 2, y - h / 2),
                w,
                h,
                boxstyle="round,pad=0.06",
                facecolor=color if kept else "white",
                edgecolor=color,
                linewidth=2,
                linestyle="-" if kept else "--",
                zorder=2,
            )
        )
        ax.text(
            x,
            y,
            words,
            ha="center",
            va="center",
            fontsize=10,
            color="white" if kept else ROLE["label"],
            zorder=3,
        )

    def arrow(start, end, color=ROLE["label"], bend=0.0, dashed=False):
        ax.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=14,
                color=color,
                linewidth=1.6,
                zorder=1,
                linestyle="--" if dashed else "-",
                connectionstyle=f"arc3,rad={bend}",
            )
        )

    middle = heights.mean()
    ax.text(0.42, middle, "image", ha="center", va="center", fontsize=11)
    box(2.15, middle, 1.7, 1.0, f"trunk\n{trunk:,} parameters", BLUE, kept=True)
    arrow((0.85, middle), (1.2, middle))
    for i, y in enumerate(heights):
        box(
            4.95,
            y,
            2.0,
            0.62,
            f"branch {i + 1}\n{branch:,} parameters",
            BLUE if i == 0 else ORANGE,
            kept=i == 0,
        )
        arrow((3.08, middle), (3.85, y))
        ax.text(6.45, y, f"$z_{i + 1}$", ha="center", va="center", fontsize=13)
        arrow((6.05, y), (6.27, y))
        arrow((6.65, y), (7.55, middle + 0.18 * (branches - 1) / 2 - 0.18 * i))
    box(4.95, 1.0, 2.0, 0.62, f"gate\n{gate:,} parameters", ORANGE)
    arrow((2.15, middle - 0.6), (3.85, 1.0), bend=0.25)
    ax.text(7.1, 1.0, f"$g_1 … g_{branches}$, sum 1", ha="center", va="center", fontsize=12)
    arrow((6.05, 1.0), (6.3, 1.0))
    arrow((7.85, 1.05), (8.5, middle - 0.5), bend=0.25)
    box(8.55, middle, 1.75, 0.8, "ensemble\n$z_e = \\sum_i g_i z_i$", ORANGE)
    for i, y in enumerate(heights):
        arrow((8.55, middle + 0.5), (6.5, y + 0.2), GREEN, bend=0.3 + 0.1 * i, dashed=True)
    ax.text(
        8.5,
        4.35,
        "teaches every branch,\nas a constant",
        ha="left",
        va="center",
        fontsize=10.5,
        color=GREEN,
    )
    ax.text(
        0.05,
        0.1,
        "solid blue: deployed      dashed orange: for training only      every $z$ also learns "
        "from the label",
        fontsize=10,
    )
    return fig


@styled
def draw_gate(
    branch_logits: Tensor,
    gate: Tensor,
    label: int,
    trust: float = 1.0,
    image=None,
    classes: Sequence[str] | None = None,
):
    """One image: the branches' weights (left) and answers (right), and the ensemble's answer with
    these weights.

    branch_logits: (M, C).   gate: (M,), sum 1.   trust: the weights are gate^trust, divided by
    their sum: 0 the plain mean, 1 the gate, above 1 ever more the gate's favourite.   image: (H,
    W), shown beside the bars."""
    names = list(classes or map(str, range(branch_logits.shape[1])))
    weights = soften(gate.clamp_min(1e-12).log() * trust)
    shown = image is not None
    fig, axes = figure(1, 2 + shown, width=10.5, height=3.7, width_ratios=[0.7] * shown + [1, 2.1])
    if shown:
        axes[0].imshow(np.asarray(image), cmap="gray_r")
        axes[0].set_title(f"label: {names[label]}", loc="center", fontsize=11)
        axes[0].set_axis_off()
    left, right = axes[-2:]
    count = len(gate)
    left.bar(
        range(count), weights.numpy(), color=[CYCLE[i % 6] for i in range(count)], edgecolor="white"
    )
    left.plot(
        range(count),
        gate.numpy(),
        "_",
        color=ROLE["label"],
        markersize=30,
        markeredgewidth=2,
        label="the gate's",
    )
    left.set_xticks(range(count), [f"branch {i + 1}" for i in range(count)])
    left.set(ylim=(0, 1.05), ylabel="weight", title=f"Weights, trust {trust:.3g}")
    left.legend(loc="upper right")
    x = np.arange(len(names))
    mixed = soften((weights[:, None] * branch_logits).sum(0))
    right.bar(x, mixed.numpy(), 0.8, color="0.8", edgecolor="0.5", label="ensemble")
    for i, p in enumerate(soften(branch_logits)):
        right.plot(
            x + 0.18 * (i - (count - 1) / 2),
            p.numpy(),
            MARKERS[i % 6],
            color=CYCLE[i % 6],
            markersize=7,
            label=f"branch {i + 1}",
        )
    right.set_xticks(x, [f"{n} ★" if i == label else n for i, n in enumerate(names)])
    right.set(
        ylim=(0, 1.05),
        xlabel="class",
        ylabel="probability",
        title=f"Answers: the ensemble says {names[int(mixed.argmax())]}",
    )
    right.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=count + 1,
        columnspacing=1,
        handletextpad=0.3,
    )
    return fig


@styled
def draw_best_of(counts: Sequence[int], errors: Mapping[str, object], images: int):
    """Errors of the best of K networks, chosen on one half of the test set. errors: name -> (draws,
    len(counts)); bands: middle half.
    """
    fig, ax = figure(width=9.5, height=3.6)
    _bands(ax, counts, errors, reach=(25, 75))
    ax.set_xticks(counts)
    ax.set(
        xlabel="networks to choose from, K",
        ylabel=f"errors of {images}",
        title="The best of K, chosen on the test set",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def draw_gains(
    ours: Mapping[str, Sequence[float]],
    published: Mapping[str, Mapping[str, tuple[float, float]]],
    single: int,
):
    """Gain over training on labels alone; above 0 is better.

    ours: method -> test errors saved, one per seed, a dot each with a bar at the mean; the first
    ``single`` methods deploy one network, the others several.   published: method -> {student:
    (gain in % points, standard deviation)}."""
    fig, (left, right) = figure(1, 2, width=11, height=4.4)
    for i, values in enumerate(ours.values()):
        values = np.asarray(values, dtype=float)
        places = i + np.linspace(-0.2, 0.2, len(values))
        left.plot(
            places,
            values,
            linestyle="",
            marker=MARKERS[i % 6],
            color=CYCLE[i % 6],
            alpha=0.75,
            markersize=6,
        )
        left.plot([i - 0.32, i + 0.32], [values.mean()] * 2, color=ROLE["label"], linewidth=2.5)
    left.axvline(single - 0.5, color="0.5", linestyle=":", linewidth=1.2)
    left.set_xticks(range(len(ours)), ours, fontsize=9)
    left.set(
        xlim=(-0.6, len(ours) - 0.4),
        ylabel="test errors saved",
        title="Here: one network  |  several networks",
    )
    for i, (method, rows) in enumerate(published.items()):
        gains, spread = np.array(list(rows.values()), dtype=float).T
        right.errorbar(
            np.arange(len(rows)) + 0.12 * (i - 1),
            gains,
            spread,
            color=CYCLE[i],
            linestyle="",
            marker=MARKERS[i],
            capsize=3,
            markersize=6,
            label=method,
        )
        students = list(rows)
    right.set_xticks(range(len(students)), students, rotation=40, ha="right", fontsize=9)
    right.set(ylabel="% points of accuracy gained", title="Published: CIFAR-10, eight students")
    right.legend(loc="lower right")
    for ax in (left, right):
        ax.axhline(0, color=ROLE["label"], linestyle="--", linewidth=1)
    return fig
