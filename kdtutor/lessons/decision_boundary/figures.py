"""Figures of lesson 04: decision regions in the plane, walks to the boundary, and what a student
makes of them.

The figures draw from given numbers only. ``plane`` and ``path`` make such numbers of a trained
network. K counts steps, C classes; a plane is (n, n, C) logits over the square [-reach, reach]²,
row i the points with the i-th smallest second coordinate."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ...display.style import CYCLE, MARKERS, ORANGE, PURPLE, ROLE, figure, styled
from ...distiller import as_teacher
from ...methods.response.boundary_support import boundary_samples
from ...softening import soften

REACH = 3.0
METHODS = (
    "labels",
    "Hinton",
    "BSS, no walk",
    "BSS, 1/slope",
    "BSS",
)  # each keeps its colour and marker in all figures


def grid(reach: float = REACH, n: int = 161) -> Tensor:
    """(n, n, 2) points of the square [-reach, reach]², as ``plane`` answers for them."""
    side = torch.linspace(-reach, reach, n)
    return torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)


def plane(net, reach: float = REACH, n: int = 161) -> Tensor:
    """A network's (or a ``Teacher``'s) logits (n, n, C) at ``grid(reach, n)``. It takes two numbers
    per point.
    """
    answer = net if not isinstance(net, torch.nn.Module) else net.eval()
    with torch.no_grad():
        return answer(grid(reach, n).flatten(0, 1)).unflatten(0, (n, n))


def path(
    teacher, x: Tensor, base_class, target_class, steps: int = 10, step_size: float = 0.3, **more
) -> Tensor:
    """(1 + steps, B, ...): where ``boundary_samples`` stands before the first step and after each.
    more: overshoot, bounds.
    """
    teacher, places = as_teacher(teacher), [x]
    for _ in range(steps):
        places.append(
            boundary_samples(teacher, places[-1], base_class, target_class, 1, step_size, **more)
        )
    return torch.stack(places)


def _margins(logits) -> np.ndarray:
    """(n, n, C): by how much each class leads the best of the others; 0 at its boundary."""
    z = np.asarray(logits, dtype=float)
    return np.stack([z[..., c] - np.delete(z, c, -1).max(-1) for c in range(z.shape[-1])], -1)


def _edges(ax, logits, reach: float, **line) -> None:
    side, z = np.linspace(-reach, reach, len(logits)), np.asarray(logits, dtype=float)
    margins = _margins(z)
    for c in range(z.shape[-1] - 1):
        rival = np.where(np.arange(z.shape[-1]) == c, -np.inf, z).argmax(-1)
        ax.contour(
            side, side, np.where(rival > c, margins[..., c], np.nan), levels=[0], **line
        )  # each edge once, or dashes would fill up


def _regions(ax, logits, names: Sequence[str], reach: float, avoid=()) -> None:
    """Tinted regions, the boundary between them and the round plate of the world; names stand in
    the widest space without points.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Circle
    from scipy.ndimage import distance_transform_edt

    answer, side = np.asarray(logits).argmax(-1), np.linspace(-reach, reach, len(logits))
    ax.imshow(
        answer,
        cmap=ListedColormap(CYCLE[: len(names)]),
        vmin=-0.5,
        vmax=len(names) - 0.5,
        alpha=0.25,
        origin="lower",
        extent=(-reach, reach, -reach, reach),
        interpolation="nearest",
    )
    _edges(ax, logits, reach, colors=[ROLE["label"]], linewidths=1.6)
    free = plate = np.add.outer(side**2, side**2) <= reach**2
    ax.contourf(side, side, plate.astype(float), levels=[-0.5, 0.5], colors=["white"], alpha=0.55)
    ax.add_patch(Circle((0, 0), reach, fill=False, edgecolor="0.55", linewidth=1))
    for x1, x2 in np.asarray(avoid, dtype=float):
        free = free & ~((abs(side - x2) < reach / 50)[:, None] & (abs(side - x1) < reach / 50))
    for c, name in enumerate(names):
        if (free & (answer == c)).any():
            depth = distance_transform_edt(np.pad(free & (answer == c), 1))[1:-1, 1:-1]
            i, j = np.unravel_index(depth.argmax(), depth.shape)
            ax.text(
                side[j],
                side[i],
                name,
                fontsize=15,
                fontweight="bold",
                color=CYCLE[c],
                ha="center",
                va="center",
                bbox=dict(
                    boxstyle="circle,pad=0.18", facecolor="white", edgecolor=CYCLE[c], alpha=0.9
                ),
                zorder=5,
            )
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="$x_1$", aspect="equal")
    ax.grid(False)


