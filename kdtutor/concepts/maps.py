"""EntropyMaps: what a layer still knows about each cell of each image, with everything needed to
judge the map.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import explained

HALF_LOG_2PIE = 0.5 * math.log(2 * math.pi * math.e)
TOLERANCE = 0.05  # nats; a quarter of the paper's threshold b
PER_IMAGE = ("sigma", "feature_scale", "steps", "agreement")  # fields with a row per image


@explained
def entropy(sigma: Tensor) -> Tensor:
    """The entropy of N(x_i, sigma_i^2), elementwise: H_i = log sigma_i + 1/2 log(2 pi e).

    Args:
        sigma: Any shape, > 0.

    Returns:
        The same shape, in nats.

    Example:
        >>> round(entropy(torch.tensor(1.0)).item(), 4)
        1.4189
    """
    return sigma.log() + HALF_LOG_2PIE


@explained
@dataclass(frozen=True, eq=False)
class EntropyMaps:
    """Maps of N images for one layer of one network.

    Attributes:
        sigma: (N, g, g), the noise of each cell, in units of the network's input. A dead image's
            map is NaN.
        feature_scale: (N,) mean squared change of the feature under noise of sigma_0 everywhere.
        steps: (N,) descent steps after which the kept map stood.
        agreement: (N,) Spearman's rank correlation with the first-order map, NaN where there is
            none.
        layer: The path of the layer.
        target: The mean entropy that was asked for, in nats, or None.
        settings: Everything that decides the result.

    Example:
        >>> ones = torch.ones(2)
        >>> maps = EntropyMaps(torch.full((2, 3, 3), 0.02), ones, ones, ones, "fc", None)
        >>> maps
        EntropyMaps(2 images, 3x3 cells, layer 'fc')
        >>> len(maps.select([0])), maps.grid, round(maps.mean[0].item(), 3)
        (1, 3, -2.493)
    """

    sigma: Tensor
    feature_scale: Tensor
    steps: Tensor
    agreement: Tensor
    layer: str
    target: float | None
    settings: dict = field(default_factory=dict)

    @property
    def entropy(self) -> Tensor:
        """(N, g, g), log sigma + 1/2 log 2 pi e, in nats; *low*: the layer keeps what it sees."""
        return entropy(self.sigma)

    @property
    def grid(self) -> int:
        """g, cells to a side."""
        return self.sigma.shape[-1]

    @property
    def mean(self) -> Tensor:
        """(N,) mean entropy over cells, how much is discarded in all."""
        return self.entropy.mean((1, 2))

    @property
    def dead(self) -> Tensor:
        """(N,) bool, ``feature_scale`` is 0: the feature does not answer to the image at all."""
        return self.feature_scale == 0

    @property
    def reached(self) -> Tensor:
        """(N,) bool, is ``mean`` within 0.05 nats of ``target``?

        Maps that are not may not be compared with others. With target None (no such comparison
        wanted): all but the dead.
        """
        return ~self.dead if self.target is None else (self.mean - self.target).abs() <= TOLERANCE

    def __len__(self) -> int:
        return len(self.sigma)

    def __repr__(self) -> str:
        goal = (
            ""
            if self.target is None
            else f", target {self.target:g} reached by {int(self.reached.sum())}"
        )
        dead = f", {int(self.dead.sum())} dead" if self.dead.any() else ""
        return (
            f"EntropyMaps({len(self)} images, {self.grid}x{self.grid} cells, layer "
            f"{self.layer!r}{goal}{dead})"
        )

    def select(self, rows) -> "EntropyMaps":
        """The maps of these images only.

        Args:
            rows: Positions or a bool mask.

        Returns:
            ``EntropyMaps`` with the same layer, target and settings.
        """
        rows = torch.as_tensor(rows)
        kept: dict[str, Any] = {k: getattr(self, k)[rows] for k in PER_IMAGE}
        return replace(self, **kept)

    def frame(self):
        """The maps as a tidy table.

        Returns:
            A pandas table with a row per image: image, layer, mean entropy, reached, dead, steps,
            agreement, feature_scale.
        """
        import pandas as pd

        columns = {
            k: getattr(self, k).tolist()
            for k in ("mean", "reached", "dead", "steps", "agreement", "feature_scale")
        }
        return pd.DataFrame({"image": range(len(self)), "layer": self.layer, **columns})

    @classmethod
    def joined(cls, parts: Sequence["EntropyMaps"]) -> "EntropyMaps":
        """The maps of several batches of images as one.

        Args:
            parts: One ``EntropyMaps`` or more.

        Returns:
            ``EntropyMaps`` of all their images, in order, with the first's settings.

        Raises:
            ValueError: Unless layer, target and grid are the same.
        """
        first = parts[0]
        for part in parts[1:]:
            if (part.layer, part.target, part.grid) != (first.layer, first.target, first.grid):
                raise ValueError(
                    f"cannot join {first!r} and {part!r}: layer, target and grid must be the same."
                )
        all_of_them: dict[str, Any] = {
            k: torch.cat([getattr(p, k) for p in parts]) for k in PER_IMAGE
        }
        return replace(first, **all_of_them)


@explained
def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation of each row; ties share their mean rank.

    Args:
        a, b: (N, n).

    Returns:
        (N,) float32; NaN for a constant or NaN row.

    Example:
        >>> a = torch.tensor([[1.0, 2.0, 3.0]])
        >>> round(rank_correlation(a, a**3).item(), 4), round(rank_correlation(a, -a).item(), 4)
        (1.0, -1.0)
    """
    from scipy.stats import rankdata

    def standard(t):
        t = t.detach().double().cpu()
        ranks = torch.as_tensor(rankdata(t.numpy(), axis=1)) if t.numel() else t
        ranks[t.isnan().any(1)] = math.nan
        ranks = ranks - ranks.mean(1, keepdim=True)
        return ranks / ranks.norm(dim=1, keepdim=True)

    return (standard(a) * standard(b)).sum(1).float()


def report(maps: EntropyMaps) -> EntropyMaps:
    """Says aloud what must not pass unseen: dead images, and maps that missed the target.

    Args:
        maps: What was found.

    Returns:
        The same maps; with a warning where images are dead, and one where the mean entropy is not
        the target.

    Raises:
        ValueError: Where the layer is dead for all images.
    """
    dead, off = maps.dead, ~maps.reached & ~maps.dead
    if dead.all():
        raise ValueError(
            f"layer {maps.layer!r} does not answer to the image for any of the {len(maps)} images "
            "(sigma_f = 0): it is "
            "constant or dead; choose another layer, or look at how the network was trained."
        )
    if dead.any():
        warnings.warn(
            f"layer {maps.layer!r} does not answer to the image for {int(dead.sum())} of "
            f"{len(maps)} images (sigma_f = 0), at "
            f"positions {dead.nonzero().flatten().tolist()[:10]}: their maps are NaN.",
            stacklevel=4,
        )
    if off.any():
        warnings.warn(
            f"the mean entropy of {int(off.sum())} of {len(maps)} maps of {maps.layer!r} is not "
            f"the target {maps.target:g} "
            f"(they lie between {maps.mean[off].min():.2f} and {maps.mean[off].max():.2f}): do "
            "not compare them with others. "
            "More iterations, or another target, may help.",
            stacklevel=4,
        )
    return maps
