"""Figures of lesson 09: wrong labels, what networks and teachers make of them, unequal classes, and
what distillation buys.

Every function draws from given numbers only: nothing is trained or loaded here. N counts images, S
seeds, C classes, E epochs."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ...display.style import (
    BLACK,
    BLUE,
    CYCLE,
    DASHES,
    GREEN,
    MAP,
    MARKERS,
    ORANGE,
    PURPLE,
    RED,
    ROLE,
    SKY,
    figure,
    styled,
)
from ...softening import soften

# A method looks the same in every panel of the lesson: colour, marker and dash.
LOOK = {
    "labels": (BLACK, "o", "-"),
    "Hinton": (BLUE, "s", "--"),
    "SP": (ORANGE, "^", "-."),
    "DML": (GREEN, "D", ":"),
    "RKD-DA": (PURPLE, "v", (0, (5, 1, 1, 1))),
    "SP, light": (RED, "<", (0, (3, 1))),
    "RKD-DA, light": (SKY, "P", (0, (1, 1))),
    "teacher": ("0.45", "x", (0, (4, 3))),
}


@styled
def draw_noisy_images(
    images: Tensor, given: Tensor, clean: Tensor, classes: Sequence[str], columns: int = 8
):
    """Images with the labels they were given; where that is wrong: a frame, a cross and the true
    label.

    images: (N, H, W).   given, clean: (N,) labels.
    """
    rows = -(-len(images) // columns)
    fig, axes = figure(rows, columns, width=1.22 * columns, height=1.8 * rows, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.set_visible(False)
    for ax, image, label, truth in zip(axes.flat, images, given.tolist(), clean.tolist()):
        ax.set_visible(True)
        ax.imshow(np.asarray(image), cmap="gray_r")
        wrong = label != truth
        for spine in ax.spines.values():
            spine.set(visible=wrong, color=RED, linewidth=3)
        ax.set_title(
            f"✗ “{classes[label]}”" if wrong else f"“{classes[label]}”",
            loc="center",
            color=RED if wrong else BLACK,
        )
        ax.set_xlabel(f"is a {classes[truth]}" if wrong else " ", color=BLACK)
    return fig


def transitions(given: Tensor, clean: Tensor, classes: int) -> np.ndarray:
    """(C, C): of the images of class i (row), the share labelled j (column)."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (clean.numpy(), given.numpy()), 1)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


@styled
def draw_transitions(given: Tensor, clean: Tensor, rate: float, classes: Sequence[str]):
    """The shares that were found (left) and that inclusive symmetric noise of this rate gives on
    average (right), in percent.
    """
    count = len(classes)
    expected = np.full((count, count), rate / count) + (1 - rate) * np.eye(count)
    fig, axes = figure(1, 2, width=10.5, height=4.6)
    for ax, matrix, title in zip(
        axes,
        (transitions(given, clean, count), expected),
        ("What happened", "What to expect on average"),
    ):
        ax.imshow(matrix, cmap=MAP, vmin=0, vmax=1)
        for (i, j), share in np.ndenumerate(matrix):
            ax.text(
                j,
                i,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if share < 0.55 else BLACK,
            )
        ax.set_xticks(range(count), classes)
        ax.set_yticks(range(count), classes)
        ax.grid(False)
        ax.set(xlabel="label in the training set", ylabel="true class", title=f"{title}, in %")
    return fig


