"""One pass over somebody else's loader: what it is made of, and what must be otherwise for a pass
that depends on its seed alone and knows which examples it sees.
"""

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.data import DataLoader

Rows = deque  # of the positions of each batch's examples, None where they are not numbers


def made_of(given) -> list:
    """A loader, its samplers and its dataset, each once.

    Args:
        given: A DataLoader, a Dataset, or an iterable of batches.

    Returns:
        The objects that may hold a generator or ask for the epoch.

    Example:
        >>> len(made_of([1, 2])), len(made_of(DataLoader([1, 2])))
        (1, 4)
    """
    batches = getattr(given, "batch_sampler", None)
    inside = [batches, getattr(batches, "sampler", None), getattr(given, "sampler", None)]
    inside += [given.dataset] if isinstance(given, DataLoader) else []
    return list({id(part): part for part in (given, *inside) if part is not None}.values())


def generators_of(parts: list) -> tuple[torch.Generator, ...]:
    """The generators that some objects hold, each once.

    Args:
        parts: Any objects.

    Returns:
        What stands under ``generator``, as in torch's own samplers.

    Example:
        >>> generators_of([DataLoader([1, 2], generator=torch.Generator())])[0].device
        device(type='cpu')
    """
    own = (getattr(part, "generator", None) for part in parts)
    return tuple({id(g): g for g in own if isinstance(g, torch.Generator)}.values())


def tell_epoch(parts: list, epoch: int) -> None:
    """Tells the epoch's number to each object that asks for it by ``set_epoch``.

    Args:
        parts: Any objects.
        epoch: From 0.

    Example:
        >>> tell_epoch([[1, 2]], 3)
    """
    for part in parts:
        if callable(getattr(part, "set_epoch", None)):
            part.set_epoch(epoch)


def wrapped(
    dataset, batch_size: int, order: Tensor | None, drop_last: bool
) -> tuple[DataLoader, Rows]:
    """A loader of the examples of a dataset.

    Args:
        dataset: Of torch.
        batch_size: Examples per batch.
        order: (N,) positions; None for an iterable dataset, which has an order of its own.
        drop_last: Leave out a last, smaller batch, unless it is the only one.

    Returns:
        The loader, and where it leaves the positions of each batch's examples.

    Example:
        >>> loader, rows = wrapped([5, 6, 7], 2, torch.tensor([2, 0, 1]), False)
        >>> [b.tolist() for b in loader], list(rows)
        ([[7, 5], [6]], [tensor([2, 0]), tensor([1])])
    """
    rows: Rows = deque()
    if order is None:
        return DataLoader(dataset, batch_size, drop_last=drop_last), rows
    drawn = [batch.tolist() for batch in order.split(batch_size)]
    if drop_last and len(drawn) > 1 and len(drawn[-1]) < batch_size:
        drawn.pop()
    return DataLoader(dataset, batch_sampler=_Recorded(drawn, rows)), rows


def opened(given: Iterable, numbered: bool) -> tuple[Iterable, Rows]:
    """What is iterated for a pass over a loader; the loader itself stays as it is.

    Args:
        given: A DataLoader, or an iterable of batches.
        numbered: Whether a batch holds the examples that its sampler names.

    Returns:
        As ``wrapped``; nothing is left in the second where ``numbered`` is False.

    Example:
        >>> loader, rows = opened(DataLoader([5, 6, 7], 2), True)
        >>> [b.tolist() for b in loader], list(rows)
        ([[5, 6], [7]], [tensor([0, 1]), tensor([2])])
    """
    rows: Rows = deque()
    if not isinstance(given, DataLoader):
        return given, rows
    # A copy with workers of its own: those that live on would draw on from where they were.
    loader = copy.copy(given)
    vars(loader).update(persistent_workers=False, _iterator=None)
    if numbered:
        vars(loader)["batch_sampler"] = _Recorded(loader.batch_sampler, rows)
    return loader, rows


@contextmanager
def explained(part: str) -> Iterator[None]:
    """Makes one ``ValueError`` of examples that torch's collate function cannot put together.

    Args:
        part: What is read, for the message.

    Example:
        >>> with explained("train"):
        ...     batch = next(iter(DataLoader([1, 2])))
    """
    try:
        yield
    except (TypeError, RuntimeError) as error:
        said = str(error)
        if "default_collate" not in said and "stack expects each tensor" not in said:
            raise
        raise ValueError(
            f"{part}: torch cannot put the examples into a batch "
            f"({said.strip().splitlines()[-1]}). "
            "Give the dataset a transform that makes tensors of one size of them, such as "
            "v2.Compose([v2.ToImage(), v2.Resize((64, 64))]), or the loader a collate_fn."
        ) from error


class _Recorded:
    """A batch sampler that leaves each batch's positions in a queue."""

    def __init__(self, inner, rows: Rows):
        self.inner, self.rows = inner, rows

    def __iter__(self):
        for batch in self.inner:
            batch = list(batch)
            whole = all(isinstance(i, int) for i in batch)
            self.rows.append(torch.tensor(batch) if whole else None)
            yield batch
