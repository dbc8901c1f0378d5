"""What ``fit`` may be asked: settings that cannot be are one sentence, before any preparation."""

from collections.abc import Sequence
from numbers import Integral, Real

from ..distiller import Stage
from .schedules import Unsaid

VALIDATION = Unsaid(0.1)  # the share of the training examples that is held out by default


def check_whole(optional: Sequence[str] = (), **numbers) -> None:
    """Raises ``ValueError`` for what is no whole number of at least 1.

    Args:
        optional: the names that may be None.
        numbers: the settings by name.

    Example:
        >>> check_whole(["patience"], epochs=3, patience=None)
    """
    for name, value in numbers.items():
        none = name in optional
        if not (_whole(value) and value >= 1) and not (none and value is None):
            raise ValueError(
                f"{name}={value!r}: expected a whole number of at least 1"
                f"{', or None for none' * none}."
            )


def check_asked(seed, snapshots, on_epoch, stop) -> None:
    """Raises ``ValueError`` for a seed or snapshots that are no whole numbers, and for what cannot
    be called.
    """
    if not _whole(seed):
        raise ValueError(f"seed={seed!r}: expected a whole number.")
    listed = isinstance(snapshots, Sequence) and not isinstance(snapshots, str)
    if not listed or not all(_whole(e) and e >= 0 for e in snapshots):
        raise ValueError(
            f"snapshots={snapshots!r}: expected a list of epochs after which weights are kept, "
            "such as [0, 10, 20] or range(31)."
        )
    for name, value, asked in (("on_epoch", on_epoch, "row"), ("stop", stop, "")):
        if value is not None and not callable(value):
            raise ValueError(
                f"{name} is a {type(value).__name__}; expected a function ({asked}), called after "
                "every epoch."
            )


def check_steps(clip_norm, patience, validation) -> None:
    """Raises ``ValueError`` for a norm that cannot be, and for waiting for what is not measured."""
    if clip_norm is not None and not (
        isinstance(clip_norm, Real) and 0 < float(clip_norm) < float("inf")
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
