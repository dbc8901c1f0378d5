"""Self-distillation: the network is its own teacher."""

from .born_again import CWTM, DKPP, BornAgain, generations

__all__ = ["CWTM", "DKPP", "BornAgain", "generations"]
