"""A dataset's files in pieces, for a machine without a network: ``pack`` here, bring the pieces and
their list, ``unpack`` there.

The pieces are a plain ``tar.gz`` cut into parts of one size; the list, ``NAME.json``, holds the
digest of each."""

import gzip
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from ..display.progress import bar
from ..errors import unknown
from .load import EMBEDDED, _is_image_folder, available
from .root import resolve
from .vision import PUBLISHED

MIB = 2**20
PIECE = 48  # MiB
CHUNK = 4 * MIB
LISTED = {"name": str, "folders": list, "files": int, "bytes": int, "pieces": list}


def pack(
    name: str,
    out: str | Path | None = None,
    root: str | Path = "data",
    piece_mib: int | None = PIECE,
) -> Path:
    """Writes a dataset's files as pieces and a list of them.

    The same files give the same pieces, byte for byte.

    Args:
        name: A dataset that lies under ``root``, published or an image folder.
        out: The folder of the pieces; None: ``packed`` under ``root``.
        root: The data directory, see ``datasets.root.resolve``.
        piece_mib: The most MiB of a piece; None: all in one.

    Returns:
        The list, ``out/NAME.json``; beside it lie ``NAME.tar.gz.part00`` and so on.

    Raises:
        ValueError: For an unknown or embedded dataset, one that is not here, a size below 1.
        OSError: If ``out`` cannot be written.
    """
    if piece_mib is not None and piece_mib < 1:
        raise ValueError(f"piece_mib={piece_mib}: a piece holds at least 1 MiB.")
    root = resolve(root)
    folders, files = _files(name, root)
    out = root / "packed" if out is None else Path(out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    start = f"{name}.tar.gz.part"
    for old in out.iterdir():  # of another size there may have been more
        if old.name.startswith(start) and old.name[len(start) :].isdigit():
            old.unlink()
    total = sum((root / f).stat().st_size for f in files)
    with tempfile.TemporaryFile(dir=out) as whole:
        _archive(root, files, whole, bar(total=total, desc=name, unit="B", unit_scale=True))
        size = whole.tell() if piece_mib is None else piece_mib * MIB
        pieces: list[dict] = []
        whole.seek(0)
        while content := whole.read(size):
            file = f"{start}{len(pieces):02d}"
            (out / file).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            pieces.append({"file": file, "bytes": len(content), "sha256": digest})
    about = dict(zip(LISTED, (name, folders, len(files), total, pieces)))
    (out / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
    return out / f"{name}.json"


def unpack(listed: str | Path, root: str | Path = "data") -> Path:
    """Puts a dataset together from its pieces, after it has looked at the digest of each.

    Whole or not at all: nothing lies in the dataset's folder before the last file is there.

    Args:
        listed: The list that ``pack`` wrote, or the folder that holds it alone; the pieces lie
            beside it.
        root: The data directory, see ``datasets.root.resolve``.

    Returns:
        The dataset's folder.

    Raises:
        FileNotFoundError: If the list or pieces are missing, with the names of all that are.
        ValueError: For damaged pieces, a dataset that is there already, and archives that hold
            anything but files of this dataset.
    """
    path, about = _read(Path(listed).expanduser())
    root = resolve(root)
    for folder in about["folders"]:
        if (root / folder).exists() and any((root / folder).iterdir()):
            raise ValueError(
                f"{root / folder} is there already: remove it first if it shall be replaced."
            )
    root.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=root))
    try:
        with open(place / "whole", "w+b") as whole:
            _join(path, about, whole)
            whole.seek(0)
            found = _extract(whole, place / "files", about["folders"])
        if found != (about["files"], about["bytes"]):
            raise ValueError(
                f"{path.name} promises {about['files']} files of {about['bytes']} bytes in all, "
                f"and the pieces hold {found[0]} of {found[1]}: pack the dataset anew."
            )
        for folder in reversed(about["folders"]):  # the one that it is known by comes last
            (root / folder).parent.mkdir(parents=True, exist_ok=True)
            if (root / folder).exists():
                (root / folder).rmdir()
            os.replace(place / "files" / folder, root / folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return root / about["folders"][0]


def _files(name: str, root: Path) -> tuple[list[str], list[str]]:
    """A dataset's folders, its own first, and its files, all relative to ``root``."""
    if name in EMBEDDED:
        raise ValueError(f"{name} is embedded: every machine that has kdtutor has it.")
    published = PUBLISHED.get(name)
    if published and not published.lacking(root / published.folder):
        folder = published.folder
        names = [os.path.normpath(n) for several in published.files for n in several.split(" or ")]
        places = [root / folder / (n + end) for n in names for end in ("", ".gz")]
    elif _is_image_folder(root / name):
        folder, places = name, [p for p in (root / name).iterdir() if p.name[0] != "."]
    elif name in available(root):
        raise ValueError(f"{name} is not in {root}: {available(root)[name][1]}.")
    else:
        raise unknown("dataset", name, available(root))
    files = {f for p in places for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file()}
    listed = sorted(os.path.relpath(f, root).replace(os.sep, "/") for f in files)
    beside = {f.split("/")[0] for f in listed if not _below(f, folder)}
    return [folder, *sorted(beside)], listed


def _archive(root: Path, files: list[str], stream, progress) -> None:
    """Writes a tar.gz without name and time in its heads: the same files, the same bytes."""
    with (
        progress,
        gzip.GzipFile("", "wb", 6, stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for file in files:
            entry = tarfile.TarInfo(file)
            entry.size = (root / file).stat().st_size
            with open(root / file, "rb") as content:
                archive.addfile(entry, content)
            progress.update(entry.size)


def _read(path: Path) -> tuple[Path, dict]:
    """The list of a packed dataset, and where it lies."""
    if path.is_dir():
        found = sorted(path.glob("*.json"))
        if len(found) != 1:
            raise FileNotFoundError(
                f"{path} holds {len(found)} lists of packed datasets "
                f"({', '.join(p.name for p in found) or 'none'}): name one, NAME.json."
            )
        path = found[0]
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not here: it is the list NAME.json that `kdtutor data pack NAME` writes."
        )
    try:
        about = json.loads(path.read_text())
        names = [p["file"] for p in about["pieces"]]
        good = all(type(about[k]) is kind for k, kind in LISTED.items()) and bool(names)
        good = good and all(_below(n) and "/" not in n for n in names)
        good = good and bool(about["folders"]) and all(map(_below, about["folders"]))
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise ValueError(
            f"{path} is no list of a packed dataset: expected what `kdtutor data pack` writes."
        )
    return path, about


def _join(path: Path, about: dict, whole) -> None:
    """Writes the pieces one after another, if all are here and are what the list says."""
    missing = [p["file"] for p in about["pieces"] if not (path.parent / p["file"]).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(about['pieces'])} pieces of {about['name']} are not in "
            f"{path.parent}: {', '.join(missing)}. Bring them, too."
        )
    damaged = []
    for piece in about["pieces"]:
        digest = hashlib.sha256()
        with open(path.parent / piece["file"], "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                whole.write(chunk)
        if digest.hexdigest() != piece.get("sha256"):
            damaged.append(piece["file"])
    if damaged:
        raise ValueError(
            f"{', '.join(damaged)} of {about['name']}: the content is not what {path.name} says "
            "(SHA-256 differs). Bring these pieces once more."
        )


def _extract(stream, place: Path, folders: list[str]) -> tuple[int, int]:
    """Writes the archive's files; how many there were, and of how many bytes in all."""
    count = size = 0
    with tarfile.open(fileobj=stream, mode="r:gz") as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isfile() else None
            if content is None or not any(_below(entry.name, folder) for folder in folders):
                raise ValueError(
                    f"the pieces hold {entry.name!r}, which is no file of {' or '.join(folders)}: "
                    "they were not made by `kdtutor data pack`."
                )
            (place / entry.name).parent.mkdir(parents=True, exist_ok=True)
            with open(place / entry.name, "wb") as file:
                shutil.copyfileobj(content, file, CHUNK)
            count, size = count + 1, size + entry.size
    return count, size


def _below(name: str, folder: str = "") -> bool:
    """Is a name a path below the folder, and nothing cleverer?"""
    path = PurePosixPath(name)
    plain = bool(path.parts) and not path.is_absolute() and not {"..", "~"} & set(path.parts)
    return plain and "\\" not in name and PurePosixPath(folder) in path.parents
