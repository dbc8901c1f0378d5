"""Data of somebody else's making: DataLoaders, Datasets of torch, any batches; larger than memory,
for nothing is copied or kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import explained
from ..tasks import Classification, Task
from .batch import Batch, leaves, sent, tree_map
from .convert import check_task, class_names
from .fields import Fields, Keys, check_finite
from .pixels import as_numbers, check_images, check_normalisation
from .pixels import inputs as as_networks_see
from .rowless import Rowless
from .split import Split
from .stream import Stream
from .targets import known_classes


@explained
@dataclass(frozen=True, eq=False)
class LoaderData(Rowless):
    """What ``from_loaders`` returns; it stands where a ``Data`` stands in ``fit`` and ``evaluate``.

    Args:
        name: What it is called.
        classes: The names of the classes.
        task: What a label is.
        fields: What is x and what y in a batch.
        train: What is trained on.
        validation: Measured after each epoch, None for nothing.
        test: Measured at the end; empty for nothing.
        mean: Per channel, as in ``Data``.
        std: Per channel.
    """

    name: str
    classes: tuple[str, ...]
    task: Task
    fields: Fields
    train: Stream
    validation: Stream | Split | None
    test: Stream | Split
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self):
        self._check_rows()
        check_normalisation(self.mean, self.std, None, self.name)

    def __repr__(self) -> str:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        counts = ", ".join(f"{len(v)} {k}" for k, v in parts.items() if v is not None and len(v))
        return f"LoaderData({self.name}: {counts}, {len(self.classes)} classes, task={self.task!r})"

    @property
    def batched(self) -> bool:
        """Whether the training batches are the loader's, so that ``fit`` cannot choose their
        size.
        """
        return not self.train.plain

    @property
    def batch_size(self) -> int | None:
        """The size of the training loader's batches, None where it is not known beforehand."""
        return self.train.batch_size

    def steps(self, split, batch_size: int, drop_last: bool = True) -> int:
        """How many batches a pass over a part has.

        Args:
            split: A part of these data, or a split with rows.
            batch_size: Examples per batch, where they are not a loader's.
            drop_last: Leave out a last, smaller batch.

        Returns:
            The number.
        """
        if isinstance(split, Stream):
            return split.steps(batch_size, drop_last) or 1
        return self._measured.steps(split, batch_size, drop_last)

    def batches(
        self,
        split,
        batch_size: int,
        *,
        shuffle: torch.Generator | None = None,
        augment: bool = False,
        view: int | None = None,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Batch]:
        """Batches as the loader gives them, read, checked and sent.

        Args:
            split: A part of these data, or a split with rows.
            batch_size: Of a plain dataset; a loader has its own.
            shuffle: Decides all chance of the loader; None: in order, seeded with 0.
            augment: No meaning: a dataset augments its examples itself.
            view: No meaning.
            device: Where x and y go.
            drop_last: Of a plain dataset; a loader has its own.
            epoch: Its number, for samplers and datasets that ask.

        Returns:
            An iterator of ``Batch``.

        Raises:
            ValueError: For batches of another form, NaN inputs and labels that the task does not
                allow, each naming the part.
            TypeError: For a split that is no part of these data.
        """
        if isinstance(split, Split):
            yield from self._measured.batches(
                split, batch_size, shuffle=shuffle, device=device, drop_last=drop_last
            )
            return
        if not isinstance(split, Stream):
            raise TypeError(
                f"split is a {type(split).__name__}; expected data.train, data.validation, "
                "data.test, or a Split of tensors. Another loader is other data: from_loaders."
            )
        where, first = f"{self.name}: the {split.part}", True
        for made, rows in split.batches(batch_size, shuffle, epoch, drop_last):
            x, y = self.fields.read(made, where)
            check_finite(x, where, first)
            if first and self.mean:
                check_images(self.mean, self.std, x, self.name)
            if first or all(t.device.type == "cpu" for t in leaves(y)):
                self.task.check_labels(y, len(self.classes), f"{where} batch's")
            first = False
            index = rows if rows is not None and len(rows) == len(leaves(x)[0]) else None
            x, y = (tree_map(lambda t: sent(t, device), v) for v in (x, y))
            yield Batch(as_networks_see(x, self.mean, self.std), y, index, None, split.source)

    def identity(self) -> list:
        """What decides the results of training on these data.

        Returns:
            Parts, for the key of a run.
        """
        own = {k: v for k, v in vars(self).items() if k != "name" and not k.startswith("_")}
        return [own]


