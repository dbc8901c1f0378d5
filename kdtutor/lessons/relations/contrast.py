"""Figures of lesson 07: the contrast of CRD, from the number at chance to a line-up of real images,
and the gains of all methods.

Every function draws from given numbers only: nothing is trained or loaded here. K counts negatives,
n the images in the memory."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...display.style import BLUE, CYCLE, MARKERS, ORANGE, ROLE, figure, styled

ITSELF = dict(color=ORANGE, hatch="///", edgecolor="white", linewidth=0.8)
STRANGER = dict(color=BLUE, edgecolor="white", linewidth=0.8)
CLASSMATE = dict(color="0.6", hatch="...", edgecolor="white", linewidth=0.8)
KINDS = {"itself": ITSELF, "same class": CLASSMATE, "stranger": STRANGER}


def chance(negatives):
    """The two parts of CRD's loss of one side at chance: for the image itself log(1 + K), for its K
    strangers K log(1 + 1/K).
    """
    k = np.asarray(negatives, dtype=float)
    return np.log1p(k), k * np.log1p(1 / k)


@styled
def draw_chance(negatives: int):
    """Left: the loss of one side at chance against K, in its two parts.   Right: h(P) for this K,
    with P in units of chance, 1/n.
    """
    ks, times = np.logspace(0, 5, 101), np.logspace(-1, 7, 161)
    fig, (left, right) = figure(1, 2, width=10, height=3.8)
    own, others = chance(ks)
    left.fill_between(
        ks,
        others,
        own + others,
        facecolor=ORANGE,
        hatch="///",
        edgecolor="white",
        linewidth=0,
        label=r"the image itself: $\log(1 + K)$",
    )
    left.fill_between(
        ks, 0, others, color=BLUE, alpha=0.8, linewidth=0, label=r"K strangers: $K\,\log(1 + 1/K)$"
    )
    now = float(sum(chance(negatives)))
    left.plot(
        negatives,
        now,
        "*",
        color="white",
        markersize=18,
        markeredgecolor=ROLE["label"],
        linestyle="",
        label=f"K = {negatives}: {now:.2f}",
    )
    left.set(
        xscale="log",
        xlim=(1, 1e5),
        ylim=(0, 17),
        xlabel="negatives K",
        ylabel="loss of one side",
        title="A network that knows nothing",
    )
    left.legend(loc="upper left", fontsize=9.5)
    right.plot(times, times / (times + negatives), color=ROLE["student"])
    for x, mark, words in (
        (1, "s", f"P = 1/n, chance: h = 1/{negatives + 1}"),
        (negatives, "o", "P = K/n: h = 1/2"),
    ):
        right.plot(
            x,
            x / (x + negatives),
            mark,
            color=ORANGE,
            markersize=10,
            markeredgecolor=ROLE["label"],
            linestyle="",
            label=words,
        )
    right.set(
        xscale="log",
        ylim=(-0.05, 1.05),
        xlabel="how many times likelier than chance: $P\\,n$",
        ylabel="h(P)",
        title=f"From a score to a probability, K = {negatives}",
    )
    right.legend(loc="upper left", fontsize=9.5)
    return fig


@styled
def draw_scores(scores: Mapping[str, tuple[object, object]]):
    """Cosines between a student's and a teacher's embeddings, a panel for each moment ("before",
    "after").

    scores: moment -> (cosines of an image with itself (N,), cosines with strangers, any shape).
    Each histogram has area 1."""
    fig, axes = figure(1, len(scores), width=10, height=3.3, sharey=True, squeeze=False)
    bins = np.linspace(-1, 1, 41)
    for ax, (moment, (own, strangers)) in zip(axes[0], scores.items()):
        for kind, values in (("stranger", strangers), ("itself", own)):
            values = np.asarray(values).ravel()
            ax.hist(
                values,
                bins,
                density=True,
                alpha=0.8,
                label=f"{kind}: mean {values.mean():.2f}",
                **KINDS[kind],
            )
        ax.set(xlabel="cosine of student's and teacher's embedding", title=moment)
        ax.legend(fontsize=9.5, loc="upper left")
    axes[0, 0].set_ylabel("density")
    return fig


@styled
def draw_lineup(image, candidates, kinds: Sequence[str], before, after, captions: Sequence[str]):
    """One image asks: which of these teacher embeddings is mine?

    image: (H, W), what the student sees.   candidates: (M, H, W), the images whose embeddings stand
    in the line.   kinds: of each candidate, of "itself", "same class", "stranger".   before, after:
    (M,) cosines.   captions: below each candidate."""
    m, at = len(candidates), np.arange(len(candidates))
    fig, ax = figure(width=10.5, height=4.2)
    for x, picture, title in [(-1.2, image, ""), *zip(at, candidates, captions)]:
        low, size = (0.56, 0.26) if x < 0 else (1.03, 0.2)
        small = ax.inset_axes([x - 0.45, low, 0.9, size], transform=ax.get_xaxis_transform())
        small.imshow(np.asarray(picture), cmap="gray_r")
        small.set_title(
            "the student\nsees" if x < 0 else title,
            fontsize=9.5,
            fontweight="bold" if x < 0 else "normal",
            loc="center",
        )
        small.set_axis_off()
    seen = set()
    for i, kind in enumerate(kinds):
        ax.bar(
            i + 0.2,
            float(after[i]),
            0.38,
            **KINDS[kind],
            label=None if kind in seen else f"after: {kind}",
        )
        seen.add(kind)
    ax.bar(
        at - 0.2,
        np.asarray(before),
        0.38,
        facecolor="white",
        edgecolor=ROLE["label"],
        linewidth=1,
        label="before training",
    )
    ax.axhline(0, color=ROLE["label"], linewidth=0.8)
    ax.set_xticks([])
    ax.set(
        xlim=(-1.8, m - 0.5),
        ylim=(-1.05, 1.05),
        ylabel="cosine of the student's and\nthe teacher's embedding",
    )
    ax.grid(axis="x", visible=False)
    ax.legend(fontsize=9.5, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4)
    return fig


@styled
def draw_gains(ours: Mapping[str, Sequence[float]], published: Mapping[str, Sequence[float]]):
    """Gain in accuracy over training on labels, % points: a dot per run, a bar at the mean; above 0
    is better.

    ours: method -> paired gains, one per seed.   published: method -> gains, one per student
    network."""
    ours, published = dict(ours.items()), dict(published.items())  # columns, where frames are given
    fig, axes = figure(
        1, 2, width=11.5, height=3.9, width_ratios=[len(ours) + 1, len(published) + 1]
    )
    names = list(dict.fromkeys([*ours, *published]))
    for ax, groups, title in zip(axes, (ours, published), ("Here: digits", "Published: CIFAR-10")):
        for i, (name, values) in enumerate(groups.items()):
            values, look = np.asarray(values, dtype=float), names.index(name)
            ax.plot(
                i + np.linspace(-0.22, 0.22, len(values)),
                values,
                linestyle="",
                marker=MARKERS[look % 6],
                color=CYCLE[look % 6],
                alpha=0.8,
                markersize=6,
            )
            ax.plot([i - 0.34, i + 0.34], [values.mean()] * 2, color=ROLE["label"], linewidth=2.5)
        ax.axhline(0, color=ROLE["label"], linestyle="--", linewidth=1)
        ax.set_xticks(
            range(len(groups)),
            [n.replace(", ", "\n").replace("+", "\n+") for n in groups],
            fontsize=9.5,
        )
        ax.set(xlim=(-0.6, len(groups) - 0.4), ylabel="gain, % points", title=title)
    return fig
