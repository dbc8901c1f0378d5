"""The rows of the catalog: the one place where a method is entered.

An import and a row make a method part of ``kdtutor.methods``: its class is exported, the bench
knows its name, the dropdowns and the tests of the catalog run through it."""

from .baseline import CrossEntropy
from .feature.activation_boundary import ActivationBoundary
from .feature.attention_transfer import (
    AttentionTransfer,
    FullActivationTransfer,
    GradientAttentionTransfer,
)
from .feature.fitnet import FitNet
from .feature.fsp import FSP
from .feature.jacobian import JacobianMatching
from .online.mutual import DML
from .online.one import ONE
from .relation.crd import CRD
from .relation.rkd import RKD
from .relation.similarity import SimilarityPreserving
from .response.boundary_support import BSS
from .response.hinton import Hinton
from .row import Method
from .self_distillation.born_again import CWTM, DKPP, BornAgain

_BAN = "Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born-Again Neural Networks"
_AT = "Zagoruyko, Komodakis: Paying More Attention to Attention"
_RKD = "Park, Kim, Lu, Cho: Relational Knowledge Distillation"

# name, class, paper, year, knowledge, scheme, lesson
# fmt: off
ROWS = (
    Method("CrossEntropy", CrossEntropy, "the baseline: labels alone", 0, "none", "none", "01"),
    Method("Hinton", Hinton, "Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network",
           2015, "response", "offline", "01"),
    Method("BSS", BSS, "Heo, Lee, Yun, Choi: "
           "Knowledge Distillation with Adversarial Samples Supporting Decision Boundary",
           2019, "response", "offline", "04"),
    Method("FitNet", FitNet, "Romero et al.: FitNets: Hints for Thin Deep Nets",
           2015, "feature", "offline", "05", stages=2),
    Method("FSP", FSP, "Yim, Joo, Bae, Kim: A Gift from Knowledge Distillation",
           2017, "feature", "offline", "05", stages=2),
    Method("AB", ActivationBoundary, "Heo, Lee, Yun, Choi: "
           "Knowledge Transfer via Distillation of Activation Boundaries",
           2019, "feature", "offline", "05", stages=2),
    Method("Jacobian", JacobianMatching, "Srinivas, Fleuret: "
           "Knowledge Transfer with Jacobian Matching",
           2018, "feature", "offline", "05"),
    Method("AT", AttentionTransfer, _AT, 2017, "feature", "offline", "06"),
    Method("F-ActT", FullActivationTransfer, _AT, 2017, "feature", "offline", "06"),
    Method("AT-gradient", GradientAttentionTransfer, _AT, 2017, "feature", "offline", "06"),
    Method("RKD-D", RKD, _RKD, 2019, "relation", "offline", "07", settings={"angle_weight": 0.0}),
    Method("RKD-A", RKD, _RKD,
           2019, "relation", "offline", "07", settings={"distance_weight": 0.0}),
    Method("RKD-DA", RKD, _RKD, 2019, "relation", "offline", "07"),
    Method("SP", SimilarityPreserving, "Tung, Mori: Similarity-Preserving Knowledge Distillation",
           2019, "relation", "offline", "07"),
    Method("CRD", CRD, "Tian, Krishnan, Isola: Contrastive Representation Distillation",
           2020, "relation", "offline", "07"),
    Method("DML", DML, "Zhang, Xiang, Hospedales, Lu: Deep Mutual Learning",
           2018, "response", "online", "08"),
    Method("ONE", ONE, "Lan, Zhu, Gong: Knowledge Distillation by On-the-Fly Native Ensemble",
           2018, "response", "online", "08"),
    Method("BAN", BornAgain, _BAN, 2018, "response", "self", "03"),
    Method("BAN+L", BornAgain, _BAN, 2018, "response", "self", "03", settings={"labels": True}),
    Method("CWTM", CWTM, _BAN, 2018, "response", "self", "02"),
    Method("DKPP", DKPP, _BAN, 2018, "response", "self", "02"),
)
# fmt: on


def in_folder(package: str, name: str):
    """A class of the catalog by the folder in which its file lies: what makes
    ``from kdtutor.methods.response import Hinton`` work without a second list.
    """
    for row in ROWS:
        if row.distiller.__name__ == name and row.distiller.__module__.startswith(f"{package}."):
            return row.distiller
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
