"""``fit()`` and its parts: the loop, the plan, the spec, evaluation, history, schedules and the
watch.
"""

from .device import pick_device
from .evaluation import accuracy, evaluate
from .history import History
from .loop import fit
from .processes import ProcessLost
from .rates import per_epoch, per_step
from .schedules import constant, cosine, linear, sgd, steps
from .watch import NonFiniteError

__all__ = [
    "History",
    "NonFiniteError",
    "ProcessLost",
    "accuracy",
    "constant",
    "cosine",
    "evaluate",
    "fit",
    "linear",
    "per_epoch",
    "per_step",
    "pick_device",
    "sgd",
    "steps",
]
