"""Which images lie in a folder, by part and class."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif")
HELD = ("val", "valid", "validation")  # what people call a validation part
LAYOUT = "expected train/<class>/* and test/<class>/* or val/<class>/* with images inside"
ONE = (
    "A single folder of classes needs to know what is tested on: "
    "load(path, test_fraction=0.2, validation_fraction=0.1), or test_fraction=0 for nothing"
)

File = tuple[str, int, int]  # path, bytes, time
Classes = dict[str, list[File]]  # class name -> its images, both sorted


def listed(folder: Path, fractions: Mapping[str, float | None]) -> dict[str, Classes]:
    """The images of each part of a folder.

    Files of other endings are passed over with one warning that counts them; hidden ones are not
    spoken of.

    Args:
        folder: Holds train and test or val (or valid, validation), or the classes themselves.
        fractions: {"test": ..., "validation": ...}, what will be cut off the training part; None
            where nothing was said.

    Returns:
        {"train": ..., "validation": ..., "test": ...}, without the parts that are not there.

    Raises:
        FileNotFoundError: For a folder without these parts.
        ValueError: For classes that differ between the parts, an empty class, two validation
            folders, and a part that is there and is to be cut off, too.

    Example:
        >>> listed(Path("nowhere"), {})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: nowhere has no folder 'train': ...
    """
    held = [name for name in HELD if (folder / name).is_dir()]
    if len(held) > 1:
        raise ValueError(
            f"{folder} has the folders {' and '.join(held)}: leave one of them for validation."
        )
    there = {"train": folder / "train", "test": folder / "test"}
    if held:
        there["validation"] = folder / held[0]
    parts = {name: path for name, path in there.items() if path.is_dir()}
    said = any(fraction is not None for fraction in fractions.values())
    if not parts and said and folder.is_dir():
        parts = {"train": folder}
    if "train" not in parts:
        raise FileNotFoundError(f"{folder} has no folder 'train'{_there(folder)}: {LAYOUT}. {ONE}.")
    for name in parts.keys() & fractions.keys():
        if fractions[name]:
            raise ValueError(
                f"{folder} has the folder {parts[name].name!r}, so {name}_fraction="
                f"{fractions[name]} would cut a second {name} part off the training images: leave "
                "it out."
            )
    passed_over: list[str] = []
    found: dict[str, Classes] = {
        name: _listing(parts[name], passed_over)
        for name in ("train", "validation", "test")
        if name in parts
    }
    if len(parts) == 1 and fractions.get("test") is None:
        raise FileNotFoundError(f"{folder} has no folder 'test'{_there(folder)}: {LAYOUT}. {ONE}.")
    if passed_over:
        warnings.warn(
            f"passed over {len(passed_over)} of what lies in the class folders of {folder} or "
            f"beside them, such as {passed_over[0]}: read are files ending in "
            f"{', '.join(ENDINGS)}, in class folders.",
            stacklevel=5,
        )
    for name in found.keys() - {"train"}:
        _check_same_classes(folder, found["train"], found[name], parts[name].name)
    return found


def _there(folder: Path) -> str:
    """The folders that are there, for a message: a name may differ by a letter only."""
    if not folder.is_dir():
        return ""
    names = sorted(e.name for e in os.scandir(folder) if e.is_dir() and e.name[0] != ".")
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f" (there: {shown})" if names else ""


def _check_same_classes(folder: Path, train: Classes, other: Classes, name: str) -> None:
    """Raises ``ValueError`` with the classes that only one of two parts has."""
    pairs = (("train", train.keys() - other.keys()), (name, other.keys() - train.keys()))
    only = [f"only in {part}: {', '.join(sorted(names))}" for part, names in pairs if names]
    if only:
        raise ValueError(
            f"the classes in {folder} differ between train and {name}; {'; '.join(only)}."
        )


def _listing(part: Path, passed_over: list[str]) -> Classes:
    """The images of one part; what is none is added to ``passed_over``."""
    inside = [entry for entry in os.scandir(part) if not entry.name.startswith(".")]
    names = sorted(entry.name for entry in inside if entry.is_dir())
    passed_over += sorted(
        e.path for e in inside if not e.is_dir() and e.name.lower().endswith(ENDINGS)
    )
    if not names:
        raise ValueError(f"{part} has no class folders: {LAYOUT}.")
    classes: Classes = {}
    for name in names:
        entries = [e for e in os.scandir(part / name) if not e.name.startswith(".")]
        images = [e for e in entries if e.name.lower().endswith(ENDINGS) and e.is_file()]
        others = {e.path for e in entries} - {e.path for e in images}
        passed_over += sorted(others)
        classes[name] = sorted((e.path, e.stat().st_size, e.stat().st_mtime_ns) for e in images)
        if not classes[name] and (deeper := sorted(e.name for e in entries if e.is_dir())):
            raise ValueError(
                f"class folder {part / name} holds no images but folders "
                f"({', '.join(deeper[:3])}), which are not looked into: move the images up into "
                "the class folder."
            )
        if not classes[name]:
            raise ValueError(
                f"class folder {part / name} is empty: it needs at least one image "
                f"({', '.join(ENDINGS)}), or remove the class from all parts."
            )
    return classes
