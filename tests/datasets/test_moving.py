"""Augmentation of whole batches: masks and boxes go where their pixels go, pixel by pixel; what
cannot be moved is refused by name."""

from dataclasses import dataclass

import pytest
import torch

from kdtutor.datasets import CropFlip, Data, Flip, Jitter, Split, pad_boxes
from kdtutor.tasks import Classification, Detection, Segmentation, Task

H, W, COLOUR = 9, 11, 200
CLASSES = ("ground", "square", "other")
# (x1, y1, x2, y2): inside, at an edge, in a corner (views push it out of the image)
SQUARES = [(3, 2, 7, 5), (0, 4, 2, 7), (9, 7, 11, 9)]


def squares():
    """One coloured square per image with its label map and its box."""
    x = torch.zeros(len(SQUARES), 1, H, W, dtype=torch.uint8)
    y = torch.zeros(len(SQUARES), H, W, dtype=torch.long)
    x[:] = 50  # the ground is not black, so that the border is told from it
    for i, (x1, y1, x2, y2) in enumerate(SQUARES):
        x[i, 0, y1:y2, x1:x2], y[i, y1:y2, x1:x2] = COLOUR, 1
    return x, y, pad_boxes([[s] for s in SQUARES], [[1]] * len(SQUARES))


@dataclass(frozen=True, repr=False)
class Everything(Task):
    """A task of the user's own, with a mask, boxes, and something that stays."""

    ignore = 255
    moved = {  # noqa: RUF012
        "map": "mask", "boxes": "boxes", "labels": "labels", "weight": "still"
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [CropFlip(2), CropFlip(2, mode="reflect"), CropFlip(3, flip=False), Jitter(1), Flip()],
    ids=repr,
)
@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.int32])
def test_every_view_moves_pixels_label_map_and_box_together(change, kind):
    x, maps, boxes = squares()
    y = {"map": maps.to(kind), **boxes, "weight": torch.arange(3.0)}
    split = Split(x, y)
    data = Data("squares", CLASSES, split, split, change, task=Everything())
    for view in range(change.views):
        batch = next(data.batches(split, 3, augment=True, view=view))
        pixels = (batch.x[:, 0] * 255).round().long()
        expected = torch.full_like(pixels, 255)  # where the border came in: the label to ignore
        expected[pixels == 50], expected[pixels == COLOUR] = 0, 1
        assert batch.y["map"].dtype == kind and torch.equal(batch.y["map"].long(), expected)
        assert torch.equal(batch.y["weight"], torch.arange(3.0))
        if change != CropFlip(2, mode="reflect"):  # there pixels of the square come in twice
            for i in range(3):
                rows, columns = (pixels[i] == COLOUR).nonzero().unbind(1)
                seen = [0.0] * 4
                if len(rows):
                    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                    seen = [float(v) for v in seen]
                assert batch.y["boxes"][i, 0].tolist() == seen
                assert batch.y["labels"][i, 0] == (1 if len(rows) else -1)
    assert (batch.view == change.views - 1).all()


def test_the_identity_and_the_original_are_unchanged():
    x, maps, boxes = squares()
    split = Split(x, {"map": maps, **boxes})
    data = Data("squares", CLASSES, split, split, CropFlip(2), task=Everything())
    batch = next(data.batches(split, 3, augment=True, view=CropFlip(2).identity))
    assert torch.equal(batch.y["map"], maps) and torch.equal(batch.y["boxes"], boxes["boxes"])
    before = {k: v.clone() for k, v in split.y.items()}
    list(data.batches(split, 3, augment=True, shuffle=torch.Generator()))
    assert all(torch.equal(split.y[k], before[k]) for k in before)
    plain = next(data.batches(split, 3))
    assert torch.equal(plain.y["map"], maps)


def test_a_box_that_leaves_becomes_padding_and_padding_stays():
    boxes = torch.tensor([[[0.0, 0, 1, 1], [4, 4, 8, 8], [0, 0, 0, 0]]])
    y = {"boxes": boxes, "labels": torch.tensor([[2, 0, -1]])}
    split = Split(torch.zeros(1, 1, H, W, dtype=torch.uint8), y)
    data = Data("d", CLASSES, split, split, Jitter(2), task=Detection())
    batch = next(data.batches(split, 1, augment=True, view=24))  # corner (4, 4): 2 up, 2 left
    assert batch.y["labels"].tolist() == [[-1, 0, -1]]
    assert batch.y["boxes"][0].tolist() == [[0, 0, 0, 0], [2, 2, 6, 6], [0, 0, 0, 0]]


def test_random_views_move_segmentation_targets():
    x, maps, _ = squares()
    split = Split(x.repeat(20, 1, 1, 1), maps.repeat(20, 1, 1))
    data = Data("squares", CLASSES, split, split, CropFlip(2), task=Segmentation())
    (batch,) = data.batches(split, 60, augment=True, shuffle=torch.Generator().manual_seed(0))
    pixels = (batch.x[:, 0] * 255).round()
    assert torch.equal(batch.y == 1, pixels == COLOUR)
    assert torch.equal(batch.y == 255, pixels == 0) and (batch.y == 255).any()
    assert len(batch.view.unique()) > 20


