"""Several methods at once, with named weights: AT+KD, CRD+KD, DML+AT, ..."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from ..datasets import Batch, Split
from ..errors import check_weights, explained
from ..teacher import Teacher
from .distiller import Distiller
from .offline import Offline, label_term
from .outputs import Outputs
from .shared import SharedRuns
from .stages import Player, Stage, Terms


@explained
class Composition(Distiller):
    """L = ce_weight * the label loss + sum over methods of weight * (its terms without its own
    label term).

    Methods with a first stage (FitNet, FSP, AB) have theirs first, one after the other; in the last
    stage everybody plays. Players of several methods that train the same parameters become one,
    which minimises the sum: in DML+AT the first of DML's networks is the student that AT teaches,
    and the others stay as they are. Each network runs once per step, but for methods that
    differentiate with respect to their input or ask about other inputs (Jacobian, AT-gradient,
    BSS): those run it as often as alone.

    Args:
        methods: {name: a method}, all of the same student; teachers may differ.
        weights: {name: factor}, 1 where none is given; they multiply the method's own weights.
        ce_weight: of the label term, called "ce", which counts once: where no method brings
            labels of its own kind (DML, ONE), it is the student's label loss.

    Raises:
        ValueError: for different students, unknown names, methods that give one player's parameters
            to several players of another, or two methods that both bring an optimiser, a schedule
            or a number of steps for the same parameters.

    Example:
        >>> from kdtutor.methods import AttentionTransfer, Composition, Hinton
        >>> from kdtutor.models import resnet8
        >>> net, teacher = resnet8(classes=3), resnet8(classes=3)
        >>> both = Composition({"AT": AttentionTransfer(net, teacher), "KD": Hinton(net, teacher)})
        >>> [player.name for player in both.stages()[0].players]
        ['student']
    """

    def __init__(
        self,
        methods: Mapping[str, Distiller],
        weights: Mapping[str, float] | None = None,
        ce_weight: float = 1.0,
    ):
        methods = dict(methods) if isinstance(methods, Mapping) else {}
        weights = dict(weights or {})
        wrong = [
            name
            for name, m in methods.items()
            if not isinstance(m, Distiller)
            or isinstance(m, Composition)
            or m.labels_only
            or "." in name
            or not name
            or hasattr(nn.ModuleDict, name)
        ]
        if not methods or wrong:
            raise ValueError(
                "Composition adds offline methods, and others around the same student, by name, "
                "{'AT': AttentionTransfer(...), 'KD': Hinton(...)}: names without dots that torch "
                "leaves free, and no method of labels alone, which count once anyway (ce_weight); "
                f"{wrong or 'what was given'} cannot be added."
            )
        first = next(iter(methods.values()))
        if any(m.student is not first.student for m in methods.values()):
            raise ValueError(
                "the methods of a Composition must hold the same student object: build them all "
                "with it."
            )
        if set(weights) - set(methods):
            raise ValueError(
                f"weights for {sorted(set(weights) - set(methods))}, but the methods are "
                f"{sorted(methods)}."
            )
        super().__init__(first.student)
        self.names = tuple(methods)
        self.methods, self.ce_weight = nn.ModuleDict(methods), float(ce_weight)
        self.weights = tuple(float(weights.get(n, 1.0)) for n in self.names)
        check_weights(ce_weight=ce_weight, **dict(zip(self.names, self.weights)))
        self._offline = {n: m for n, m in methods.items() if isinstance(m, Offline)}
        self.input_gradient = any(m.input_gradient for m in self._offline.values())

    def _members(self) -> dict[str, Distiller]:
        return {name: cast(Distiller, self.methods[name]) for name in self.names}

    @property
    def logits_only(self) -> bool:
        """Does no method take more than logits from its teacher?"""
        return all(getattr(m, "logits_only", True) for m in self._members().values())

    def settings(self):
        inside = {
            n: {"method": type(m).__name__, **m.settings()} for n, m in self._members().items()
        }
        return super().settings() | {"methods": inside}

    def prepare(self, train: Split) -> None:
        for method in self._members().values():
            method.prepare(train)

    def after_step(self, batch: Batch) -> None:
        for method in self._members().values():
            method.after_step(batch)

    def networks(self) -> dict[str, nn.Module]:
        """Those of all methods, each once."""
        found = {"student": self.deploy()}
        for method in self._members().values():
            known = list(map(id, found.values()))
            found |= {n: net for n, net in method.networks().items() if id(net) not in known}
        return found

    # --- the plan

    def stages(self) -> list[Stage]:
        plans = {name: method.stages() for name, method in self._members().items()}
        early = [
            Stage(f"{name} {stage.name}", stage.share / sum(s.share for s in plan), stage.players)
            for name, plan in plans.items()
            for stage in plan[:-1]
        ]
        share = max(0.1, 1 - sum(stage.share for stage in early))
        groups: list[dict[str, Player]] = []  # players of several methods that are one
        for name, plan in plans.items():
            for player in plan[-1].players:
                group = self._group_of(name, player, groups)
                if group is None:
                    groups.append({name: player})
                else:
                    group[name] = player
        return [*early, Stage("train", share, [self._merged(group) for group in groups])]

    @staticmethod
    def _group_of(name: str, player: Player, groups: list[dict[str, Player]]):
        """The group of other methods' players that trains this player's parameters, if any.

        A method may train the same parameters by several players of its own (an adversary's second
        optimiser): these stay apart, and the others join the first.
        """
        ids = lambda *players: {id(p) for one in players for p in one.parameters}
        mine = ids(player)
        meets = [g for g in groups if mine & ids(*g.values())]
        joined = next((g for g in meets if name not in g), None)
        for g in meets:
            own = name in g and bool(mine & ids(g[name]))
            covered = joined is not None and mine & ids(*g.values()) <= ids(*joined.values())
            if not own and not covered:
                raise ValueError(
                    f"player {player.name!r} of {name} shares parameters with several players of "
                    "the other methods: which loss would then train what? Methods can be added "
                    "where each player of one meets at most one player of another."
                )
        return joined

    def _merged(self, group: dict[str, Player]) -> Player:
        """One player that minimises what all of them do."""
        own = {id(p): p for player in group.values() for p in player.parameters}
        learns = {id(p) for p in self.student.parameters()} & set(own)
        chosen: dict[str, Any] = {}
        for setting, usual in (("optimizer", None), ("schedule", None), ("steps", 1)):
            given = {n: getattr(p, setting) for n, p in group.items()}
            given = {n: v for n, v in given.items() if v != usual}
            if len(given) > 1:
                raise ValueError(
                    f"{' and '.join(given)} both bring {setting} of their own for the same "
                    "parameters: only one of the methods may."
                )
            chosen[setting] = next(iter(given.values()), usual)
        asked = {n: p.terms for n, p in group.items()}
        if learns:
            everyone = set(group) == set(self.methods) == set(self._offline)
            terms: Callable[[Batch], Terms] = (
                self.terms if everyone else partial(self._student_terms, asked)
            )
            online = [p.name for n, p in group.items() if n not in self._offline]
            name = online[0] if online else "student"
        else:
            terms, name = partial(self._other_terms, asked), next(iter(group.values())).name
        return Player(name, terms, list(own.values()), **chosen)

    def terms(self, batch: Batch) -> Terms:
        """What the student minimises: the label term and all methods' terms."""
        return self._student_terms({n: m.terms for n, m in self._members().items()}, batch)

    def _other_terms(self, asked: Mapping[str, Callable[[Batch], Terms]], batch: Batch) -> Terms:
        """Terms of players that train other networks, weighted and named."""
        factors = dict(zip(self.names, self.weights))
        terms: dict[str, Tensor] = {}
        for name, ask in asked.items():
            self._members()[name].progress = self.progress
            terms |= {f"{name}.{k}": factors[name] * v for k, v in ask(batch).items()}
        return terms

    @contextmanager
    def _sharing(self, names: list[str]):
        """Inside, the methods share one run of the student, read where any of them reads."""
        wanted = [path for n in names for path in self._offline[n].reads()[0]]
        shared = SharedRuns({self.student: wanted})
        inside = [d for d in self.nested() if d._runs is None]
        for distiller in inside:
            distiller._runs = shared
        try:
            yield
        finally:
            for distiller in inside:
                distiller._runs = None

    def _student_terms(self, asked: Mapping[str, Callable[[Batch], Terms]], batch: Batch) -> Terms:
        """The label term, once, and the weighted terms of all methods that train the student."""
        factors, members = dict(zip(self.names, self.weights)), self._members()
        label: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        offline = [n for n in asked if n in self._offline]
        with self._sharing(offline):
            outputs = self._outputs(batch, offline)
            for name, ask in asked.items():
                members[name].progress = self.progress
                found = dict(
                    self._offline[name].losses(outputs[name]) if name in outputs else ask(batch)
                )
                own = found.pop("ce", None)
                if name not in outputs and own is not None and not label and self.ce_weight:
                    label = {"ce": self.ce_weight * own}
                terms |= {f"{name}.{k}": factors[name] * v for k, v in found.items()}
        if outputs and not label:
            label = label_term(next(iter(outputs.values())), self.ce_weight)
        return label | terms

    def _outputs(self, batch: Batch, names: list[str]) -> dict[str, Outputs]:
        """{method: what it sees}: the student runs once, and so does each teacher."""
        by_teacher: dict[tuple, Outputs] = {}
        methods = {n: self._offline[n] for n in names}
        student_layers = [path for m in methods.values() for path in m.reads()[0]]
        ran: Outputs | None = None
        found = {}
        for name, method in methods.items():
            who = _identity(method.teacher)
            if who not in by_teacher:
                layers = [
                    path
                    for m in methods.values()
                    if _identity(m.teacher) == who
                    for path in m.reads()[1]
                ]
                by_teacher[who] = Outputs(
                    self, method.teacher, batch, student_layers, layers, self.input_gradient, ran
                )
            found[name] = ran = by_teacher[who]
        return found


def _identity(teacher: Teacher) -> tuple:
    """Names a teacher by its networks and, for an ensemble, its mean: two ``Teacher`` objects may
    hold the same.
    """
    return (*map(id, teacher.nets), teacher.mean if len(teacher.nets) > 1 else None)