def _look(method: str, i: int) -> dict:
    name = method.replace("\n", ", ")
    i = METHODS.index(name) if name in METHODS else i
    return dict(marker=MARKERS[i % 6], color=CYCLE[i % 6], linestyle="", markersize=6)


def _points(ax, x, y, classes: int, **style) -> None:
    for c in range(classes):
        mine = np.asarray(x)[np.asarray(y) == c]
        ax.plot(
            mine[:, 0],
            mine[:, 1],
            MARKERS[c],
            **dict(
                color=CYCLE[c],
                markersize=5,
                markeredgecolor="white",
                markeredgewidth=0.6,
                linestyle="",
                zorder=6,
            )
            | style,
        )


@styled
def draw_regions(
    planes: Mapping[str, Tensor],
    names: Sequence[str],
    x=None,
    y=None,
    teacher: Tensor | None = None,
    reach: float = REACH,
    width: float | None = None,
):
    """One map per network: its regions, tinted and named, and its boundary, solid.

    planes: title -> (n, n, C) logits.   x, y: points (N, 2) and their classes (N,), drawn into
    every map.   teacher: its logits (n, n, C); then its boundary is dashed and the places where a
    network answers otherwise are hatched."""
    fig, axes = figure(
        1,
        len(planes),
        width=width or max(5.2, 3.1 * len(planes)),
        height=5 if len(planes) == 1 else 3.6,
        squeeze=False,
    )
    side = np.linspace(-reach, reach, len(next(iter(planes.values()))))
    for ax, (title, logits) in zip(axes[0], planes.items()):
        _regions(ax, logits, names, reach, () if x is None else x)
        if teacher is not None:
            differs = np.asarray(logits).argmax(-1) != np.asarray(teacher).argmax(-1)
            ax.contourf(
                side,
                side,
                differs.astype(float),
                levels=[0.5, 1.5],
                colors="none",
                hatches=["////"],
            )
            _edges(ax, teacher, reach, colors=[PURPLE], linewidths=2, linestyles="dashed")
        if x is not None:
            _points(ax, x, y, len(names))
        ax.set_title(title, fontsize=11)
    axes[0, 0].set_ylabel("$x_2$")
    return fig


