"""Classification: the loss and accuracy against slow code, the checks with their words."""

import math

import pytest
import torch
from torch import nn

from kdtutor.tasks import Classification, accuracy
from tests.tasks.common import Says, batches, drawn, integers, one


def test_loss_equals_slow_code():
    z, y = drawn(7, 5), integers(5, 7)
    slow = 0.0
    for row, label in zip(z.tolist(), y.tolist()):
        slow += math.log(sum(math.exp(v) for v in row)) - row[label]
    assert float(Classification().loss(z, y)) == pytest.approx(slow / 7, rel=1e-6)
    assert float(Classification().loss(torch.zeros(2, 8), y[:2])) == pytest.approx(math.log(8))


def test_loss_in_half_precision_is_computed_in_float32():
    z = drawn(4, 5).bfloat16()
    loss = Classification().loss(z, integers(5, 4))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, Classification().loss(z.float(), integers(5, 4)))
    assert Classification().loss(z.double(), integers(5, 4)).dtype == torch.float64


def test_labels_of_any_integer_type():
    z, y = drawn(6, 5), integers(5, 6)
    assert torch.equal(Classification().loss(z, y.to(torch.uint8)), Classification().loss(z, y))


@pytest.mark.parametrize("size", [1, 3, 10])
def test_accuracy_counts_examples_whatever_the_batches(size):
    z, y = drawn(10, 4), integers(4, 10)
    slow = sum(max(range(4), key=r.__getitem__) == t for r, t in zip(z.tolist(), y.tolist())) / 10
    assert accuracy(Says(), batches(z, y, size)) == pytest.approx(slow)


def test_accuracy_of_nothing_is_nan():
    assert math.isnan(accuracy(Says(), []))


def test_accuracy_of_a_mapping():
    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    x = {"a": torch.eye(3), "b": torch.eye(3)}
    assert accuracy(Sum(), batches(x, torch.tensor([0, 1, 1]), 2)) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "x, y", [(drawn(2, 3, 4), integers(3, 2)), (drawn(2, 3), integers(3, 3)), (drawn(2), drawn(2))]
)
def test_accuracy_of_other_shapes(x, y):
    with pytest.raises(ValueError, match="accuracy needs logits .batch, classes.*Pass metric="):
        accuracy(Says(), [one(x, y)])


@pytest.mark.parametrize(
    "y, message",
    [
        (torch.tensor([0, 3]), "d: train labels run from 0 to 3, but 3 classes allow 0 to 2 only"),
        (torch.tensor([-1, 2]), "d: train labels run from -1 to 2, but 3 classes allow 0 to 2"),
        (torch.tensor([0.0, 1.0]), r"d: train labels are float32 of shape \(2,\): classification"),
        (torch.zeros(2, 4, 4).long(), r"int64 of shape \(2, 4, 4\).*give the data their task="),
        (torch.tensor([True, False]), "are bool of shape"),
        ({"a": torch.zeros(2)}, r"a mapping with 'a': float32 of shape \(2,\)"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(ValueError, match=message):
        Classification().check_labels(y, 3, "d: train")


def test_good_labels():
    Classification().check_labels(torch.tensor([0, 2]), 3, "d: train")
    Classification().check_labels(torch.zeros(0, dtype=torch.long), 3, "d: train")


@pytest.mark.parametrize(
    "z, y, message",
    [
        (
            drawn(2, 3),
            integers(3, 2),
            "the student answers for 3 classes but d has 4: build it .*=4",
        ),
        (drawn(2, 4, 5), integers(3, 2), r"needs logits \(B, C\).*given logits \(2, 4, 5\)"),
        (drawn(2, 4), integers(3, 3), r"labels int64 of shape \(3,\)"),
        (drawn(2, 4, 5), None, r"expected logits \(B, C\)"),
        (drawn(2, 3), None, "answers for 3 classes"),
    ],
)
def test_bad_first_batch(z, y, message):
    with pytest.raises(ValueError, match=message):
        Classification().check_first_batch(z, one(None, y), 4, "d")


def test_a_wider_answer_passes():
    Classification().check_first_batch(drawn(2, 9), one(None, integers(3, 2)), 4, "d")


def test_loss_refuses_label_maps():
    with pytest.raises(ValueError, match="classification needs logits"):
        Classification().loss(drawn(2, 3, 4, 4), integers(3, 2, 4, 4))
