"""How far a layer's weights travel while they are trained, logged epoch by epoch."""

import torch
from torch import Tensor, nn

from ..errors import unknown


class WeightPath:
    """Follows the weights of one module (its matrices and kernels; no biases, no normalisation),
    all of them as one vector w.

    ``row()`` of an epoch: weight_norm ||w|| at its beginning, moved ||w_end - w_begin||,
    moved_by_steps the sum of ||w_t - w_(t-1)|| over its steps.   layer: a module path, or "" for
    the whole network.   Raises ``ValueError`` for a path that does not exist or a module without
    such weights."""

    def __init__(self, net: nn.Module, layer: str):
        modules = dict(net.named_modules())
        if layer not in modules:
            raise unknown(
                f"layer path in {type(net).__name__}",
                layer,
                [m for m in modules if m],
                "kdtutor.taps.layers(net) lists all.",
            )
        self.weights = [p for p in modules[layer].parameters() if p.ndim > 1]
        if not self.weights:
            raise ValueError(
                f"layer {layer!r} has no weights whose path could be followed: choose a linear or "
                "convolutional layer."
            )

    def begin(self) -> None:
        self._start = self._last = [w.detach().clone() for w in self.weights]
        self._steps = torch.zeros(())

    def step(self) -> None:
        now = [w.detach().clone() for w in self.weights]
        self._steps = self._steps.to(now[0].device) + _distance(now, self._last)
        self._last = now

    def row(self) -> dict[str, float]:
        start = torch.stack([w.norm() for w in self._start]).norm()
        return {
            "weight_norm": float(start),
            "moved": float(_distance(self._last, self._start)),
            "moved_by_steps": float(self._steps),
        }


def _distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return torch.stack([(x - y).norm() for x, y in zip(a, b)]).norm()