@explained
def from_loaders(
    train,
    test=None,
    validation=None,
    *,
    name: str = "loaders",
    classes=None,
    task: Task | None = None,
    inputs: Keys = None,
    labels: Keys = None,
    steps_per_epoch: int | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    source: str = "",
) -> LoaderData:
    """Data that are read batch by batch from a loader, for ``fit``, ``evaluate`` and a ``Grid``.

    A loader's batches are taken as they are: their size, their order (its sampler decides, its
    generators are seeded by ``fit`` for each epoch, so that a seed is a run and a killed run goes
    on), and whether a last, smaller one is left out. The examples of a Dataset are shuffled and put
    into batches of ``fit``'s size. A sampler or dataset with ``set_epoch`` is told each epoch.
    Nothing is cut off for validation: pass ``validation``. Views have no id, so a teacher's answers
    are not cached. Methods that keep something per example (CRD) find ``index`` where examples are
    put together by torch's own collate function, and the classes where the dataset has ``targets``.

    Args:
        train: A DataLoader, a Dataset of torch (map-style or iterable), or an iterable of batches
            that can be begun anew. Batches are (x, y), of longer ones the rest is left out, or
            mappings.
        test: The same, or a ``Split``; None: nothing to test on.
        validation: The same; None: nothing is measured after an epoch.
        name: What the data are called.
        classes: Names, or their number. None: the ``classes`` that the training dataset names, as
            torchvision's do, or as many as its labels say where it holds all of them; a task
            without classes has none.
        task: What a label is. Default: ``Classification``; soft labels (mixup in the collate
            function) included.
        inputs: Of batches that are mappings: the key of x, or several, for a network that takes
            them by name. None: all but the labels; one alone is x itself.
        labels: The key of y, or several. None: "labels", "label" or "y", if only one is there.
        steps_per_epoch: Batches per epoch, for a loader without ``len`` or to end sooner; every
            epoch begins the loader anew.
        mean: Per channel, as in ``Data``: for images that arrive as bytes, or as floats in [0, 1].
            Empty: bytes are scaled to [0, 1], floats are taken as they are.
        std: Per channel.
        source: Names this version of the data for the record of a run. Without it the dataset, its
            settings and what it holds in memory stand there (a list of a million files takes some
            ten seconds); what is read from files or a network cannot be seen: your word.

    Returns:
        The data.

    Raises:
        ValueError: For what is no loader, a one-shot iterator, batches that cannot be counted, and
            classes that nobody named.

    Example:
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> rows = TensorDataset(torch.rand(6, 4), torch.tensor([0, 1, 0, 1, 0, 1]))
        >>> data = from_loaders(DataLoader(rows, batch_size=3, shuffle=True), rows, classes=2)
        >>> data, [len(b.y) for b in data.batches(data.train, 64)]
        (LoaderData(loaders: 6 train, 6 test, 2 classes, task=Classification()), [3, 3])
    """
    task = Classification() if task is None else task
    check_task(task, name)
    whole = isinstance(steps_per_epoch, int) and not isinstance(steps_per_epoch, bool)
    if steps_per_epoch is not None and not (whole and steps_per_epoch > 0):
        raise ValueError(f"steps_per_epoch={steps_per_epoch!r}: expected a whole number above 0.")

    def part(what: str, given, stated=None) -> Any:
        return given if isinstance(given, Split) else Stream(given, what, source, stated)

    if isinstance(train, Split):
        raise ValueError("train is a Split, which is in memory: Data(name, classes, train, test).")
    stream = part("train", train, steps_per_epoch)
    if stream.steps(1) is None:
        raise ValueError(
            f"nobody knows how many batches an epoch of this {type(train).__name__} has, which "
            "schedules need: say it, from_loaders(..., steps_per_epoch=500)."
        )
    return LoaderData(
        name,
        _names(classes, stream.dataset, task, name),
        task,
        Fields(inputs, labels, task),
        stream,
        None if validation is None else part("validation", validation),
        Split(torch.zeros(0, 1), None) if test is None else part("test", test),
        as_numbers(mean),
        as_numbers(std),
    )


def _names(classes, dataset, task: Task, name: str) -> tuple[str, ...]:
    """The names of the classes: stated, or the dataset's own, or numbers up to its largest label
    where it holds all of them.
    """
    if classes is None:
        inner = dataset
        while not hasattr(inner, "classes") and hasattr(inner, "indices"):  # torch's Subset
            inner = inner.dataset
        classes = getattr(inner, "classes", None) or ()
        if not all(isinstance(each, str) for each in classes):
            classes = ()
        if isinstance(task, Classification) and not classes and hasattr(dataset, "__getitem__"):
            found = known_classes(dataset)
            classes = () if found is None else tuple(map(str, range(int(found.max()) + 1)))
    names = tuple(map(str, class_names(classes, name)))
    if isinstance(task, Classification) and not names:
        raise ValueError(
            "the dataset does not name its classes: say them, from_loaders(..., classes=10) or "
            "their names."
        )
    return names