@styled
def draw_walk(
    logits: Tensor,
    places: Tensor,
    place_logits: Tensor,
    base: int,
    target: int,
    names: Sequence[str],
    reach: float = REACH,
    title: str = "The walk",
):
    """Left: a map and the walk on it, its places numbered.   Right: the gap z_base - z_target at
    each place; at 0 is the boundary.

    logits: (n, n, C) of the map.   places: (1 + K, 2) as from ``path``.   place_logits: (1 + K, C),
    the teacher's. A walk that has stopped early repeats its last place; it is drawn once."""
    places, z = np.asarray(places, dtype=float), np.asarray(place_logits, dtype=float)
    moved = 1 + int(np.any(np.diff(places, axis=0) != 0, axis=1).sum())
    places, z = places[:moved], z[:moved]
    gap, crossed = z[:, base] - z[:, target], z[-1].argmax() != base
    fig, (left, right) = figure(1, 2, width=10, height=4.5, width_ratios=[1, 1.15])
    _regions(left, logits, names, reach, places)
    left.plot(
        places[:, 0],
        places[:, 1],
        "-o",
        color=ROLE["label"],
        linewidth=1.4,
        markersize=4.5,
        zorder=6,
    )
    left.plot(
        *places[0],
        "o",
        color="white",
        markeredgecolor=ROLE["label"],
        markersize=9,
        zorder=7,
        label="start",
    )
    left.plot(
        *places[-1],
        "*",
        color=ORANGE,
        markeredgecolor=ROLE["label"],
        markersize=17,
        zorder=8,
        label="end",
    )
    left.set(ylabel="$x_2$", title=f"{title}: from {names[base]} towards {names[target]}")
    left.legend(loc="upper left", frameon=True, fontsize=9.5)
    right.plot(range(moved), gap, "-o", color=ROLE["label"], linewidth=1.4, markersize=5)
    right.plot(moved - 1, gap[-1], "*", color=ORANGE, markeredgecolor=ROLE["label"], markersize=17)
    right.axhline(0, color=ROLE["label"], linestyle="--", linewidth=1)
    high = 1.15 * max(np.abs(gap).max(), 1e-9)
    right.text(-0.3, -0.02 * high, "boundary", va="top", fontsize=9.5)
    right.set(
        xlim=(-0.5, max(10.6, moved - 0.4)),
        ylim=(-high, high),
        xlabel="step",
        ylabel=f"gap $z_{{{names[base]}}} - z_{{{names[target]}}}$",
        title=f"{f'Crossed in step {moved - 1}' if crossed else 'Not across'}: gap "
        f"{gap[-1]:.{2 if abs(gap[-1]) >= 0.01 else 4}f}",
    )
    return fig


@styled
def draw_samples(
    logits: Tensor,
    x: Tensor,
    y: Tensor,
    chosen: Tensor,
    moved: Tensor,
    names: Sequence[str],
    reach: float = REACH,
    title: str = "The walks of one batch",
):
    """A batch on the teacher's map. Chosen points are filled, and an arrow leads to each one's
    boundary supporting sample.

    x: (N, 2).   y: (N,) labels.   chosen: (K,) positions in the batch.   moved: (K, 2) where these
    arrive. Others are hollow."""
    fig, ax = figure(width=6.4, height=6.2)
    _regions(ax, logits, names, reach, torch.cat([x, moved, (x[chosen] + moved) / 2]))
    others = np.setdiff1d(np.arange(len(x)), np.asarray(chosen))
    _points(
        ax,
        x[others],
        y[others],
        len(names),
        markerfacecolor="white",
        markeredgecolor=ROLE["label"],
        markeredgewidth=1.2,
        markersize=6,
    )
    _points(ax, x[chosen], y[chosen], len(names), markersize=8, markeredgewidth=0.9)
    for start, end in zip(np.asarray(x[chosen]), np.asarray(moved)):
        ax.annotate(
            "",
            end,
            start,
            arrowprops=dict(
                arrowstyle="-|>", color=ROLE["label"], linewidth=1.1, shrinkA=2, shrinkB=0
            ),
        )
    ax.plot([], [], "o", color="0.3", markersize=8, label=f"qualifies: {len(chosen)} of {len(x)}")
    ax.plot(
        [],
        [],
        "o",
        markerfacecolor="white",
        markeredgecolor=ROLE["label"],
        markersize=6,
        label="teacher or student wrong",
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    ax.set(ylabel="$x_2$", title=title)
    return fig


@styled
def draw_image_walk(
    images: Tensor, logits: Tensor, base: int, target: int, names: Sequence[str], step: int
):
    """An image, the same after ``step`` steps, what was added, and the teacher's probabilities
    along the whole walk.

    images: (1 + K, H, W) pixels in [0, 1].   logits: (1 + K, C), the teacher's. What was added is
    magnified: orange is more ink, purple less, the fullest colours the largest change of the whole
    walk."""
    images, p = np.asarray(images, dtype=float), soften(logits).numpy()
    added, most = images[step] - images[0], np.abs(images - images[0]).max() or 1.0
    said = f"“{names[p[step].argmax()]}” ({p[step].max():.0%})"
    fig, axes = figure(1, 4, width=10.8, height=3.2, width_ratios=[1, 1, 1, 1.75])
    captions = (
        f"start\n“{names[p[0].argmax()]}” ({p[0].max():.0%})",
        f"after step {step}\n{said}",
        f"added, × {1 / most:.1f}\nlength {np.linalg.norm(added):.2f}",
    )
    looks = [dict(cmap="gray_r", vmin=0, vmax=1)] * 2 + [dict(cmap="PuOr", vmin=-1, vmax=1)]
    for ax, picture, caption, look in zip(
        axes, (images[0], images[step], -added / most), captions, looks
    ):
        ax.imshow(picture, **look)
        ax.set_title(caption, fontsize=10.5, loc="center", fontweight="normal")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="0.7")
        ax.grid(False)
    for c, look in (
        (base, dict(color=CYCLE[0], marker="o", linestyle="-")),
        (target, dict(color=ORANGE, marker="s", linestyle="--")),
    ):
        axes[3].plot(p[:, c], markersize=5, label=f"“{names[c]}”", **look)
    axes[3].axvline(step, color=ROLE["label"], linewidth=1, linestyle=":")
    axes[3].set(ylim=(-0.04, 1.04), xlabel="step", title="Teacher's probability")
    axes[3].legend(loc="center left")
    return fig


