"""What ``fit`` may be asked: settings that cannot be are one sentence, before any preparation."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

from ..datasets import Data, Split
from ..distiller import Distiller, Stage
from ..errors import unknown
from .schedules import Unsaid, UnsaidCount

PRECISIONS = ("float32", "bf16")
VALIDATION = Unsaid(0.1)  # the share of the training examples that is held out by default


def check_distiller(distiller) -> None:
    """Raises ``TypeError`` for anything but a method around its networks."""
    if not isinstance(distiller, Distiller):
        raise TypeError(
            f"distiller is a {type(distiller).__name__}; expected a method around its networks: "
            "CrossEntropy(net) for labels alone, Hinton(net, teacher), and so on "
            "(kdtutor.methods.catalog())."
        )


def check_settings(
    *,
    validation,
    precision,
    run_dir,
    seed,
    snapshots,
    clip_norm,
    patience,
    on_epoch,
    stop,
    **counts,
) -> None:
    """Raises ``ValueError`` for settings that cannot work, whatever the data.

    ``counts``: whole numbers of at least 1, by name; the others are named as in ``fit``.
    """
    for name, value in {**counts, "patience": 1 if patience is None else patience}.items():
        if not (_whole(value) and value >= 1):
            none = ", or None for none" * (name == "patience")
            raise ValueError(f"{name}={value!r}: expected a whole number of at least 1{none}.")
    if not _whole(seed):
        raise ValueError(f"seed={seed!r}: expected a whole number.")
    known = isinstance(validation, (Real, Split, Data)) or validation is None
    if isinstance(validation, bool) or not known:
        raise ValueError(
            f"validation is a {type(validation).__name__}; expected a fraction of the training "
            "examples, such as 0.1, a Split or Data to measure on, or 0 for none."
        )
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if clip_norm is not None and not (
        isinstance(clip_norm, Real) and 0 < float(clip_norm) < math.inf
    ):
        raise ValueError(
            f"clip_norm={clip_norm!r}: expected the largest norm of a gradient, a finite number "
            "above 0, or None for any."
        )
    if patience is not None and (validation is None or validation == 0):
        raise ValueError(
            "patience waits for a better validation metric, and there is no validation split: "
            "pass validation=0.1."
        )
    listed = isinstance(snapshots, Sequence) and not isinstance(snapshots, str)
    if not listed or not all(_whole(e) and e >= 0 for e in snapshots):
        raise ValueError(
            f"snapshots={snapshots!r}: expected a list of epochs after which weights are kept, "
            "such as [0, 10, 20] or range(31)."
        )
    if snapshots and run_dir is None:
        raise ValueError("snapshots are files: pass run_dir, the directory where they go.")
    for name, value, asked in (("on_epoch", on_epoch, "row"), ("stop", stop, "")):
        if value is not None and not callable(value):
            raise ValueError(
                f"{name} is a {type(value).__name__}; expected a function ({asked}), called after "
                "every epoch."
            )


def own_batch_size(data, batch_size: int) -> int:
    """The size of the batches: what was asked for, or a loader's own where it has one.

    Raises:
        ValueError: where both are stated and differ.
    """
    if not getattr(data, "batched", False):
        return int(batch_size)
    own = data.batch_size
    if not isinstance(batch_size, UnsaidCount) and batch_size != own:
        is_ = "unknown" if own is None else own
        raise ValueError(
            f"batch_size={batch_size}, but the batches of {data.name} are its loader's, whose size "
            f"is {is_}: leave batch_size out, or set it there."
        )
    return int(own or batch_size)


def check_plan(stages: Sequence[Stage], accumulate: int) -> None:
    """Raises ``ValueError`` for players that take several steps on a batch whose gradient is only a
    part of a step.
    """
    several = [p.name for s in stages for p in s.players if p.steps > 1]
    if several and accumulate > 1:
        raise ValueError(
            f"accumulate={accumulate}, but {', '.join(several)} takes several steps on one batch: "
            "both cannot be. Raise batch_size instead."
        )


def _whole(value) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
