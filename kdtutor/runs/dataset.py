"""What a dataset is: the content of its splits, classes, augmentation, normalisation and task."""

from typing import Any

from ..datasets import Data, Split


def data_parts(data: Data) -> tuple[str, Any]:
    """A dataset as a kind and parts: all that was given to it but its name."""
    # Without a validation split the data are what they were before there was a place for it.
    unsaid = {"name"} if data.validation is not None else {"name", "validation"}
    return "data", {k: v for k, v in vars(data).items() if k not in unsaid}


def split_parts(split: Split) -> tuple[str, Any]:
    """A split as a kind and parts: its tensors, not the name that they were once given."""
    return "split", {k: v for k, v in vars(split).items() if k != "source"}
