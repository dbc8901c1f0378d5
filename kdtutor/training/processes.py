"""Several processes that train one run together: ``torchrun --nproc-per-node N script.py`` with a
script that says nothing of it.

Every process makes the same batches and takes its share of each; gradients are averaged, so that
all networks stay equal; the first process measures, writes and shows. Batch statistics
(BatchNorm) and losses that relate the examples of a batch see a process's share alone. The script
ends with status 0, or 1 after an error that nobody caught; its own, ``sys.exit(3)``, is lost.
"""

import atexit
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..datasets import Batch, Split
from ..datasets.batch import leaves, tree_map
from ..distiller import Distiller
from ..distiller.processes import ProcessLost, broken, count, rank, talk

STARTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets
AVERAGED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # types of statistics


def started() -> bool:
    """Was this process started as one of several?"""
    size = os.environ.get("WORLD_SIZE", "")
    return all(k in os.environ for k in STARTED) and size.isdigit() and int(size) > 1


def join() -> None:
    """Meets the other processes, where there are any."""
    if not started() or dist.is_initialized():
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    atexit.register(_leave)


def _leave() -> None:
    """Ends with the others, and at once: torch's threads now and then abort a process while Python
    takes itself apart, and its launcher then calls the whole run failed.
    """
    if not dist.is_initialized():
        return
    failed = broken() or getattr(sys, "last_value", None) is not None
    if not failed:
        with contextlib.suppress(RuntimeError):  # somebody failed, who says so
            dist.all_reduce(torch.zeros(1))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(failed))


def meet() -> None:
    """Waits for the others, so that nobody leaves while another still reads what was sent."""
    if count() > 1:
        talk(dist.all_reduce, torch.zeros(1))


def share(batch: Batch) -> tuple[Batch, float]:
    """This process's rows of a batch, and the weight of their mean in the mean over all.

    Args:
        batch: the whole batch, the same in every process.

    Returns:
        (rows, weight): the weight is b * N / B for b of B rows in one of N processes.

    Raises:
        ValueError: for fewer rows than processes.

    Example:
        >>> share(Batch(torch.zeros(4, 1), None))[1]
        1.0
    """
    n = count()
    if n == 1:
        return batch, 1.0
    size = len(leaves(batch.x)[0])
    _check_size(size)
    low, high = (size * r // n for r in (rank(), rank() + 1))
    part = lambda t: t[low:high]
    x, y, index, view = (tree_map(part, v) for v in batch[:4])
    return Batch(x, y, index, view, batch.source), (high - low) * n / size


def check_shares(train, batch_size: int, drop_last: bool) -> None:
    """Raises ``ValueError``, before training, for examples in memory whose first or last batch does
    not suffice for all processes.
    """
    if isinstance(train, Split):
        last = len(train) % batch_size
        _check_size(min(len(train), batch_size))
        _check_size(last if last and not drop_last else batch_size)


def _check_size(size: int) -> None:
    if size < count():
        raise ValueError(
            f"a batch of {size} for {count()} processes: each needs at least one example. Raise "
            "batch_size, which counts the examples of all processes together, or leave out the "
            "last, smaller batch of an epoch (drop_last=True)."
        )


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replaces gradients by their mean over the processes, in place.

    Args:
        parameters: the same in every process; those that have a gradient in none keep none.
    """
    if count() == 1:
        return
    absent = [p.grad is None for p in parameters]
    grads: list[Tensor] = [
        torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in parameters
    ]
    for kind in sorted({g.dtype for g in grads}, key=str):
        mine = [g for g in grads if g.dtype == kind]
        flat = torch.cat([g.reshape(-1) for g in mine])
        talk(dist.all_reduce, flat)
        for g, new in zip(mine, (flat / count()).split([g.numel() for g in mine])):
            g.copy_(new.view_as(g))
    # A parameter that no process used takes no step: an optimiser would let it decay.
    without = torch.tensor(absent, dtype=torch.int32).to(grads[0].device)
    talk(dist.all_reduce, without)
    nowhere = [n == count() for n in without.tolist()] if any(absent) else absent
    for p, g, none in zip(parameters, grads, nowhere):
        p.grad = None if none else g


def same_start(distiller: Distiller) -> None:
    """Gives every process the first one's weights and statistics, teachers' too."""
    if count() > 1:
        nets = [net for teacher in distiller.teachers() for net in teacher.nets]
        for t in (t for m in (distiller, *nets) for t in _state(m)):
            t.detach().copy_(_first(t))


def same_statistics(distiller: Distiller) -> None:
    """Averages what each process gathered from its own share (BatchNorm's statistics); what is the
    same in all of them stays as it is, to the last bit.
    """
    if count() == 1:
        return
    for t in (b for b in distiller.buffers() if b.dtype in AVERAGED and b.numel()):
        first = _first(t)
        apart = torch.where(t == first, 0, t - first)  # a mask's -inf less itself is no number
        talk(dist.all_reduce, apart)
        t.copy_(first + apart / count())


def _first(t: Tensor) -> Tensor:
    """The first process's values, in every process; sent as bytes, whatever they mean."""
    flat = t.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
    if flat.numel():
        talk(dist.broadcast, flat.view(torch.uint8), 0)
    return flat.view(t.shape)


def same_row(row: dict) -> dict:
    """The numbers of an epoch's row as their means over the processes; the rest as it is."""
    if count() == 1:
        return row
    names = [k for k, v in row.items() if isinstance(v, float)]
    means = torch.tensor([row[k] for k in names], dtype=torch.float64)
    talk(dist.all_reduce, means)
    return row | dict(zip(names, (means / count()).tolist()))


def told(ask: Callable[[], Any]) -> Any:
    """What the first process answers, in every process; an error that it raises, too.

    Args:
        ask: called in the first process only.

    Returns:
        Its answer.

    Example:
        >>> told(lambda: 3)
        3
    """
    if count() == 1:
        return ask()
    answer: list = [None, None]
    failed: BaseException | None = None
    if not rank():
        try:
            answer[0] = ask()
        except Exception as error:
            failed, answer[1] = error, f"{type(error).__name__}: {error}"
    talk(dist.broadcast_object_list, answer, 0)
    if failed is not None:
        raise failed
    if answer[1] is not None:
        raise ProcessLost(f"kdtutor: the first process ended with {answer[1]}")
    return answer[0]


def warn_of_shares(distiller: Distiller, batch_size: int) -> None:
    """Says once what a process that sees only its share computes differently."""
    if count() == 1 or rank():
        return
    names = sorted({type(d).__name__ for d in distiller.nested() if d.relates_examples})
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in distiller.modules())
    each = f"{batch_size // count()} of the {batch_size} examples of a batch"
    if names:
        warnings.warn(
            f"{', '.join(names)} relates the examples of a batch to one another: each of "
            f"{count()} processes sees {each}, so the loss is not that of one process.",
            stacklevel=3,
        )
    if norms:
        warnings.warn(
            f"BatchNorm normalises over {each} in each of {count()} processes; on GPUs "
            "torch.nn.SyncBatchNorm.convert_sync_batchnorm(net) lets it see all.",
            stacklevel=3,
        )


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
