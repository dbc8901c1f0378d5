"""Datasets as uint8 tensors in memory: loading, corrupting and augmenting them. No downloads unless
``fetch`` is called.
"""

from .augment import CropFlip, Flip, Jitter
from .corruption import imbalanced_counts, with_imbalance, with_label_noise
from .data import Batch, Data, Split
from .load import available, fetch, load, names

__all__ = [
    "Batch",
    "CropFlip",
    "Data",
    "Flip",
    "Jitter",
    "Split",
    "available",
    "fetch",
    "imbalanced_counts",
    "load",
    "names",
    "with_imbalance",
    "with_label_noise",
]
