"""The seam: a distiller is a plan, stages in time, and in each stage players that each minimise
named loss terms over their own parameters. Every method is a ``Distiller``; the training loop knows
nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..datasets import Batch, Split
from ..taps import eval_mode, example_input
from ..teacher import Teacher

Terms = Mapping[str, Tensor]
OptimizerFactory = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


@dataclass
class Player:
    """Someone who plays in a stage: minimises the sum of its terms over its own parameters, and
    touches no others.

    terms: batch -> {name: weighted scalar tensor}.   optimizer: makes the player's own optimiser
    from its parameters (None: the one ``fit`` was given). An adversary is a second player; players
    step in the order of the stage's list."""

    name: str
    terms: Callable[[Batch], Terms]
    parameters: Sequence[nn.Parameter]
    optimizer: OptimizerFactory | None = None

    def __post_init__(self):
        self.parameters = [p for p in self.parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError(
                f"player {self.name!r} has no trainable parameter. Is its network frozen (does it "
                "serve as a Teacher "
                "too)? A Teacher freezes its network: give the student a network of its own."
            )


@dataclass
class Stage:
    """A stretch of training. share: fraction of the epochs that it gets (shares are normalised to
    sum to 1).
    """

    name: str
    share: float = 1.0
    players: Sequence[Player] = field(default_factory=list)

    def __post_init__(self):
        if not self.share > 0:
            raise ValueError(f"stage {self.name!r} has share {self.share}: it must be > 0.")
        if not self.players:
            raise ValueError(f"stage {self.name!r} has no players: nobody would learn anything.")


class Distiller(nn.Module):
    """Owns the student and everything that is learned beside it (regressors, branches, memories:
    submodules and buffers).

    A subclass says what it minimises in ``terms``; only methods with several stages or players
    override ``stages``, and only those with helpers around the student override ``deploy``.
    Teachers are kept as ``self.teacher``: a ``Teacher`` is no submodule, so ``parameters()``,
    ``train()`` and checkpoints never touch it.

    progress: how much of the current stage has passed, in [0, 1); ``fit`` sets it before each step,
    for annealed weights."""

    progress: float = 0.0

    def __init__(self, student: nn.Module):
        super().__init__()
        self.student = student

    def prepare(self, train: Split) -> None:
        """Called by ``fit`` before anything else with the examples that will be trained on, for
        methods that keep a memory of them.
        """

    def stages(self) -> list[Stage]:
        """One stage, one player with all trainable parameters. Called by ``fit`` once, on the
        device of training.
        """
        return [Stage("train", 1.0, [Player("student", self.terms, list(self.parameters()))])]

    def terms(self, batch: Batch) -> Terms:
        """{name: weighted scalar tensor}; their sum is the objective, and the loop logs each."""
        raise NotImplementedError(
            f"{type(self).__name__} must say what it minimises: def terms(self, batch) -> dict."
        )

    def deploy(self) -> nn.Module:
        """The network that is kept: no regressors, no branches, no auxiliary heads."""
        return self.student

    def teachers(self) -> list[Teacher]:
        """The frozen teachers, for ``fit`` to move to its device and to name in the run's spec."""
        return [t for t in vars(self).values() if isinstance(t, Teacher)]

    def settings(self) -> dict[str, Any]:
        """The plain numbers, names and switches that were set on the distiller: what a run's spec
        records.
        """
        return {
            k: v
            for k, v in vars(self).items()
            if not k.startswith("_") and k not in ("training", "progress") and _plain(v)
        }


def _plain(value) -> bool:
    return (
        all(map(_plain, value))
        if isinstance(value, (tuple, list))
        else isinstance(value, (bool, int, float, str, type(None)))
    )


def as_teacher(teacher: Teacher | nn.Module) -> Teacher:
    """A network as a frozen ``Teacher``; a ``Teacher`` stays what it is."""
    return teacher if isinstance(teacher, Teacher) else Teacher(teacher)


def check_batch(net: nn.Module, batch: Batch, who: str = "student") -> None:
    """Raises ``ValueError`` with both devices unless the batch's inputs and labels lie where the
    network is.
    """
    device = next((p.device for p in net.parameters()), None)
    for what, t in (("inputs are", batch.x), ("labels are", batch.y)):
        if device is not None and isinstance(t, Tensor) and t.device != device:
            raise ValueError(
                f"the batch's {what} on {t.device} but the {who} is on {device}: move one with "
                ".to(device). "
                "``fit`` moves all."
            )


def check_same_answers(student: nn.Module, teacher: Teacher, example: Tensor | None = None) -> None:
    """One dry batch before any training: raises ``ValueError`` unless both answer for the same
    classes.
    """
    x = example_input(student, example)
    with eval_mode(student):
        check_classes(student(x), teacher.to(x.device)(x))


def check_classes(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raises ``ValueError`` with both shapes unless student and teacher answer for the same
    classes.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            "student and teacher have different numbers of classes: logits "
            f"{tuple(student_logits.shape)} against "
            f"{tuple(teacher_logits.shape)}. Distillation of answers needs the same classes in "
            "the same order."
        )
