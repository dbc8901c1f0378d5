"""Photographs with masks: the object that is labelled is the one that is cut out and masked, pixel
by pixel.
"""

import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from kdtutor.datasets import available, fetch, load
from kdtutor.datasets.masked import VOC, voc2012

# An image here is 60 wide and 40 high. A box of 20 x 20 enlarged 1.2 times has 24 x 24 pixels, so
# at size=24 nothing is resampled.
SHAPE, BOX, CROP = (40, 60), (10, 12, 30, 32), (8, 10, 32, 34)


def rectangle(x0, y0, x1, y1, value=1, on=None):
    canvas = np.zeros(SHAPE, np.uint8) if on is None else on
    canvas[y0:y1, x0:x1] = value
    return canvas


def xml(*objects) -> str:
    """objects: (class, box with x1 and y1 excluded, difficult). VOC counts pixels from 1 and
    includes the last.
    """
    tag = lambda name, text: f"<{name}>{text}</{name}>"
    corners = lambda box: zip(
        ("xmin", "ymin", "xmax", "ymax"), (box[0] + 1, box[1] + 1, box[2], box[3]), strict=True
    )
    part = tag("part", tag("name", "head") + tag("bndbox", tag("xmin", 1)))
    return tag(
        "annotation",
        "".join(
            tag(
                "object",
                tag("name", name)
                + tag("difficult", int(difficult))
                + part
                + tag("bndbox", "".join(tag(side, value) for side, value in corners(box))),
            )
            for name, box, difficult in objects
        ),
    )


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def add(folder, part, name, ids, *objects) -> np.ndarray:
    """One image of VOC. The file that is called .jpg is a PNG inside, so that its pixels are known
    exactly; returns them.
    """
    for place in ("Annotations", "JPEGImages", "SegmentationObject", "ImageSets/Segmentation"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / "Annotations" / f"{name}.xml").write_text(xml(*objects))
    Image.fromarray(pixels := photo(len(name) + ord(name[-1]))).save(
        folder / "JPEGImages" / f"{name}.jpg", format="PNG"
    )
    segmentation = Image.fromarray(ids)
    segmentation.putpalette(
        [v % 256 for i in range(256) for v in (37 * i, 91 * i, 53 * i)]
    )  # colours: the ids are the indices
    segmentation.save(folder / "SegmentationObject" / f"{name}.png")
    with open(folder / "ImageSets" / "Segmentation" / f"{part}.txt", "a") as file:
        file.write(f"{name}\n")
    return pixels


@pytest.fixture
def voc(tmp_path):
    """(root, folder, pixels of the training image a, of the test image c). b: a difficult object
    only.
    """
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    a = add(folder, "train", "a", rectangle(*BOX), ("cat", BOX, False))
    add(folder, "train", "b", rectangle(*BOX), ("dog", BOX, True))
    c = add(folder, "val", "c", rectangle(*BOX), ("tvmonitor", BOX, False))
    return tmp_path, folder, a, c


def cut(array, box):
    return torch.from_numpy(array[box[1] : box[3], box[0] : box[2]].copy())


# Pascal VOC 2012


def test_voc(voc):
    root, folder, a, c = voc
    data = load("voc2012", root=root, size=24)
    assert (
        data.name == "voc2012"
        and data.classes == VOC
        and len(VOC) == 20
        and list(VOC) == sorted(VOC)
    )
    assert (
        data.augment is None
        and data.mean == (0.485, 0.456, 0.406)
        and data.std == (0.229, 0.224, 0.225)
    )
    assert data.train.x.shape == (1, 3, 24, 24), "the difficult object is no example"
    for split, pixels, name in ((data.train, a, "cat"), (data.test, c, "tvmonitor")):
        assert (
            torch.equal(split.x[0], cut(pixels, CROP).permute(2, 0, 1))
            and split.x.dtype == torch.uint8
        )
        assert split.y.tolist() == [VOC.index(name)] and split.y.dtype == torch.int64
        mask = split.extra["object_mask"]
        assert (
            torch.equal(mask[0], cut(rectangle(*BOX), CROP))
            and mask.dtype == torch.uint8
            and mask.sum() == 400
        )
    assert load("voc2012", root=root).train.x.shape[-1] == 64


