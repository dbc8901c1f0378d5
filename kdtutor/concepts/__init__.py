"""Explaining distillation: which parts of an image does a layer still know, and how did it come to know them?"""

from .entropy import entropy_map
from .first_order import first_order_map, sensitivity
from .maps import EntropyMaps, entropy, rank_correlation
from .masks import Foreground, central_box, foreground
from .metrics import concept_cells, concept_metrics, effective_images
from .report import ConceptReport, compare_reports
from .trajectory import Trajectory, checkpoints, trajectory, weight_distance

__all__ = ["ConceptReport", "EntropyMaps", "Foreground", "Trajectory", "central_box", "checkpoints", "compare_reports", "concept_cells",
           "concept_metrics", "effective_images", "entropy", "entropy_map", "first_order_map", "foreground", "rank_correlation",
           "sensitivity", "trajectory", "weight_distance"]
