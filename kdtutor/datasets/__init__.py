"""Datasets as uint8 tensors in memory: loading, corrupting and augmenting them; and data that are
made or read batch by batch. No downloads unless ``fetch`` is called.
"""

from .augment import CropFlip, Flip, Jitter, per_image
from .batch import Batch
from .boxes import pad_boxes
from .corruption import imbalanced_counts, with_imbalance, with_label_noise
from .data import Data
from .generated import GeneratedData
from .load import available, fetch, load, names
from .loaders import LoaderData, from_loaders
from .mixing import with_labels
from .pack import pack, unpack
from .split import Split

__all__ = [
    "Batch",
    "CropFlip",
    "Data",
    "Flip",
    "GeneratedData",
    "Jitter",
    "LoaderData",
    "Split",
    "available",
    "fetch",
    "from_loaders",
    "imbalanced_counts",
    "load",
    "names",
    "pack",
    "pad_boxes",
    "per_image",
    "unpack",
    "with_imbalance",
    "with_label_noise",
    "with_labels",
]
