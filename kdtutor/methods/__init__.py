"""Every distillation method, exported flat; the folders are the field's taxonomy.

``catalog()`` is the one table of what exists: notebooks' dropdowns and the ablation's names read
it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..datasets import Batch
from ..distiller import Composition, Distiller, Offline, Outputs, Player, Stage
from .baseline import CrossEntropy
from .feature import (
    FSP,
    ActivationBoundary,
    AttentionTransfer,
    FitNet,
    FullActivationTransfer,
    GradientAttentionTransfer,
    JacobianMatching,
)
from .online import DML, ONE
from .relation import CRD, RKD, SimilarityPreserving
from .response import BSS, Hinton
from .self_distillation import CWTM, DKPP, BornAgain, generations


@dataclass(frozen=True)
class Method:
    """A row of the catalog. name: as the papers call it.   settings: the arguments that make this
    method of its class.

    knowledge: response, feature, relation or none; scheme: offline, online, self or none.   lesson:
    where it is taught."""

    name: str
    distiller: type[Distiller]
    paper: str
    year: int
    knowledge: str
    scheme: str
    lesson: str
    stages: int = 1
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_BAN = "Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born-Again Neural Networks"
_AT = "Zagoruyko, Komodakis: Paying More Attention to Attention"
_RKD = "Park, Kim, Lu, Cho: Relational Knowledge Distillation"

_METHODS = (
    Method("CrossEntropy", CrossEntropy, "the baseline: labels alone", 0, "none", "none", "01"),
    Method(
        "Hinton",
        Hinton,
        "Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network",
        2015,
        "response",
        "offline",
        "01",
    ),
    Method(
        "BSS",
        BSS,
        "Heo, Lee, Yun, Choi: Knowledge Distillation with Adversarial Samples Supporting Decision "
        "Boundary",
        2019,
        "response",
        "offline",
        "04",
    ),
    Method(
        "FitNet",
        FitNet,
        "Romero et al.: FitNets: Hints for Thin Deep Nets",
        2015,
        "feature",
        "offline",
        "05",
        stages=2,
    ),
    Method(
        "FSP",
        FSP,
        "Yim, Joo, Bae, Kim: A Gift from Knowledge Distillation",
        2017,
        "feature",
        "offline",
        "05",
        stages=2,
    ),
    Method(
        "AB",
        ActivationBoundary,
        "Heo, Lee, Yun, Choi: Knowledge Transfer via Distillation of Activation Boundaries",
        2019,
        "feature",
        "offline",
        "05",
        stages=2,
    ),
    Method(
        "Jacobian",
        JacobianMatching,
        "Srinivas, Fleuret: Knowledge Transfer with Jacobian Matching",
        2018,
        "feature",
        "offline",
        "05",
    ),
    Method("AT", AttentionTransfer, _AT, 2017, "feature", "offline", "06"),
    Method("F-ActT", FullActivationTransfer, _AT, 2017, "feature", "offline", "06"),
    Method("AT-gradient", GradientAttentionTransfer, _AT, 2017, "feature", "offline", "06"),
    Method(
        "RKD-D",
        RKD,
        _RKD,
        2019,
        "relation",
        "offline",
        "07",
        settings=MappingProxyType({"angle_weight": 0.0}),
    ),
    Method(
        "RKD-A",
        RKD,
        _RKD,
        2019,
        "relation",
        "offline",
        "07",
        settings=MappingProxyType({"distance_weight": 0.0}),
    ),
    Method("RKD-DA", RKD, _RKD, 2019, "relation", "offline", "07"),
    Method(
        "SP",
        SimilarityPreserving,
        "Tung, Mori: Similarity-Preserving Knowledge Distillation",
        2019,
        "relation",
        "offline",
        "07",
    ),
    Method(
        "CRD",
        CRD,
        "Tian, Krishnan, Isola: Contrastive Representation Distillation",
        2020,
        "relation",
        "offline",
        "07",
    ),
    Method(
        "DML",
        DML,
        "Zhang, Xiang, Hospedales, Lu: Deep Mutual Learning",
        2018,
        "response",
        "online",
        "08",
    ),
    Method(
        "ONE",
        ONE,
        "Lan, Zhu, Gong: Knowledge Distillation by On-the-Fly Native Ensemble",
        2018,
        "response",
        "online",
        "08",
    ),
    Method("BAN", BornAgain, _BAN, 2018, "response", "self", "03"),
    Method(
        "BAN+L",
        BornAgain,
        _BAN,
        2018,
        "response",
        "self",
        "03",
        settings=MappingProxyType({"labels": True}),
    ),
    Method("CWTM", CWTM, _BAN, 2018, "response", "self", "02"),
    Method("DKPP", DKPP, _BAN, 2018, "response", "self", "02"),
)


def catalog():
    """All methods as a tidy pandas table: name, distiller (the class), paper, year, knowledge,
    scheme, lesson, stages, settings.
    """
    import pandas as pd

    return pd.DataFrame([{**vars(m), "settings": dict(m.settings)} for m in _METHODS])


def method(name: str) -> Method:
    """The row of a method by the papers' short name or by its class's name, in any case ("SP",
    "SimilarityPreserving").

    A class with several rows (RKD) is found as the one with its default settings. Raises
    ``ValueError`` with the near matches."""
    from ..errors import unknown

    wanted = str(name).lower()
    rows = [m for m in _METHODS if m.name.lower() == wanted] or [
        m for m in _METHODS if m.distiller.__name__.lower() == wanted
    ]
    if not rows:
        raise unknown(
            "method", name, [m.name for m in _METHODS], "kdtutor.methods.catalog() lists all."
        )
    return min(rows, key=lambda m: len(m.settings))


def find(name: str) -> type[Distiller]:
    """The class of a method by its name (see ``method``). Raises ``ValueError`` with the near
    matches.
    """
    return method(name).distiller


__all__ = [
    "BSS",
    "CRD",
    "CWTM",
    "DKPP",
    "DML",
    "FSP",
    "ONE",
    "RKD",
    "ActivationBoundary",
    "AttentionTransfer",
    "Batch",
    "BornAgain",
    "Composition",
    "CrossEntropy",
    "Distiller",
    "FitNet",
    "FullActivationTransfer",
    "GradientAttentionTransfer",
    "Hinton",
    "JacobianMatching",
    "Method",
    "Offline",
    "Outputs",
    "Player",
    "SimilarityPreserving",
    "Stage",
    "catalog",
    "find",
    "generations",
    "method",
]
