"""What the loop watches for: losses that are no longer numbers, and stages that do harm."""

import warnings

import torch

from ..datasets import Batch
from ..datasets.batch import leaves
from ..distiller import Distiller
from ..taps import call, logits_of
from ..teacher import GIB


class NonFiniteError(ValueError):
    """A loss term became NaN or Inf; the message names the term, the epoch and the step, and where
    it came from.
    """


def diagnosis(distiller: Distiller, batch: Batch, terms, epoch: int, step: int) -> str:
    """Where a NaN or Inf came from: the inputs, the student's or the teacher's logits, or the loss
    itself.
    """
    finite = lambda t: bool(torch.isfinite(t).all())
    names = [k for k, v in terms.items() if not finite(v)] or list(terms)
    where = []
    if any(t.is_floating_point() and not finite(t) for t in leaves(batch.x)):
        where.append("the images hold NaN or Inf")
    with torch.no_grad():
        if not _answers_finitely(lambda: call(distiller.student, batch.x)):
            where.append("the student's logits hold NaN or Inf (a lower lr may help)")
        where += [
            "the teacher's logits hold NaN or Inf (were its weights trained?)"
            for teacher in distiller.teachers()
            if not _answers_finitely(lambda teacher=teacher: teacher(batch))
        ]
    return (
        f"loss term {', '.join(map(repr, names))} is NaN or Inf at epoch {epoch}, step {step}: "
        f"{'; '.join(where) or 'the logits are finite, so the loss itself overflowed'}."
    )


def _answers_finitely(ask) -> bool:
    """Is what a network answers finite? What cannot be asked or looked at tells nothing."""
    try:
        return bool(torch.isfinite(logits_of(ask())).all())
    except (ValueError, TypeError, RuntimeError):
        return True


def one_example(error: ValueError, batch: Batch) -> ValueError | None:
    """The error of a normalisation over a batch of one, with what to do; None for another error."""
    if "more than 1 value per channel" not in str(error) or len(leaves(batch.x)[0]) > 1:
        return None
    return ValueError(
        "BatchNorm cannot normalise over a batch of one example, the epoch's last or each: "
        "leave it out (drop_last=True), or take a batch_size of at least 2."
    )


def out_of_memory(error: Exception, batch_size: int, precision: str, record) -> Exception:
    """The error of a GPU whose memory does not suffice, of the same type: how far the run came and
    what to lower. ``record``: the run's ``Record``.
    """
    lower = [f"batch_size (it is {batch_size})"]
    if precision == "float32":
        lower.append("precision to 'bf16'")
    held = sum(
        t.numel() * t.element_size()
        for split in (record.data.train, record.data.test)
        for t in leaves(getattr(split, "x", None))
    )
    if held > GIB:
        lower.append(
            f"the number of examples (those of {record.data.name} take {held / GIB:.1f} GiB)"
        )
    cached = sum(
        t._cache.logits.numel() * t._cache.logits.element_size()
        for t in record.distiller.teachers()
        if t._cache is not None
    )
    if cached > GIB:
        lower.append(f"the teacher's cache, by leaving it out (it takes {cached / GIB:.1f} GiB)")
    again = (
        ""
        if not record.run
        else (
            f" Call fit with run_dir={str(record.run.path)!r} again to continue once something "
            "else has left the GPU; other settings are another run."
        )
    )
    return torch.OutOfMemoryError(
        f"the GPU's memory does not suffice in epoch {record.done + 1}: lower "
        f"{', or '.join(lower)}, or take a smaller network.{again} ({str(error).splitlines()[0]})"
    )


def warn_if_worse(stage, rows: list[dict]) -> None:
    """Warns if the mean loss of the stage's last epoch is above its first epoch's (by more than 1
    %, which is noise).
    """
    if len(rows) > 1 and rows[-1]["loss"] > rows[0]["loss"] + 0.01 * abs(rows[0]["loss"]):
        warnings.warn(
            f"stage {stage.name!r} ended worse than it began: loss {rows[0]['loss']:.4g} in its "
            "first epoch, "
            f"{rows[-1]['loss']:.4g} in its last. Try a lower learning rate for it.",
            stacklevel=3,
        )
