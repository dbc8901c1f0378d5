"""Figures of lesson 07: how examples lie to each other, in the plane and as matrices of a batch.

Every function draws from given numbers only: nothing is trained or loaded here. B counts examples.
The line-up is in ``contrast``."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.patches import Arc
from torch import Tensor

from ...display.style import BLUE, MAP, ORANGE, RED, ROLE, figure, styled
from ...methods.relation.rkd import angle_loss, distance_loss, pair_distances, triplet_angles
from ...methods.relation.similarity import similarity_loss, similarity_matrix

NAMES = "ABCDEFGHIJ"
KINDS = {
    "similarity": "similarity matrix (SP)",
    "distance": "distance / mean (RKD-D)",
    "angle": "cosine at one corner (RKD-A)",
}
BARS_END = 0.3  # of the bars in draw_constellations: longer ones are cut, their number is written


def moved(
    points: Tensor, turn: float = 0.0, scale: float = 1.0, shift: float = 0.0, push: float = 0.0
) -> Tensor:
    """Points (B, 2) of which the last is pushed up by ``push``; then all are turned (degrees) and
    scaled about 0, and shifted right.
    """
    a = math.radians(turn)
    pushed = (
        points
        + push * torch.tensor([0.0, 1.0]) * (torch.arange(len(points)) == len(points) - 1)[:, None]
    )
    return scale * pushed @ torch.tensor(
        [[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]
    ) + torch.tensor([shift, 0.0])


def constellation_losses(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """Four losses of two sets of points (B, 2): squared distances from the places, over the
    teacher's squares, and three relations.
    """
    place = (student - teacher).square().sum() / teacher.square().sum()
    relations = {
        "distances (RKD-D)": distance_loss,
        "angles (RKD-A)": angle_loss,
        "dot products (SP)": similarity_loss,
    }
    return {"places": float(place)} | {
        name: float(loss(student, teacher)) for name, loss in relations.items()
    }


@styled
def draw_triangle(points: Tensor):
    """The relations of three points (3, 2): each side's length over the mean length (left), each
    corner's angle and cosine (right).
    """
    p, d, cosines = points.numpy(), pair_distances(points).numpy(), triplet_angles(points).numpy()
    centre, pairs = p.mean(0), ((0, 1), (0, 2), (1, 2))
    mean = np.mean([np.linalg.norm(p[i] - p[j]) for i, j in pairs])
    fig, (left, right) = figure(1, 2, width=9.5, height=3.9)
    for ax in (left, right):
        ax.plot(*p[[0, 1, 2, 0]].T, color=ROLE["label"], linewidth=1.5)
        ax.plot(*p.T, "o", color=ORANGE, markersize=22, markeredgecolor=ROLE["label"], zorder=3)
        for i in range(3):
            ax.annotate(NAMES[i], p[i], ha="center", va="center", fontweight="bold", zorder=4)
        ax.set(aspect="equal")
        ax.margins(0.35, 0.24)
        ax.set_axis_off()
    for i, j in pairs:
        side, middle = p[j] - p[i], (p[i] + p[j]) / 2
        out = np.array([-side[1], side[0]]) / np.linalg.norm(side)
        out *= np.sign(out @ (middle - centre)) or 1.0
        left.annotate(
            f"{np.linalg.norm(side):g} → {d[i, j]:.2f}",
            middle,
            xytext=out * (46, 18),
            textcoords="offset points",
            ha="center",
            va="center",
        )
    for i, (j, k) in enumerate(((1, 2), (0, 2), (0, 1))):
        turn = sorted(math.degrees(math.atan2(*(p[m] - p[i])[::-1])) for m in (j, k))
        turn = turn if turn[1] - turn[0] <= 180 else [turn[1], turn[0] + 360]
        right.add_patch(
            Arc(
                p[i],
                0.5 * mean,
                0.5 * mean,
                theta1=turn[0],
                theta2=turn[1],
                color=BLUE,
                linewidth=2.5,
            )
        )
        out = (p[i] - centre) / np.linalg.norm(p[i] - centre)
        right.annotate(
            f"{turn[1] - turn[0]:.0f}°, cos {cosines[i, j, k] + 0:.2f}",
            p[i],
            xytext=out * (54, 34),
            textcoords="offset points",
            ha="center",
            va="center",
        )
    left.set_title(f"Pairs: length → length / mean ({mean:g})")
    right.set_title("Triplets: the angle at each corner")
    return fig


@styled
def draw_constellations(teacher: Tensor, students: Mapping[str, Tensor]):
    """A teacher's points (B, 2), each student's points for the same examples, and what four losses
    say of them.

    Lines join all pairs; in a student's picture a line says whether this distance, over the mean
    distance, grew or shrank against the teacher's. The first three points span the grey triangle.
    Bars longer than ``BARS_END`` are cut and marked with an arrow."""
    n, psi = len(students), pair_distances(teacher)
    fig, axes = figure(
        1, 2 + n, width=6.2 + 2.7 * n, height=3.6, width_ratios=[1] * (1 + n) + [0.85]
    )
    reach = 1.15 * max(
        1.6 * float(teacher.abs().max()), *(float(s.abs().max()) for s in students.values())
    )
    kinds = {
        "same": dict(color="0.6", linewidth=0.9),
        "longer": dict(color=ORANGE, linewidth=2.2, linestyle="--"),
        "shorter": dict(color=BLUE, linewidth=2.2, linestyle=":"),
    }
    for ax, (name, points) in zip(axes, {"teacher": teacher, **students}.items()):
        change = pair_distances(points) - psi
        ax.fill(*points[:3].T.numpy(), color="0.88", zorder=0)
        if name != "teacher":
            ax.plot(*teacher.T.numpy(), "o", color="0.75", markersize=5, zorder=1)
        for i, j in torch.combinations(torch.arange(len(points))).tolist():
            kind = (
                "same" if abs(change[i, j]) < 0.02 else "longer" if change[i, j] > 0 else "shorter"
            )
            ax.plot(*points[[i, j]].T.numpy(), **kinds[kind], zorder=2)
        ax.plot(
            *points.T.numpy(),
            "o",
            color=ROLE["teacher" if name == "teacher" else "student"],
            markersize=15,
            zorder=3,
        )
        for i, point in enumerate(points.tolist()):
            ax.annotate(
                NAMES[i],
                point,
                ha="center",
                va="center",
                fontsize=9.5,
                fontweight="bold",
                zorder=4,
                color="black" if name == "teacher" else "white",
            )
        ax.plot(0, 0, "+", color=ROLE["label"], markersize=9)
        ax.set(
            xlim=(-reach, reach),
            ylim=(-reach, reach),
            aspect="equal",
            title=name,
            xticks=[],
            yticks=[],
        )
        ax.spines[:].set_visible(True)
    for kind, look in kinds.items():
        axes[0].plot([], [], **look, label=kind)
    axes[0].legend(
        fontsize=9.5,
        ncols=3,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.02),
        handlelength=1.7,
        columnspacing=0.8,
    )
    _loss_bars(axes[-1], teacher, students)
    return fig


def _loss_bars(ax, teacher: Tensor, students: Mapping[str, Tensor]) -> None:
    """One group of bars per loss, one bar per student."""
    height = 0.8 / len(students)
    for i, (name, points) in enumerate(students.items()):
        losses = constellation_losses(points, teacher)
        for row, value in enumerate(losses.values()):
            at = row + (i - (len(students) - 1) / 2) * height
            ax.barh(
                at,
                min(value, BARS_END),
                0.85 * height,
                color=(BLUE, RED)[i % 2],
                hatch=("", "///")[i % 2],
                edgecolor="white",
                label=name if not row else None,
            )
            ax.annotate(
                f"{value:.3f}" + " →" * (value > BARS_END),
                (min(value, BARS_END), at),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9.5,
            )
    ax.set_yticks(range(len(losses)), [n.replace(" (", "\n(") for n in losses], fontsize=9.5)
    ax.set(xlim=(0, 1.35 * BARS_END), ylim=(len(losses) - 0.4, -0.6), title="loss")
    ax.set_xticks([0, 0.1, 0.2, 0.3])
    if len(students) > 1:
        ax.legend(fontsize=9.5, loc="upper center", bbox_to_anchor=(0.3, -0.08), handlelength=1.4)


def relation(features: Tensor, kind: str = "similarity", vertex: int = 0) -> Tensor:
    """A batch's relation as a matrix, (B, ...) -> (B, B): a kind of ``KINDS``. vertex: the corner
    of the angles, an example's position.
    """
    return {
        "similarity": lambda: similarity_matrix(features),
        "distance": lambda: pair_distances(features),
        "angle": lambda: triplet_angles(features.flatten(1), torch.tensor([vertex]))[0],
    }[kind]()


@styled
def draw_relations(
    features: Mapping[str, Tensor], y: Tensor, kind: str = "similarity", vertex: int = 0
):
    """One relation of the same batch in several networks, side by side on one scale.

    features: name -> (B, D), any widths.   y: (B,) labels in ascending order; white lines part the
    classes. kind, vertex: as in ``relation``."""
    matrices = [relation(f, kind, vertex).numpy() for f in features.values()]
    classes, counts = y.unique(return_counts=True)
    ends = counts.cumsum(0).numpy()
    fig, axes = figure(1, len(features), width=3.3 * len(features) + 1, height=3.9, squeeze=False)
    low, high = (-1, 1) if kind == "angle" else (0, max(m.max() for m in matrices))
    for ax, name, matrix in zip(axes[0], features, matrices):
        shown = ax.imshow(matrix, cmap=MAP, vmin=low, vmax=high, interpolation="nearest")
        ax.set(title=name, xticks=[], yticks=[])
        ax.set_xticks(ends - counts.numpy() / 2 - 0.5, classes.tolist())
        ax.set_yticks(ends - counts.numpy() / 2 - 0.5, classes.tolist())
        ax.tick_params(length=0)
        for end in ends[:-1]:
            ax.axhline(end - 0.5, color="white", linewidth=0.6)
            ax.axvline(end - 0.5, color="white", linewidth=0.6)
        ax.grid(False)
    axes[0, 0].set_ylabel("images, sorted by class")
    fig.colorbar(shown, ax=axes[0].tolist(), label=KINDS[kind], shrink=0.85)
    return fig
