"""Explaining distillation: which parts of an image does a layer still know, and how did it come to
know them?
"""

from .entropy import entropy_map
from .first_order import first_order_map, sensitivity
from .maps import EntropyMaps, entropy, rank_correlation
from .masks import Foreground, central_box, foreground
from .metrics import baseline_entropy, concept_cells, concept_metrics, effective_images
from .parts import average_precision, part_cells, precision_recall, top_cells
from .report import ConceptReport, compare_reports
from .trajectory import Trajectory, checkpoints, trajectory, weight_distance

__all__ = [
    "ConceptReport",
    "EntropyMaps",
    "Foreground",
    "Trajectory",
    "average_precision",
    "baseline_entropy",
    "central_box",
    "checkpoints",
    "compare_reports",
    "concept_cells",
    "concept_metrics",
    "effective_images",
    "entropy",
    "entropy_map",
    "first_order_map",
    "foreground",
    "part_cells",
    "precision_recall",
    "rank_correlation",
    "sensitivity",
    "top_cells",
    "trajectory",
    "weight_distance",
]
