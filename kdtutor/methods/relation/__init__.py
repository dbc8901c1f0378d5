"""Relation distillation: how examples lie to each other is the knowledge."""

from .crd import CRD
from .rkd import RKD
from .similarity import SimilarityPreserving

__all__ = ["CRD", "RKD", "SimilarityPreserving"]
