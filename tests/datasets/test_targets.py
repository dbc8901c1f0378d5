"""Masks and boxes move with their pixels, for every view; what cannot be moved is refused by name."""

import pytest
import torch

from kdtutor.datasets import CropFlip, Data, Flip, Jitter, Split, pad_boxes
from kdtutor.datasets.targets import move_targets
from kdtutor.tasks import Detection, Segmentation

SIDE, TOP, LEFT, HIGH, WIDE = 9, 2, 3, 3, 4


def square():
    """One image with a white rectangle, its label map and its box."""
    image = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    image[..., TOP : TOP + HIGH, LEFT : LEFT + WIDE] = 255
    box = torch.tensor([[LEFT, TOP, LEFT + WIDE, TOP + HIGH]]).float()
    return image, (image[:, 0] > 0).long() * 2, pad_boxes([box], [torch.tensor([1])])


@pytest.mark.parametrize(
    "change", [CropFlip(2), CropFlip(5), CropFlip(2, flip=False), Flip(), Jitter(3)]
)
def test_every_view_moves_the_label_map_and_the_box_with_the_pixels(change):
    image, label, boxes = square()
    for v in range(change.views):
        view = torch.tensor([v])
        moved = change(image, view)[0, 0] > 0
        mask = move_targets(Segmentation(ignore=7), change, label, view, (SIDE, SIDE))[0]
        assert torch.equal(mask == 2, moved), v
        outside = change(torch.ones_like(image), view)[0, 0] == 0  # came from the border
        assert torch.equal(mask == 7, outside), v
        found = move_targets(Detection(), change, boxes, view, (SIDE, SIDE))
        rows, columns = moved.any(1).nonzero().flatten(), moved.any(0).nonzero().flatten()
        if not len(rows):
            assert found["labels"].tolist() == [[-1]] and not found["boxes"].any()
            continue
        want = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert found["boxes"][0, 0].tolist() == [float(w) for w in want], v
        assert found["labels"].tolist() == [[1]]


def test_a_box_that_leaves_the_image_becomes_padding():
    image, _, boxes = square()
    far = CropFlip(8, flip=False)
    corner = torch.tensor([far.views - 1])  # moved up and left by eight
    assert not far(image, corner).any()
    moved = move_targets(Detection(), far, boxes, corner, (SIDE, SIDE))
    assert moved["labels"].tolist() == [[-1]] and not moved["boxes"].any()


def test_padding_stays_padding():
    boxes = pad_boxes([torch.zeros(0, 4), torch.tensor([[1.0, 1, 3, 3]])], [[], [4]])
    moved = move_targets(Detection(), CropFlip(1), boxes, torch.tensor([0, 0]), (SIDE, SIDE))
    assert moved["labels"].tolist() == [[-1], [4]] and not moved["boxes"][0].any()


def test_reflection_mirrors_maps_and_refuses_boxes():
    change = CropFlip(2, mode="reflect")
    label = torch.arange(SIDE * SIDE).view(1, SIDE, SIDE)
    image = label[:, None].expand(1, 3, SIDE, SIDE)
    for v in (0, 11, change.views - 1):
        view = torch.tensor([v])
        moved = move_targets(Segmentation(), change, label, view, (SIDE, SIDE))
        assert torch.equal(moved, change(image, view)[:, 0])
    with pytest.raises(ValueError, match="mirrors objects"):
        change.move_boxes(torch.zeros(1, 1, 4), torch.tensor([0]), (SIDE, SIDE))


def test_batches_move_their_targets():
    image, label, _ = square()
    many = lambda t: t.expand(40, *t.shape[1:]).contiguous()
    split = Split(many(image), many(label))
    data = Data("s", ("a", "b", "c"), split, None, augment=CropFlip(2), task=Segmentation())
    batch = next(
        data.batches(data.train, 40, shuffle=torch.Generator().manual_seed(0), augment=True)
    )
    assert torch.equal(batch.x[:, 0] > 0, batch.y == 2)
    assert len(batch.view.unique()) > 10
    still = next(data.batches(data.train, 40))
    assert torch.equal(still.y, split.y)


def test_what_cannot_be_moved_is_refused_by_name():
    image, label, boxes = square()

    def darker(images):
        return images // 2

    with pytest.raises(ValueError, match="darker.*cannot move 'y', label maps"):
        Data("s", ("a", "b", "c"), Split(image, label), augment=darker, task=Segmentation())
    with pytest.raises(ValueError, match="darker.*cannot move 'boxes'"):
        Data("s", ("a", "b"), Split(image, boxes), augment=darker, task=Detection())
    with pytest.raises(ValueError, match="inputs are a mapping"):
        Data("s", ("a", "b"), Split({"x": image.float()}, torch.zeros(1).long()), augment=Flip())

    class Depth(Segmentation):
        def check_labels(self, y, classes, where):
            pass

    with pytest.raises(ValueError, match=r"does not say whether \['depth'\] of y must move"):
        y = {"depth": torch.zeros(1, SIDE, SIDE)}
        Data("s", ("a",), Split(image, y), augment=Flip(), task=Depth())


def test_lists_of_boxes_are_padded():
    y = pad_boxes(
        [[[0, 0, 2, 2], [1, 1, 3, 4]], torch.zeros(0, 4), [[2, 2, 5, 5]]], [[1, 0], [], [2]]
    )
    assert y["boxes"].shape == (3, 2, 4) and y["labels"].tolist() == [[1, 0], [-1, -1], [2, -1]]
    assert y["boxes"][0, 1].tolist() == [1, 1, 3, 4] and not y["boxes"][1].any()
    with pytest.raises(ValueError, match="image 0 has boxes of shape"):
        pad_boxes([torch.zeros(2, 4)], [[1]])
    with pytest.raises(ValueError, match="boxes of 2 images but labels of 1"):
        pad_boxes([torch.zeros(0, 4)] * 2, [[]])
