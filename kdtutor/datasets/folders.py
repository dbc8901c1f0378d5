"""Images in folders, ``<folder>/{train,val,test}/<class>/*``: read once, kept in memory as uint8,
remembered in one cache file.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..display.progress import bar
from ..errors import unknown
from .data import Data, Split
from .listing import listed
from .split import stratified

RESIZE = ("squash", "crop", "pad")


def image_folder(
    folder: str | Path,
    size: int | tuple[int, int] | None = None,
    resize: str = "squash",
    *,
    test_fraction: float | None = None,
    validation_fraction: float | None = None,
    seed: int = 0,
    **options,
) -> Data:
    """The images under ``<folder>/train/<class>/``, ``<folder>/test/<class>/`` and
    ``<folder>/val/<class>/`` (or valid, validation), or of a single folder ``<folder>/<class>/``.

    The val part becomes the data's validation split; where there is no test part, there is no test
    set. Labels are the sorted class names; images come in the order of their file names; of several
    frames (gif, tif) the first is read. The decoded images are kept in
    ``<folder>/.kdtutor-cache….safetensors``, which is read instead as long as names, sizes and
    times of all files stay the same; a folder that cannot be written to simply has no cache.

    Args:
        folder: Holds the parts, which hold the same classes, or the classes.
        size: Pixels, or (height, width), to which images are resized. None: all images must have
            one size.
        resize: How: "squash" without keeping the proportions; "crop": the image covers the size,
            and its middle is kept; "pad": the image fits into it, and the rest is black.
        test_fraction: Share of the training images that becomes the test set, for a folder without
            one, in equal shares per class; 0: no test set.
        validation_fraction: The same for the validation split; of all images, like the other.
        seed: Decides which.
        **options: ``mean``, ``std``, ``augment`` of ``Data``.

    Returns:
        x (N, 1 or 3, H, W) uint8, y (N,) int64. One channel if every image is grey, else three;
        transparency is dropped.

    Raises:
        FileNotFoundError: For a folder of another layout.
        ValueError: For classes that differ between the parts, an empty class, images of different
            sizes and files that cannot be read as images, each naming the folder or file; for
            shares that leave nothing to train on.

    Example:
        >>> image_folder("nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: nowhere has no folder 'train': ...
    """
    folder = Path(folder).expanduser()
    sides: Any = size if isinstance(size, (tuple, list)) or size is None else (size, size)
    number = lambda s: isinstance(s, Integral) and not isinstance(s, bool) and int(s) > 0
    if sides is not None and not (len(sides) == 2 and all(map(number, sides))):
        raise ValueError(
            f"size={size!r}: expected a positive number of pixels, or (height, width)."
        )
    sides = None if sides is None else (int(sides[0]), int(sides[1]))
    if resize not in RESIZE:
        raise unknown("resize", resize, RESIZE)
    if resize != "squash" and sides is None:
        raise ValueError(f"resize={resize!r} says how images come to a size: pass size=, too.")
    shares = {"test": test_fraction, "validation": validation_fraction}
    _check_shares(shares)
    parts = listed(folder, shares)

    files = [file for part in parts.values() for members in part.values() for file in members]
    tag = f"-{sides[0]}x{sides[1]}" if sides else ""
    tag += "" if resize == "squash" else f"-{resize}"
    cache = folder / f".kdtutor-cache{tag}.safetensors"
    paths = [path for path, _, _ in files]
    x = _remembered(cache, files, lambda: {"x": _decode(paths, sides, resize)})["x"]
    splits: dict[str, Any] = {}
    start = 0
    for name, part in parts.items():
        y = torch.tensor([label for label, some in enumerate(part.values()) for _ in some])
        splits[name] = Split(x[start : start + len(y)], y)
        start += len(y)
    splits |= _cut(splits["train"], shares, seed)
    return Data(folder.resolve().name, tuple(parts["train"]), **splits, **options)


def _check_shares(shares: dict[str, float | None]) -> None:
    """Raises ``ValueError`` for shares that are none, or leave nothing to train on."""
    for name, share in shares.items():
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if share is not None and not (number and 0 <= share < 1):
            raise ValueError(f"{name}_fraction={share!r}: expected a share of 0 or more, below 1.")
    if sum(share or 0 for share in shares.values()) >= 1:
        raise ValueError(
            f"test_fraction={shares['test']} and validation_fraction={shares['validation']} leave "
            "nothing to train on: together they must be below 1."
        )


def _cut(whole: Split, shares: dict[str, float | None], seed: int) -> dict[str, Split]:
    """The parts that are cut off the training images, and what is left of these."""
    rest, cut = whole, {}
    for name, share in shares.items():
        if share:
            taken = stratified(rest, max(1, round(share * len(whole))), seed)
            left = torch.ones(len(rest), dtype=torch.bool)
            left[taken] = False
            cut[name], rest = rest.select(taken), rest.select(left)
    return {**cut, "train": rest}


def _decode(paths: list[str], size: tuple[int, int] | None, how: str = "squash") -> Tensor:
    """All images as one (N, C, H, W) uint8 tensor. size: (height, width) to resize to."""
    from PIL import ImageOps
    from PIL.Image import Image, Resampling

    resized: Any = {"squash": Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}[how]

    images: np.ndarray | None = None
    grey = True
    with bar(len(paths) > 2000, total=len(paths), desc="decoding images", unit="img") as progress:
        for i, path in enumerate(paths):
            with _readable(path, "Replace or remove the file.") as image:
                grey &= image.mode in ("1", "L", "LA")
                image = image.convert("RGB")
            if size:
                # Pillow counts the width first.
                image = resized(image, size[::-1], Resampling.BILINEAR)
            if images is None:
                images = np.empty((len(paths), 3, image.height, image.width), np.uint8)
            elif images.shape[2:] != (image.height, image.width):
                raise ValueError(
                    f"images differ in size: {paths[0]} has {images.shape[3]} x {images.shape[2]} "
                    f"pixels, {path} has {image.width} x {image.height}. Make them equal, or "
                    "resize all with load(..., size=...)."
                )
            images[i] = np.asarray(image).transpose(2, 0, 1)
            progress.update()
    assert images is not None  # no class is empty
    return torch.from_numpy(images[:, :1].copy() if grey else images)


@contextmanager
def _readable(path: str | Path, remedy: str):
    """An image that Pillow opened. Whatever fails while it is open is one ``ValueError`` with the
    path and the remedy.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise ValueError("more than 8 bits per channel; save it as an 8-bit image")
            yield image
    except Exception as error:  # Pillow raises nearly every type of exception for damaged files
        raise ValueError(f"{path} cannot be read as an image ({error}). {remedy}") from error


def _remembered(
    cache: Path, files: list[tuple[str, int, int]], decode: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What ``decode()`` makes of files (path, bytes, time), from the cache as long as they stay the
    same.
    """
    folder = str(cache.parent)  # it may lie elsewhere tomorrow
    mark = hashlib.blake2b(
        repr([(path.removeprefix(folder), *stat) for path, *stat in files]).encode()
    ).hexdigest()
    stored = _from_cache(cache, mark)
    if stored is None:
        stored = decode()
        _to_cache(cache, mark, stored, like=files[0][0])
    return stored


def _from_cache(cache: Path, mark: str) -> dict[str, Tensor] | None:
    """The tensors as they were stored, or None if the cache is absent, unreadable or of other
    files.
    """
    try:
        with safe_open(cache, "pt") as stored:
            whole = (stored.metadata() or {}).get("files") == mark
            return {name: stored.get_tensor(name) for name in stored.keys()} if whole else None  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError):
        return None


def _to_cache(cache: Path, mark: str, tensors: dict[str, Tensor], like: str) -> None:
    """Stores decoded images whole or not at all, readable by whoever may read the file ``like``
    (safetensors would keep them to one user). A folder or disk that does not take them is no error.
    """
    # unique: two processes may decode the same folder
    part = cache.with_name(f"{cache.name}.{uuid.uuid4().hex}.part")
    try:
        save_file(tensors, part, {"files": mark})
        shutil.copymode(like, part)
        os.replace(part, cache)
    except (OSError, SafetensorError):
        part.unlink(missing_ok=True)
