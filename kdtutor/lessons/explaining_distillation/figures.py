"""Figures of lesson 10: what a layer still knows of each cell of an image, concept cells, and their
course; ``claims`` has its tables.

Every function draws from given numbers only: nothing is trained or measured here. Images are (3, H,
W) uint8, masks (H, W), maps and cells (g, g) on one grid; N counts images, M checkpoints. Entropies
are in nats."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ...concepts.cells import spread
from ...display.style import BLACK, CYCLE, DASHES, GREEN, MAP, MARKERS, RED, ROLE, figure, styled
from .claims import draw_agreement, draw_parts  # noqa: F401  the lesson finds all its figures here

KNOWN = MAP + "_r"  # bright: low entropy, what the layer still knows
LOOK = {
    "teacher": (ROLE["teacher"], "^"),
    "baseline": (ROLE["student"], "s"),
    "distilled": (ROLE["distilled"], "o"),
}  # colour, marker


def _bare(ax, grid: int) -> dict:
    """No ticks, no grid; the keywords of imshow that give a picture the coordinates of ``grid`` x
    ``grid`` cells.
    """
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_autoscale_on(False)  # room for the frames of the cells at the edge
    ax.set(xlim=(-0.9, grid - 0.1), ylim=(grid - 0.1, -0.9), aspect="equal")
    return dict(extent=(-0.5, grid - 0.5, grid - 0.5, -0.5), interpolation="nearest")


def _colours(values: Tensor) -> dict:
    """One scale for several maps; it ends at the lowest 0.5 % of the cells, so that one extreme
    cell does not leave all others dark.
    """
    return dict(cmap=KNOWN, vmin=float(np.quantile(values, 0.005)), vmax=float(values.max()))


def _image(ax, image, mask, grid: int) -> None:
    ax.imshow(np.asarray(image).transpose(1, 2, 0), **_bare(ax, grid))
    _outline(ax, mask, grid)


def _outline(ax, mask, grid: int) -> None:
    """The object's outline, in the coordinates of the cells."""
    mask = np.asarray(mask, float)
    y, x = (((np.arange(n) + 0.5) * grid / n - 0.5) for n in mask.shape)
    for colour, width in (("white", 3), (RED, 1.4)):
        ax.contour(x, y, mask, levels=[0.5], colors=[colour], linewidths=width)


def _overlay(ax, image, concepts: Tensor, cells: Tensor) -> tuple[int, int]:
    """The image, faded outside of the concept cells; these are framed, and crossed out in the
    background. Returns N_fg, N_bg.
    """
    pixels, grid = np.asarray(image).transpose(1, 2, 0) / 255, len(concepts)
    keep = np.asarray(spread(concepts.float(), *pixels.shape[:2]))[..., None]
    ax.imshow(pixels * (0.22 + 0.78 * keep) + 0.78 * (1 - keep), **_bare(ax, grid))
    for row, column in concepts.nonzero().tolist():
        on = bool(cells[row, column])
        ax.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5),
                1,
                1,
                fill=False,
                edgecolor=GREEN if on else RED,
                linewidth=1.6 if on else 1.1,
            )
        )
    rows, columns = (concepts & ~cells).nonzero().T.tolist()
    ax.plot(columns, rows, "x", color=RED, markersize=4.5, markeredgewidth=1.3)
    return int((concepts & cells).sum()), int((concepts & ~cells).sum())


HANDLES = [
    Patch(facecolor="none", edgecolor=GREEN, linewidth=2, label="concept cell on the object"),
    Line2D(
        [],
        [],
        color=RED,
        marker="x",
        linestyle="",
        markersize=8,
        label="concept cell in the background",
    ),
]


@styled
def draw_noise(
    image,
    cells: Mapping[str, tuple[int, int]],
    grid: int,
    sigmas: Sequence[float],
    changes: Mapping[str, Sequence[float]],
):
    """One cell at a time gets noise: the cells in the image (left), the mean squared change of the
    feature over sigma (right).

    cells: name -> (row, column).   changes: name -> a number per sigma.
    """
    fig, (picture, ax) = figure(1, 2, width=10, height=3.9, width_ratios=[1, 1.6])
    picture.imshow(np.asarray(image).transpose(1, 2, 0), **_bare(picture, grid))
    for i, (name, (row, column)) in enumerate(cells.items()):
        for colour, width in (("white", 6), (CYCLE[i], 3.2)):
            picture.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=width
                )
            )
        picture.annotate(
            name[0],
            (column, row),
            xytext=(13, 9),
            textcoords="offset points",
            ha="center",
            va="center",
            color="white",
            fontweight="bold",
            bbox=dict(boxstyle="circle,pad=0.22", facecolor=CYCLE[i], edgecolor="white"),
        )
        ax.plot(
            sigmas,
            changes[name],
            color=CYCLE[i],
            linestyle=DASHES[i],
            marker=MARKERS[i],
            markersize=7,
            label=name,
        )
    picture.set_title("The cells", loc="center")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="σ: strength of the noise in this one cell",
        ylabel="mean squared change",
        title="How much the layer notices",
    )
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend()
    return fig


