"""Regression: squared errors without broadcasting."""

import math

import pytest
import torch

from kdtutor.tasks import Regression, mse
from tests.tasks.common import Says, batches, drawn, integers, one


@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 3)])
def test_equal_slow_code(shape):
    z, y = drawn(*shape), drawn(*shape, seed=1)
    slow = sum((a - b) ** 2 for a, b in zip(z.flatten().tolist(), y.flatten().tolist()))
    assert float(Regression().loss(z, y)) == pytest.approx(slow / z.numel(), rel=1e-6)
    for size in (1, 3, 7):
        assert mse(Says(), batches(z, y, size)) == pytest.approx(slow / z.numel(), rel=1e-6)


def test_known_values():
    assert float(Regression().loss(torch.tensor([3.0]), torch.tensor([1.0]))) == 4
    assert math.isnan(mse(Says(), []))
    half = torch.tensor([300.0, 0]).half()  # 300² overflows in half precision
    assert float(Regression().loss(half, torch.zeros(2).half())) == 45_000


@pytest.mark.parametrize(
    "z, y", [(drawn(4, 1), drawn(4)), (drawn(4), drawn(4, 1)), (drawn(4, 2), drawn(4))]
)
def test_shapes_are_not_broadcast(z, y):
    match = r"regression needs answers and labels of one shape.*squeeze"
    with pytest.raises(ValueError, match=match):
        Regression().loss(z, y)
    with pytest.raises(ValueError, match=match):
        mse(Says(), [one(z, y)])
    with pytest.raises(ValueError, match=match):
        Regression().check_first_batch(z, one(None, y), 0, "d")


@pytest.mark.parametrize("y", [integers(3, 4), drawn(2, 3, 4), {"a": drawn(2)}])
def test_bad_labels(y):
    with pytest.raises(ValueError, match=r"d: train labels are .*: regression needs float numbers"):
        Regression().check_labels(y, 0, "d: train")


def test_good_labels_and_first_batch():
    Regression().check_labels(drawn(4), 0, "d: train")
    Regression().check_labels(drawn(4, 2), 0, "d: train")
    Regression().check_first_batch((drawn(4, 2),), one(None, drawn(4, 2)), 0, "d")
