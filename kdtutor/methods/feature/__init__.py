"""Feature distillation: what the teacher's layers compute is the knowledge."""

from .activation_boundary import ActivationBoundary
from .attention_transfer import AttentionTransfer, FullActivationTransfer, GradientAttentionTransfer
from .fitnet import FitNet
from .fsp import FSP
from .jacobian import JacobianMatching

__all__ = [
    "FSP",
    "ActivationBoundary",
    "AttentionTransfer",
    "FitNet",
    "FullActivationTransfer",
    "GradientAttentionTransfer",
    "JacobianMatching",
]
