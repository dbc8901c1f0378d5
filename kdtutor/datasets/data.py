"""A whole dataset: tensors in memory, cut into batches that know which image and which view they
hold.

Images are uint8 in memory and become normalised float32 batch by batch, on the device, without
worker processes."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import explained
from ..tasks import Classification, Task
from .batch import Batch, digest, leaves, sent, tree_map
from .convert import as_inputs, as_labels, check_task, class_names
from .mixing import adapted, changed
from .moving import check_movable, moved
from .pixels import as_numbers, check_normalisation, inputs, normalised
from .split import Split, class_indices, held_out, stratified

__all__ = ["Batch", "Data", "Split", "digest", "leaves", "tree_map"]


@explained
@dataclass(frozen=True, eq=False)
class Data:
    """A dataset: its splits, class names, task, the augmentation of training batches and the
    normalisation.

    Args:
        name: What it is called.
        classes: The names of the classes, or their number; () for a task without classes.
        train: The training split.
        test: The test split; None: nothing to test on.
        augment: None, or an augmentation of ``datasets.augment``, or any callable of a uint8 batch
            that returns bytes, or floats in [0, 1] (its views have no id). Transforms of
            torchvision are called image by image, as ``per_image`` does, but MixUp and CutMix with
            whole batches and labels, as ``with_labels`` does. Masks and boxes move with the
            pixels, as the task says.
        mean: Per channel, of pixels scaled to [0, 1]; empty: no normalisation. Float images count
            as scaled already.
        std: Per channel; a batch holds (x/255 - mean) / std.
        task: What a label is. Default: one class index per example.
        validation: A split of its own that ``fit`` measures after each epoch; None: ``fit`` cuts
            one off the training split.

    Of a mapping x, images are the uint8 entries of shape (N, C, H, W) whose name does not contain
    "mask": they alone are scaled and normalised. Everything else, and all of y, stays as it is.

    Raises:
        ValueError: For labels that the task does not allow (outside 0..C-1, another shape or type),
            for targets that the augmentation cannot move, and for a mean and std that do not fit.
        TypeError: For a part that is no ``Split``.

    Example:
        >>> part = Split(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
        >>> data = Data("black", ("a", "b"), part, part)
        >>> data
        Data(black: 4 train, 4 test, 2 classes, 1x8x8, augment=None)
        >>> next(data.batches(data.train, 3)).x.shape
        torch.Size([3, 1, 8, 8])
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split = None  # type: ignore[assignment]  # always a split after construction
    augment: Any = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    task: Task = field(default_factory=Classification)
    validation: Split | None = None

    def __post_init__(self):
        check_task(self.task, self.name)
        object.__setattr__(self, "classes", class_names(self.classes, self.name))
        for key in ("mean", "std"):
            object.__setattr__(self, key, as_numbers(getattr(self, key)))
        if self.test is None and isinstance(self.train, Split):
            object.__setattr__(self, "test", self.train.select([]))
        for part, split in self.splits().items():
            if not isinstance(split, Split):
                raise TypeError(
                    f"{self.name}: {part} is a {type(split).__name__}; expected a Split: "
                    "Split(x, y), or Data.from_tensors(x, y, x_test, y_test) for all at once."
                )
            y = self.task.as_labels(split.y)
            self.task.check_labels(y, len(self.classes), f"{self.name}: {part}")
            if y is not split.y:
                object.__setattr__(self, part, replace(split, y=y))
        check_normalisation(self.mean, self.std, self.train.x, self.name)
        change = adapted(self.augment, len(self.classes), self.train.y, self.task, self.name)
        object.__setattr__(self, "augment", change)
        if self.augment is not None:
            check_movable(self.augment, self.train.x, self.train.y, self.task, self.name)

    def __repr__(self) -> str:
        shape = "x".join(map(str, leaves(self.train.x)[0].shape[1:]))
        task = "" if self.task == Classification() else f", task={self.task!r}"
        counts = ", ".join(f"{len(split)} {part}" for part, split in self.splits().items())
        return (
            f"Data({self.name}: {counts}, "
            f"{len(self.classes)} classes, {shape}, augment={self.augment!r}{task})"
        )

    @classmethod
    def from_tensors(
        cls,
        x,
        y=None,
        x_test=None,
        y_test=None,
        *,
        name: str = "tensors",
        classes=None,
        task: Task | None = None,
        dtype: torch.dtype | None = None,
        validation: tuple[Any, Any] | None = None,
        **options,
    ) -> "Data":
        """Data of tensors, arrays of numpy, tables of pandas, lists, or mappings of these.

        Args:
            x: Inputs, a row per example: images (N, C, H, W), features (N, D), ... Floats become
                float32, as networks are; all other types stay.
            y: Labels. For classes: whole numbers or bools of any type, (N,) or (N, 1), or text,
                they become int64; or rows of probabilities. None: no labels.
            x_test: Of the test split, None for none.
            y_test: Its labels.
            name: What the data are called.
            classes: Names or a number. None: the sorted names of labels that are text; else as many
                as there are, where all of 0..C-1 occur.
            task: What a label is; None: ``Classification``, or ``NoLabels`` without y.
            dtype: The type of all inputs, such as torch.float64, or torch.float32 for a table of
                whole numbers.
            validation: (x, y) of a validation split of its own.
            **options: ``augment``, ``mean``, ``std``, as in the constructor.

        Returns:
            ``Data``; what it holds is a copy, except of tensors of the right type.

        Raises:
            ValueError: For what cannot be converted without guessing: floats as classes, columns of
                text, images (N, H, W, C), rows of different shapes.

        Example:
            >>> data = Data.from_tensors([[0.0, 1.0], [2.0, 3.0]], ["dog", "cat"])
            >>> data, data.classes, data.train.y.tolist()
            (Data(tensors: 2 train, 0 test, 2 classes, 2, augment=None), ('cat', 'dog'), [1, 0])
        """
        if x_test is None and y_test is not None:
            raise ValueError("y_test was given without x_test, the inputs that it labels.")
        if validation is not None and not (
            isinstance(validation, (tuple, list)) and len(validation) == 2
        ):
            raise ValueError(
                f"validation is a {type(validation).__name__}; expected a pair (x, y). A Split "
                "goes to the constructor, Data(..., validation=split)."
            )
        x_held, y_held = (None, None) if validation is None else validation
        xs = {"x": x, "x_test": x_test, "the validation x": x_held}
        ys = {"y": y, "y_test": y_test, "the validation y": y_held}
        found = as_labels(ys, classes, task)
        made = {
            name: Split(as_inputs(name, value, dtype), labels)
            for (name, value), labels in zip(xs.items(), found.parts)
            if value is not None
        }
        train, test, held = (made.get(name) for name in xs)
        if train is None:
            raise ValueError("x is None; expected the inputs of the training examples.")
        last = {"task": found.task, "validation": held, **options}
        return cls(name, found.classes, train, test or train.select([]), **last)

    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name: train, validation (if the data have one), test.

        Returns:
            {name: split}.
        """
        own = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, **own, "test": self.test}

    @property
    def views(self) -> int | None:
        """How many distinct views of one image the augmentation can make; None when its views have
        no id.
        """
        return 1 if self.augment is None else getattr(self.augment, "views", None)

    def steps(self, split: Split, batch_size: int, drop_last: bool = True) -> int:
        """How many batches a pass over a split has; a split smaller than one counts as one.

        Args:
            split: The split that is trained on.
            batch_size: Examples per batch.
            drop_last: Count full batches only.

        Returns:
            The number of batches that ``batches(..., drop_last=drop_last)`` gives.
        """
        return max(1, len(split) // batch_size if drop_last else -(-len(split) // batch_size))

    def augmented(self, augment) -> "Data":
        """The same data with another augmentation.

        Args:
            augment: As in the constructor; None for none.

        Returns:
            A ``Data`` with the very same splits.

        Raises:
            ValueError: For targets that it cannot move.
        """
        return replace(self, augment=augment)

    def with_task(self, task: Task) -> "Data":
        """The same data with another task, such as one whose label loss is smoothed.

        Args:
            task: What a label is.

        Returns:
            A ``Data`` with the very same splits.

        Raises:
            ValueError: For labels that it does not allow.

        Example:
            >>> from kdtutor.datasets import load
            >>> load("digits").with_task(Classification(label_smoothing=0.1)).task
            Classification(label_smoothing=0.1)
        """
        return replace(self, task=task)

    def without(self, *classes: int) -> "Data":
        """The data whose *training* set lacks these classes; the classes stay in the label space
        and in the test set.

        Args:
            classes: Class indices.

        Returns:
            A ``Data`` with the same test set.

        Raises:
            ValueError: For labels that are not one class index per example, or a class that does
                not exist.

        Example:
            >>> from kdtutor.datasets import load
            >>> 3 in load("digits").without(3).train.y
            False
        """
        y = class_indices(self.train, f"without({', '.join(map(str, classes))})")
        missing = [c for c in classes if not 0 <= int(c) < len(self.classes)]
        if missing:
            raise ValueError(
                f"without({', '.join(map(str, classes))}): {self.name} has the classes 0 to "
                f"{len(self.classes) - 1}, not {missing}."
            )
        gone = torch.tensor([int(c) for c in classes])
        return replace(
            self,
            name=f"{self.name}-without-{'-'.join(map(str, classes))}",
            train=self.train.select(~torch.isin(y, gone)),
        )

    def subset(self, n: int, seed: int = 0) -> "Data":
        """The data with n training examples, drawn under a seed.

        Args:
            n: How many, in equal shares per class where labels are class indices, else plain
                random.
            seed: Decides which.

        Returns:
            A ``Data`` with the same test set.

        Raises:
            ValueError: For fewer than one example or more than there are.
        """
        if not 0 < n <= len(self.train):
            raise ValueError(
                f"a subset of {n} was asked for, but {self.name} has {len(self.train)} training "
                "examples."
            )
        return replace(
            self, name=f"{self.name}-{n}", train=self.train.select(stratified(self.train, n, seed))
        )

    def holdout(self, fraction: float, seed: int = 0) -> tuple[Split, Split | None]:
        """Cuts the training set into (train, validation).

        Args:
            fraction: Of the examples, in equal shares per class where labels are class indices; 0
                keeps everything for training. An example that is repeated lies on one side. Data
                with a validation split of their own are not cut: any fraction but 0 means it.
            seed: Decides which.

        Returns:
            The two splits, the second None for a fraction of 0.

        Raises:
            ValueError: For a fraction outside [0, 1).
        """
        if not 0 <= fraction < 1:
            raise ValueError(
                f"validation fraction {fraction}: expected 0 (no validation split) or a fraction "
                "below 1."
            )
        if fraction == 0 or self.validation is not None:
            return self.train, self.validation if fraction else None
        held = held_out(self.train, fraction, seed)
        return self.train.select(~held), self.train.select(held)

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 images as the float32 that networks see.

        Args:
            images: (B, C, H, W) uint8; inputs of any other type pass unchanged.

        Returns:
            (x/255 - mean) / std, in channels-last layout.
        """
        return normalised(images, self.mean, self.std)

    def batches(
        self,
        split: Split,
        batch_size: int,
        *,
        shuffle: torch.Generator | None = None,
        augment: bool = False,
        view: int | None = None,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Batch]:
        """Batches of a split.

        Args:
            split: Of this data.
            batch_size: Examples per batch.
            shuffle: A CPU generator that decides order and views; None: in order.
            augment: Apply the training augmentation to whole batches, targets included; view ids
                are then its own, else 0.
            view: The one view to take instead of random ones.
            device: Where x and y go.
            drop_last: Drop a last batch smaller than the others; never if it is the only one.
            epoch: Its number; it has a meaning for loaders only.

        Returns:
            An iterator of ``Batch``.
        """
        order = (
            torch.randperm(len(split), generator=shuffle)
            if shuffle is not None
            else torch.arange(len(split))
        )
        x_all, y_all = (tree_map(lambda t: sent(t, device), v) for v in (split.x, split.y))
        change = self.augment if augment else None
        source = f"{split.source}/{change!r}/{self.mean}/{self.std}"
        for start in range(0, len(split), batch_size):
            rows = order[start : start + batch_size]
            if drop_last and start and len(rows) < batch_size:
                return
            there = sent(rows, device)
            x, y = (
                tree_map(lambda t: t.index_select(0, there), v) for v in (x_all, y_all)
            )  # ten times as fast as t[there]
            ids: Any = torch.full((len(rows),), view or 0)
            if change is not None and self.views is not None:
                ids = change.sample(len(rows), shuffle) if view is None else ids
                x, y = moved(change, ids, x, y, self.task)
            elif change is not None:
                # To look at values a GPU must be waited for: there the first batch is enough.
                look = not start or leaves(x)[0].device.type == "cpu"
                given, ids = y, None
                x, y = changed(change, x, y, look)
                if look and y is not given:
                    self.task.check_labels(y, len(self.classes), f"{self.name}: the mixed batch's")
            yield Batch(inputs(x, self.mean, self.std), y, split.index[rows], ids, source)
