"""A part of a dataset that is read, not held: a loader, a Dataset of torch, or any batches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate
from torch.utils.data.sampler import Sampler

from .chance import Chance
from .passes import explained, generators_of, made_of, opened, tell_epoch, wrapped
from .targets import known_classes

END = object()
# What changes while a sampler is used, or says again what stands beside it.
PASSING = ("generator", "epoch", "data_source", "dataset")


@dataclass(frozen=True, eq=False)
class Stream:
    """One part of ``from_loaders``; ``fit`` and ``evaluate`` take it as they take a ``Split``.

    Its ``len`` is the number of examples of a map-style dataset, else of batches, and 1 where
    nobody knows. ``index`` and ``y`` are those of the whole dataset where they are known without
    reading it, else empty and None.

    Args:
        given: A DataLoader, a Dataset, or an iterable of batches that can be begun anew.
        part: "train", "validation" or "test".
        version: The user's name of this version of the data; "" for none.
        stated: Batches per epoch, None for as many as there are.

    Raises:
        ValueError: For what is none of these, a one-shot iterator, and batches that arrive in an
            order of their own.

    Example:
        >>> stream = Stream([(torch.zeros(2, 3), torch.zeros(2))], "train")
        >>> stream.steps(64), len(list(stream.batches(64)))
        (1, 1)
    """

    given: Any
    part: str
    version: str = ""
    stated: int | None = None
    x: None = None
    extra: dict = field(default_factory=dict)

    hint = "Or name this version of the data: from_loaders(..., source='a name')."

    def __post_init__(self):
        given, kind = self.given, type(self.given).__name__
        if isinstance(given, Iterator):
            raise ValueError(
                f"{self.part} is a {kind}, which is used up after one pass, and every epoch is "
                "one: pass what can be begun anew, such as a DataLoader, a list, or an object "
                "whose __iter__ starts from the beginning."
            )
        known = isinstance(given, (DataLoader, Dataset, list, tuple))
        # What has items by number but is neither might hold examples or batches: nobody can tell.
        batches = isinstance(given, Iterable) and not hasattr(given, "__getitem__")
        endless = self.plain and not self.iterable and _length(given) is None
        if endless or not (known or batches):
            raise ValueError(
                f"{self.part} is a {kind}; expected a DataLoader, a torch.utils.data.Dataset "
                "with a length, or an iterable of batches. What holds examples becomes one by "
                "DataLoader(examples, batch_size=64, shuffle=True)."
            )
        if getattr(given, "in_order", True) is False:
            raise ValueError(
                f"{self.part}: in_order=False lets batches arrive as workers finish them, so that "
                "no two runs see the same order. Leave it out."
            )

    @property
    def dataset(self):
        """The dataset behind a loader, a dataset itself, else None."""
        given = self.given
        return given.dataset if isinstance(given, DataLoader) else given if self.plain else None

    @property
    def plain(self) -> bool:
        """Whether the batches are made here, of the examples of a dataset."""
        return isinstance(self.given, Dataset)

    @property
    def iterable(self) -> bool:
        """Whether nothing but the order of a dataset's own iteration is known."""
        return self.dataset is None or isinstance(self.dataset, IterableDataset)

    @property
    def batch_size(self) -> int | None:
        """The loader's own, None where ``fit`` decides or nobody knows."""
        return None if self.plain else getattr(self.given, "batch_size", None)

    @property
    def source(self) -> str:
        """Names it, for a batch and a run's record."""
        about = self.given if self.dataset is None else self.dataset
        return f"loaders/{self.part}/{self.version or type(about).__name__}"

    @property
    def numbered(self) -> bool:
        """Whether it is known which examples are in a batch: torch's own collate function puts
        those of a map-style dataset together as the sampler names them; another may not.
        """
        given = self.given
        return not self.iterable and (
            self.plain or (given.batch_sampler is not None and given.collate_fn is default_collate)
        )

    @cached_property
    def index(self) -> Tensor:
        """(N,) positions of all examples; none where batches have no index."""
        return torch.arange(len(self) if self.numbered else 0)

    @cached_property
    def y(self) -> Tensor | None:
        """(N,) the class of each example where the dataset says it without being read, else
        None; see ``known_classes``.
        """
        return known_classes(self.dataset) if self.numbered else None

    def __len__(self) -> int:
        whole = None if self.iterable else _length(self.dataset)
        return next(n for n in (whole, self.stated, _length(self.given), 1) if n is not None)

    def steps(self, batch_size: int, drop_last: bool = True) -> int | None:
        """How many batches a pass has, None where nobody knows.

        Args:
            batch_size: Of the examples of a dataset; a loader has its own.
            drop_last: Leave out a last, smaller batch of a dataset.

        Returns:
            The number.
        """
        if self.stated is not None or not self.plain:
            return _length(self.given) if self.stated is None else self.stated
        examples = _length(self.given)
        if examples is None:
            return None
        return max(1, examples // batch_size) if drop_last else -(-examples // batch_size)

    def batches(
        self,
        batch_size: int,
        shuffle: torch.Generator | None = None,
        epoch: int | None = None,
        drop_last: bool = False,
    ) -> Iterator[tuple[Any, Tensor | None]]:
        """(what the loader gave, (B,) positions of its examples or None), batch by batch.

        All that the loader draws follows from ``shuffle``; its generators and those of the process
        stay where they are.

        Args:
            batch_size: For a plain dataset.
            shuffle: Decides order and chance; None: in order, seeded with 0.
            epoch: The epoch's number, for samplers and datasets with ``set_epoch``.
            drop_last: For a plain dataset.

        Returns:
            An iterator, of at most ``stated`` batches.

        Raises:
            ValueError: For none, and for fewer or more than were counted.
        """
        seed = 0 if shuffle is None else int(torch.randint(2**62, (), generator=shuffle))
        parts = made_of(self.given)
        if epoch is not None:
            tell_epoch(parts, epoch)
        chance = Chance(seed, generators_of(parts))
        if self.plain:
            order = None if self.iterable else _order(len(self), shuffle)
            loader: Iterable
            loader, rows = wrapped(self.given, batch_size, order, drop_last)
        else:
            loader, rows = opened(self.given, self.numbered)
        # Only a training epoch must have the length that schedules count on.
        steps = self.steps(batch_size, drop_last) if self.part == "train" else None
        seen = 0
        with chance:
            batches = iter(loader)
        while self.stated is None or seen < self.stated:
            with chance, explained(self.part):
                made = next(batches, END)
            if made is END:
                break
            seen += 1
            if self.stated is None and steps is not None and seen > steps:
                raise ValueError(
                    f"{self.part} gave more than {steps} batches, its len. Each worker of an "
                    "iterable dataset reads all of it, unless it takes its own share by "
                    "torch.utils.data.get_worker_info(), and has a last, smaller batch of its own. "
                    "Say how many an epoch has: from_loaders(..., steps_per_epoch=500)."
                )
            yield made, rows.popleft() if rows else None
        if not seen and getattr(self.given, "drop_last", False) and len(self):
            raise ValueError(
                f"{self.part} gave no batches: its {len(self)} examples are fewer than the "
                f"loader's batch_size={self.batch_size}, and drop_last=True leaves them out. Use a "
                "smaller batch_size, or drop_last=False."
            )
        if not seen:
            raise ValueError(
                f"{self.part} gave no batches. It must give the same number in every pass: pass "
                "what begins anew each time it is iterated."
            )
        if steps is not None and seen < steps:
            raise ValueError(
                f"{self.part} gave {seen} batches where {steps} were expected"
                f"{', its len' if self.stated is None else ''}. It must give as many in every "
                f"pass; say how many an epoch has: from_loaders(..., steps_per_epoch={seen})."
            )

    def identity(self) -> list:
        """What decides the batches: the user's name of the version, else all that they are made of.

        Returns:
            Parts, for the key of a run.
        """
        if self.version:
            return [self.part, self.version, len(self), self.stated]
        given = self.given
        if not isinstance(given, DataLoader):
            return [self.part, self.stated, given]
        names = ("batch_size", "drop_last", "num_workers", "collate_fn", "worker_init_fn")
        settings = {name: getattr(given, name) for name in names}
        sampler = given.batch_sampler if given.batch_sampler is not None else given.sampler
        return [self.part, self.stated, given.dataset, settings, _sampler(sampler)]


def _length(value) -> int | None:
    try:
        return len(value)
    except TypeError:  # none, or a loader over a dataset that has none
        return None


def _sampler(sampler):
    """A sampler by its class and settings, without what it goes through."""
    if not isinstance(sampler, Sampler):
        return sampler
    own = {k: v for k, v in vars(sampler).items() if k not in PASSING}
    return [type(sampler), {k: _sampler(v) for k, v in own.items()}]


def _order(n: int, shuffle: torch.Generator | None) -> Tensor:
    return torch.arange(n) if shuffle is None else torch.randperm(n, generator=shuffle)
