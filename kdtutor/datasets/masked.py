"""Readers for photographs with a known foreground: Pascal VOC 2012 and CUB-200-2011, in the files
of their publishers.

Both return (class names, train, test) with x (N, 3, size, size) uint8, y (N,) int64 and
``extra["object_mask"]`` (N, size, size) uint8, 1 on the object, 0 elsewhere. Images are resized
bilinearly, masks to the nearest pixel, neither keeps its proportions. Examples without a foreground
pixel are left out; a warning counts them. ``.kdtutor-cache-….safetensors`` in the given folder
keeps the result as long as names, sizes and times of all files stay the same. Both raise
``ValueError`` for a size below 16 and for damaged files, ``FileNotFoundError`` for absent ones,
naming the file."""

import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import numpy as np
import torch

from ..display.progress import bar
from .data import Split
from .folders import _readable, _remembered

VOC = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
PARTS = ("x", "object_mask", "y", "source")  # what is remembered of each example
AGAIN = "Replace it with a fresh copy."


def voc2012(folder: Path, size: int = 64) -> tuple[tuple[str, ...], Split, Split]:
    """Pascal VOC 2012, one example per segmented object, 20 classes.

    Train and test are the images of ``ImageSets/Segmentation/{train,val}.txt``. An example is the
    object's box, enlarged 1.2 times about its centre and clipped to the image. Foreground are the
    pixels of this very object: other objects in the crop and the void border (255) are background.
    Objects flagged difficult are skipped.

    Args:
        folder: ``VOCdevkit/VOC2012``.
        size: Of the resized examples in pixels, 16 or more.

    Returns:
        (class names, train, test), see the top of this file.

    Raises:
        ValueError: For a size below 16 and for damaged files, naming the file.
        FileNotFoundError: For absent files.

    Source:
        Everingham et al., "The Pascal Visual Object Classes Challenge 2012".
    """
    lists = [
        (folder / "ImageSets" / "Segmentation" / f"{part}.txt")
        .read_text("utf-8", "replace")
        .split()
        for part in ("train", "val")
    ]
    sources: list[tuple[Path, ...]] = [
        tuple(
            folder / kind / f"{name}{end}"
            for kind, end in (
                ("Annotations", ".xml"),
                ("JPEGImages", ".jpg"),
                ("SegmentationObject", ".png"),
            )
        )
        for name in chain(*lists)
    ]

    def objects(i, ids):
        from PIL import Image

        pixels = np.asarray(ids)
        if pixels.ndim != 2:
            raise ValueError(
                f"{sources[i][2]} is damaged ({pixels.shape[2]} channels, expected one number per "
                f"pixel). {AGAIN}"
            )
        masks = {
            int(j): Image.fromarray((pixels == j).astype(np.uint8))
            for j in np.unique(pixels)
            if 0 < j < 255
        }
        for number, label, (x0, y0, x1, y1) in _annotated(sources[i][0]):
            dx, dy = 0.1 * (x1 - x0), 0.1 * (y1 - y0)
            mask = masks.get(_instance(masks, number, (x0, y0, x1, y1)), Image.new("L", ids.size))
            yield mask, (x0 - dx, y0 - dy, x1 + dx, y1 + dy), label

    of_train = [True] * len(lists[0]) + [False] * len(lists[1])
    train, test = _splits(folder, size, "", sources, of_train, objects)
    return VOC, train, test


def cub200(folder: Path, size: int = 64, box: bool = False) -> tuple[tuple[str, ...], Split, Split]:
    """CUB-200-2011, one bird per image in the order of ``images.txt``, 200 classes.

    The masks lie in ``segmentations`` in the folder or beside it. Their grey levels are votes of
    annotators: foreground is any vote, > 0, as in the authors' code of "Explaining Knowledge
    Distillation by Quantifying the Knowledge" (CVPR 2020).

    Args:
        folder: ``CUB_200_2011``.
        size: Of the resized examples in pixels, 16 or more.
        box: False, the whole image; True, the crop to ``bounding_boxes.txt``.

    Returns:
        (class names, train, test), see the top of this file.

    Raises:
        ValueError: For a size below 16 and for damaged files, naming the file.
        FileNotFoundError: For absent files.

    Source:
        Wah, Branson, Welinder, Perona, Belongie, "The Caltech-UCSD Birds-200-2011 Dataset" (2011).
    """
    classes = _table(folder / "classes.txt", lambda name: name)
    known = sorted(classes)  # 1 to 200
    names = _table(folder / "images.txt", lambda name: name)
    labels = _table(
        folder / "image_class_labels.txt", lambda number: known.index(int(number)), names
    )
    of_train = _table(folder / "train_test_split.txt", ("0", "1").index, names)
    boxes = _table(
        folder / "bounding_boxes.txt",
        lambda x, y, w, h: (x := float(x), y := float(y), x + float(w), y + float(h)),
        names,
    )
    masks = next(
        (
            place
            for place in (folder / "segmentations", folder.parent / "segmentations")
            if place.is_dir()
        ),
        folder,
    )
    sources: list[tuple[Path, ...]] = [
        (folder / "images" / name, (masks / name).with_suffix(".png")) for name in names.values()
    ]
    ids = list(names)
    bird = lambda i, votes: [(votes.convert("L"), boxes[ids[i]] if box else None, labels[ids[i]])]
    train, test = _splits(folder, size, box * "-box", sources, [of_train[i] > 0 for i in ids], bird)
    return tuple(classes[number] for number in known), train, test


