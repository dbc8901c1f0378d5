"""Readers for the published files of MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, in the folders
where torchvision puts them, and the table of all published sets, ``PUBLISHED`` (the readers of
those with foreground masks are in ``masked``).

numpy reads them; torchvision itself is needed for downloading only. CIFAR's files are Python
pickles, which can run any program when they are opened: the reader here rebuilds arrays of bytes
and nothing else."""

import gzip
import io
import os
import pickle
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from .augment import CropFlip
from .data import Split
from .masked import cub200, voc2012


class Published(NamedTuple):
    """A dataset of published files.

    Args:
        folder: Under the data root.
        files: Name -> how much the file must hold; "a or b" is one of two places.
        read: Takes folder, files and options, returns (class names, train, test).
        fetcher: The class of ``torchvision.datasets`` that downloads it; empty: its files are
            copied by hand.
        augment: The default of ``Data``.
        mean: The default of ``Data``, per channel.
        std: The default of ``Data``, per channel.
        source: Where its publisher has it, in words.

    Example:
        >>> PUBLISHED["mnist"].folder
        'MNIST/raw'
    """

    folder: str
    files: dict[str, Any]
    read: Callable[..., tuple[tuple[str, ...], Split, Split]]
    fetcher: str
    augment: Any = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    source: str = ""

    def lacking(self, folder: Path) -> list[str]:
        """The files (or folders) that are not in the folder, neither plain nor as .gz.

        Args:
            folder: Where they should lie.

        Returns:
            Their names; empty if all are there.

        Example:
            >>> PUBLISHED["cifar100"].lacking(Path("nowhere"))
            ['train', 'test', 'meta']
        """
        here = lambda name: any(
            os.path.exists(os.path.normpath(folder / name) + end) for end in ("", ".gz")
        )
        return [names for names in self.files if not any(map(here, names.split(" or ")))]


def damaged(path: Path, expected: str, found: str) -> ValueError:
    """The error for a file that is there but cannot be what it should be.

    Args:
        path: The file.
        expected: What it should hold.
        found: What it holds.

    Returns:
        A ``ValueError`` to raise, with the way to get the file again.

    Example:
        >>> damaged(Path("a/b"), "10 bytes", "9")  # doctest: +ELLIPSIS
        ValueError('a/b is damaged or incomplete: expected 10 bytes, found 9. ...')
    """
    name = next(
        (name for name, published in PUBLISHED.items() if path.parent.match(published.folder)),
        "NAME",
    )
    return ValueError(
        f"{path} is damaged or incomplete: expected {expected}, found {found}. "
        f"Delete it and get it again (kdtutor data fetch {name}, or a fresh copy)."
    )


def _content(path: Path, expected: str) -> bytes:
    """The bytes of a file, or of the file of that name with .gz."""
    if path.is_file():
        return path.read_bytes()
    path = path.with_name(f"{path.name}.gz")
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, expected, f"broken compression ({error})") from error


def read_idx(path: Path, shape: tuple[int, ...]) -> torch.Tensor:
    """One IDX file of bytes.

    Args:
        path: The file, plain or with .gz.
        shape: What it must hold.

    Returns:
        uint8 of this shape.

    Raises:
        ValueError: Unless it holds exactly this shape.

    Source:
        LeCun, Cortes, Burges, "The MNIST Database of Handwritten Digits": the IDX file format.
    """
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    expected = f"{' x '.join(map(str, shape))} bytes after the header {header.hex()}"
    raw = _content(path, expected)
    if not raw.startswith(header) or len(raw) != len(header) + prod(shape):
        raise damaged(
            path,
            expected,
            f"{len(raw) - len(header):,} bytes after {raw[: len(header)].hex() or 'no header'}",
        )
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=len(header)).view(shape)


