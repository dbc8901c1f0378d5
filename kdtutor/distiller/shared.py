"""Each network runs once per step, however many methods ask what it answers."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..taps import Taps, call


class SharedRuns:
    """The runs of one step: a network that is asked again about the same inputs, with the same
    weights and in the same mode, gives the answer that it gave, with its graph.

    Args:
        layers: {network: the paths that are read of it by anyone}; all are read in the first run.
    """

    def __init__(self, layers: Mapping[nn.Module, Iterable[str]] | None = None):
        self.layers = {net: list(dict.fromkeys(paths)) for net, paths in (layers or {}).items()}
        self._runs: dict[int, tuple] = {}

    def run(self, net: nn.Module, x, layers: Iterable[str] = ()) -> tuple[Any, dict[str, Tensor]]:
        """(output, {path: feature}) for inputs x."""
        layers = list(dict.fromkeys([*self.layers.get(net, ()), *layers]))
        # A step changes the weights in place, which counts their versions up.
        now = (net.training, torch.is_grad_enabled(), [p._version for p in net.parameters()])
        inputs, then, kept = self._runs.get(id(net), (None, None, None))
        if inputs is x and then == now and set(layers) <= set(kept[1]):
            return kept
        ran = Taps(net, layers)(x) if layers else (call(net, x), {})
        if net in self.layers:
            self._runs[id(net)] = (x, now, ran)
        return ran
