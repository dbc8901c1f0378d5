"""``Distiller``, the seam: every method is one, and the training loop knows nothing else."""

import warnings
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..datasets import Batch, Split
from ..taps.written_down import check_learns
from ..tasks import Classification, Task
from ..teacher import Teacher
from .shared import SharedRuns
from .stages import Player, Stage, Terms
from .tensors import precise


class Distiller(nn.Module):
    """Owns the student and everything that is learned beside it (regressors, branches, memories:
    submodules and buffers).

    A subclass says what it minimises in ``terms``; only methods with several stages or players
    override ``stages``, only those with helpers around the student override ``deploy``, only those
    with several networks worth measuring override ``networks``. Teachers are kept as
    ``self.teacher``, or in lists and dicts: a ``Teacher`` is no submodule, so ``parameters()``,
    ``train()`` and checkpoints never touch it.

    Args:
        student: the network that learns.

    Attributes:
        progress: how much of the current stage has passed, in [0, 1); ``fit`` sets it before each
            step, for annealed weights.
        task: what a label is; ``fit`` sets it from the data.

    Example:
        >>> class Labels(Distiller):
        ...     def terms(self, batch):
        ...         return {"ce": self.task.loss(self.logits(self.student, batch.x), batch.y)}
        >>> Labels(nn.Linear(4, 3)).stages()[0].players[0].name
        'student'
    """

    progress: float = 0.0
    task: Task = Classification()
    labels_only = False  # does it minimise the label loss and nothing else?
    relates_examples = False  # does a loss relate the examples of a batch to one another?

    def __init__(self, student: nn.Module):
        super().__init__()
        if not isinstance(student, nn.Module):
            raise TypeError(
                f"student is a {type(student).__name__}; expected a torch.nn.Module, the network "
                "to train."
            )
        check_learns(student)
        self.student = student
        self._logged: dict[str, tuple[Any, int]] = {}
        self._frozen: list[nn.Module] = []
        self._runs: SharedRuns | None = None
        self._one_answer = False  # is it a tensor in eval mode? ``fit`` finds out

    # --- what a method says

    def prepare(self, train: Split) -> None:
        """Called by ``fit`` before anything else with the examples that will be trained on, for
        methods that keep a memory of them.
        """

    def check_first(self, batch: Batch) -> None:
        """Called by ``fit`` with a small batch before any training, everything on its device:
        raises ``ValueError`` for networks that cannot take or answer it.
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

    def after_step(self, batch: Batch) -> None:
        """Called after every step of all players, without gradients: for teachers that follow
        (EMA) and schedules of a method's own.
        """

    def networks(self) -> dict[str, nn.Module]:
        """{name: network} of what is worth measuring after each epoch (peers, exits, an ensemble).
        The first is the deployed one; the names of the others stand before their columns.
        """
        return {"student": self.deploy()}

    def deploy(self) -> nn.Module:
        """The network that is kept: no regressors, no branches, no auxiliary heads."""
        return self.student

    # --- what a method may use

    def run(self, net: nn.Module, x, layers=()) -> tuple[Any, dict[str, Tensor]]:
        """(output, {path: feature}) of a network. In a ``Composition`` the methods share one run of
        each network per step; alone this is a plain call.
        """
        return (self._runs or SharedRuns()).run(net, x, layers)

    def logits(self, net: nn.Module, x) -> Tensor:
        """The logits that a network's answer holds, in float32 at least."""
        output = self.run(net, x)[0]
        self.hear(output)
        return precise(self.task.logits(output))

    def hear(self, output: Any) -> None:
        """Warns, once, of answers in training of which eval mode makes one, as a distilled DeiT's
        two heads: only the first would be trained.
        """
        if self._one_answer and _alike(output):
            self._one_answer = False
            warnings.warn(
                f"{type(self.student).__name__} answers with a {type(output).__name__} of "
                f"{len(output)} equal shapes in training and with one tensor in eval mode: only "
                "the first is trained, and if eval mode uses the others, they stay as they are. "
                "Say what is meant, for their mean adapt(student, output=lambda z: z if "
                "isinstance(z, torch.Tensor) else (z[0] + z[1]) / 2) of kdtutor.models.",
                stacklevel=2,
            )

    def log(self, name: str, value: Tensor | float) -> None:
        """Logs a number that nobody minimises: its mean over an epoch's steps is in the history."""
        value = value.detach() if isinstance(value, Tensor) else float(value)
        if isinstance(value, Tensor) and value.ndim:
            raise ValueError(
                f"log({name!r}, ...) got a tensor of shape {tuple(value.shape)}; expected a number."
            )
        total, count = self._logged.get(name, (0.0, 0))
        self._logged[name] = (total + value, count + 1)

    # --- what the loop asks

    def nested(self) -> Iterator["Distiller"]:
        """This distiller and those inside it (the methods of a composition)."""
        return (m for m in self.modules() if isinstance(m, Distiller))

    def logged(self) -> dict[str, float]:
        """The means of what was logged since the last call."""
        means: dict[str, float] = {}
        for distiller in self.nested():
            means |= {k: float(total) / n for k, (total, n) in distiller._logged.items()}
            distiller._logged.clear()
        return means

    def teachers(self) -> list[Teacher]:
        """The frozen teachers, also those inside lists, dicts and helpers: for ``fit`` to move to
        its device and to name in the run's spec.
        """
        found: dict[int, Teacher] = {}
        for module in self.modules():
            for value in vars(module).values():
                found |= {id(t): t for t in _inside(value) if isinstance(t, Teacher)}
        return list(found.values())

    def settings(self) -> dict[str, Any]:
        """The plain numbers, names and switches that were set on the distiller: what a run's spec
        records in the open.
        """
        names = ("training", "progress", "task")
        return {
            k: v
            for k, v in vars(self).items()
            if not k.startswith("_") and k not in names and _plain(v)
        }

    def train(self, mode: bool = True) -> "Distiller":
        """Training or eval mode for all that learns. What the user froze stays in eval mode: a
        module that was in eval mode inside a network that trains (a frozen BatchNorm), and a
        network or module without trainable parameters (a teacher that follows by EMA).
        """
        if self.training:
            self._frozen = list(_frozen(self))
        super().train(mode)
        for module in self._frozen:
            for part in module.modules():
                part.training = False
        return self


def _alike(output: Any) -> bool:
    """Is it a plain tuple or list of several tensors of one shape?"""
    return (
        type(output) in (tuple, list)
        and len(output) > 1
        and all(isinstance(z, Tensor) and z.shape == output[0].shape for z in output)
    )


def _frozen(parent: nn.Module) -> Iterator[nn.Module]:
    """The topmost modules that stay in eval mode whatever the distiller's mode."""
    for child in parent.children():
        holder = isinstance(child, (nn.ModuleList, nn.ModuleDict, Distiller))
        own = list(child.parameters())
        fixed = not child.training and bool(own) and not any(p.requires_grad for p in own)
        # A network that is in eval mode as a whole was merely measured before: it trains again.
        inside = not isinstance(parent, (nn.ModuleList, nn.ModuleDict, Distiller))
        if fixed or (inside and parent.training and not child.training and not holder):
            yield child
        else:
            yield from _frozen(child)


def _inside(value) -> Iterator[Any]:
    """A value and what lists, tuples, sets and dicts hold of it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _inside(item)
    else:
        yield value


def _plain(value) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_plain, value))
    return isinstance(value, (bool, int, float, str, type(None)))