def test_voc_masks_are_resized_to_the_nearest_pixel(voc):
    mask = load("voc2012", root=voc[0], size=48).train.extra["object_mask"][0]
    assert torch.equal(
        mask, cut(rectangle(*BOX), CROP).repeat_interleave(2, 0).repeat_interleave(2, 1)
    )


def test_voc_two_instances_and_the_void_border(voc):
    root, folder, *_ = voc
    left, right = (10, 12, 30, 32), (28, 12, 48, 32)
    ids = rectangle(*left, 1)
    ids = rectangle(*right, 2, on=ids)
    ids = rectangle(28, 12, 30, 32, 255, on=ids)
    add(folder, "train", "two", ids, ("person", left, False), ("horse", right, False))
    train = load("voc2012", root=root, size=24).train
    assert train.y.tolist() == [VOC.index(name) for name in ("cat", "person", "horse")]
    assert torch.equal(train.extra["object_mask"][1], cut((ids == 1).astype(np.uint8), CROP)), (
        "another object and void are background"
    )
    assert torch.equal(
        train.extra["object_mask"][2], cut((ids == 2).astype(np.uint8), (26, 10, 50, 34))
    )


def test_voc_an_object_behind_another_keeps_its_own_pixels(voc):
    root, folder, *_ = voc
    ids = rectangle(*BOX, 2)
    ids = rectangle(13, 15, 30, 32, 1, on=ids)  # the table covers most of the chair's box
    add(
        folder, "train", "chair", ids, ("diningtable", BOX, False), ("chair", BOX, False)
    )  # id 2 fits the first box better, too
    masks = load("voc2012", root=root, size=24).train.extra["object_mask"]
    assert masks[1].sum() == (ids == 1).sum() > masks[2].sum() == (ids == 2).sum()


def test_voc_ids_that_do_not_follow_the_annotation(voc):
    root, folder, *_ = voc
    left, right = (4, 12, 24, 32), (34, 12, 54, 32)
    add(
        folder,
        "train",
        "other",
        rectangle(*right, 1, on=rectangle(*left, 7)),
        ("cat", left, False),
        ("dog", right, False),
    )
    assert load("voc2012", root=root, size=24).train.extra["object_mask"].sum((1, 2)).tolist() == [
        400,
        400,
        400,
    ]


def test_voc_crop_ends_at_the_image(voc):
    root, folder, *_ = voc
    pixels = add(
        folder, "train", "edge", rectangle(0, 0, 20, 20), ("car", (0, 0, 20, 20), False)
    )  # enlarged: -2 to 22
    x = load("voc2012", root=root, size=22).train.x[1]
    assert torch.equal(x, cut(pixels, (0, 0, 22, 22)).permute(2, 0, 1))


def test_voc_object_without_foreground_is_left_out_with_a_warning(voc):
    root, folder, *_ = voc
    add(folder, "train", "void", rectangle(*BOX, 255), ("bus", BOX, False))
    add(
        folder,
        "train",
        "tiny",
        rectangle(1, 1, 2, 2, on=rectangle(3, 3, 4, 4, 2)),
        ("bus", (40, 10, 58, 30), False),
    )
    for _ in range(2):  # from the files and from the cache
        with pytest.warns(
            UserWarning,
            match="2 of 4 objects are left out, as they have no foreground pixel at 24 x 24",
        ) as caught:
            data = load("voc2012", root=root, size=24)
        assert data.train.y.tolist() == [VOC.index("cat")] and caught[0].filename == __file__


@pytest.mark.parametrize(
    "spoil, found",
    [
        (lambda text: text[:-20], "mismatched tag|no element found|unclosed token"),
        (lambda text: text.replace("cat", "zebra"), "20 classes"),
        (lambda text: text.replace("bndbox", "box"), "with a bndbox"),
        (lambda text: text.replace("<xmin>11", "<xmin>x"), "could not convert"),
        (lambda text: text.replace("<xmin>11", "<xmin>31"), "holds no pixel"),
        (lambda text: text.replace("<xmin>11", "<xmin>nan"), "holds no pixel"),
        (
            lambda text: text.replace("<ymin>13", "<ymin>99").replace("<ymax>32", "<ymax>119"),
            "holds no pixel of an image of size",
        ),
        (lambda text: "", "no element found"),
    ],
)
def test_voc_damaged_annotation(voc, spoil, found):
    file = voc[1] / "Annotations" / "a.xml"
    file.write_text(spoil(file.read_text()))
    with pytest.raises(
        ValueError, match=f"Annotations.a.xml is damaged .*({found}).*Replace it with a fresh copy"
    ):
        load("voc2012", root=voc[0], size=24)


