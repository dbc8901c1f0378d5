"""Images in folders, ``<folder>/{train,test}/<class>/*``: read once, kept in memory as uint8,
remembered in one cache file.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..display.progress import bar
from .data import Data, Split

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
LAYOUT = "expected train/<class>/* and test/<class>/* with images inside"


def image_folder(folder: str | Path, size: int | tuple[int, int] | None = None) -> Data:
    """The images under ``<folder>/train/<class>/`` and ``<folder>/test/<class>/``.

    Labels are the sorted class names; images come in the order of their file names; hidden files
    and other endings than png, jpg, jpeg, bmp, webp are passed over. The decoded images are kept in
    ``<folder>/.kdtutor-cache….safetensors``, which is read instead as long as names, sizes and
    times of all files stay the same; a folder that cannot be written to simply has no cache.

    Args:
        folder: Holds ``train`` and ``test``, which hold the same classes.
        size: Pixels, or (height, width), to which images are resized, without keeping the
            proportions. None: all images must have one size.

    Returns:
        x (N, 1 or 3, H, W) uint8, y (N,) int64. One channel if every image is grey, else three;
        transparency is dropped.

    Raises:
        FileNotFoundError: For a missing train or test folder.
        ValueError: For classes that differ between them, an empty class, images of different sizes
            and files that cannot be read as images, each naming the folder or file.

    Example:
        >>> image_folder("nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: nowhere has no folder 'train': ...
    """
    folder = Path(folder).expanduser()
    sides = (size, size) if isinstance(size, int) else size
    if sides is not None and not (len(sides) == 2 and min(sides) > 0):
        raise ValueError(
            f"size={size!r}: expected a positive number of pixels, or (height, width)."
        )
    train, test = _listing(folder / "train"), _listing(folder / "test")
    if train.keys() != test.keys():
        only = [
            f"only in {part}: {', '.join(sorted(names))}"
            for part, names in (
                ("train", train.keys() - test.keys()),
                ("test", test.keys() - train.keys()),
            )
            if names
        ]
        raise ValueError(
            f"the classes in {folder} differ between train and test; {'; '.join(only)}."
        )

    files = [file for part in (train, test) for members in part.values() for file in members]
    tag = f"-{sides[0]}x{sides[1]}" if sides else ""
    cache = folder / f".kdtutor-cache{tag}.safetensors"
    x = _remembered(cache, files, lambda: {"x": _decode([path for path, _, _ in files], sides)})[
        "x"
    ]
    y = torch.tensor(
        [
            label
            for part in (train, test)
            for label, members in enumerate(part.values())
            for _ in members
        ]
    )
    n = sum(map(len, train.values()))
    return Data(folder.resolve().name, tuple(train), Split(x[:n], y[:n]), Split(x[n:], y[n:]))


def _listing(part: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Sorted class name -> sorted (path, bytes, time) of its images."""
    if not part.is_dir():
        raise FileNotFoundError(f"{part.parent} has no folder {part.name!r}: {LAYOUT}.")
    names = sorted(
        entry.name
        for entry in os.scandir(part)
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        raise ValueError(f"{part} has no class folders: {LAYOUT}.")
    classes = {}
    for name in names:
        classes[name] = sorted(
            (e.path, e.stat().st_size, e.stat().st_mtime_ns)
            for e in os.scandir(part / name)
            if e.name.lower().endswith(ENDINGS) and not e.name.startswith(".") and e.is_file()
        )
        if not classes[name]:
            raise ValueError(
                f"class folder {part / name} is empty: it needs at least one image "
                f"({', '.join(ENDINGS)}), or remove the class from both train and test."
            )
    return classes


def _decode(paths: list[str], size: tuple[int, int] | None) -> Tensor:
    """All images as one (N, C, H, W) uint8 tensor. size: (height, width) to resize to."""
    from PIL.Image import Resampling

    images: np.ndarray | None = None
    grey = True
    with bar(len(paths) > 2000, total=len(paths), desc="decoding images", unit="img") as progress:
        for i, path in enumerate(paths):
            with _readable(path, "Replace or remove the file.") as image:
                grey &= image.mode in ("1", "L", "LA")
                image = image.convert("RGB")
            if size:
                # Pillow counts the width first.
                image = image.resize(size[::-1], Resampling.BILINEAR)
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
