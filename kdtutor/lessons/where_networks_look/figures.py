"""Figures of lesson 06: from a layer's channels to one map, where networks look, and how much of it
lies on the object.

Every function draws from given data only. K counts images, S seeds, C channels; maps are (h, w),
images (H, W)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch.nn.functional as F
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ...display.style import CYCLE, DASHES, MAP, MARKERS, ROLE, figure, styled
from ...methods.feature.attention_transfer import attention_map

LOOK = {
    "teacher": (ROLE["teacher"], "s"),
    "labels": (ROLE["student"], "o"),
    "AT": (ROLE["distilled"], "^"),
}  # colour, marker
GROUND = {
    "background": "#FFFFFF",
    "loose parts": "#D9D9D9",
    "body": "#56B4E9",
    "decisive parts": "#003F6B",
}


def share_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """How much of each map's mass lies inside the mask: (B,) values from 0 to 1; NaN for a map of
    zeros.

    maps: (B, h, w), >= 0.   masks: (B, H, W) of 0 and 1; averaged over the pixels that each cell of
    the map stands for. An even map has the mask's share of the area, whatever the mask."""
    inside = F.adaptive_avg_pool2d(masks[:, None].to(maps.dtype), maps.shape[1:])[:, 0]
    return (maps * inside).sum((1, 2)) / maps.sum((1, 2))


