"""Several offline methods at once, with named weights: AT+KD, CRD+KD, SP+AT+KD, ..."""

from collections.abc import Mapping

from torch import nn

from ..datasets import Batch, Split
from ..errors import check_weights
from ..teacher import Teacher
from .offline import Offline, Outputs, label_term
from .plan import Player, Stage


class Composition(Offline):
    """L = ce_weight * CE + sum over methods of weight * (its terms without its own label term).

        Composition({"AT": AttentionTransfer(net, teacher), "KD": Hinton(net, teacher,
        kd_weight=1)})

    methods: {name: a method}, all of the same student; teachers may differ.   weights: {name:
    factor}, 1 where none is given; they multiply the method's own weights.   ce_weight: of the
    label term, which counts once. Student and teachers run once per step. Methods with a first
    stage (FitNet, FSP, AB) have theirs first, one after the other; the sum is the last stage.
    Logged terms are called "AT.at", "KD.kd". Raises ``ValueError`` for different students or
    unknown names."""

    def __init__(
        self,
        methods: Mapping[str, Offline],
        weights: Mapping[str, float] | None = None,
        ce_weight: float = 1.0,
    ):
        methods, weights = (
            dict(methods) if isinstance(methods, Mapping) else {},
            dict(weights or {}),
        )
        wrong = [
            n
            for n, m in methods.items()
            if not isinstance(m, Offline) or isinstance(m, Composition)
        ]
        wrong += [n for n in methods if "." in n or not n or hasattr(nn.ModuleDict, n)]
        if not methods or wrong:
            raise ValueError(
                f"Composition adds offline methods by name, {{'AT': AttentionTransfer(...), 'KD': "
                f"Hinton(...)}}, names "
                f"without dots that torch leaves free; {wrong or 'what was given'} cannot be added."
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
        self.names = tuple(methods)
        super().__init__(first.student, first.teacher)
        self.methods, self.ce_weight = nn.ModuleDict(methods), float(ce_weight)
        self.weights = tuple(float(weights.get(n, 1.0)) for n in self.names)
        check_weights(ce_weight=ce_weight, **dict(zip(self.names, self.weights)))
        self.input_gradient = any(m.input_gradient for m in methods.values())

    def teachers(self) -> list[Teacher]:
        return list({id(m.teacher): m.teacher for m in self.methods.values()}.values())

    def settings(self):
        return super().settings() | {
            "methods": {
                name: {"method": type(m).__name__, **m.settings()}
                for name, m in self.methods.items()
            }
        }

    def prepare(self, train: Split) -> None:
        for method in self.methods.values():
            method.prepare(train)

    def stages(self):
        plans = {name: method.stages() for name, method in self.methods.items()}
        early = [
            Stage(f"{name} {stage.name}", stage.share / sum(s.share for s in plan), stage.players)
            for name, plan in plans.items()
            for stage in plan[:-1]
        ]
        last = {
            id(p): p
            for plan in plans.values()
            for player in plan[-1].players
            for p in player.parameters
        }
        share = max(0.1, 1 - sum(stage.share for stage in early))
        return [*early, Stage("train", share, [Player("student", self.terms, list(last.values()))])]

    def terms(self, batch: Batch):
        methods, terms, readings = list(self.methods.values()), {}, {}
        student_layers = [path for m in methods for path in m.reads()[0]]
        outputs = None
        for name, factor, method in zip(self.names, self.weights, methods):
            who = _identity(method)
            if who not in readings:
                theirs = [path for m in methods if _identity(m) == who for path in m.reads()[1]]
                readings[who] = Outputs(
                    self.student,
                    method.teacher,
                    batch,
                    student_layers,
                    theirs,
                    self.input_gradient,
                    ran=outputs,
                )
            outputs, method.progress = readings[who], self.progress
            terms |= {
                f"{name}.{k}": factor * v for k, v in method.losses(outputs).items() if k != "ce"
            }
        return label_term(outputs, self.ce_weight) | terms


def _identity(method: Offline) -> tuple:
    """Names a method's teacher by its networks and, for an ensemble, its mean: two ``Teacher``
    objects may hold the same.
    """
    nets = method.teacher.nets
    return (*map(id, nets), method.teacher.mean if len(nets) > 1 else None)
