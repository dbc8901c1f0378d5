"""Pictures of lesson 01: jittered images, the two losses, three networks' answers, ensembles,
biases and temperatures.
"""

import numpy as np
import torch
from torch import Tensor

from ...display.style import BLACK, BLUE, DASHES, GREEN, MARKERS, ORANGE, ROLE, SKY, figure, styled
from ...softening import distillation_kl, ensemble_targets, soften


def _picture(ax, image, title=""):
    ax.imshow(np.asarray(image).squeeze(), cmap="gray_r", interpolation="nearest", vmin=0, vmax=255)
    ax.set(xticks=(), yticks=(), title=title)
    ax.grid(False)
    ax.spines[:].set_visible(True)


def _answer(ax, p, classes, colour, label=None, title=""):
    """Bars of one soft answer; the true class is hatched, and shares of at least 5 % are written on
    top.
    """
    bars = ax.bar(list(classes), p, color=colour, edgecolor=BLACK, linewidth=0.8)
    if label is not None:
        bars[label].set(hatch="//", linewidth=2)
    for bar, v in zip(bars, p):
        if v >= 0.05:
            ax.annotate(
                f"{100 * v:.0f}",
                (bar.get_x() + bar.get_width() / 2, v),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
    ax.set(title=title, ylim=(0, 1.12))
    ax.grid(axis="x", visible=False)


@styled
def draw_jitter(image: Tensor, views: Tensor):
    """An image (1, H, W) beside K jittered views of it (K, 1, H, W), uint8."""
    fig, axes = figure(1, 1 + len(views), 9, 1.7)
    _picture(axes[0], image, "the image")
    for ax, view in zip(axes[1:], views):
        _picture(ax, view)
    axes[1].set_title("what the teacher may see instead").set_in_layout(False)
    return fig


@styled
def draw_loss_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    label: int,
    classes,
    temperature: float,
    kd_weight: float,
):
    """The answers that the two losses compare, and the losses: logits (C,), ce_weight = 1 -
    kd_weight.

    Left: the label beside the student's plain answer. Middle: teacher and student at the
    temperature. Right: the weighted terms, (1 - kd_weight) CE and kd_weight T² KL."""
    s, t = student_logits[None], teacher_logits[None]
    ce = (1 - kd_weight) * torch.nn.functional.cross_entropy(s, torch.tensor([label])).item()
    kd = kd_weight * distillation_kl(s, t, temperature).item()
    fig, (left, middle, right) = figure(1, 3, 10, 3.2, gridspec_kw={"width_ratios": (3, 3, 2)})
    x = np.arange(len(classes))
    one_hot = np.eye(len(classes))[label]
    for ax, first, second, names, title in (
        (left, one_hot, soften(s)[0], ("label", "student, T = 1"), "what CE compares"),
        (
            middle,
            soften(t, temperature)[0],
            soften(s, temperature)[0],
            ("teacher", "student"),
            f"what KL compares, T = {temperature:.3g}",
        ),
    ):
        ax.bar(
            x - 0.2,
            first,
            0.4,
            color=BLACK if names[0] == "label" else ROLE["teacher"],
            edgecolor=BLACK,
            label=names[0],
        )
        ax.bar(
            x + 0.2, second, 0.4, color=ROLE["student"], edgecolor=BLACK, hatch="..", label=names[1]
        )
        ax.set(
            xticks=x,
            xticklabels=list(classes),
            ylim=(0, 1.3),
            yticks=np.arange(0, 1.1, 0.25),
            title=title,
        )
        ax.legend(loc="upper left", ncols=2, fontsize=9, columnspacing=1, handlelength=1.2)
        ax.grid(axis="x", visible=False)
    bars = right.bar(
        ["label\nterm", "soft\nterm", "sum"],
        [ce, kd, ce + kd],
        color=[BLACK, ORANGE, SKY],
        edgecolor=BLACK,
    )
    bars[1].set_hatch("//")
    right.bar_label(bars, fmt="%.3g", fontsize=10, padding=2)
    right.set(title="the weighted loss", ylim=(0, max(1e-9, 1.2 * (ce + kd))))
    right.grid(axis="x", visible=False)
    return fig


@styled
def draw_history(frames: dict):
    """The loss per epoch of several runs, each on an axis of its own because the losses have
    different units.

    frames: {name: History.frame()}, at most three.
    """
    fig, axes = figure(1, len(frames), 9, 2.8, squeeze=False)
    for ax, (name, frame), colour, dash in zip(
        axes[0], frames.items(), (ORANGE, BLUE, GREEN), DASHES
    ):
        ax.plot(frame["epoch"], frame["loss"], color=colour, linestyle=dash)
        ax.set(title=name, xlabel="epoch", yscale="log")
    axes[0, 0].set_ylabel("training loss (log scale)")
    return fig


