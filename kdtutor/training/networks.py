"""What is measured of a run's networks, and which weights are kept."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..datasets import Data, Split
from ..distiller import Distiller
from ..tasks import Metric
from .averaging import Averaged
from .evaluation import measure


class Networks(NamedTuple):
    """The networks of a distiller as they are measured: the deployed one, or its average, first."""

    distiller: Distiller
    data: Data
    metric: Metric | None
    average: Averaged | None
    at_once: int  # examples

    @property
    def kept(self) -> nn.Module:
        """The network that is measured and kept."""
        return self.average.net if self.average else self.distiller.deploy()

    def weights(self) -> dict[str, Any]:
        """A copy of what ``kept`` weighs."""
        return _copied(self.kept)

    def measured(self, split: Split, what: str, end: str = "") -> dict[str, float]:
        """{"val_accuracy": ...} of what is kept, {"net2.val_accuracy": ...} of others.

        Args:
            split: the examples.
            what: "val" or "test".
            end: of the names.
        """
        networks = self.distiller.networks()
        if self.average:
            # The weights of the last step stand beside their average, under this name.
            first, *others = networks.items()
            networks = {"average": self.average.net, "last_step": first[1], **dict(others)}
        found: dict[str, float] = {}
        for i, (name, net) in enumerate(networks.items()):
            prefix = f"{name}.{what}_" if i else f"{what}_"
            found |= {f"{prefix}{k}{end}": v for k, v in self.values(net, split).items()}
        return found

    def values(self, net: nn.Module, split: Split) -> dict[str, float]:
        """{metric: value} of one network."""
        assert self.metric is not None
        device = next(self.distiller.parameters()).device
        return measure(net, self.data.batches(split, self.at_once, device=device), self.metric)

    @contextmanager
    def as_it_was(self, state: dict[str, Any]) -> Iterator[nn.Module]:
        """The deployed network with other weights, for as long as the block lasts."""
        net = self.distiller.deploy()
        last = _copied(net)
        net.load_state_dict(state)
        try:
            yield net
        finally:
            net.load_state_dict(last)


def _copied(net: nn.Module) -> dict[str, Any]:
    """What a network weighs, and what else it keeps in its state (``get_extra_state``)."""
    return {
        k: v.detach().clone() if isinstance(v, Tensor) else copy.deepcopy(v)
        for k, v in net.state_dict().items()
    }
