"""Figures of lesson 03: generations of students like their teachers, their answers, their
ensembles, their agreement.

Every function draws from given numbers only. S counts seeds, G generations (the teacher is number
0), M members, C classes. Errors are in percent of the test images, changes in percentage points.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...display.style import BLUE, CYCLE, DASHES, MAP, MARKERS, ORANGE, ROLE, figure, styled

GENERATIONS = ("Teacher", "BAN-1", "BAN-2", "BAN-3")
SHARES = ("the wrong label it was given", "the true class", "another class")  # of draw_memory


def _spread(ax, x, values, i: int, label: str) -> None:
    """The mean of each column of (S, len(x)) as line i of the cycle, with one standard deviation up
    and down.
    """
    std = values.std(0, ddof=1) if len(values) > 1 else 0
    ax.errorbar(
        x,
        values.mean(0),
        std,
        color=CYCLE[i],
        linestyle=DASHES[i],
        marker=MARKERS[i],
        markersize=7,
        capsize=4,
        label=label,
    )


def _dots(ax, i: int, values, style: int) -> None:
    """A dot per value around place i, and a bar at their mean."""
    values = np.asarray(values, dtype=float)
    ax.plot(
        i + np.linspace(-0.2, 0.2, len(values)),
        values,
        linestyle="",
        marker=MARKERS[style],
        color=CYCLE[style],
        alpha=0.8,
    )
    ax.plot([i - 0.33, i + 0.33], [np.nanmean(values)] * 2, color=ROLE["label"], linewidth=2.5)


def _below(ax, height: float = -0.12) -> None:
    """A legend under the axes."""
    ax.legend(
        fontsize=9.5,
        loc="upper center",
        bbox_to_anchor=(0.5, height),
        ncols=2,
        handlelength=2.4,
        columnspacing=1,
    )


@styled
def draw_chains(
    ours: Mapping[str, object],
    published: Mapping[str, Sequence[float]],
    names: Sequence[str] = GENERATIONS,
):
    """Test error from generation to generation: a panel per training set, and one for the published
    networks.

    ours: training set -> (S, G) errors, drawn as a thin line per seed and the mean with its
    standard deviation. published: network -> G errors, NaN where the paper gives none.   names: of
    the G generations."""
    fig, axes = figure(1, len(ours) + 1, width=11, height=3.9)
    x = np.arange(len(names))
    for ax, (title, errors) in zip(axes, ours.items()):
        errors = np.asarray(errors, dtype=float)
        ax.plot(
            x, errors.T, color="0.72", linewidth=1, label=["one seed"] + ["_"] * (len(errors) - 1)
        )
        _spread(ax, x, errors, 0, "mean ± std")
        ax.set_title(f"Here: {title}")
    for i, (network, errors) in enumerate(published.items()):
        axes[-1].plot(
            x,
            errors,
            color=CYCLE[i],
            linestyle=DASHES[i],
            marker=MARKERS[i],
            markersize=6,
            label=network,
        )
    axes[-1].set_title("Published: CIFAR-100")
    for ax in axes:
        ax.set_xticks(x, names, fontsize=10)
        ax.set_xlim(-0.3, len(names) - 0.7)
        _below(ax)
    axes[0].set_ylabel("test error, %")
    return fig


@styled
def draw_memory(shares, names: Sequence[str] = GENERATIONS):
    """What each generation answers for training images whose label is wrong: three bars per
    generation, with std over seeds.

    shares: (S, G, 3) in percent, in the order of ``SHARES``: the given (wrong) label, the true
    class, another class."""
    shares = np.asarray(shares, dtype=float)
    fig, ax = figure(width=9.5, height=3.6)
    for i, (what, color, hatch) in enumerate(
        zip(SHARES, (ORANGE, BLUE, "0.75"), ("///", "", ".."))
    ):
        mean, std = shares[..., i].mean(0), shares[..., i].std(0, ddof=1) if len(shares) > 1 else 0
        ax.bar(
            np.arange(len(names)) + 0.27 * (i - 1),
            mean,
            0.25,
            yerr=std,
            capsize=3,
            color=color,
            hatch=hatch,
            edgecolor="white",
            ecolor=ROLE["label"],
            label=what,
        )
    ax.set_xticks(range(len(names)), names)
    ax.set(
        ylim=(0, 105),
        ylabel="% of these images",
        title="Training images with a wrong label: what does a network answer?",
    )
    ax.legend(title="answer", loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def draw_answer(
    probs,
    generation: int,
    image,
    true: int,
    given: int | None = None,
    classes: Sequence[str] | None = None,
    names: Sequence[str] = GENERATIONS,
):
    """One image: a generation's answer as bars, and how the probability of one class or two moves
    through the generations.

    probs: (G, C) softmaxes.   image: (H, W).   true: the class of the image.   given: the label it
    was trained with, if it was."""
    probs = np.asarray(probs, dtype=float)
    classes = list(classes or map(str, range(probs.shape[1])))
    mistaken = given is not None and given != true
    fig, (picture, bars, lines) = figure(1, 3, width=11, height=3.7, width_ratios=[0.75, 2, 1.6])
    picture.imshow(np.asarray(image), cmap="gray_r")
    picture.set_title(
        f"a {classes[true]}" + (f",\nlabelled {classes[given]}" if mistaken else ""),
        loc="center",
        fontsize=11,
    )
    picture.set_axis_off()
    roles = [(true, BLUE, "", "true class")] + [(given, ORANGE, "///", "given label")] * mistaken
    drawn = bars.bar(range(len(classes)), probs[generation], color="0.75", edgecolor="white")
    for (c, color, hatch, label), i in zip(roles, (0, 1)):
        drawn[c].set(facecolor=color, hatch=hatch)
        lines.plot(
            probs[:, c],
            color=color,
            linestyle=DASHES[i],
            marker=MARKERS[i],
            markersize=7,
            label=f"{label}: {classes[c]}",
        )
        lines.plot(
            generation,
            probs[generation, c],
            "o",
            color="none",
            markeredgecolor=ROLE["label"],
            markersize=15,
        )
    bars.set_xticks(range(len(classes)), classes)
    bars.set(
        ylim=(0, 1.02), xlabel="class", ylabel="probability", title=f"{names[generation]}'s answer"
    )
    lines.set_xticks(range(len(names)), names, fontsize=10)
    lines.set(ylim=(-0.05, 1.08), xlim=(-0.35, len(names) - 0.65), title="Through the generations")
    _below(lines)
    return fig


@styled
def draw_changes(panels: Mapping[str, Mapping[str, Sequence[float]]], noise: Mapping[str, float]):
    """Change of the error against the teacher, a dot per run and a bar at the mean; below 0 is
    better.

    panels: title -> {method: changes}.   noise: title -> half the height of the grey band, how far
    two runs of one and the same procedure differ: a mean inside it is no more than what a new seed
    does to a single run."""
    fig, axes = figure(1, len(panels), width=11, height=4)
    for ax, (title, groups) in zip(np.atleast_1d(axes), panels.items()):
        ax.axhspan(
            -noise[title],
            noise[title],
            color="0.9",
            label=f"same procedure, new seed: ±{noise[title]:.2f}",
        )
        ax.axhline(0, color=ROLE["label"], linestyle="--", linewidth=1)
        for i, values in enumerate(groups.values()):
            _dots(ax, i, values, i % 6)
        ax.set_xticks(range(len(groups)), groups, fontsize=9.5)
        ax.set(xlim=(-0.6, len(groups) - 0.4), title=title)
        _below(ax, -0.17)
    np.atleast_1d(axes)[0].set_ylabel("change in error, points")
    return fig


@styled
def draw_ensembles(curves: Mapping[str, tuple], members: int):
    """Error against the number of members, generations beside independent networks; and their
    paired difference at one number.

    curves: training set -> (generations (S, M), independent (S, M or more)) errors, column m - 1
    for m members.   members: 1..M, marked in the curves; on the right each seed's generations minus
    its independent networks at that number: below 0 generations win."""
    fig, axes = figure(
        1, len(curves) + 1, width=11, height=4, width_ratios=[1.2] * len(curves) + [1]
    )
    *panels, last = axes
    longest, reach = max(np.shape(v)[1] for pair in curves.values() for v in pair), 0.0
    for i, (ax, (title, pair)) in enumerate(zip(panels, curves.items())):
        pair = [np.asarray(v, dtype=float) for v in pair]
        for j, (values, kind) in enumerate(
            zip(pair, ("generations BAN-1, -2, …", "independent networks"))
        ):
            _spread(ax, np.arange(1, values.shape[1] + 1) + 0.05 * (2 * j - 1), values, j, kind)
        ax.axvspan(members - 0.25, members + 0.25, color="0.9", zorder=0)
        ax.set_xticks(range(1, longest + 1))
        ax.set(xlim=(0.6, longest + 0.4), xlabel="members of the ensemble", title=f"Here: {title}")
        ax.legend(fontsize=9.5, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        shared = min(v.shape[1] for v in pair)
        difference = pair[0][:, :shared] - pair[1][:, :shared]
        reach = max(reach, np.abs(difference).max())
        _dots(last, i, difference[:, members - 1], 2 + i)
    last.axhline(0, color=ROLE["label"], linestyle="--", linewidth=1)
    last.set_xticks(range(len(curves)), curves)
    last.set(
        xlim=(-0.6, len(curves) - 0.4),
        ylim=(-1.15 * reach - 0.01, 1.15 * reach + 0.01),
        xlabel="generations − independent, points",
        title=f"{members} member{'s' * (members > 1)} each",
    )
    panels[0].set_ylabel("test error, %")
    return fig


@styled
def draw_agreement(panels: Mapping[str, object], names: Sequence[str] = GENERATIONS):
    """Matrices (G, G) of how often two networks give the same first answer, in percent, with one
    colour scale.

    panels: title -> matrix; the numbers are written into the cells, and a NaN (a network with
    itself) is a grey cell."""
    panels = {title: np.asarray(m, dtype=float) for title, m in panels.items()}
    low, high = np.nanmin(list(panels.values())), np.nanmax(list(panels.values()))
    fig, axes = figure(1, len(panels), width=9.5, height=4)
    for ax, (title, matrix) in zip(np.atleast_1d(axes), panels.items()):
        shown = ax.imshow(matrix, cmap=MAP, vmin=low, vmax=high)
        for (row, column), value in np.ndenumerate(matrix):
            if not np.isnan(value):
                color = "white" if value - low < 0.55 * (high - low) else "black"
                ax.text(column, row, f"{value:.1f}", ha="center", va="center", color=color)
        ax.set_xticks(range(len(names)), names, fontsize=10)
        ax.set_yticks(range(len(names)), names, fontsize=10)
        ax.set(title=title, facecolor="0.88")
        ax.grid(False)
    fig.colorbar(shown, ax=axes, label="% of images with the same answer", shrink=0.85)
    return fig
