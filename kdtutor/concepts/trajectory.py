"""The same images through the checkpoints of one training run: what the layer knew, epoch by
epoch."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..display.progress import bar
from ..errors import check_variant
from ..runs import load_weights
from .entropy import entropy_map
from .maps import EntropyMaps


@dataclass(frozen=True, eq=False)
class Trajectory:
    """epochs: of the checkpoints, rising.   maps: the ``EntropyMaps`` of the same images at each of
    them.
    """

    epochs: list[int]
    maps: list[EntropyMaps]

    def entropy(self) -> Tensor:
        """(M, N, g, g), in nats."""
        return torch.stack([m.entropy for m in self.maps])


def checkpoints(run_dir) -> dict[int, Path]:
    """{epoch: file} of the weights that ``fit(…, run_dir=…, snapshots=…)`` kept. Raises
    ``ValueError`` where there are none.
    """
    found = {
        int(m[1]): f
        for f in sorted(Path(run_dir).glob("epoch_*.safetensors"))
        if (m := re.fullmatch(r"epoch_(\d+)", f.stem))
    }
    if not found:
        raise ValueError(
            f"{run_dir} holds no weights of epochs: train with fit(…, run_dir={str(run_dir)!r}, "
            "snapshots=[0, 1, 2, …])."
        )
    return dict(sorted(found.items()))


def trajectory(
    net: nn.Module,
    weights,
    images: Tensor,
    layer: str,
    *,
    make=entropy_map,
    progress: bool = True,
    **settings,
) -> Trajectory:
    """The maps of some images at every checkpoint: checkpoints one after the other, all images at
    each.

    net: gives the architecture only; a copy of it takes one set of weights after the other, so
    memory holds one network beside yours. weights: a run's folder (``checkpoints``), or {epoch:
    file of ``save_weights``, state dict, or a function that loads one}. make: ``entropy_map`` or
    ``first_order_map``, called with ``settings``; the same seed, so the same noise, at every
    checkpoint. Raises ``ValueError`` for weights that do not fit and for what ``make`` refuses,
    naming the epoch."""
    files = weights if isinstance(weights, Mapping) else checkpoints(weights)
    own, epochs, maps = copy.deepcopy(net), sorted(files), []
    with bar(progress, total=len(epochs), desc=f"checkpoints, {layer}", unit="checkpoint") as show:
        for epoch in epochs:
            given = files[epoch]() if callable(files[epoch]) else files[epoch]
            try:
                own.load_state_dict(given) if isinstance(given, Mapping) else load_weights(
                    own, given
                )
            except RuntimeError as error:
                raise ValueError(
                    f"the weights of epoch {epoch} belong to another architecture than "
                    f"{type(net).__name__}: "
                    f"{error}"
                ) from error
            try:
                maps.append(make(own, images, layer, progress=False, **settings))
            except ValueError as error:
                raise ValueError(f"checkpoint of epoch {epoch}: {error}") from error
            show.update(1)
    return Trajectory(epochs, maps)


def weight_distance(history, epochs: Sequence[int], variant: str = "paper") -> list[float]:
    """How far the weights had come after each of ``epochs``: sum over k of ||w_k - w_(k-1)|| /
    ||w_0||, k epochs; 0 at epoch 0.

    history: of ``fit(…, weight_path="fc1")``, which logs the weights of that layer (the authors'
    code: the analysed layer's). variant "code": k counts steps, not epochs, so the path is much
    longer; it can be compared only at equal steps per epoch. Raises ``ValueError`` for a history
    without these columns and for epochs that were not trained."""
    column = "moved_by_steps" if check_variant(variant) == "code" else "moved"
    rows = history.rows
    if not rows or column not in rows[0]:
        raise ValueError(
            "this history does not know how far the weights moved: train with fit(…, "
            "weight_path='layer')."
        )
    if min(epochs) < 0 or max(epochs) > len(rows):
        raise ValueError(f"epochs={list(epochs)}, but {len(rows)} were trained.")
    total = [0.0]
    for row in rows:
        total.append(total[-1] + row[column] / rows[0]["weight_norm"])
    return [total[e] for e in epochs]
