"""EntropyMaps: what a layer still knows about each cell of each image, with everything needed to
judge the map.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

HALF_LOG_2PIE = 0.5 * math.log(2 * math.pi * math.e)
TOLERANCE = 0.05  # nats; a quarter of the paper's threshold b


def entropy(sigma: Tensor) -> Tensor:
    """H_i = log sigma_i + 1/2 log(2 pi e), in nats, elementwise: the entropy of N(x_i,
    sigma_i^2)."""
    return sigma.log() + HALF_LOG_2PIE


@dataclass(frozen=True, eq=False)
class EntropyMaps:
    """Maps of N images for one layer of one network.

    sigma: (N, g, g), the noise of each cell, in units of the network's input.   ``entropy``: (N, g,
    g), H = log sigma + 1/2 log 2 pi e, in nats: *low* where the layer keeps what it sees. A dead
    image's map is NaN. ``mean``: (N,) mean entropy over cells, how much is discarded in all.
    ``reached``: (N,) bool, is that within 0.05 nats of ``target``? Maps that are not may not be
    compared with others. With target None (no such comparison wanted): all but the dead.
    feature_scale: (N,) mean squared change of the feature under noise of sigma_0 everywhere.
    ``dead``: (N,) bool, it is 0: the feature does not answer to the image at all. steps: (N,)
    descent steps after which the kept map stood.   agreement: (N,) Spearman's rank correlation with
    the first-order map, NaN where there is none.   settings: everything that decides the result.
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
        return entropy(self.sigma)

    @property
    def grid(self) -> int:
        return self.sigma.shape[-1]

    @property
    def mean(self) -> Tensor:
        return self.entropy.mean((1, 2))

    @property
    def dead(self) -> Tensor:
        return self.feature_scale == 0

    @property
    def reached(self) -> Tensor:
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
        """The maps of these images only (positions or a bool mask)."""
        rows = torch.as_tensor(rows)
        return replace(
            self,
            **{k: getattr(self, k)[rows] for k in ("sigma", "feature_scale", "steps", "agreement")},
        )

    def frame(self):
        """A tidy pandas table with a row per image: mean entropy, reached, dead, steps, agreement,
        feature_scale.
        """
        import pandas as pd

        columns = {
            k: getattr(self, k).tolist()
            for k in ("mean", "reached", "dead", "steps", "agreement", "feature_scale")
        }
        return pd.DataFrame({"image": range(len(self)), "layer": self.layer, **columns})

    @classmethod
    def joined(cls, parts: Sequence["EntropyMaps"]) -> "EntropyMaps":
        """The maps of several batches of images as one. Raises ``ValueError`` unless layer, target
        and grid are the same.
        """
        first = parts[0]
        for part in parts[1:]:
            if (part.layer, part.target, part.grid) != (first.layer, first.target, first.grid):
                raise ValueError(
                    f"cannot join {first!r} and {part!r}: layer, target and grid must be the same."
                )
        return replace(
            first,
            **{
                k: torch.cat([getattr(p, k) for p in parts])
                for k in ("sigma", "feature_scale", "steps", "agreement")
            },
        )


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation of each row: (N, n), (N, n) -> (N,), ties share their mean rank;
    NaN for a constant or NaN row.
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
    """Says aloud what must not pass unseen: dead images, and maps whose mean entropy is not the
    target. Returns the maps.
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
            stacklevel=3,
        )
    if off.any():
        warnings.warn(
            f"the mean entropy of {int(off.sum())} of {len(maps)} maps of {maps.layer!r} is not "
            f"the target {maps.target:g} "
            f"(they lie between {maps.mean[off].min():.2f} and {maps.mean[off].max():.2f}): do "
            "not compare them with others. "
            "More iterations, or another target, may help.",
            stacklevel=3,
        )
    return maps
