"""Averaged weights: an exponential moving average over the steps, measured and kept instead of the
weights of the last step.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..distiller import Distiller


class Averaged:
    """The moving average of a network's weights and statistics.

    After step n, average <- d * average + (1 - d) * weights, d = min(decay, (1 + n) / (10 + n)), so
    that the first weights, which know nothing, are soon forgotten.

    Args:
        net: the network that trains.
        decay: in [0, 1): 0.999 looks back some thousand steps.

    Raises:
        ValueError: for another decay.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> average = Averaged(net, 0.9)
        >>> torch.equal(average.net.weight, net.weight), average.net is net
        (True, False)
    """

    def __init__(self, net: nn.Module, decay: float):
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(
                f"ema={decay!r}: expected the decay of the averaged weights, a number in [0, 1) "
                "such as 0.999, or None for none."
            )
        self.decay, self.steps = float(decay), 0
        self.net = copy.deepcopy(net).requires_grad_(False).eval()

    @classmethod
    def of(cls, distiller: Distiller, decay: float) -> "Averaged":
        """The average of what a distiller deploys.

        Raises:
            ValueError: for another decay, and for a copy, which could not be given the average.
        """
        net, own = distiller.deploy(), {id(p) for p in distiller.parameters()}
        if any(id(p) not in own for p in net.parameters()):
            raise ValueError(
                f"ema={decay!r}: what {type(distiller).__name__} deploys is a copy, and its "
                "average would be lost: deploy() must give the network itself, or one made of its "
                "modules."
            )
        return cls(net, decay)

    @torch.no_grad()
    def step(self, net: nn.Module) -> None:
        """Takes the network's weights in, after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mine, theirs in zip(_tensors(self.net), _tensors(net)):
            if not mine.is_floating_point():
                mine.copy_(theirs)
            elif isinstance(mine, nn.Parameter):
                mine.lerp_(theirs.to(mine), 1 - decay)
            else:  # a mask's -inf has no mean with itself
                new = mine.lerp(theirs.to(mine), 1 - decay)
                mine.copy_(torch.where(mine == theirs, mine, new))

    def state(self) -> dict:
        """What continues it."""
        return {"steps": self.steps, "weights": dict(self.net.state_dict())}

    def load(self, state: dict) -> None:
        """Goes on from ``state()``."""
        self.steps = state["steps"]
        self.net.load_state_dict(state["weights"])

    def give(self, net: nn.Module) -> None:
        """Puts the averaged weights into the network."""
        net.load_state_dict(self.net.state_dict())


def _tensors(net: nn.Module) -> Iterator[Tensor]:
    """Each tensor once, where a state_dict names tied weights twice."""
    yield from net.parameters()
    yield from net.buffers()
