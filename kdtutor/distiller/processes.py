"""What methods ask when several processes train one run together: each sees its share of a batch.

Alone, every function here gives back what it was given."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

_lost: list[str] = []  # what was said of a process that is gone


class ProcessLost(SystemExit):
    """Another process of the run ended, so that this one cannot go on: it ends with one line, too,
    for the story is in the other's.
    """

    def __init__(self, said: str):
        super().__init__(said)
        _lost.append(said)


def broken() -> bool:
    """Did a process of this run end, so that nothing can be exchanged any more?"""
    return bool(_lost)


def count() -> int:
    """How many processes train together; 1 alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0; the first writes."""
    return dist.get_rank() if count() > 1 else 0


def talk(exchange: Callable, *what) -> None:
    """Exchanges something with the others. Raises ``ProcessLost`` where one is gone."""
    try:
        exchange(*what)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0][:120] if str(error).strip() else "nothing"
        raise ProcessLost(
            f"kdtutor: process {rank()} of {count()} ends, for another one ended or hangs (its own "
            "message stands above or below). Start all again with the same command: with "
            f"run_dir= the run continues at its last epoch. (torch says: {said})"
        ) from error


def gathered(t: Tensor) -> Tensor:
    """The rows of all processes, in their order, without gradient: for memories that must stay
    whole.

    Args:
        t: (b, ...), this process's rows; b may differ between processes.

    Returns:
        (B, ...), the same in every process.

    Example:
        >>> gathered(torch.ones(2)).tolist()
        [1.0, 1.0]
    """
    if count() == 1:
        return t
    sizes = [torch.zeros(1, dtype=torch.int64, device=t.device) for _ in range(count())]
    talk(dist.all_gather, sizes, torch.tensor([len(t)], device=t.device))
    most = int(torch.stack(sizes).max())
    padded = t.new_zeros(most, *t.shape[1:])
    padded[: len(t)] = t.detach()
    parts = [torch.empty_like(padded) for _ in range(count())]
    talk(dist.all_gather, parts, padded.contiguous())
    return torch.cat([part[: int(n)] for part, n in zip(parts, sizes)])


def mean(t: Tensor) -> Tensor:
    """The mean of a value over the processes, without gradient.

    Args:
        t: the same shape in every process, floating point.

    Returns:
        The mean, the same in every process.

    Example:
        >>> float(mean(torch.tensor(2.0)))
        2.0
    """
    if count() == 1:
        return t
    total = t.detach().clone()
    talk(dist.all_reduce, total)
    return total / count()