@styled
def draw_errors(errors: dict, published: dict, total: int):
    """Test errors of several networks, one dot per seed and a bar for the mean, beside the
    published counts.

    errors: {name: (S,) counts out of ``total``}.   published: {name: count out of 10,000}.
    """
    fig, (ours, theirs) = figure(
        1, 2, 9, 3.4, gridspec_kw={"width_ratios": (max(2, len(errors)), len(published))}
    )
    colours = [ROLE["teacher"], ROLE["student"], ROLE["distilled"], SKY, SKY]
    hatches = ("", "..", "//", "xx", "++")
    for i, (_name, counts) in enumerate(errors.items()):
        ours.bar(
            i,
            np.mean(counts),
            0.65,
            color=colours[i % 5],
            edgecolor=BLACK,
            hatch=hatches[i % 5],
            alpha=0.85,
        )
        ours.plot(
            i + np.linspace(-0.2, 0.2, len(counts)),
            counts,
            "o",
            color="white",
            markeredgecolor=BLACK,
            markersize=6,
        )
    ours.set(
        xticks=range(len(errors)),
        title="here: dots are seeds, bars their mean",
        ylabel=f"errors of {total} test images",
    )
    ours.set_xticklabels(
        [n.replace(", ", ",\n").replace(" from ", "\nfrom ") for n in errors], fontsize=9
    )
    for i, (_name, count) in enumerate(published.items()):
        bar = theirs.bar(
            i, count, 0.65, color=colours[i], edgecolor=BLACK, hatch=hatches[i], alpha=0.85
        )
        theirs.bar_label(bar, padding=2)
    theirs.set(
        xticks=range(len(published)),
        title="published: MNIST, 2015",
        ylabel="errors of 10,000",
        ylim=(0, 1.12 * max(published.values())),
    )
    theirs.set_xticklabels([n.replace(" ", "\n") for n in published], fontsize=9)
    for ax in (ours, theirs):
        ax.grid(axis="x", visible=False)
    return fig


@styled
def draw_three_views(image: Tensor, logits: dict, label: int, classes, temperature: float):
    """One image and what several networks say about it at a temperature. logits: {name: (C,)}; the
    true class is hatched.
    """
    fig, axes = figure(
        1, 1 + len(logits), 10, 2.9, gridspec_kw={"width_ratios": [1.1] + [1.6] * len(logits)}
    )
    _picture(axes[0], image, f"label {classes[label]}")
    for ax, (name, z), colour in zip(
        axes[1:], logits.items(), (ROLE["teacher"], ROLE["student"], ROLE["distilled"])
    ):
        _answer(ax, soften(z, temperature).numpy(), classes, colour, label, name)
    axes[1].set_ylabel(f"share at T = {temperature:.3g}; numbers in %", fontsize=9)
    return fig


@styled
def draw_means(member_logits: Tensor, classes, temperature: float = 1.0):
    """M members' answers to one image, (M, C) logits, and their arithmetic and geometric mean."""
    members = soften(member_logits, temperature).numpy()
    fig, axes = figure(1, len(members) + 2, 10, 2.7, sharey=True)
    for m, (ax, p) in enumerate(zip(axes, members), start=1):
        _answer(ax, p, classes, ORANGE, title=f"teacher {m}")
    for ax, mean, colour in zip(axes[-2:], ("arithmetic", "geometric"), (SKY, GREEN)):
        _answer(
            ax,
            ensemble_targets(member_logits[:, None], temperature, mean)[0].numpy(),
            classes,
            colour,
            title=mean,
        )
    axes[0].set_ylabel("probability")
    return fig


def bias_counts(
    logits: Tensor, labels: Tensor, omitted: int, biases
) -> tuple[np.ndarray, np.ndarray]:
    """Errors when each bias is added to one class's logit: logits (S, N, C) -> (S, K) of all
    images, (S, K) of that class's.
    """
    wrong = []
    for bias in biases:
        z = logits.clone()
        z[..., omitted] += bias
        wrong.append((z.argmax(-1) != labels).numpy())
    wrong = np.stack(wrong, 1)
    return wrong.sum(-1), wrong[..., labels.numpy() == omitted].sum(-1)


@styled
def draw_bias(biases, errors, omitted, bias: float, name: str):
    """Errors against the bias that is added to one class. errors, omitted: (S, K) counts for K
    biases, of all test images and of the omitted class alone; lines are means over S seeds, bands
    their range; a vertical line marks ``bias``.
    """
    fig, ax = figure(1, 1, 9, 3.2)
    for counts, colour, dash, label in (
        (np.asarray(errors), BLUE, "-", "all test images"),
        (np.asarray(omitted), ORANGE, "--", f"images of a {name} only"),
    ):
        ax.plot(biases, counts.mean(0), color=colour, linestyle=dash, label=label)
        ax.fill_between(biases, counts.min(0), counts.max(0), color=colour, alpha=0.2, linewidth=0)
    at = int(np.abs(np.asarray(biases) - bias).argmin())
    ax.axvline(bias, ymax=0.7, color=BLACK, linestyle=":")
    ax.plot([biases[at]] * 2, [np.mean(errors, 0)[at], np.mean(omitted, 0)[at]], "o", color=BLACK)
    ax.annotate(
        f"bias {bias:+.2g}: {np.mean(errors, 0)[at]:.1f} errors, {np.mean(omitted, 0)[at]:.1f} of "
        f"them on a {name}",
        (0.99, 0.93),
        xycoords="axes fraction",
        ha="right",
    )
    ax.set(
        xlabel=f"added to the logit of class {name}",
        ylabel="errors",
        ylim=(0, 1.45 * np.max(errors)),
    )
    ax.legend(loc="upper left")
    return fig


@styled
def draw_temperatures(temperatures, errors: dict, ylabel: str):
    """Errors against the temperature, one line per size of student. errors: {name: (S, K) counts};
    bands are ± one std.
    """
    fig, ax = figure(1, 1, 9, 3.2)
    for (name, counts), colour, dash, marker in zip(
        errors.items(), (BLUE, ORANGE, GREEN), DASHES, MARKERS
    ):
        mean, std = np.mean(counts, 0), np.std(counts, 0, ddof=1)
        ax.plot(temperatures, mean, color=colour, linestyle=dash, marker=marker, label=name)
        ax.fill_between(temperatures, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
    ax.set(xscale="log", xticks=temperatures, xlabel="temperature T (log scale)", ylabel=ylabel)
    ax.set_xticklabels([f"{t:g}" for t in temperatures])
    ax.minorticks_off()
    ax.legend()
    return fig
