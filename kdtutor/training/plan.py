"""How a distiller's stages share the epochs, and the optimisers of their players."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..distiller import OptimizerFactory, Stage


class Part(NamedTuple):
    """A stage and the epochs that it gets: ``count`` of them, the first with number ``first``."""

    stage: Stage
    first: int
    count: int  # type: ignore[assignment]  # tuples have a method of that name, not used here


def share_epochs(stages: Sequence[Stage], epochs: int) -> list[Part]:
    """Shares the epochs out by the stages' shares, at least one each.

    Args:
        stages: in the order of training.
        epochs: of all stages together.

    Returns:
        A ``Part`` per stage.

    Raises:
        ValueError: for fewer epochs than stages.

    Example:
        >>> from kdtutor.distiller import Player
        >>> players = [Player("net", dict, [torch.nn.Parameter(torch.zeros(1))])]
        >>> stages = [Stage("a", 1, players), Stage("b", 2, players)]
        >>> [part.count for part in share_epochs(stages, 9)]
        [3, 6]
    """
    if epochs < len(stages):
        raise ValueError(
            f"{epochs} epochs for {len(stages)} stages ({', '.join(s.name for s in stages)}): each "
            "needs at least one."
        )
    whole, ends, passed = sum(s.share for s in stages), [0], 0.0
    for i, stage in enumerate(stages):
        passed += stage.share
        low, high = ends[-1] + 1, epochs - (len(stages) - 1 - i)
        ends.append(min(max(round(epochs * passed / whole), low), high))
    return [Part(s, begin, end - begin) for s, begin, end in zip(stages, ends, ends[1:])]


def optimizers_of(stage: Stage, usual: OptimizerFactory) -> list[torch.optim.Optimizer]:
    """An optimiser for each player: its own, or the usual one."""
    return [(player.optimizer or usual)(player.parameters) for player in stage.players]


def restore(optimizers: Sequence[torch.optim.Optimizer], states: Sequence[dict]) -> None:
    """Puts saved states back, in the memory format of the parameters."""
    for optimizer, saved in zip(optimizers, states):
        optimizer.load_state_dict(saved)
        for parameter, values in optimizer.state.items():
            for key, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # Fused optimisers walk both side by side.
                    values[key] = torch.empty_like(parameter).copy_(value)