@pytest.mark.parametrize("channels", [None, 1, 2])
def test_masks_with_and_without_a_channel_axis(channels):
    _, maps, _ = squares()
    masks = maps if channels is None else maps[:, None].expand(-1, channels, -1, -1)
    view = torch.tensor([3, 17, 44])
    moved = CropFlip(2).move_masks(masks, view, 9)
    expected = CropFlip(2).move_masks(maps, view, 9)
    assert moved.shape == masks.shape and (expected == 9).any()
    assert torch.equal(moved, expected if channels is None else expected[:, None].expand_as(moved))


def test_a_label_map_in_x_is_moved_when_the_task_names_it():
    x, maps, _ = squares()
    split = Split({"image": x, "map": maps}, torch.tensor([0, 1, 2]))
    task = Everything()
    data = Data("d", CLASSES, split, split, CropFlip(2), task=task)
    batch = next(data.batches(split, 3, augment=True, view=7))
    assert torch.equal(batch.x["map"] == 1, (batch.x["image"][:, 0] * 255).round() == COLOUR)


def test_only_images_of_a_mapping_are_scaled():
    x = {
        "image": torch.full((2, 3, 4, 4), 255, dtype=torch.uint8),
        "mask": torch.full((2, 4, 4), 255, dtype=torch.uint8),
        "Part_Mask": torch.full((2, 1, 4, 4), 255, dtype=torch.uint8),
        "bytes": torch.full((2, 5), 255, dtype=torch.uint8),
        "depth": torch.full((2, 1, 4, 4), 255.0),
    }
    y = {"mask": torch.full((2, 4, 4), 255, dtype=torch.uint8)}
    split = Split(x, y)
    data = Data("d", (), split, split, mean=(0.5,) * 3, std=(0.25,) * 3, task=Everything())
    batch = next(data.batches(split, 2))
    assert batch.x["image"].dtype == torch.float32 and (batch.x["image"] == 2).all()
    for name in ("mask", "Part_Mask", "bytes"):
        assert batch.x[name].dtype == torch.uint8 and (batch.x[name] == 255).all(), name
    assert (batch.x["depth"] == 255).all()
    assert batch.y["mask"].dtype == torch.uint8 and (batch.y["mask"] == 255).all()


def darker(images):
    return images // 2


class Numbered:
    """Has views, but moves nothing."""

    views = 2

    def __repr__(self):
        return "Numbered()"


IMAGES = torch.zeros(3, 1, H, W, dtype=torch.uint8)
MAPS = torch.zeros(3, H, W, dtype=torch.long)
BOXES = pad_boxes([[[0, 0, 2, 2]]] * 3, [[0]] * 3)


@pytest.mark.parametrize(
    "x, y, task, change, message",
    [
        (IMAGES, MAPS, Segmentation(), darker, "darker.* cannot move 'y' of y .mask.*move_masks"),
        (IMAGES, MAPS, Segmentation(), Numbered(), r"Numbered\(\) cannot move 'y' of y .mask"),
        (IMAGES, BOXES, Detection(), darker, "darker.* cannot move 'boxes' of y .*move_boxes"),
        (
            IMAGES,
            {**BOXES, "centre": torch.zeros(3, 2)},
            Detection(),
            CropFlip(2),
            "does not say whether 'centre' of y moves .*`moved`",
        ),
        (
            {"image": IMAGES, "points": torch.zeros(3, 2)},
            torch.zeros(3).long(),
            Classification(),
            CropFlip(2),
            "does not say whether 'points' of x moves",
        ),
        (
            {"a": IMAGES, "b": IMAGES[..., 1:]},
            torch.zeros(3).long(),
            Classification(),
            Flip(),
            r"images of one size in x; given {'a': \(9, 11\), 'b': \(9, 10\)}",
        ),
        ({"weight": torch.zeros(3, 2)}, None, Everything(), Flip(), "given no images"),
    ],
)
def test_what_cannot_be_moved_is_refused_before_training(x, y, task, change, message):
    split = Split(x, y)
    data = Data("d", CLASSES, split, split, task=task)  # without augmentation all is well
    with pytest.raises(ValueError, match=message):
        data.augmented(change)


def test_a_word_that_is_no_way_to_move():
    @dataclass(frozen=True, repr=False)
    class Odd(Task):
        moved = {"y": "masks"}  # noqa: RUF012

    split = Split(IMAGES, MAPS)
    with pytest.raises(ValueError, match="says that 'y' moves as 'masks': expected one of 'mask'"):
        Data("d", CLASSES, split, split, Flip(), task=Odd())


def test_unlabelled_data_and_still_targets_take_any_augmentation():
    split = Split(IMAGES, None)
    data = Data("d", CLASSES, split, split, darker, task=Segmentation())
    assert next(data.batches(split, 3, augment=True)).y is None
    split = Split(IMAGES, torch.tensor([0, 1, 2]))
    data = Data("d", CLASSES, split, split, darker)
    batch = next(data.batches(split, 3, augment=True))
    assert batch.view is None and batch.y.tolist() == [0, 1, 2]


def test_the_border_needs_a_label_that_the_type_can_hold():
    with pytest.raises(ValueError, match="torch.uint8 cannot hold the label to ignore, -100"):
        CropFlip(1).move_masks(MAPS.byte(), torch.tensor([0, 1, 2]), -100)
    with pytest.raises(ValueError, match=r"must fill what comes in .*reflect"):
        CropFlip(1).move_masks(MAPS, torch.tensor([0, 1, 2]), None)
    assert torch.equal(Flip().move_masks(MAPS, torch.tensor([0, 1, 0]), None), MAPS)