@pytest.mark.parametrize("place", ["JPEGImages/c.jpg", "SegmentationObject/c.png"])
@pytest.mark.parametrize("spoil", [lambda raw: raw[:-30], lambda raw: b"", lambda raw: b"no image"])
def test_voc_damaged_image(voc, place, spoil):
    file = voc[1] / place
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(
        ValueError, match=f"{file.name} cannot be read as an image .*Replace it with a fresh copy"
    ):
        load("voc2012", root=voc[0])


def test_voc_masks_of_another_size_or_kind(voc):
    file = voc[1] / "SegmentationObject" / "a.png"
    Image.fromarray(np.ones((9, 9), np.uint8)).save(file)
    with pytest.raises(
        ValueError, match=r"a.png is damaged .its size is \(9, 9\), that of the image \(60, 40\)"
    ):
        load("voc2012", root=voc[0])
    Image.fromarray(photo(0)).save(file)
    with pytest.raises(
        ValueError, match="a.png is damaged .3 channels, expected one number per pixel"
    ):
        load("voc2012", root=voc[0])


def test_voc_lists_that_leave_nothing(voc):
    (voc[1] / "ImageSets" / "Segmentation" / "val.txt").write_text("")
    with pytest.raises(
        ValueError, match="VOC2012: the lists name 2 images to train on, of 2. Both parts need one"
    ):
        load("voc2012", root=voc[0])
    for name in "ac":
        (voc[1] / "Annotations" / f"{name}.xml").write_text(xml(("cat", BOX, True)))
    (voc[1] / "ImageSets" / "Segmentation" / "val.txt").write_text("c")
    with pytest.raises(ValueError, match="no object that is not difficult"):
        load("voc2012", root=voc[0])


@pytest.mark.parametrize(
    "place", ["Annotations/a.xml", "JPEGImages/b.jpg", "SegmentationObject/c.png"]
)
def test_voc_one_file_missing(voc, place):
    (voc[1] / place).unlink()
    with pytest.raises(
        FileNotFoundError,
        match=f"{os.path.basename(place)} is missing, but the lists in .*VOC2012 ask for it",
    ):
        load("voc2012", root=voc[0])


def test_cache_is_used_and_refreshed(voc, monkeypatch):
    root, folder, *_ = voc
    first = load("voc2012", root=root, size=24)
    assert [file.name for file in folder.glob(".kdtutor-cache*")] == [
        ".kdtutor-cache-24.safetensors"
    ]
    monkeypatch.setattr(
        "PIL.Image.open", lambda *_: pytest.fail("decoded again although nothing changed")
    )
    again = load("voc2012", root=root, size=24)
    assert again.train.source == first.train.source and torch.equal(again.test.y, first.test.y)
    assert torch.equal(again.train.extra["object_mask"], first.train.extra["object_mask"])
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text(
        "a"
    )  # b moves from train to test: the same files
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("b\nc")
    assert len(load("voc2012", root=root, size=24).train) == 1
    monkeypatch.undo()
    (folder / "Annotations" / "a.xml").write_text(xml(("sofa", BOX, False)))
    assert load("voc2012", root=root, size=24).train.y.tolist() == [VOC.index("sofa")]
    assert (
        load("voc2012", root=root, size=32).train.x.shape[-1] == 32
        and load("voc2012", root=root, size=24).train.x.shape[-1] == 24
    )


@pytest.mark.parametrize("size", [15, 0, -1, 24.0, "24"])
def test_bad_size(voc, size):
    with pytest.raises(ValueError, match="size=.*: expected a whole number of pixels, 16 or more"):
        load("voc2012", root=voc[0], size=size)


# CUB-200-2011