@styled
def draw_trade(
    read: Mapping[str, float], reward: float = 1.0, bounds: tuple[float, float] = (0.02, 5.0)
):
    """What one cell pays: cost sigma^2 g (dotted), minus reward * log sigma: their sum (line) with
    its minimum (star).

    read: name -> g, how strongly the cell is read.
    """
    sigma = np.geomspace(*bounds, 400)
    fig, axes = figure(1, len(read), width=3.4 * len(read), height=3.5, sharey=True, squeeze=False)
    for i, (ax, (name, g)) in enumerate(zip(axes[0], read.items())):
        ax.plot(sigma, sigma**2 * g, color=BLACK, linestyle=":", label="cost: σ² g")
        ax.plot(
            sigma,
            -reward * np.log(sigma),
            color="0.45",
            linestyle="--",
            label="minus the reward: −c log σ",
        )
        ax.plot(
            sigma, sigma**2 * g - reward * np.log(sigma), color=CYCLE[i], linewidth=2.5, label="sum"
        )
        best = np.sqrt(reward / (2 * g)) if g > 0 else np.inf
        if best < bounds[1]:
            low = best**2 * g - reward * np.log(best)
            ax.plot(
                best, low, "*", color=CYCLE[i], markersize=17, markeredgecolor="white", zorder=4
            )
            ax.annotate(
                f"σ = {best:.2f}",
                (best, low),
                xytext=(0, -19),
                textcoords="offset points",
                ha="center",
                zorder=5,
                bbox=dict(facecolor="white", edgecolor="none", pad=1, alpha=0.85),
            )
        else:
            ax.annotate(
                "no minimum: falls on and on", (0.97, 0.06), xycoords="axes fraction", ha="right"
            )
        ax.set(xscale="log", ylim=(-3, 5), xlabel="σ", title=name)
        ax.xaxis.set_major_formatter("{x:g}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig


@styled
def draw_maps(images, masks, maps: Mapping[str, Tensor]):
    """A column per image: the image with the object's outline, below it its entropy maps, all on
    one colour scale.

    images: (K, 3, H, W).   masks: (K, H, W).   maps: name -> (K, g, g).
    """
    count, values = len(masks), torch.stack(list(maps.values()))
    fig, axes = figure(
        1 + len(maps),
        count,
        width=2.05 * count + 1.2,
        height=2.05 * (1 + len(maps)) + 0.1,
        squeeze=False,
    )
    for k in range(count):
        _image(axes[0, k], images[k], masks[k], values.shape[-1])
    for row, (name, entropy) in zip(axes[1:], maps.items()):
        for k, ax in enumerate(row):
            shown = ax.imshow(
                np.asarray(entropy[k]), **_colours(values), **_bare(ax, values.shape[-1])
            )
            _outline(ax, masks[k], values.shape[-1])
        row[0].set_ylabel(name)
    axes[0, 0].set_ylabel("image")
    fig.get_layout_engine().set(
        rect=(0.012, 0, 0.988, 1)
    )  # the names at the left need a little more than they are given
    fig.colorbar(
        shown,
        ax=axes,
        shrink=0.6,
        aspect=30,
        extend="min",
        label="entropy H, nats (bright: still known)",
    )
    return fig


@styled
def draw_concepts(
    image,
    mask,
    cells: Tensor,
    maps: Mapping[str, Tensor],
    levels: Mapping[str, float],
    threshold: float = 0.2,
):
    """One image, a column per network: the entropy map, and below it the concept cells, H-bar - H >
    threshold.

    cells: (g, g) bool, the foreground.   maps: name of the network -> (g, g).   levels: name ->
    H-bar."""
    grid, values = len(cells), torch.stack(list(maps.values()))
    fig, axes = figure(2, 1 + len(maps), width=2.75 * (1 + len(maps)), height=5.9)
    _image(axes[0, 0], image, mask, grid)
    axes[0, 0].set_title("the image", loc="center")
    axes[1, 0].set_axis_off()
    axes[1, 0].legend(
        handles=[*HANDLES, Line2D([], [], color=RED, label="outline of the object")],
        loc="upper center",
        fontsize=10,
    )
    for (top, bottom), (name, entropy) in zip(axes.T[1:], maps.items()):
        shown = top.imshow(np.asarray(entropy), **_colours(values), **_bare(top, grid))
        _outline(top, mask, grid)
        top.set_title(name, loc="center")
        n_fg, n_bg = _overlay(bottom, image, levels[name] - entropy > threshold, cells)
        share = f"{n_fg / (n_fg + n_bg):.2f}" if n_fg + n_bg else "0 (none)"
        bottom.set_title(
            f"on it {n_fg}, beside it {n_bg}, λ = {share}",
            loc="center",
            fontsize=10.5,
            fontweight="normal",
        )
    scale = fig.colorbar(
        shown,
        cax=axes[1, 0].inset_axes([0.08, 0.3, 0.84, 0.07]),
        orientation="horizontal",
        extend="min",
    )
    scale.set_label("entropy H, nats (bright: known)", fontsize=10)
    scale.ax.xaxis.set_major_locator(MaxNLocator(4))
    return fig


@styled
def draw_film(
    image,
    cells: Tensor,
    maps: Mapping[str, Tensor],
    levels: Mapping[str, Sequence[float]],
    epochs: Sequence[int],
    threshold: float = 0.2,
):
    """The concept cells of one image epoch by epoch, a row per network.   maps: name -> (M, g, g).
    levels: name -> H-bar (M,).
    """
    fig, axes = figure(
        len(maps),
        len(epochs),
        width=1.72 * len(epochs),
        height=2.05 * len(maps) + 0.35,
        squeeze=False,
    )
    for row, (name, course) in zip(axes, maps.items()):
        for k, ax in enumerate(row):
            n_fg, n_bg = _overlay(ax, image, levels[name][k] - course[k] > threshold, cells)
            first = f"epoch {epochs[k]}\n" if ax in axes[0] else ""
            ax.set_title(
                f"{first}{n_fg} on, {n_bg} beside", loc="center", fontsize=10, fontweight="normal"
            )
        row[0].set_ylabel(name, color=LOOK[name][0], fontweight="bold")
    fig.legend(handles=HANDLES, loc="outside lower center", ncols=2)
    return fig


@styled
def draw_progress(
    courses: Mapping[str, Mapping[str, Sequence[float]]],
    stops: Mapping[str, Mapping[str, Sequence[float]]],
):
    """Numbers of concept cells, means over images, over epochs (left) and over the way of the
    weights (right).

    courses: network -> columns epoch, distance, n_fg, n_bg, a number per checkpoint.   stops:
    network -> columns epoch, distance, a number per image: where it has most foreground concepts
    (m-hat). Below: a bubble per stop, its area the number of images, and their mean as a diamond.
    """
    fig, axes = figure(1, 2, width=10.5, height=4.3, sharey=True)
    top = max(max(c["n_fg"]) for c in courses.values())
    for ax, x, words in zip(
        axes,
        ("epoch", "distance"),
        ("epoch", "way of the weights, Σ ‖w$_k$ − w$_{k-1}$‖ / ‖w$_0$‖"),
    ):
        for i, (name, course) in enumerate(courses.items()):
            colour, marker = LOOK[name]
            ax.plot(
                course[x],
                course["n_fg"],
                color=colour,
                marker=marker,
                markersize=7,
                label=f"{name}, on the object",
            )
            ax.plot(
                course[x],
                course["n_bg"],
                color=colour,
                marker=marker,
                markersize=6,
                markerfacecolor="white",
                linestyle="--",
                label=f"{name}, beside it",
            )
            (at, count), low = (
                np.unique(np.asarray(stops[name][x], float), return_counts=True),
                -0.13 * (i + 0.8) * top,
            )
            ax.scatter(
                at,
                np.full(len(at), low),
                s=420 * count / count.sum(),
                color=colour,
                alpha=0.45,
                linewidth=0,
            )
            ax.plot(
                np.average(at, weights=count),
                low,
                marker="D",
                color=colour,
                markeredgecolor="white",
                markersize=9,
                zorder=4,
            )
        ax.axhline(0, color="0.7", linewidth=1)
        ax.set(xlabel=words, ylim=(-0.13 * (len(courses) + 0.5) * top, 1.08 * top))
        ax.set_yticks(
            [t for t in MaxNLocator(5, integer=True).tick_values(0, top) if 0 <= t <= 1.08 * top]
        )
    axes[0].xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes[0].set(ylabel="concept cells per image", title="Number of concepts over epochs")
    axes[1].set_title("The same over the weights' way")
    handles, labels = axes[0].get_legend_handles_labels()
    handles.append(
        Line2D(
            [],
            [],
            color="0.4",
            marker="D",
            linestyle="",
            label="below: images that have most here, and their mean",
        )
    )
    fig.legend(handles, [*labels, handles[-1].get_label()], loc="outside lower center", ncols=3)
    return fig