@styled
def draw_scores(scores: Mapping[str, Mapping[str, Sequence[float]]], best: float | None = 1.0):
    """One panel per measure: a dot per seed for every method, a bar at the mean. scores: measure ->
    method -> values, one per seed.

    best: the largest possible value, a dashed line (None: no line).
    """
    fig, axes = figure(
        1, len(scores), width=3.5 * len(scores), height=3.6, squeeze=False, sharey=True
    )
    for ax, (measure, methods) in zip(axes[0], scores.items()):
        groups = dict(reversed(list(methods.items())))  # the first method on top
        for i, (method, values) in enumerate(groups.items()):
            values = np.asarray(values, dtype=float)
            ax.plot(values, i + np.linspace(-0.2, 0.2, len(values)), alpha=0.75, **_look(method, i))
            ax.plot([values.mean()] * 2, [i - 0.33, i + 0.33], color=ROLE["label"], linewidth=2.5)
        if best is not None:
            ax.axvline(best, color=ROLE["label"], linestyle="--", linewidth=1)
        ax.set_yticks(range(len(groups)), groups)
        ax.set(ylim=(-0.6, len(groups) - 0.4), title=measure)
    return fig


@styled
def draw_comparison(
    ours: Mapping[str, Sequence[float]],
    published: Mapping[str, Sequence[float]],
    spread: Mapping[str, Sequence[float]],
    networks: Sequence[str],
):
    """Change of the test error against training on labels; below 0 is better.

    ours: method -> differences in errors, a dot per seed and a bar at the mean.   published,
    spread: method -> differences in % points and the method's own standard deviation, one per
    network.   networks: their names."""
    fig, (left, right) = figure(1, 2, width=10.8, height=4, width_ratios=[1, 1.25])
    for i, (method, values) in enumerate(ours.items()):
        values = np.asarray(values, dtype=float)
        left.plot(i + np.linspace(-0.2, 0.2, len(values)), values, alpha=0.75, **_look(method, i))
        left.plot([i - 0.33, i + 0.33], [values.mean()] * 2, color=ROLE["label"], linewidth=2.5)
    left.set_xticks(range(len(ours)), ours, fontsize=9.5)
    left.set(
        xlim=(-0.6, len(ours) - 0.4),
        ylabel="change in test errors",
        title="Here: digits, a dot per seed",
    )
    for i, (method, values) in enumerate(published.items()):
        right.errorbar(
            np.arange(len(networks)) + 0.2 * i - 0.1,
            values,
            spread[method],
            capsize=3,
            label=method,
            **_look(method, i),
        )
    right.set_xticks(
        range(len(networks)), networks, fontsize=9, rotation=30, ha="right", rotation_mode="anchor"
    )
    right.set(ylabel="change in % points of error", title="Published: CIFAR-10, by student")
    right.legend(loc="lower right")
    for ax in (left, right):
        ax.axhline(0, color=ROLE["label"], linestyle="--", linewidth=1)
    return fig