def _splits(
    folder: Path,
    size: int,
    tag: str,
    sources: list[tuple[Path, ...]],
    train: list[bool],
    cut: Callable,
) -> list[Split]:
    """Train and test, from the cache or the files.

    sources: the last two of each are image and mask; cut: see ``_decode``.
    """
    if not isinstance(size, int) or size < 16:
        raise ValueError(f"size={size!r}: expected a whole number of pixels, 16 or more.")
    if not 0 < sum(train) < len(train):
        raise ValueError(
            f"{folder}: the lists name {sum(train)} images to train on, of {len(train)}. Both "
            f"parts need one. {AGAIN}"
        )
    files = [*sorted(folder.glob("*.txt")), *chain(*sources)]
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"{missing[0]} is missing, but the lists in {folder} ask for it. Copy it there."
        )
    stats = [(str(file), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    stored = _remembered(
        folder / f".kdtutor-cache-{size}{tag}.safetensors",
        stats,
        lambda: _decode(size, sources, cut),
    )
    x, mask, y, source = (stored[name] for name in PARTS)
    first = torch.tensor(train)[source]
    if not (seen := (mask > 0).flatten(1).any(1)).all():
        warnings.warn(
            f"{folder}: {int((~seen).sum())} of {len(seen)} objects are left out, as they have no "
            f"foreground pixel at {size} x {size} pixels.",
            stacklevel=6,
        )
    return [
        Split(x[rows], y[rows], extra={"object_mask": mask[rows]})
        for rows in (seen & first, seen & ~first)
    ]


def _decode(size: int, sources: list[tuple[Path, ...]], cut: Callable) -> dict[str, torch.Tensor]:
    """All examples of all sources.

    cut: number and mask of a source -> (mask, box or None, label) of each example.
    """
    from PIL.Image import Resampling

    rows, shape = [], (size, size)
    with bar(
        len(sources) > 500, total=len(sources), desc="decoding images", unit="img"
    ) as progress:
        for i, files in enumerate(sources):
            with _readable(files[-2], AGAIN) as image, _readable(files[-1], AGAIN) as mask:
                image, mask = image.convert("RGB"), mask.copy()
            for part, box, label in cut(i, mask):
                crop = _clipped(box, image, mask, files) if box else None
                pixels = np.asarray(image.crop(crop).resize(shape, Resampling.BILINEAR)).transpose(
                    2, 0, 1
                )
                rows.append(
                    (
                        pixels,
                        np.uint8(np.asarray(part.crop(crop).resize(shape, Resampling.NEAREST)) > 0),
                        label,
                        i,
                    )
                )
            progress.update()
    if not rows:
        raise ValueError(
            f"{files[0]} and the other {i} files like it hold no object that is not difficult. "
            f"{AGAIN}"
        )
    return {
        name: torch.from_numpy(np.array(column))
        for name, column in zip(PARTS, zip(*rows, strict=True), strict=True)
    }


def _table(path: Path, read: Callable, ids: dict | None = None) -> dict:
    """A list of lines "id words" as {id: read(*words)}.

    ids: a table that must have the same ids.
    """
    try:
        table = {
            int(number): read(*words)
            for number, *words in map(str.split, path.read_text("utf-8").splitlines())
        }
        if ids is not None and table.keys() != ids.keys():
            raise ValueError("its ids are not those of images.txt")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}). {AGAIN}") from error
    return table


def _annotated(path: Path) -> Iterator[tuple[int, int, list[float]]]:
    """(number from 1, label, [x0, y0, x1, y1]) of each object that is not flagged difficult; x1 and
    y1 are excluded.
    """
    try:
        for number, item in enumerate(ElementTree.parse(path).getroot().findall("object"), 1):
            # A number or name that is absent, None, is an error below.
            x0, y0, x1, y1 = (
                float(cast(str, item.findtext(f"bndbox/{side}")))
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
            if item.findtext("difficult") != "1":
                name = cast(str, item.findtext("name"))
                yield number, VOC.index(name), [x0 - 1, y0 - 1, x1, y1]
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged (expected objects of VOC's 20 classes with a bndbox: {error}). "
            f"{AGAIN}"
        ) from error


def _clipped(box: tuple[float, ...], image, mask, files: tuple[Path, ...]) -> tuple[int, ...]:
    """The box (x0, y0, x1, y1) in whole pixels and within the image; the mask must be as large as
    the image.
    """
    if image.size != mask.size:
        raise ValueError(
            f"{files[-1]} is damaged (its size is {mask.size}, that of the image {image.size}). "
            f"{AGAIN}"
        )
    crop = tuple(
        int(min(max(0, side), limit) + 0.5) for side, limit in zip(box, image.size * 2, strict=True)
    )
    if not (crop[0] < crop[2] and crop[1] < crop[3]):
        raise ValueError(
            f"{files[0]} is damaged (the box {box} holds no pixel of an image of size "
            f"{image.size}). {AGAIN}"
        )
    return crop


def _instance(masks: dict, number: int, box: tuple[float, ...]) -> int:
    """The id of an annotation's object: its number, as the publishers count from 1; another id only
    if that one's extent fits the box (intersection over union 1/2 or more) and its own does not.
    (Most pixels in the box may be an object's in front of it.)
    """

    def fit(i):
        x0, y0, x1, y1 = masks[i].getbbox() if i in masks else (0, 0, 0, 0)
        both = max(0, min(x1, box[2]) - max(x0, box[0])) * max(0, min(y1, box[3]) - max(y0, box[1]))
        return both / max(1, (x1 - x0) * (y1 - y0) + (box[2] - box[0]) * (box[3] - box[1]) - both)

    best = max(masks, key=fit, default=number)
    return best if fit(number) < 0.5 <= fit(best) else number