@styled
def draw_memory(
    epochs: Sequence[int],
    panels: Mapping[str, Mapping[str, object]],
    limits: Mapping[str, float] | None = None,
    chosen: Mapping[str, Sequence[int]] | None = None,
):
    """Shares over the epochs of training: means over seeds, bands from the worst to the best seed.

    panels: title -> {network: (S, E) shares}.   limits: title -> a dotted line across that panel.
    chosen: network -> the epochs, one per seed, that were best on validation: ticks on the curves
    of the first panel."""
    fig, axes = figure(1, len(panels), width=11, height=3.9, squeeze=False, sharey=True)
    for k, (ax, (title, curves)) in enumerate(zip(axes[0], panels.items())):
        for i, (name, values) in enumerate(curves.items()):
            values = 100 * np.atleast_2d(np.asarray(values, float))
            ax.fill_between(
                epochs, values.min(0), values.max(0), color=CYCLE[i], alpha=0.18, linewidth=0
            )
            ax.plot(
                epochs,
                values.mean(0),
                color=CYCLE[i],
                linestyle=DASHES[i],
                marker=MARKERS[i],
                markersize=6,
                markevery=(i * 2, max(1, len(epochs) // 6)),
                label=name,
            )
            if k == 0 and chosen:
                at = np.asarray(chosen[name])
                ax.plot(
                    at,
                    [row[list(epochs).index(e)] for row, e in zip(values, at)],
                    "*",
                    color=CYCLE[i],
                    markersize=15,
                    markeredgecolor="white",
                    label=f"{name}: best on validation",
                )
        if limits and title in limits:
            ax.axhline(100 * limits[title], color=BLACK, linestyle=":", linewidth=1.5)
        ax.set(title=title, xlabel="epoch", ylim=(-3, 103))
    axes[0, 0].set_ylabel("%")
    fig.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2 * len(curves)
    )
    return fig


def wanted(
    given: Tensor, logits: Tensor, temperature: float, weight: float, steps: int = 30
) -> Tensor:
    """The answer (N, C) that the loss (1 - weight) * CE + weight * T^2 * KL asks for on each image:
    its minimum, by Newton's method.

    given: (N,) labels.   logits: (N, C) of the teacher. At T = 1 it is the mixture (1 - weight) *
    one-hot + weight * softmax(logits). weight 0 is taken as 0.001, whose minimum is finite."""
    w, T = max(float(weight), 1e-3), float(temperature)
    taught = soften(logits.double(), T)
    z = soften(logits.double()).clamp_min(1e-4).log()
    hard = one_hot(given, logits.shape[1])
    for _ in range(steps):
        p, q = soften(z), soften(z, T)
        gradient = (1 - w) * (p - hard) + w * T * (q - taught)
        curve = sum(
            a * (torch.diag_embed(v) - v[:, :, None] * v[:, None]) for a, v in ((1 - w, p), (w, q))
        )
        step = torch.linalg.solve(curve + 1e-6 * torch.eye(z.shape[1]), gradient[..., None])[..., 0]
        z = z - step * (
            3 / step.abs().amax(1, keepdim=True).clamp_min(3)
        )  # no logit moves by more than 3 at once
    return soften(z).float()


@styled
def draw_target(
    images: Tensor,
    given: Tensor,
    clean: Tensor,
    logits: Tensor,
    example: int,
    temperature: float,
    weight: float,
    classes: Sequence[str],
):
    """The answer that label and teacher together ask for: for one wrongly labelled image, and over
    all of these, its largest entry.

    images: (N, H, W), given, clean: (N,) labels, logits: (N, C) of the teacher: of wrongly labelled
    training images only. example: which of the N.   weight: the teacher's share, 0 to 1. ★ the true
    class, ✗ the wrong label."""
    fig, (picture, bars, share) = figure(1, 3, width=11, height=4.1, width_ratios=[0.7, 1.6, 1.25])
    label, truth = int(given[example]), int(clean[example])
    picture.imshow(np.asarray(images[example]), cmap="gray_r")
    picture.set_title(
        f"labelled {classes[label]}, is a {classes[truth]}", loc="center", fontsize=11
    )
    picture.set_axis_off()
    x, one = np.arange(len(classes)), slice(example, example + 1)
    bars.bar(
        x,
        wanted(given[one], logits[one], temperature, weight)[0].numpy(),
        color=ROLE["distilled"],
        edgecolor="white",
        label="asked for",
    )
    bars.plot(
        x,
        soften(logits[example]).numpy(),
        "s",
        color=ROLE["teacher"],
        markeredgecolor="white",
        markersize=8,
        label="teacher's answer",
    )
    bars.set_xticks(
        x,
        [
            f"{c}\n★" if i == truth else f"{c}\n✗" if i == label else f"{c}\n"
            for i, c in enumerate(classes)
        ],
    )
    bars.set(
        ylim=(0, 1.05),
        ylabel="probability",
        title=f"T = {temperature:.3g}, teacher's weight {weight:.2f}",
    )
    bars.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=9.5)
    weights = np.linspace(0, 1, 21)
    top = [wanted(given, logits, temperature, w).argmax(1) for w in weights]
    for name, goal, (color, dash) in (
        ("★ true class", clean, (BLUE, "-")),
        ("✗ wrong label", given, (RED, "--")),
    ):
        share.plot(
            weights,
            [100 * float((t == goal).double().mean()) for t in top],
            color=color,
            linestyle=dash,
            label=name,
        )
    share.axvline(weight, color=BLACK, linestyle=":", linewidth=1.5)
    share.set(
        ylim=(-3, 103),
        xlabel="weight of the teacher",
        ylabel=f"% of {len(given)} images",
        title="Largest entry asked for",
    )
    share.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=9.5)
    return fig


