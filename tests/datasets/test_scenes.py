"""The generated robots: masks and boxes say what is in the picture, and only the decisive parts say
the class.
"""

import pytest
import torch
import torch.nn.functional as F

from kdtutor.datasets import load
from kdtutor.datasets.scenes import CLASSES, DECISIVE, PARTS, _draw, scenes


@pytest.fixture(autouse=True)
def one_thread():
    """As ``scenes`` itself does, for tests that call its inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[32, 48])
def data(request):
    return scenes(160, 80, size=request.param)


def test_shapes_types_and_classes(data):
    size = data.train.x.shape[-1]
    for split, n in ((data.train, 160), (data.test, 80)):
        assert split.x.shape == (n, 3, size, size) and split.x.dtype == torch.uint8
        assert torch.bincount(split.y).tolist() == [n // 8] * 8
        for name in ("part_mask", "object_mask", "distractor_mask"):
            assert (
                split.extra[name].shape == (n, size, size)
                and split.extra[name].dtype == torch.uint8
            )
        assert split.extra["boxes"].shape == (n, 4) and split.extra["boxes"].dtype == torch.int64
    assert (
        len(CLASSES) == 8 and data.classes == CLASSES and data.augment is None and data.mean == ()
    )


def test_every_part_is_seen_in_every_image(data):
    mask = data.train.extra["part_mask"]
    assert mask.unique().tolist() == list(range(len(PARTS)))
    pixels = torch.stack([(mask == part).sum((1, 2)) for part in range(1, 5)])
    assert pixels.min() >= 8 * (mask.shape[-1] / 32) ** 2
    assert torch.equal(data.train.extra["object_mask"], (mask > 0).byte())


def test_boxes_fit_the_robot_tightly(data):
    for mask, (x0, y0, x1, y1) in zip(
        data.train.extra["object_mask"], data.train.extra["boxes"].tolist(), strict=True
    ):
        rows, columns = mask.nonzero().T
        assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert x0 > 0 and y0 > 0 and max(x1, y1) < mask.shape[-1], "a robot is never cut off"


def test_loose_parts_never_touch_a_robot(data):
    robot, loose = (
        data.train.extra[k].float()[:, None] for k in ("object_mask", "distractor_mask")
    )
    assert not (F.max_pool2d(robot, 3, 1, 1) * loose).any()
    shown = loose.flatten(1).any(1).float().mean()
    assert shown > 0.95 and 0.02 < loose.mean() < robot.mean()


def test_the_class_is_the_combination_of_kinds():
    """The same random numbers with another class: only the decisive parts change, so nothing else
    carries the class.
    """
    draw = lambda y: _draw(torch.full((40,), y), 32, torch.Generator().manual_seed(5))
    base_image, base_mask, _ = draw(0)
    body = base_mask == 1
    for y, part in ((4, 2), (2, 3), (1, 4)):
        image, mask, _ = draw(y)
        assert torch.equal(mask == 1, body)
        for other in {2, 3, 4} - {part}:
            assert (
                torch.equal(mask == other, base_mask == other) or part == 3
            )  # sides may cover a little of what lies behind
        assert ((mask == part) != (base_mask == part)).flatten(1).any(1).all(), (
            "the kind shows in every image"
        )
        inside = ~F.max_pool2d(
            (~body).float(), 3, 1, 1
        ).bool()  # without the edge, which is smoothed into what lies behind it
        assert torch.equal(
            image.permute(0, 2, 3, 1)[inside], base_image.permute(0, 2, 3, 1)[inside]
        )
    assert (
        DECISIVE == (2, 3, 4)
        and CLASSES[4] == "spike-arms-legs"
        and CLASSES[2] == "ball-wings-legs"
    )


def test_nothing_simple_gives_the_class_away(data):
    """A nearest mean of pixels does little better than the 12.5 % of guessing."""
    x, t = data.train.x.flatten(1).float(), data.test.x.flatten(1).float()
    means = torch.stack([x[data.train.y == c].mean(0) for c in range(8)])
    assert (torch.cdist(t, means).argmin(1) == data.test.y).float().mean() < 0.4


def test_the_same_seed_gives_the_same_pixels_whatever_else_is_asked():
    first, again, longer, other = (
        scenes(24, 16),
        scenes(24, 16),
        scenes(40, 16),
        load("scenes", n_train=24, n_test=16, seed=1),
    )
    assert torch.equal(first.train.x, again.train.x) and torch.equal(
        first.train.extra["part_mask"], again.train.extra["part_mask"]
    )
    assert torch.equal(first.test.x, longer.test.x), (
        "the test set does not depend on the size of the training set"
    )
    assert not torch.equal(first.train.x, other.train.x)
    alike = scenes(16, 16)
    assert not torch.equal(alike.train.x, alike.test.x), "the test set repeats the training set"


def test_generation_leaves_the_global_state_alone():
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    scenes(8, 8)
    assert torch.get_num_threads() == 2 and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("arguments", [dict(size=16), dict(n_train=0), dict(n_test=0)])
def test_bad_input(arguments):
    with pytest.raises(
        ValueError, match="expected 1 image or more each and a size of 24 pixels or more"
    ):
        scenes(**arguments)
