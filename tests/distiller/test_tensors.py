"""What the methods share below their formulas: pooling to one size in every layout, rows in the
order of memory, and what is refused there.
"""

import math

import numpy as np
import pytest
import torch
from losses import rand
from torch import nn

from kdtutor.distiller.tensors import (
    check_features,
    check_maps,
    check_relations,
    pointwise,
    rows,
    same_size,
)

SIZES = [((7,), (3,)), ((6, 5), (2, 5)), ((5, 2), (3, 4)), ((4, 3, 5), (2, 3, 2))]


def slow_pooled(x, size):
    """The mean over floor(i n / m) to ceil((i + 1) n / m) along every axis of places."""
    out = np.zeros((*x.shape[:2], *size))
    for at in np.ndindex(*size):
        ranges = [
            slice(math.floor(i * n / m), math.ceil((i + 1) * n / m))
            for i, n, m in zip(at, x.shape[2:], size)
        ]
        out[(..., *at)] = x[(..., *ranges)].reshape(*x.shape[:2], -1).mean(-1)
    return out


@pytest.mark.parametrize("first, second", SIZES)
def test_the_larger_is_averaged_to_the_smaller(first, second):
    a, b = rand(2, 3, *first), rand(2, 4, *second, seed=1)
    size = tuple(map(min, first, second))
    for got, given in zip(same_size("a", a, "b", b), (a, b)):
        assert got.shape[2:] == size
        assert np.allclose(got.numpy(), slow_pooled(given.numpy(), size))
    assert same_size("a", a, "b", a)[0] is a  # nothing to do


def test_layouts_that_differ_are_both_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\), a signal.*\(2, 3, 4, 4\), a map.*patches="):
        same_size("a", rand(2, 3, 4), "b", rand(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"\(2, 3\), a row.*\(2, 3, 2, 2, 2\), a volume"):
        same_size("a", rand(2, 3), "b", rand(2, 3, 2, 2, 2))
    with pytest.raises(ValueError, match="more than three axes"):
        same_size("a", rand(1, 1, 2, 2, 2, 2), "b", rand(1, 1, 1, 2, 2, 2))


@pytest.mark.parametrize("bad", [(2,), (2, 3), (1, 2, 2, 2, 2, 2), (2, 0, 3), (2, 3, 0, 4)])
def test_what_has_no_places_is_no_map(bad):
    with pytest.raises(
        ValueError, match=r"t has shape .*expected (\(B, ...\)|channels with places)"
    ):
        check_maps(t=torch.zeros(bad))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_only_floats_are_features(dtype):
    wrong = torch.zeros(2, 3, 4, dtype=dtype)
    for check in (
        lambda: check_features(t=wrong),
        lambda: check_maps(t=wrong),
        lambda: same_size("s", torch.zeros(2, 3, 4), "t", wrong),
        lambda: check_relations(wrong, torch.zeros(2, 3), 2, "pairs"),
    ):
        with pytest.raises(ValueError, match=f"{dtype}; expected floating-point numbers"):
            check()
    with pytest.raises(ValueError, match=r"student has shape \(2,\).*per example is \(B, 1\)"):
        check_relations(torch.zeros(2), torch.zeros(2), 2, "pairs")
    for wrong in (None, [[1.0]], np.zeros((2, 3))):
        with pytest.raises(TypeError, match="t is a .*expected a torch.Tensor"):
            check_features(t=wrong)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 2, 4, 5)])
def test_rows_follow_the_memory_and_hold_the_same_numbers(shape):
    x = rand(*shape)
    last = x.contiguous(memory_format={4: torch.channels_last, 5: torch.channels_last_3d}[x.ndim])
    assert torch.equal(rows(x), x.flatten(1))
    assert rows(last).data_ptr() == last.data_ptr()  # no copy
    assert torch.equal(rows(last), x.movedim(1, -1).flatten(1))
    assert torch.equal(rows(x, like=last), rows(last))


@pytest.mark.parametrize("places", range(4))
def test_a_pointwise_map_is_the_same_at_every_place(places):
    layer, x = pointwise(3, 5, places).double(), rand(2, 3, *(4, 2, 3)[:places])
    weight = layer.weight.reshape(5, 3)
    assert torch.allclose(layer(x), torch.einsum("oc,bc...->bo...", weight, x))
    assert isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)[places])
