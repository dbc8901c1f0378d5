"""Temperature, the distillation loss, ensembles of teachers (``loss``), and gradients taken apart
(``gradients``).
"""

from .gradients import (
    distillation_gradient,
    label_gradient,
    matching_gradient,
    noise_to_signal,
    split_gradient,
    wrong_share,
)
from .loss import MEANS, distillation_kl, ensemble_logits, ensemble_targets, soften

__all__ = [
    "MEANS",
    "distillation_gradient",
    "distillation_kl",
    "ensemble_logits",
    "ensemble_targets",
    "label_gradient",
    "matching_gradient",
    "noise_to_signal",
    "soften",
    "split_gradient",
    "wrong_share",
]