def _series(table: pd.DataFrame):
    """(name, its look, clean teacher?, rows) of a table with rate, method, mean, std and perhaps
    teacher_sees.
    """
    table = table.assign(teacher_sees=table.get("teacher_sees", "same"))
    for (method, sees), rows in table.groupby(["method", "teacher_sees"], sort=False):
        if sees == "clean":  # without noise there is one teacher only
            same = table[(table["method"] == method) & (table["teacher_sees"] == "same")]
            rows = pd.concat(
                [same[~same["rate"].isin(table[table["teacher_sees"] == "clean"]["rate"])], rows]
            )
        yield (
            method if sees != "clean" else f"{method}, clean teacher",
            LOOK[method],
            sees == "clean",
            rows.sort_values("rate"),
        )


@styled
def draw_rates(
    panels: Mapping[str, pd.DataFrame], xlabel: str = "label noise: share of labels redrawn"
):
    """Accuracy over the rate of corruption, a panel per table, a line per method; bars: ± one
    standard deviation.

    panels: title -> rows with rate, method (one of ``LOOK``), mean, std in % and perhaps
    teacher_sees: hollow marks are taught by a teacher that saw clean data."""
    fig, axes = figure(1, len(panels), width=11, height=4.9, squeeze=False)
    shown = {}
    for ax, (title, table) in zip(axes[0], panels.items()):
        series = list(_series(table))
        step = 0.012 * (table["rate"].max() - table["rate"].min())
        for k, (name, (color, marker, dash), clean, rows) in enumerate(series):
            x = rows["rate"].to_numpy(float) + step * (k - (len(series) - 1) / 2)
            shown[name] = ax.errorbar(
                x,
                rows["mean"],
                rows["std"].fillna(0),
                color=color,
                marker=marker,
                linestyle=dash,
                markersize=7,
                capsize=3,
                elinewidth=1,
                markerfacecolor="white" if clean else color,
                alpha=0.75 if clean else 1,
            )
        ax.set_xticks(sorted(table["rate"].unique()))
        ax.set(title=title, xlabel=xlabel)
    axes[0, 0].set_ylabel("test accuracy, %")
    fig.legend(shown.values(), shown, loc="outside lower center", ncols=4)
    return fig


@styled
def draw_counts(counts: Mapping[str, Sequence[int]], classes: Sequence[str]):
    """How many training images each class keeps, a line per name, on a logarithmic axis; the first
    line's numbers stand below.
    """
    fig, ax = figure(width=9.5, height=3.7)
    for i, (name, values) in enumerate(counts.items()):
        ax.plot(
            range(len(classes)),
            values,
            color=CYCLE[i % 6],
            linestyle=DASHES[i % 6],
            marker=MARKERS[i % 6],
            markersize=7,
            label=f"{name}: {sum(values)} images",
        )
    for x, n in enumerate(next(iter(counts.values()))):
        ax.text(
            x,
            0.03,
            str(n),
            transform=ax.get_xaxis_transform(),
            ha="center",
            fontsize=9.5,
            color=CYCLE[0],
        )
    low = min(map(min, counts.values()))
    ax.set_xticks(range(len(classes)), classes)
    ax.set(
        yscale="log",
        xlim=(-0.7, len(classes) - 0.5),
        ylim=(0.5 * low, None),
        xlabel="class",
        ylabel="training images",
        title="Images per class",
    )
    ax.yaxis.set_major_formatter("{x:g}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def draw_recall(
    counts: Sequence[int],
    recalls: Mapping[str, object],
    classes: Sequence[str],
    title: str = "Recall of each class",
):
    """The share of each class's test images that is found: mean over seeds, bars from the worst to
    the best seed.

    counts: training images per class.   recalls: method -> (S, C) shares; ", clean teacher" after a
    method makes its marks hollow."""
    fig, ax = figure(width=10.5, height=4.2)
    for i, (name, values) in enumerate(recalls.items()):
        values = 100 * np.atleast_2d(np.asarray(values, float))
        mean, x = values.mean(0), np.arange(len(counts)) + 0.15 * (i - (len(recalls) - 1) / 2)
        color, marker, _ = LOOK[name.removesuffix(", clean teacher")]
        ax.errorbar(
            x,
            mean,
            np.maximum([mean - values.min(0), values.max(0) - mean], 0),
            color=color,
            marker=marker,
            linestyle="",
            capsize=3,
            markersize=7,
            elinewidth=1,
            markerfacecolor="white" if name.endswith("clean teacher") else color,
            label=name,
        )
    for x in range(1, len(counts)):
        ax.axvline(x - 0.5, color="0.85", linewidth=1)
    ax.set_xticks(range(len(counts)), [f"{c}\n({n})" for c, n in zip(classes, counts)])
    ax.grid(False, axis="x")
    ax.set(
        xlabel="class (training images)",
        ylabel="found, %",
        title=title,
        xlim=(-0.5, len(counts) - 0.5),
    )
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=len(recalls))
    return fig
