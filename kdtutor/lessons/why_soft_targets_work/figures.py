"""Figures of lesson 02: the gradient of a distillation loss, where it comes from and what it is
worth.

Every function draws from given numbers only: nothing is trained or loaded here. S counts seeds, N
examples, C classes."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from ...display.style import BLUE, CYCLE, DASHES, MAP, MARKERS, ORANGE, ROLE, figure, styled
from ...softening.gradients import (
    distillation_gradient,
    label_gradient,
    matching_gradient,
    split_gradient,
    wrong_share,
)

GRID = (1, 2, 4, 8, 16, 32, 64, 128)  # temperatures
LABEL_PART = dict(color=ORANGE, hatch="///", edgecolor="white", linewidth=0.8)
WRONG_PART = dict(color=BLUE, edgecolor="white", linewidth=0.8)


def _lines(ax, x: Sequence[float], curves: Mapping[str, object], first: int = 0) -> None:
    """A line through the mean of each (S, len(x)) array, and a band from the smallest to the
    largest seed.
    """
    for i, (name, values) in enumerate(curves.items(), start=first):
        values = np.atleast_2d(np.asarray(values, dtype=float))
        ax.fill_between(x, values.min(0), values.max(0), color=CYCLE[i], alpha=0.2, linewidth=0)
        ax.plot(
            x,
            values.mean(0),
            color=CYCLE[i],
            linestyle=DASHES[i],
            marker=MARKERS[i],
            markersize=6,
            label=name,
        )


def _temperature_axis(ax, temperatures: Sequence[float]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
    ax.set_xlabel("temperature T")


@styled
def draw_noise(epochs: Sequence[int], same: Mapping[str, object], own: Mapping[str, object]):
    """How much the examples' gradients disagree while a student learns, a line per kind of target.

    epochs: (E,) of training behind the student.   same, own: name of the target -> (S, E) values of
    ``noise_to_signal``, measured at students that learned from labels (left) and at students that
    learned from that very target (right)."""
    fig, axes = figure(1, 2, width=10, height=4, sharey=True)
    for ax, noise, title in zip(
        axes,
        (same, own),
        ("All at the same, label-trained student", "Each at a student trained on it"),
    ):
        _lines(ax, range(len(epochs)), noise)
        ax.set_xticks(range(len(epochs)), epochs)
        ax.set(yscale="log", xlabel="epochs of training behind the student", title=title)
    axes[0].set_ylabel("noise / signal")
    axes[0].legend(title="target", loc="upper left")
    return fig


@styled
def draw_limit(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    temperatures: Sequence[float] = GRID,
):
    """The distillation gradient (with T^2) beside its high-temperature limit, matching the logits.

    student_logits, teacher_logits: (S, N, C).   Left: each entry of the first seed's gradients at
    ``temperature`` against the limit's; on the diagonal they agree.   Right: the relative error ||g
    - limit|| / ||limit|| over all entries, against T."""
    limit = matching_gradient(student_logits, teacher_logits)
    error = lambda t: (
        (distillation_gradient(student_logits, teacher_logits, t) - limit).norm(dim=(1, 2))
        / limit.norm(dim=(1, 2))
    )
    errors, now = (
        np.stack([error(t).numpy() for t in temperatures], 1),
        float(error(temperature).mean()),
    )
    fig, (left, right) = figure(1, 2, width=9.5, height=3.9)
    few = student_logits[0, :60], teacher_logits[0, :60]
    x, y = limit[0, :60].flatten(), distillation_gradient(*few, temperature).flatten()
    # The frame covers every temperature, so that it stands still when T moves.
    end = 1.05 * max(float(distillation_gradient(*few, t).abs().max()) for t in temperatures)
    left.plot(
        [-end, end], [-end, end], color=ROLE["label"], linewidth=1, linestyle="--", label="equal"
    )
    left.plot(x.numpy(), y.numpy(), "o", color=BLUE, markersize=4, alpha=0.45, label="an entry")
    left.set(
        xlim=(-end, end),
        ylim=(-end, end),
        xlabel="logit matching: centred $(z_s - z_t)\\,/\\,C$",
        ylabel=r"$T\,(q^T - p^T)$",
        title=f"Gradient entries at T = {temperature:.3g}",
    )
    left.legend(loc="upper left")
    _lines(right, temperatures, {f"{len(errors)} seeds, mean and range": errors})
    guide = errors[:, -1].mean() * temperatures[-1] / np.asarray(temperatures, dtype=float)
    right.plot(
        temperatures,
        guide,
        color=ROLE["label"],
        linestyle=":",
        label="slope −1: half per doubling of T",
    )
    right.plot(
        temperature,
        now,
        "*",
        color=ORANGE,
        markersize=17,
        markeredgecolor=ROLE["label"],
        label=f"T = {temperature:.3g}: {now:.0%}",
    )
    _temperature_axis(right, temperatures)
    right.set(yscale="log", ylabel="relative error", title="Distance from the limit")
    right.legend(loc="lower left")
    return fig


@styled
def draw_scale(temperatures: Sequence[float], scaled, unscaled):
    """The mean norm of an example's gradient against T, with and without the factor T^2: two arrays
    (S, len(temperatures)).
    """
    fig, ax = figure(width=8.5, height=3.4)
    _lines(ax, temperatures, {"with T²": scaled, "without T²": unscaled})
    _temperature_axis(ax, temperatures)
    ax.set(yscale="log", ylabel="mean gradient norm", title="Why the loss is multiplied by T²")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def draw_gradient_anatomy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    label: int,
    temperature: float,
    image=None,
    classes: Sequence[str] | None = None,
):
    """One example's gradient, class by class, under the label (left) and under the teacher's answer
    at T (right).

    student_logits, teacher_logits: (C,).   label: the true class, whose bar is the label part
    (orange, hatched); all other bars are the wrong-answer part (blue).   image: (H, W), shown
    beside the bars.   A bar below 0: this logit will be pulled up."""
    y, names = torch.tensor([label]), list(classes or map(str, range(len(student_logits))))
    student, teacher = student_logits[None], teacher_logits[None]
    sides = {
        "Label: $q - y$": label_gradient(student, y),
        f"Teacher, T = {temperature:.3g}: $T\\,(q^T - p^T)$": distillation_gradient(
            student, teacher, temperature
        ),
    }
    shown = image is not None
    fig, axes = figure(1, 2 + shown, width=10.5, height=3.9, width_ratios=[0.7] * shown + [2, 2])
    if shown:
        axes[0].imshow(np.asarray(image), cmap="gray_r")
        axes[0].set_title(f"label: {names[label]}", loc="center", fontsize=11)
        axes[0].set_axis_off()
    reach = 1.15 * max(float(g.abs().max()) for g in sides.values()) or 1.0
    for ax, (title, gradient) in zip(axes[-2:], sides.items()):
        part, wrong = (p[0] for p in split_gradient(gradient, y))
        ax.bar(label, float(part[label]), **LABEL_PART, label=f"label part: size {part.norm():.2f}")
        ax.bar(
            range(len(names)),
            wrong.numpy(),
            **WRONG_PART,
            label=f"wrong answers: size {wrong.norm():.2f}",
        )
        ax.axhline(0, color=ROLE["label"], linewidth=0.8)
        ax.set_xticks(range(len(names)), names)
        ax.set(
            ylim=(-reach, reach),
            xlabel=f"class  (wrong answers' share: {wrong_share(gradient, y):.0%})",
            title=title,
        )
        ax.legend(
            fontsize=9.5,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncols=2,
            handlelength=1.4,
            columnspacing=1,
        )
    axes[-2].set_ylabel("pulled up ←  gradient  → pushed down", fontsize=9.5)
    return fig


@styled
def draw_wrong_share(
    temperatures: Sequence[float], shares: Mapping[str, object], classes: int = 10
):
    """The wrong answers' share of the squared gradient norm against T.

    shares: name of the student -> (S, 1 + len(temperatures)), the first column under the label, the
    others under the teacher at T. The dashed floor 1/C is where all wrong answers are pulled
    equally, so that nothing is said about *which*."""
    fig, ax = figure(width=9, height=3.6)
    x = np.arange(1 + len(temperatures))
    _lines(ax, x[1:], {name: np.asarray(v)[:, 1:] for name, v in shares.items()})
    for i, values in enumerate(np.asarray(v)[:, 0] for v in shares.values()):
        reach = [[values.mean() - values.min()], [values.max() - values.mean()]]
        ax.errorbar(
            0, values.mean(), reach, color=CYCLE[i], marker=MARKERS[i], markersize=6, capsize=4
        )
    ax.axhline(
        1 / classes,
        color=ROLE["label"],
        linestyle="--",
        linewidth=1,
        label=f"floor 1/C = {1 / classes:g}",
    )
    ax.set_xticks(x, ["label"] + [f"T={t:g}" for t in temperatures])
    ax.set(
        ylim=(0, None),
        ylabel="share of squared norm",
        title="How much of the gradient lies in the wrong answers",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def draw_weights(weights, images, captions: Sequence[str]):
    """Left: a histogram of CWTM's weights, (N,), relative to an equal share (1 = counts like the
    average example).

    Right: the images with the smallest weights, (K, H, W), each with its caption.
    """
    columns = (len(images) + 1) // 2
    fig = plt.figure(figsize=(10.5, 3.7))
    grid = fig.add_gridspec(2, 1 + columns, width_ratios=[0.62 * columns + 1] + [1] * columns)
    ax = fig.add_subplot(grid[:, 0])
    ax.hist(np.asarray(weights) * len(weights), bins=30, color=BLUE, edgecolor="white")
    ax.set(
        yscale="log",
        xlabel="weight × N  (1 = equal share)",
        ylabel="images (log scale)",
        title="How much an image counts",
    )
    for i, (image, caption) in enumerate(zip(images, captions)):
        small = fig.add_subplot(grid[i // columns, 1 + i % columns])
        small.imshow(np.asarray(image), cmap="gray_r")
        small.set_title(caption, fontsize=9.5, fontweight="normal", loc="center")
        small.set_axis_off()
    plt.close(fig)
    return fig


@styled
def draw_shuffle(before, after, classes: Sequence[str]):
    """The teacher's mean answer for each true class, (C, C) with rows that sum to 1, before and
    after the wrong answers are shuffled.

    The diagonal is grey, so that colour shows the wrong answers alone; both pictures share one
    scale."""
    from matplotlib.ticker import PercentFormatter

    hidden = [
        np.where(np.eye(len(classes), dtype=bool), np.nan, np.asarray(m, dtype=float))
        for m in (before, after)
    ]
    fig, axes = figure(1, 2, width=9.5, height=4.2)
    for ax, matrix, title in zip(
        axes, hidden, ("The teacher's wrong answers", "After the shuffle")
    ):
        shown = ax.imshow(matrix, cmap=MAP, vmin=0, vmax=np.nanmax(hidden))
        ax.set_xticks(range(len(classes)), classes)
        ax.set_yticks(range(len(classes)), classes)
        ax.set(xlabel="wrong answer", ylabel="true class", title=title)
        ax.set_facecolor("0.88")
        ax.grid(False)
    fig.colorbar(
        shown,
        ax=axes,
        label="mean probability",
        shrink=0.85,
        format=PercentFormatter(1, decimals=0),
    )
    return fig


@styled
def draw_comparison(ours: Mapping[str, Sequence[float]], published: Mapping[str, Sequence[float]]):
    """Change of the test error against training on labels: a dot per run, a bar at the mean; below
    0 is better.

    ours: method -> differences in test errors, one per seed.   published: method -> differences in
    % points, one per network."""
    fig, axes = figure(1, 2, width=10.5, height=3.8)
    for ax, groups, unit, title in zip(
        axes,
        (ours, published),
        ("test errors", "% points of error"),
        ("Here: digits, a dot per seed", "Published: CIFAR-100, a dot per network"),
    ):
        for i, values in enumerate(groups.values()):
            values = np.asarray(values, dtype=float)
            places = i + np.linspace(-0.2, 0.2, len(values))
            ax.plot(
                places,
                values,
                linestyle="",
                marker=MARKERS[i % 6],
                color=CYCLE[i % 6],
                alpha=0.75,
                markersize=6,
            )
            ax.plot([i - 0.32, i + 0.32], [values.mean()] * 2, color=ROLE["label"], linewidth=2.5)
        ax.axhline(0, color=ROLE["label"], linestyle="--", linewidth=1)
        ax.set_xticks(range(len(groups)), groups, fontsize=9.5)
        ax.set(xlim=(-0.6, len(groups) - 0.4), ylabel=f"change in {unit}", title=title)
    return fig
