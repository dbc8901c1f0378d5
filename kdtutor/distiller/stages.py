"""Who learns what, and when: stages in time, and in each stage players with their terms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..datasets import Batch

Terms = Mapping[str, Tensor]
OptimizerFactory = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]
Schedule = Callable[[float], float]


@dataclass
class Player:
    """Someone who plays in a stage: minimises the sum of its terms over its own parameters, and
    touches no others. Players step in the order of the stage's list; an adversary is a second one.

    Args:
        name: shown in the history; two or more players log ``name.term``, ``name.loss`` and
            ``name.lr``.
        terms: batch -> {name: weighted scalar tensor}.
        parameters: those that it owns; frozen ones are left out.
        optimizer: makes the player's own optimiser from its parameters (None: the one of ``fit``).
        schedule: progress of the stage in [0, 1) -> factor of its learning rate (None: that of
            ``fit``).
        steps: how many steps it takes on one batch, its terms computed again for each.

    Raises:
        ValueError: without a trainable parameter, or for ``steps`` below 1.

    Example:
        >>> line = nn.Linear(2, 1)
        >>> player = Player("critic", lambda batch: {"score": line(batch.x).mean()},
        ...                 list(line.parameters()), steps=5)
        >>> len(player.parameters)
        2
    """

    name: str
    terms: Callable[[Batch], Terms]
    parameters: Sequence[nn.Parameter]
    optimizer: OptimizerFactory | None = None
    schedule: Schedule | None = None
    steps: int = 1

    def __post_init__(self):
        self.parameters = [p for p in self.parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError(
                f"player {self.name!r} has no trainable parameter. Is its network frozen (does it "
                "serve as a Teacher too)? A Teacher freezes its network: give the student one of "
                "its own."
            )
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(
                f"player {self.name!r} has steps={self.steps!r}: expected how many steps it takes "
                "on one batch, a whole number of at least 1."
            )


@dataclass
class Stage:
    """A stretch of training.

    Args:
        name: shown in the history.
        share: fraction of the epochs that it gets (shares are normalised to sum to 1).
        players: who learns in it, in the order in which they step.

    Raises:
        ValueError: for a share that is not positive, no players, or two players of one name.

    Example:
        >>> line = nn.Linear(2, 1)
        >>> Stage("hint", 0.5, [Player("student", dict, list(line.parameters()))]).share
        0.5
    """

    name: str
    share: float = 1.0
    players: Sequence[Player] = field(default_factory=list)

    def __post_init__(self):
        if not self.share > 0:
            raise ValueError(f"stage {self.name!r} has share {self.share}: it must be > 0.")
        if not self.players:
            raise ValueError(f"stage {self.name!r} has no players: nobody would learn anything.")
        names = [p.name for p in self.players]
        if len(set(names)) < len(names):
            raise ValueError(
                f"stage {self.name!r} has players {names}: each needs a name of its own, because "
                "the history tells them apart by it."
            )


def check_terms(player: Player, terms) -> Terms:
    """The terms of a player. Raises ``ValueError`` that names the term unless they are a mapping of
    scalar tensors, at least one of them with a gradient."""
    who = f"the terms of player {player.name!r}"
    if not isinstance(terms, Mapping) or not terms:
        raise ValueError(
            f"{who} are {'empty' if terms == {} else type(terms).__name__}; expected "
            "{name: weighted scalar tensor}, at least one. Does the method return its dict?"
        )
    for name, value in terms.items():
        if not isinstance(name, str):
            raise ValueError(f"{who}: {name!r} is no name; expected strings as keys.")
        if not isinstance(value, Tensor) or value.ndim:
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"{who}: {name!r} is {'a tensor of shape ' if isinstance(value, Tensor) else ''}"
                f"{given}; expected a scalar tensor. Take the mean over the batch."
            )
    if not any(t.requires_grad for t in terms.values()):
        raise ValueError(
            f"{who}, {', '.join(map(repr, terms))}, have no gradient: nothing would be learned. "
            "Was the network run under torch.no_grad(), or its answer detached?"
        )
    return terms