def read_mnist(folder: Path, files: dict[str, tuple[int, ...]]) -> tuple[Split, Split]:
    """The train and test split of four IDX files.

    Args:
        folder: Where they lie.
        files: Name -> shape, of images and labels to train on, images and labels to test on.

    Returns:
        Two splits of (N, 1, H, W) uint8 and (N,) int64.

    Raises:
        ValueError: For damaged files.
    """
    train_x, train_y, test_x, test_y = (
        read_idx(folder / name, shape) for name, shape in files.items()
    )
    return Split(train_x[:, None], train_y.long()), Split(test_x[:, None], test_y.long())


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds arrays of bytes, lists, numbers and text; anything else that a pickle asks for is
    refused, not run.
    """

    # The names under which numpy, old and new, pickles an array; each stands for the one harmless
    # thing that is needed of it.
    array = staticmethod(lambda *_: np.empty(0, np.uint8))
    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): array,
        ("numpy._core.multiarray", "_reconstruct"): array,
        ("numpy", "ndarray"): "ndarray",
        ("numpy", "dtype"): lambda *_: np.dtype("u1", copy=True),
        ("_codecs", "encode"): lambda text, *_: text.encode("latin1"),
    }

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no images need")
        return self.allowed[module, name]


def read_pickle(path: Path, expected: str) -> dict:
    """The dictionary in a pickle of arrays and lists.

    Args:
        path: The file.
        expected: What it should hold, for the message.

    Returns:
        The dictionary.

    Raises:
        ValueError: For anything else, without running any of it.
    """
    raw = _content(path, expected)
    try:
        content = _ArraysOnly(io.BytesIO(raw), encoding="latin1").load()
    except Exception as error:  # damaged bytes make it raise nearly every type of exception
        raise damaged(path, expected, f"{type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise damaged(path, expected, f"a pickled {type(content).__name__}")
    return content


def read_cifar(folder: Path, files: dict[str, int], labels: str = "labels") -> tuple[Split, Split]:
    """The train and test split of CIFAR's pickles.

    Args:
        folder: Where they lie.
        files: Name -> images in it; the last is the test set.
        labels: The name of the labels in each.

    Returns:
        Two splits of (N, 3, 32, 32) uint8 and (N,) int64.

    Raises:
        ValueError: For damaged files.

    Source:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
    """
    x, y = [], []
    for name, rows in files.items():
        expected = f"a pickle with 'data' of {rows} x 3072 bytes and {rows} '{labels}'"
        content = read_pickle(folder / name, expected)
        data, numbers = content.get("data"), content.get(labels)
        whole = (
            isinstance(numbers, list)
            and len(numbers) == rows
            and all(type(n) is int for n in numbers)
        )
        if not (whole and isinstance(data, np.ndarray) and data.shape == (rows, 3072)):
            raise damaged(
                folder / name,
                expected,
                f"'data' of shape {getattr(data, 'shape', None)} and '{labels}' "
                f"{'as expected' if whole else 'not as expected'}",
            )
        x.append(torch.from_numpy(data).view(-1, 3, 32, 32))
        y.append(torch.tensor(numbers))
    return Split(torch.cat(x[:-1]), torch.cat(y[:-1])), Split(x[-1], y[-1])


def read_cifar100(folder: Path, files: dict[str, int]) -> tuple[tuple[str, ...], Split, Split]:
    """CIFAR-100 with its 100 fine classes, whose names lie in a third pickle.

    Args:
        folder: Where they lie.
        files: Name -> images in it, to train on and to test on; then the file of the names -> how
            many.

    Returns:
        (class names, train, test), splits as of ``read_cifar``.

    Raises:
        ValueError: For damaged files.

    Source:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
    """
    *images, meta = files
    names = read_pickle(
        folder / meta, expected := f"a pickle with {files[meta]} 'fine_label_names'"
    ).get("fine_label_names")
    if not isinstance(names, list) or len(names) != files[meta]:
        raise damaged(folder / meta, expected, "no such list")
    return tuple(map(str, names)), *read_cifar(
        folder, {name: files[name] for name in images}, "fine_labels"
    )


IDX = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}
DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std per channel
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

PUBLISHED = {
    "mnist": Published("MNIST/raw", IDX, lambda *files: (DIGITS, *read_mnist(*files)), "MNIST"),
    "fashion_mnist": Published(
        "FashionMNIST/raw", IDX, lambda *files: (FASHION, *read_mnist(*files)), "FashionMNIST"
    ),
    "cifar10": Published(
        "cifar-10-batches-py",
        {**{f"data_batch_{i}": 10_000 for i in range(1, 6)}, "test_batch": 10_000},
        lambda *files: (CIFAR10, *read_cifar(*files)),
        "CIFAR10",
        CropFlip(pad=4),
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Published(
        "cifar-100-python",
        {"train": 50_000, "test": 10_000, "meta": 100},
        read_cifar100,
        "CIFAR100",
        CropFlip(pad=4),
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    ),
    "voc2012": Published(
        "VOCdevkit/VOC2012",
        dict.fromkeys(
            (
                "ImageSets/Segmentation/train.txt",
                "ImageSets/Segmentation/val.txt",
                "Annotations",
                "JPEGImages",
                "SegmentationObject",
            )
        ),
        lambda folder, _, **options: voc2012(folder, **options),
        "VOCSegmentation",
        None,
        *IMAGENET,
        "VOCtrainval_11-May-2012.tar, on the page of the Pascal VOC challenge 2012",
    ),
    "cub200": Published(
        "CUB_200_2011",
        dict.fromkeys(
            (
                "images.txt",
                "image_class_labels.txt",
                "train_test_split.txt",
                "bounding_boxes.txt",
                "classes.txt",
                "images",
                "segmentations or ../segmentations",
            )
        ),
        lambda folder, _, **options: cub200(folder, **options),
        "",
        None,
        *IMAGENET,
        'CUB_200_2011.tgz and segmentations.tgz, both on Caltech\'s page "CUB-200-2011"',
    ),
}