@pytest.fixture
def cub(tmp_path):
    """(root, folder, pixels by file). Ids are not in order and the second class comes first, as
    nothing forbids it.
    """
    folder, pixels = tmp_path / "CUB_200_2011", {}
    rows = [
        (7, "002.Auk/x.jpg", 2, 1, "10.0 12.0 24.0 24.0"),
        (3, "001.Tern/y.jpg", 1, 0, "0.0 0.0 60.0 40.0"),
        (5, "001.Tern/z.jpg", 1, 1, "30.0 4.0 99.0 99.0"),
    ]
    for _, name, *_ in rows:
        for place in ("images", "segmentations"):
            (folder / place / name).parent.mkdir(parents=True, exist_ok=True)
        pixels[name] = photo(ord(name[-5]))
        Image.fromarray(pixels[name]).save(folder / "images" / name, format="PNG")
        votes = rectangle(
            15, 17, 30, 30, 204, on=rectangle(14, 16, 32, 32, 51)
        )  # one vote of five, four of five
        Image.fromarray(votes).save((folder / "segmentations" / name).with_suffix(".png"))
    for file, column in (
        ("images", 1),
        ("image_class_labels", 2),
        ("train_test_split", 3),
        ("bounding_boxes", 4),
    ):
        (folder / f"{file}.txt").write_text("".join(f"{row[0]} {row[column]}\n" for row in rows))
    (folder / "classes.txt").write_text("1 001.Tern\n2 002.Auk\n")
    return tmp_path, folder, pixels


def test_cub(cub):
    root, folder, pixels = cub
    data = load("cub200", root=root, size=20)
    assert (
        data.name == "cub200"
        and data.classes == ("001.Tern", "002.Auk")
        and data.augment is None
        and data.mean[0] == 0.485
    )
    assert (
        data.train.y.tolist() == [1, 0]
        and data.test.y.tolist() == [0]
        and data.train.y.dtype == torch.int64
    )
    assert data.train.x.shape == (2, 3, 20, 20) and data.train.x.dtype == torch.uint8
    whole = Image.fromarray(pixels["002.Auk/x.jpg"]).resize((20, 20), Image.Resampling.BILINEAR)
    assert torch.equal(data.train.x[0], torch.from_numpy(np.array(whole)).permute(2, 0, 1))
    # From 60 x 40 to 20 x 20: the nearest pixels are every third column from 1 and every second row
    # from 1.
    assert torch.equal(
        data.train.extra["object_mask"][0],
        torch.from_numpy(rectangle(14, 16, 32, 32)[1::2, 1::3].copy()),
    )
    assert load("cub200", root=root).test.extra["object_mask"].shape == (1, 64, 64)


def test_cub_box(cub):
    root, _, pixels = cub
    data = load("cub200", root=root, size=24, box=True)
    assert torch.equal(
        data.train.x[0], cut(pixels["002.Auk/x.jpg"], (10, 12, 34, 36)).permute(2, 0, 1)
    )
    assert torch.equal(
        data.train.extra["object_mask"][0], cut(rectangle(14, 16, 32, 32), (10, 12, 34, 36))
    )
    end = (
        Image.fromarray(pixels["001.Tern/z.jpg"])
        .crop((30, 4, 60, 40))
        .resize((24, 24), Image.Resampling.BILINEAR)
    )
    assert torch.equal(data.train.x[1], torch.from_numpy(np.array(end)).permute(2, 0, 1)), (
        "clipped to the image"
    )
    assert not torch.equal(load("cub200", root=root, size=24).train.x, data.train.x), (
        "the crop's cache is another one"
    )


