"""The same images through the checkpoints of one training run: what the layer knew, epoch by
epoch."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..display.progress import bar
from ..errors import check_variant, explained
from ..runs import load_weights
from .entropy import entropy_map
from .maps import EntropyMaps


@explained
@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a layer knew of the same images, checkpoint by checkpoint.

    Attributes:
        epochs: Of the M checkpoints, rising.
        maps: The ``EntropyMaps`` of the same images at each of them.
    """

    epochs: list[int]
    maps: list[EntropyMaps]

    def entropy(self) -> Tensor:
        """The entropies of all checkpoints.

        Returns:
            (M, N, g, g), in nats.
        """
        return torch.stack([m.entropy for m in self.maps])


@explained
def checkpoints(run_dir) -> dict[int, Path]:
    """The weights that ``fit(…, run_dir=…, snapshots=…)`` kept.

    Args:
        run_dir: A run's folder.

    Returns:
        {epoch: file}, rising.

    Raises:
        ValueError: Where there are none.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("epoch_10", "epoch_2", "student"):
        ...     (folder / f"{name}.safetensors").touch()
        >>> list(checkpoints(folder))
        [2, 10]
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


@explained
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
    """The maps of some images at every checkpoint: one after the other, all images at each.

    Args:
        net: Gives the architecture only; a copy of it takes one set of weights after the other, so
            memory holds one network beside yours.
        weights: A run's folder (``checkpoints``), or {epoch: file of ``save_weights``, state dict,
            or a function that loads one}.
        images: (N, C, H, W) float, as the network sees them.
        layer: A module path as in ``kdtutor.taps``.
        make: ``entropy_map`` or ``first_order_map``; the same seed, so the same noise, at every
            checkpoint.
        progress: Show a bar.
        **settings: Of ``make``.

    Returns:
        A ``Trajectory``.

    Raises:
        ValueError: For weights that do not fit, and for what ``make`` refuses, naming the epoch.

    Example:
        >>> from kdtutor.concepts import first_order_map
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
        >>> kept = {0: net.state_dict(), 5: net.state_dict()}
        >>> images = torch.rand(3, 1, 4, 4)
        >>> path = trajectory(net, kept, images, "1", make=first_order_map, grid=2, progress=False)
        >>> path.epochs, path.entropy().shape
        ([0, 5], torch.Size([2, 3, 2, 2]))
    """
    files = weights if isinstance(weights, Mapping) else checkpoints(weights)
    own, epochs, maps = copy.deepcopy(net), sorted(files), []
    with bar(progress, total=len(epochs), desc=f"checkpoints, {layer}", unit="checkpoint") as show:
        for epoch in epochs:
            source: Any = files[epoch]
            given = source() if callable(source) else source
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


@explained
def weight_distance(history, epochs: Sequence[int], variant: str = "paper") -> list[float]:
    """How far the weights had come: sum over k of ||w_k - w_(k-1)|| / ||w_0||, k epochs.

    Args:
        history: Of ``fit(…, weight_path="fc1")``, which logs the weights of that layer (the
            authors' code: the analysed layer's).
        epochs: After which to say it; 0 at epoch 0.
        variant: "paper", or "code": k counts steps, not epochs, so the path is much longer; it can
            be compared only at equal steps per epoch.

    Returns:
        A number for each of ``epochs``.

    Raises:
        ValueError: For a history without these columns and for epochs that were not trained.

    Example:
        >>> from types import SimpleNamespace
        >>> rows = [{"moved": 1.0, "weight_norm": 4.0}, {"moved": 0.5, "weight_norm": 4.0}]
        >>> weight_distance(SimpleNamespace(rows=rows), [0, 1, 2])
        [0.0, 0.25, 0.375]
    """
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