@styled
def draw_scenes(images, part_mask, distractor_mask):
    """Images (K, 3, H, W) uint8 and below them what is known of every pixel: part_mask (K, H, W)
    ids 0..4, distractor_mask 0/1.
    """
    parts, loose = np.asarray(part_mask), np.asarray(distractor_mask)
    ground = np.where(parts > 1, 3, np.where(parts == 1, 2, (loose > 0).astype(int)))
    fig, axes = figure(2, len(ground), width=1.6 * len(ground), height=3.7, squeeze=False)
    for image, truth, (top, bottom) in zip(images, ground, axes.T):
        top.imshow(np.asarray(image).transpose(1, 2, 0))
        top.set_axis_off()
        bottom.imshow(truth, cmap=ListedColormap(list(GROUND.values())), vmin=0, vmax=3)
        bottom.set(xticks=[], yticks=[])
        bottom.grid(False)
        bottom.spines[["top", "right"]].set_visible(True)
    handles = [
        Patch(facecolor=colour, edgecolor="0.4", label=name) for name, colour in GROUND.items()
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig


@styled
def draw_channels(features: Tensor, p: float = 2):
    """A few channels (C, h, w) with their numbers, and the maps sum |A|, sum |A|^p and max |A|^p;
    each map's largest cell is framed.
    """
    one, power = features[None], f"|A|$^{{{p:.3g}}}$"
    maps = {
        "sum |A|": attention_map(one, "sum", 1)[0],
        f"sum {power}": attention_map(one, "sum", p)[0],
        f"max {power}": attention_map(one, "max", p)[0],
    }
    grids = {f"channel {c + 1}": channel for c, channel in enumerate(features)} | maps
    fig, axes = figure(1, len(grids), width=10.5, height=2.1)
    for i, (ax, (title, grid)) in enumerate(zip(axes, grids.items())):
        grid = np.asarray(grid, dtype=float)
        top = max(float(features.abs().max()) if i < len(features) else grid.max(), 1e-12)
        ax.imshow(np.abs(grid), cmap=MAP, vmin=0, vmax=top)
        for (row, column), value in np.ndenumerate(grid):
            ax.text(
                column,
                row,
                f"{value:.3g}",
                ha="center",
                va="center",
                fontsize=12,
                color="black" if abs(value) > top / 2 else "white",
            )
        if i >= len(features):
            row, column = np.unravel_index(grid.argmax(), grid.shape)
            ax.add_patch(
                Rectangle(
                    (column - 0.46, row - 0.46),
                    0.92,
                    0.92,
                    fill=False,
                    edgecolor="#D55E00",
                    linewidth=3,
                )
            )
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.set_title(title, loc="center", fontsize=11)
    return fig


@styled
def draw_maps(
    images,
    features: Mapping[str, Tensor],
    masks,
    p: float = 2,
    kind: str = "sum",
    size: float = 1.9,
):
    """A row per image: the image, then each network's attention map with the object's outline and
    the share of mass inside it.

    images: (K, 3, H, W) uint8.   features: name of the network -> (K, C, h, w); gradients by pixels
    are features too. masks: (K, H, W) of 0 and 1.   p, kind: of ``attention_map``.   Every map has
    a colour scale of its own, from 0 to its maximum."""
    masks, (height, width) = np.asarray(masks), np.asarray(masks).shape[1:]
    fig, axes = figure(
        len(masks),
        1 + len(features),
        width=size * (1 + len(features)) + 0.4,
        height=(size + 0.25) * len(masks) + 0.35,
        squeeze=False,
    )
    for k, row in enumerate(axes):
        row[0].imshow(np.asarray(images[k]).transpose(1, 2, 0))
        for _j, (ax, (name, values)) in enumerate(zip(row[1:], features.items())):
            look = attention_map(values[k : k + 1], kind, p)
            share = float(share_inside(look, Tensor(masks[k : k + 1])))
            ax.imshow(
                look[0].numpy(),
                cmap=MAP,
                vmin=0,
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                interpolation="nearest",
            )
            ax.contour(masks[k], levels=[0.5], colors="white", linewidths=3)
            ax.contour(masks[k], levels=[0.5], colors="#D55E00", linewidths=1.4)
            ax.set_title(
                f"{name}\n{share:.0%} inside" if k == 0 else f"{share:.0%} inside",
                loc="center",
                fontsize=11,
                fontweight="normal",
            )
    for ax in axes.flat:
        ax.set_axis_off()
    axes[0, 0].set_title("image\n", loc="center", fontsize=11, fontweight="normal")
    return fig


@styled
def draw_variants(
    places: Sequence[int],
    distances: Sequence[float],
    paper_weight: float = 12.8,
    code_weight: float = 1000.0,
):
    """What one pair of maps adds to the loss, against their distance d: paper_weight / 2 · d, and
    code_weight · d² / places.

    places: H·W of each layer.   distances: the mean distance measured there; a marker on the
    layer's line."""
    fig, ax = figure(width=9.0, height=3.5)
    d = np.linspace(0, 1.25 * max(distances), 200)
    ax.plot(
        d,
        paper_weight / 2 * d,
        color=ROLE["label"],
        linewidth=2.5,
        label=f"paper: {paper_weight / 2:g} d, every layer",
    )
    for i, (count, now) in enumerate(zip(places, distances)):
        ax.plot(
            d,
            code_weight * d**2 / count,
            color=CYCLE[i],
            linestyle=DASHES[i + 1],
            label=f"code: {code_weight:g} d² / {count}",
        )
        ax.plot(
            now,
            code_weight * now**2 / count,
            color=CYCLE[i],
            marker=MARKERS[i],
            markersize=9,
            linestyle="",
        )
    top = max(code_weight * now**2 / count for count, now in zip(places, distances))
    ax.set(
        xlim=(0, d[-1]),
        ylim=(0, 1.15 * max(top, paper_weight / 2 * d[-1])),
        title="One distance, two losses",
        xlabel="distance d of two normalised maps",
        ylabel="part of the loss",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def draw_shares(shares: Mapping[str, object], even: float, layers: Sequence[str]):
    """How much of the maps lies on the object: a small mark per seed, a bar at the mean.

    shares: name of the network -> (S, len(layers)), each value a mean over images.   even: what a
    map without any preference has."""
    fig, ax = figure(width=9.5, height=3.7)
    for i, (name, values) in enumerate(shares.items()):
        values, (colour, marker) = (
            np.asarray(values, dtype=float),
            LOOK.get(name, (CYCLE[i % 6], MARKERS[i % 6])),
        )
        centre = np.arange(len(layers)) + (i - (len(shares) - 1) / 2) * 0.24
        spread = np.linspace(-0.05, 0.05, len(values))[:, None]
        ax.plot(
            (centre + spread).ravel(),
            values.ravel(),
            linestyle="",
            color=colour,
            marker=marker,
            markersize=7,
            alpha=0.75,
            label=name,
        )
        ax.hlines(values.mean(0), centre - 0.1, centre + 0.1, color=ROLE["label"], linewidth=2.2)
    ax.axhline(
        even, color=ROLE["label"], linestyle="--", linewidth=1, label=f"an even map: {even:.0%}"
    )
    ax.set_xticks(range(len(layers)), layers)
    ax.set(
        xlim=(-0.5, len(layers) - 0.5),
        ylabel="share of mass on the object",
        title="Who looks at the object?",
    )
    ax.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def draw_results(ours: Mapping[str, Sequence[float]], published: Mapping[str, Sequence[float]]):
    """Change of the error, in % points, against a student of labels alone: a mark per run, a bar at
    the mean; below 0 is better.

    ours: method -> a value per seed.   published: method -> a value per pair of networks.
    """
    looks = {
        name: (CYCLE[i % 6], MARKERS[i % 6])
        for i, name in enumerate(dict.fromkeys([*ours, *published]))
    }
    fig, axes = figure(1, 2, width=10.5, height=3.8)
    for ax, groups, title in zip(
        axes,
        (ours, published),
        ("Here: scenes, a mark per seed", "Published: CIFAR-10, a mark per pair"),
    ):
        for i, (name, values) in enumerate(groups.items()):
            values, (colour, marker) = np.asarray(values, dtype=float), looks[name]
            ax.plot(
                i + np.linspace(-0.15, 0.15, len(values)),
                values,
                linestyle="",
                marker=marker,
                color=colour,
                alpha=0.8,
                markersize=7,
            )
            ax.plot([i - 0.32, i + 0.32], [values.mean()] * 2, color=ROLE["label"], linewidth=2.5)
        ax.axhline(0, color=ROLE["label"], linestyle="--", linewidth=1)
        ax.set_xticks(range(len(groups)), groups, fontsize=10)
        ax.set(xlim=(-0.6, len(groups) - 0.4), ylabel="change in error, % points", title=title)
    return fig