def test_cub_masks_beside_the_folder_and_grey_images(cub):
    root, folder, pixels = cub
    first = load("cub200", root=root)
    (folder / "segmentations").rename(root / "segmentations")
    assert available(root)["cub200"] == (True, f"files in {folder}")
    assert torch.equal(
        load("cub200", root=root).train.extra["object_mask"], first.train.extra["object_mask"]
    )
    Image.fromarray(pixels["001.Tern/y.jpg"]).convert("L").save(
        folder / "images" / "001.Tern" / "y.jpg", format="PNG"
    )
    assert load("cub200", root=root).test.x.shape == (1, 3, 64, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("cub200", root=root)


def test_cub_labels_are_read_again_when_they_change(cub):
    load("cub200", root=cub[0])
    (cub[1] / "image_class_labels.txt").write_text("7 1\n3 2\n5 2 \n")
    assert load("cub200", root=cub[0]).train.y.tolist() == [0, 1]


@pytest.mark.parametrize(
    "file, content, found",
    [
        ("images.txt", "7\n", "missing 1 required"),
        ("images.txt", "7 a b\n", "takes 1 positional"),
        ("images.txt", "x y\n", "invalid literal"),
        ("images.txt", "\n", "not enough values"),
        ("image_class_labels.txt", "7 2\n3 1\n", "its ids are not those of images.txt"),
        ("image_class_labels.txt", "7 2\n3 1\n5 3\n", "3 is not in list"),
        ("image_class_labels.txt", "7 2\n3 1\n5 0\n", "0 is not in list"),
        ("train_test_split.txt", "7 1\n3 0\n5 2\n", "not in tuple"),
        ("train_test_split.txt", "", "its ids are not"),
        ("bounding_boxes.txt", "7 1 2 3\n", "required positional"),
        ("bounding_boxes.txt", "7 1 2 3 four\n", "could not convert"),
        ("classes.txt", b"\xff\xfe", "can't decode"),
    ],
)
def test_cub_damaged_table(cub, file, content, found):
    (cub[1] / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        ValueError, match=f"{file} is damaged .*{found}.*Replace it with a fresh copy"
    ):
        load("cub200", root=cub[0])


def test_cub_box_outside_and_mask_of_another_size(cub):
    mask = cub[1] / "segmentations" / "001.Tern" / "z.png"
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(mask)
    assert load("cub200", root=cub[0], size=16).train.extra["object_mask"][1].all(), (
        "without a crop the sizes need not agree"
    )
    with pytest.raises(ValueError, match=r"z.png is damaged .its size is \(30, 20\)"):
        load("cub200", root=cub[0], box=True)
    (cub[1] / "bounding_boxes.txt").write_text("7 60 1 9 9\n3 0 0 9 9\n5 0 0 9 9\n")
    with pytest.raises(ValueError, match="x.jpg is damaged .the box .* holds no pixel"):
        load("cub200", root=cub[0], box=True)


# Not here


def test_missing_voc_says_what_and_how(tmp_path, voc):
    with pytest.raises(FileNotFoundError) as error:
        load("voc2012", root=tmp_path / "nothing")
    text = str(error.value)
    for part in (
        "kdtutor data fetch voc2012",
        "SegmentationObject",
        "ImageSets/Segmentation/val.txt",
        "VOCtrainval_11-May-2012.tar",
        str(tmp_path / "nothing" / "VOCdevkit" / "VOC2012"),
        "load('scenes')",
    ):
        assert part in text
    assert available(tmp_path / "nothing")["voc2012"] == (False, "kdtutor data fetch voc2012")
    (voc[1] / "SegmentationObject").rename(voc[1] / "elsewhere")
    with pytest.raises(
        FileNotFoundError, match=r"'voc2012' is not in .* \(SegmentationObject missing\)"
    ):
        load("voc2012", root=voc[0])


def test_cub_cannot_be_fetched(tmp_path, cub):
    here, detail = available(tmp_path / "nothing")["cub200"]
    assert not here and "by hand" in detail and "segmentations.tgz" in detail
    for get in (load, fetch):
        with pytest.raises(FileNotFoundError) as error:
            get("cub200", tmp_path / "nothing")
        text = str(error.value)
        assert (
            "copied by hand" in text
            and "CUB_200_2011.tgz and segmentations.tgz" in text
            and 'Caltech\'s page "CUB-200-2011"' in text
        )
        assert "data fetch" not in text and not (tmp_path / "nothing").exists()
    assert fetch("cub200", cub[0]) == cub[1], "files that are here are checked"
    (cub[1] / "segmentations").rename(cub[1] / "masks")
    with pytest.raises(FileNotFoundError, match=r"\(segmentations or ../segmentations missing\)"):
        fetch("cub200", cub[0])


def test_fetch_voc(tmp_path, monkeypatch, voc):
    def download(root, download):
        assert download
        (voc[0] / "VOCdevkit").rename(root / "VOCdevkit")

    monkeypatch.setattr("torchvision.datasets.VOCSegmentation", download)
    assert fetch("voc2012", tmp_path / "new") == tmp_path / "new" / "VOCdevkit" / "VOC2012"


def test_the_reader_itself(voc):
    classes, train, test = voc2012(voc[1], size=16)
    assert (
        classes == VOC
        and train.x.shape == (1, 3, 16, 16)
        and test.extra["object_mask"].shape == (1, 16, 16)
    )
