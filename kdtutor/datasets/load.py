"""Where data comes from: ``load`` by name or path, ``fetch`` downloads (nothing else does),
``available`` says what is here.
"""

import http.client
import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from ..errors import explained, unknown
from .data import Data
from .digits import digits
from .folders import image_folder
from .listing import HELD
from .root import resolve
from .scenes import scenes
from .vision import PUBLISHED

EMBEDDED: dict[str, Callable[..., Data]] = {"digits": digits, "scenes": scenes}
OWN = (
    "Your own images: load('path/to/folder'), with train/<class>/* and test/<class>/* in that "
    "folder, or load('path/to/folder', test_fraction=0.2) with <class>/* in it."
)


@explained
def names() -> list[str]:
    """The names that ``load`` knows without any files of your own.

    Returns:
        The embedded sets first, then the published ones.

    Example:
        >>> names()[:3]
        ['digits', 'scenes', 'mnist']
    """
    return [*EMBEDDED, *PUBLISHED]


@explained
def load(name_or_path: str | Path, root: str | Path = "data", **options) -> Data:
    """A dataset by its name, or your own images by the path of their folder.

    By default CIFAR batches are augmented with ``CropFlip(pad=4)`` and normalised per channel,
    voc2012 and cub200 are normalised only; all others are neither, their pixels are in [0, 1].
    Downloads nothing: see ``fetch``.

    Args:
        name_or_path: "digits", "scenes" (no files needed); "mnist", "fashion_mnist", "cifar10",
            "cifar100" (torchvision's files under ``root``, or an image folder
            ``root/<name>/{train,test}/<class>/*``); any other folder of images, as a path or as its
            name under ``root``, of the layouts train/val/test, train/val, train/test, or of classes
            alone (see ``datasets.folders``); "voc2012", "cub200" (their publishers' files under
            ``root``; with foreground masks, see ``datasets.masked``).
        root: The data directory, see ``datasets.root.resolve``.
        **options: ``n_test, seed`` for digits; ``n_train, n_test, size, seed`` for scenes; ``size,
            resize, mean, std, augment, test_fraction, validation_fraction, seed`` for image
            folders; ``size`` for voc2012; ``size, box`` for cub200.

    Returns:
        The data.

    Raises:
        FileNotFoundError: For a dataset that is not here, with the ways to get it.
        ValueError: For an unknown name or damaged files.

    Example:
        >>> load("digits", n_test=97).test.x.shape
        torch.Size([97, 1, 8, 8])
    """
    root, name = resolve(root), str(name_or_path)
    by_name = not isinstance(name_or_path, os.PathLike)
    if by_name and name in EMBEDDED:
        return EMBEDDED[name](**options)
    if by_name and name in PUBLISHED:
        published = PUBLISHED[name]
        where = root / published.folder
        lacking = published.lacking(where)
        usual = {"augment": published.augment, "mean": published.mean, "std": published.std}
        if lacking and _is_image_folder(root / name):
            return replace(image_folder(root / name, **usual | options), name=name)
        if lacking:
            raise _missing(name, root, lacking)
        return Data(name, *published.read(where, published.files, **options), **usual)
    path = Path(name).expanduser()
    for folder in (path, root / name):
        if folder.is_dir():
            return image_folder(folder, **options)
    if not by_name or len(path.parts) > 1:
        raise FileNotFoundError(f"{path} is not a folder. {OWN}")
    raise unknown("dataset", name, available(root), OWN)


def fetch(name: str, root: str | Path = "data") -> Path | None:
    """Downloads a dataset into ``root`` unless it is there, and checks it.

    Args:
        name: One of ``names()``.
        root: The data directory, see ``datasets.root.resolve``.

    Returns:
        The dataset's folder; None: it needs no files.

    Raises:
        OSError: If ``root`` cannot be written to, the download fails or the files must be copied by
            hand.
        ValueError: For an unknown name or damaged files.

    Example:
        >>> print(fetch("digits"))
        None
    """
    root = resolve(root)
    if name in EMBEDDED:
        return None
    if name not in PUBLISHED:
        raise unknown("dataset", name, names())
    if not available(root)[name][0]:
        if not PUBLISHED[name].fetcher:
            raise _missing(name, root, PUBLISHED[name].lacking(root / PUBLISHED[name].folder))
        try:  # tried for real: permission bits lie to root and on network disks
            root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=root).close()
        except OSError as error:
            raise OSError(
                f"cannot write to the data directory {root} ({error}). Choose another one, or "
                "mend its permissions."
            ) from error
        import torchvision

        try:
            getattr(torchvision.datasets, PUBLISHED[name].fetcher)(root, download=True)
        except (
            OSError,
            RuntimeError,
            EOFError,
            http.client.HTTPException,
            tarfile.TarError,
        ) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OSError(
                f"could not download {name} ({reason}). Check the network and the free disk and "
                f"try again, or {_other_ways(name, root)}"
            ) from error
    load(name, root)
    return root / (
        name if PUBLISHED[name].lacking(root / PUBLISHED[name].folder) else PUBLISHED[name].folder
    )


@explained
def available(root: str | Path = "data") -> dict[str, tuple[bool, str]]:
    """What is here: each name, and each image folder in ``root``.

    Looks at names of files only.

    Args:
        root: The data directory, see ``datasets.root.resolve``.

    Returns:
        Name -> (is it here?, where or how to get it).

    Example:
        >>> available()["scenes"]
        (True, 'generated')
    """
    root = resolve(root)
    found = {
        "digits": (find_spec("sklearn") is not None, "embedded in scikit-learn"),
        "scenes": (True, "generated"),
    }
    for name, published in PUBLISHED.items():
        if not published.lacking(root / published.folder):
            found[name] = True, f"files in {root / published.folder}"
        elif _is_image_folder(root / name):
            found[name] = True, f"image folder {root / name}"
        else:
            found[name] = (
                False,
                f"kdtutor data fetch {name}"
                if published.fetcher
                else f"to be copied by hand: {published.source}",
            )
    own = (
        sorted(folder for folder in root.iterdir() if _is_image_folder(folder))
        if root.is_dir()
        else []
    )
    return found | {
        folder.name: (True, f"image folder {folder}") for folder in own if folder.name not in found
    }


def _is_image_folder(folder: Path) -> bool:
    there = [name for name in ("test", *HELD) if (folder / name).is_dir()]
    return (folder / "train").is_dir() and bool(there)


def _missing(name: str, root: Path, lacking: list[str]) -> FileNotFoundError:
    whole = len(lacking) == len(PUBLISHED[name].files)
    fetch = (
        f"Three ways to get data: run `kdtutor data fetch {name}`; "
        if PUBLISHED[name].fetcher
        else "It must be copied by hand, nothing here downloads it: "
    )
    return FileNotFoundError(
        f"dataset {name!r} is not in "
        f"{root}{'' if whole else ' (' + ', '.join(lacking) + ' missing)'}. "
        f"{fetch}{_other_ways(name, root)}"
    )


def _other_ways(name: str, root: Path) -> str:
    published = PUBLISHED[name]
    source, images = (
        (f" (from {published.source})", "images, then without masks,")
        if published.source
        else ("", "images")
    )
    return (
        f"copy {', '.join(published.files)}{source} to {(root / published.folder).absolute()}, or "
        f"{images} to {(root / name).absolute()}/{{train,test}}/<class>/; "
        "or choose an embedded set that needs no files, load('digits') or load('scenes')."
    )
