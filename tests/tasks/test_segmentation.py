"""Segmentation: loss and metrics against loops over pixels, what takes no part, the checks."""

import math

import pytest
import torch

from kdtutor.tasks import Segmentation, mean_iou, pixel_accuracy
from tests.tasks.common import Says, batches, drawn, integers, one


def example(n=5, classes=4, size=6, ignore=255, seed=0):
    y = integers(classes, n, size, size, seed=seed)
    y[drawn(n, size, size, seed=seed + 1) > 1] = ignore
    return drawn(n, classes, size, size, seed=seed), y


def pixels(z, y, ignore):
    for i in range(len(z)):
        for r in range(z.shape[2]):
            for c in range(z.shape[3]):
                if int(y[i, r, c]) != ignore:
                    yield z[i, :, r, c].tolist(), int(y[i, r, c])


def slow_iou(z, y, ignore):
    found = [(max(range(len(v)), key=v.__getitem__), t) for v, t in pixels(z, y, ignore)]
    values = []
    for c in range(z.shape[1]):
        both = sum(p == c and t == c for p, t in found)
        either = sum(p == c or t == c for p, t in found)
        values += [both / either] if either else []
    return sum(values) / len(values)


@pytest.mark.parametrize("ignore", [255, -100, 0])
def test_loss_equals_slow_code(ignore):
    z, y = example(ignore=ignore)
    losses = [math.log(sum(math.exp(a) for a in v)) - v[t] for v, t in pixels(z, y, ignore)]
    assert float(Segmentation(ignore).loss(z, y)) == pytest.approx(
        sum(losses) / len(losses), rel=1e-5
    )


def test_a_batch_without_counted_pixels_gives_zero_and_a_gradient():
    z = drawn(2, 3, 4, 4).requires_grad_()
    loss = Segmentation().loss(z, torch.full((2, 4, 4), 255))
    loss.backward()
    assert float(loss.detach()) == 0 and z.grad is not None and not z.grad.any()


def test_ignored_pixels_get_no_gradient():
    z, y = example()
    Segmentation().loss(z.requires_grad_(), y).backward()
    moved = z.grad.abs().sum(1) > 0
    assert torch.equal(moved, y != 255)


def test_half_precision_and_labels_of_bytes():
    z, y = example()
    half = Segmentation().loss(z.bfloat16(), y.to(torch.uint8))
    assert torch.equal(half, Segmentation().loss(z.bfloat16().float(), y))
    assert half.dtype == torch.float32
    # 156 is what -100 becomes in a byte: it must not be taken for the label to ignore.
    with pytest.raises(IndexError, match="156"):
        Segmentation(-100).loss(z, torch.full_like(y, 156).to(torch.uint8))


@pytest.mark.parametrize("ignore", [255, -100, 0])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_metrics_equal_slow_code_however_the_batches_are_cut(ignore, size):
    z, y = example(ignore=ignore)
    z[:, 2] -= 9  # a class that is true but never predicted
    iou, right = (
        next(iter(m.values(Says(), batches(z, y, size)).values()))
        for m in Segmentation(ignore).metrics
    )
    assert iou == pytest.approx(slow_iou(z, y, ignore), rel=1e-9)
    each = [max(range(4), key=v.__getitem__) == t for v, t in pixels(z, y, ignore)]
    assert right == pytest.approx(sum(each) / len(each), rel=1e-9)


def test_known_values():
    truth = torch.tensor([[[0, 0, 1, 1]]])
    z = torch.full((1, 3, 1, 4), -1.0)
    z[0, 0, 0, :3] = 1  # predicted 0 0 0 1; class 2 is nowhere
    z[0, 1, 0, 3] = 1
    assert mean_iou(Says(), [one(z, truth)]) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert pixel_accuracy(Says(), [one(z, truth)]) == 0.75


def test_iou_is_of_the_whole_split_not_a_mean_of_batches():
    z = torch.zeros(2, 2, 1, 2)
    z[:, 0] = 1  # always class 0
    y = torch.tensor([[[0, 0]], [[1, 0]]])
    assert mean_iou(Says(), batches(z, y, 1)) == pytest.approx((3 / 4 + 0) / 2)


@pytest.mark.parametrize("metric", [mean_iou, pixel_accuracy])
def test_nothing_counted_is_nan(metric):
    assert math.isnan(metric(Says(), []))
    assert math.isnan(metric(Says(), [one(drawn(1, 2, 2, 2), torch.full((1, 2, 2), 255))]))


@pytest.mark.parametrize(
    "y, message",
    [
        (integers(4, 2, 3, 3), "run from 0 to 3, but 3 classes allow 0 to 2 only .and 255"),
        (torch.full((2, 3, 3), -1), "run from -1 to -1"),
        (integers(3, 2), r"int64 of shape \(2,\): segmentation needs one class index per pixel"),
        (drawn(2, 3, 3), "float32 of shape"),
        (torch.ones(2, 3, 3, dtype=torch.bool), "bool of shape"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(ValueError, match=message):
        Segmentation().check_labels(y, 3, "d: test")


def test_good_labels():
    _, y = example()
    Segmentation().check_labels(y, 4, "d: train")
    Segmentation().check_labels(y.to(torch.uint8), 4, "d: train")
    Segmentation().check_labels(torch.full((2, 3, 3), 255), 4, "d: train")
    with pytest.raises(ValueError, match="run from 156 to 156"):
        bytes_ = torch.full((1, 2, 2), 156, dtype=torch.uint8)
        Segmentation(-100).check_labels(bytes_, 4, "d: train")


@pytest.mark.parametrize(
    "z, y, message",
    [
        (
            drawn(2, 4, 4, 4),
            integers(3, 2, 8, 8),
            r"of one size; given logits \(2, 4, 4, 4\).*upsample",
        ),
        (drawn(2, 3, 8, 8), integers(3, 2, 8, 8), "answers for 3 classes but d has 4"),
        (drawn(2, 4), integers(3, 2, 8, 8), r"expected logits \(B, C, H, W\)"),
    ],
)
def test_bad_first_batch(z, y, message):
    with pytest.raises(ValueError, match=message):
        Segmentation().check_first_batch(z, one(None, y), 4, "d")


def test_good_first_batch():
    Segmentation().check_first_batch(
        {"out": drawn(2, 4, 8, 8)}, one(0, integers(4, 2, 8, 8)), 4, "d"
    )
    Segmentation().check_first_batch(drawn(2, 4, 8, 8), one(0, None), 4, "d")


def test_small_logits_are_not_upsampled_in_silence():
    with pytest.raises(ValueError, match="upsample"):
        Segmentation().loss(drawn(2, 3, 4, 4), integers(3, 2, 8, 8))
    with pytest.raises(ValueError, match="upsample"):
        mean_iou(Says(), [one(drawn(2, 3, 4, 4), integers(3, 2, 8, 8))])
