"""The seam: a distiller is a plan, stages in time, and in each stage players that minimise named
loss terms over their own parameters. Every method is a ``Distiller``.
"""

from .composition import Composition
from .distiller import Distiller
from .offline import Layers, Offline, check_weight, label_term
from .outputs import Outputs
from .requirements import as_teacher, check_batch, check_classes
from .stages import OptimizerFactory, Player, Schedule, Stage, Terms, check_terms

__all__ = [
    "Composition",
    "Distiller",
    "Layers",
    "Offline",
    "OptimizerFactory",
    "Outputs",
    "Player",
    "Schedule",
    "Stage",
    "Terms",
    "as_teacher",
    "check_batch",
    "check_classes",
    "check_terms",
    "check_weight",
    "label_term",
]
