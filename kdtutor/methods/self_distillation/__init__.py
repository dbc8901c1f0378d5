"""Self-distillation: the network is its own teacher."""

from .born_again import CWTM, DKPP

__all__ = ["CWTM", "DKPP"]
