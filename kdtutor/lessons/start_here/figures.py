"""Charts of the first lesson: softened answers, and what they tell beyond the label.

``python -m kdtutor.lessons.start_here.figures notebooks/images/overview.png`` trains a teacher and
a student, and redraws the README's picture from their answers."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch

from ...display.style import BLACK, BLUE, DASHES, MARKERS, ORANGE, RED, ROLE, SKY, figure, styled
from ...softening import soften


def class_answers(logits, labels, temperature: float = 1.0):
    """The mean soft answer for the images of each true class: logits (N, C), labels (N,) -> (C, C),
    row c for class c.

    Rows sum to 1; a class without images gives a row of NaN.
    """
    probabilities = soften(logits, temperature)
    return torch.stack([probabilities[labels == c].mean(0) for c in range(logits.shape[-1])])


def _bars(ax, heights, names, colour, hatched=None):
    """Upright bars; the hatched one carries the label."""
    bars = ax.bar(names, heights, color=colour, edgecolor=BLACK, linewidth=0.8)
    if hatched is not None:
        bars[hatched].set(hatch="//", linewidth=2.0)
    ax.grid(axis="x", visible=False)
    return bars


def _percent(p) -> str:
    return "<1" if p < 0.005 else f"{100 * p:.0f}"


def _picture(ax, image, title):
    """A grey image, (1, H, W) or (H, W), ink dark on light paper."""
    ax.imshow(np.asarray(image).squeeze(), cmap="gray_r", interpolation="nearest")
    ax.set(xticks=(), yticks=(), title=title)
    ax.grid(False)
    ax.spines[:].set_visible(True)


@styled
def draw_softmax(logits, temperatures):
    """The softened answer to one row of logits (C,), one panel per temperature; a dashed line marks
    equal shares, 1/C.
    """
    logits = torch.as_tensor(logits, dtype=torch.float64)
    answers = [soften(logits, t).numpy() for t in temperatures]
    top = 1.1 * max(p.max() for p in answers)
    fig, axes = figure(1, len(answers), 9, 2.9, sharey=True, squeeze=False)
    for ax, t, p in zip(axes[0], temperatures, answers):
        _bars(ax, p, [f"{z:g}" for z in logits.tolist()], SKY)
        for i, v in enumerate(p.tolist()):
            inside = v > 0.2 * top
            ax.text(
                i,
                v + (-0.02 if inside else 0.02) * top,
                f"{v:.3f}",
                ha="center",
                va="top" if inside else "bottom",
            )
        ax.axhline(1 / len(p), color=BLACK, linestyle="--", linewidth=1.2, zorder=0.6)
        ax.set(title=f"T = {t:g}", xlabel="logit", ylim=(0, top))
    axes[0, 0].set_ylabel("probability")
    return fig


@styled
def draw_answer(image, logits, label: int, classes, temperature: float = 1.0):
    """A picture beside the teacher's soft answer for it: image (1, H, W), logits (C,), label the
    true class's position.
    """
    p = soften(torch.as_tensor(logits), temperature).numpy()
    bits, most = -(p * np.log2(p, where=p > 0, out=0 * p)).sum(), np.log2(len(p))
    fig, (left, right) = figure(1, 2, 9, 3.3, width_ratios=(1, 2.6))
    _picture(left, image, f"label: {classes[label]}")
    bars = _bars(right, p, list(classes), ROLE["teacher"], hatched=label)
    right.bar_label(bars, [_percent(v) for v in p.tolist()], padding=2)
    right.set(
        title=f"the teacher's answer at T = {temperature:.1f}",
        xlabel="class (hatched: the label)",
        ylabel="probability",
        ylim=(0, 1.12),
        yticks=(0, 0.5, 1),
    )
    right.text(
        0.99,
        0.97,
        f"numbers in %\nentropy {bits:.2f} of {most:.2f} bits",
        transform=right.transAxes,
        ha="right",
        va="top",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )
    return fig


@styled
def draw_similarity(answers, classes, temperature: float = 1.0):
    """Who looks like whom to the teacher: answers (C, C), row = true class, as ``class_answers``
    gives them.

    Colour shows the wrong classes only (the right one, on the diagonal, is grey); each row's
    largest has a frame."""
    answers = 100 * np.asarray(answers, dtype=float)
    count = len(answers)
    wrong = np.where(np.eye(count, dtype=bool), np.nan, answers)
    fig, ax = figure(1, 1, 7.6, 5.9)
    shown = ax.imshow(wrong, cmap="cividis", vmin=0)
    ax.set_facecolor("0.88")
    for row, column in np.ndindex(answers.shape):
        value, dark = answers[row, column], wrong[row, column] < 0.6 * np.nanmax(wrong)
        ax.text(
            column,
            row,
            f"{value:.1f}" if value < 9.95 else f"{value:.0f}",
            ha="center",
            va="center",
            fontsize=9.5,
            color="white" if dark else BLACK,
            weight="bold" if row == column else "normal",
        )
    for row in np.flatnonzero(np.isfinite(answers).all(1)):
        corner = (np.nanargmax(wrong[row]) - 0.46, row - 0.46)
        ax.add_patch(plt.Rectangle(corner, 0.92, 0.92, fill=False, color=RED, linewidth=2.5))
    ax.set(
        xticks=range(count),
        yticks=range(count),
        xticklabels=classes,
        yticklabels=classes,
        xlabel="the teacher's answer",
        ylabel="true class of the image",
        title=f"mean soft answer at T = {temperature:.1f}, in %",
    )
    ax.grid(False)
    fig.colorbar(shown, label="share of a wrong class, %")
    return fig


@styled
def draw_entropy(temperatures, entropy, information, classes: int = 10):
    """Two curves against T. entropy: (N, K) bits, of N answers at K temperatures.   information:
    (M, K) bits, one row per teacher.

    Left: the mean entropy and the band that holds 80% of the images. Right: mean ± std over the
    teachers, the largest marked."""
    t, entropy, information = (
        np.asarray(v, dtype=float) for v in (temperatures, entropy, information)
    )
    fig, (left, right) = figure(1, 2, 9.5, 3.7)
    low, high = np.quantile(entropy, [0.1, 0.9], axis=0)
    left.fill_between(t, low, high, color=SKY, alpha=0.35, label="80% of the images")
    left.plot(t, entropy.mean(0), color=BLUE, linewidth=2.5, label="mean of all images")
    left.axhline(np.log2(classes), color=BLACK, linestyle=":")
    left.text(
        t.min(),
        0.985 * np.log2(classes),
        f"the most possible: log2 {classes} = {np.log2(classes):.2f}",
        va="top",
        fontsize=9.5,
    )
    left.set(
        title="entropy of one teacher's answers",
        ylabel="bits",
        xlabel="temperature T (log scale)",
        ylim=(0, None),
    )
    mean, std = (
        information.mean(0),
        information.std(0, ddof=1) if len(information) > 1 else 0 * information[0],
    )
    best = mean.argmax()
    right.fill_between(
        t,
        mean - std,
        mean + std,
        color=ORANGE,
        alpha=0.4,
        label=f"± std of {len(information)} teachers",
    )
    right.plot(t, mean, color=BLACK, linewidth=2, linestyle=DASHES[1], label="mean")
    right.plot(
        t[best],
        mean[best],
        MARKERS[0],
        color=BLACK,
        markersize=8,
        label=f"largest, at T = {t[best]:.1f}",
    )
    right.set(
        title="what they tell beyond the label",
        ylabel="bits per image",
        xlabel="temperature T (log scale)",
        ylim=(0, None),
    )
    for ax in (left, right):
        ax.set(
            xscale="log",
            xticks=[v for v in (0.2, 0.5, 1, 2, 5, 10, 20, 50) if t.min() <= v <= t.max()],
        )
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
    left.legend(loc="upper left", bbox_to_anchor=(0, 0.9), fontsize=9.5)
    right.legend(loc="upper right", fontsize=9.5)
    return fig


def _headings(ax, bold, plain):
    for text, above, style in (
        (bold, 25, {"fontsize": 13, "weight": "bold"}),
        (plain, 7, {"fontsize": 12}),
    ):
        ax.annotate(
            text,
            (0, 1),
            (0, above),
            xycoords="axes fraction",
            textcoords="offset points",
            va="bottom",
            **style,
        )


@styled
def draw_overview(
    image,
    label: int,
    teacher_logits,
    student_logits,
    classes,
    temperature: float = 4.0,
    weights=None,
):
    """Distillation in one picture: an image, its label, the teacher's soft answer, and the student
    that learned from both.

    image (1, H, W); logits (C,); label the true class's position; weights: numbers of weights
    (teacher, student) for the titles."""
    label_answer = np.eye(len(classes))[label]
    soft = [
        soften(torch.as_tensor(z), temperature).numpy() for z in (teacher_logits, student_logits)
    ]
    sizes = [f" · {n:,} weights" for n in weights] if weights else ["", ""]
    fig, axes = figure(1, 7, 12.5, 4.2, width_ratios=(3.75, 0.1, 1.9, 0.4, 2.8, 0.5, 2.8))
    _picture(axes[0], image, "")
    axes[0].set_anchor("N")
    _headings(
        axes[0], "AN IMAGE", " x ".join(map(str, np.asarray(image).squeeze().shape)) + " pixels"
    )
    for ax, sign in zip(axes[1::2], " +→"):
        ax.axis("off")
        ax.text(0.5, 0.5, sign, fontsize=34, ha="center", va="center", transform=ax.transAxes)
    heads = [
        ("LABEL", "one class, nothing else"),
        ("TEACHER" + sizes[0], f"a soft answer, T = {temperature:g}"),
        ("STUDENT" + sizes[1], "its answer, learned from both"),
    ]
    for ax, p, head, colour in zip(
        axes[2::2], [label_answer, *soft], heads, (BLACK, ROLE["teacher"], ROLE["distilled"])
    ):
        bars = ax.barh(list(classes), p, color=colour, edgecolor=BLACK, linewidth=0.8)
        bars[label].set(hatch="//", edgecolor="white" if colour == BLACK else BLACK)
        ax.bar_label(
            bars, [f"{_percent(v)}%" if v else "" for v in p.tolist()], padding=3, fontsize=11
        )
        ax.set(
            xlim=(0, 1.3 * max(v.max() for v in (soft if p is not label_answer else [p]))),
            xticks=(),
        )
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0, labelsize=12)
        ax.grid(False)
        ax.spines["bottom"].set_visible(False)
        _headings(ax, *head)
    return fig


def _overview():
    """The README's picture: a real teacher, a real student, and the test image that has the
    strongest second class.
    """
    from kdtutor import Teacher, datasets, fit, methods, models

    torch.manual_seed(0)
    torch.set_num_threads(1)
    data, (teacher, student) = (
        datasets.load("digits"),
        [models.mlp(h, inputs=(1, 8, 8)) for h in ((400, 400), 16)],
    )
    fit(methods.CrossEntropy(teacher), data, 30, validation=0, device="cpu")
    fit(methods.Hinton(student, teacher), data, 60, validation=0, device="cpu")
    x, y = data.normalised(data.test.x), data.test.y
    taught, learned = Teacher(teacher)(x), Teacher(student)(x)
    second = (
        soften(taught, 3.0).topk(2).values[:, 1]
        * (taught.argmax(1) == y)
        * (learned.argmax(1) == y)
    )
    i = int(second.argmax())
    return draw_overview(
        data.test.x[i],
        int(y[i]),
        taught[i],
        learned[i],
        data.classes,
        3.0,
        [sum(p.numel() for p in net.parameters()) for net in (teacher, student)],
    )


if __name__ == "__main__":
    _overview().savefig(sys.argv[1])
