"""Tokens: loss and metrics against loops, what takes no part, the checks."""

import math

import pytest
import torch

from kdtutor.tasks import Tokens, nll, token_accuracy
from tests.tasks.common import Says, batches, drawn, integers, one


def example(ignore=-100):
    z, y = drawn(6, 5, 7), integers(7, 6, 5)
    y[0, 1:] = y[3] = ignore
    return z, y


def tokens(z, y, ignore=-100):
    for row, labels in zip(z.tolist(), y.tolist()):
        yield from ((v, t) for v, t in zip(row, labels) if t != ignore)


def slow(z, y, ignore=-100):
    losses = [math.log(sum(math.exp(a) for a in v)) - v[t] for v, t in tokens(z, y, ignore)]
    right = [max(range(len(v)), key=v.__getitem__) == t for v, t in tokens(z, y, ignore)]
    return sum(losses) / len(losses), sum(right) / len(right)


@pytest.mark.parametrize("ignore", [-100, 0])
def test_equal_slow_code(ignore):
    z, y = example(ignore)
    loss, right = slow(z, y, ignore)
    assert float(Tokens(ignore).loss(z, y)) == pytest.approx(loss, rel=1e-5)
    for size in (1, 4, 6):  # a batch without any counted token is among them
        measured = {}
        for metric in Tokens(ignore).metrics:
            measured |= metric.values(Says(), batches(z, y, size))
        assert measured == pytest.approx({"nll": loss, "token_accuracy": right}, rel=1e-6)


def test_known_values_and_nothing_counted():
    y = torch.tensor([[1, -100]])
    assert nll(Says(), [one(torch.zeros(1, 2, 8), y)]) == pytest.approx(math.log(8))
    assert token_accuracy(Says(), [one(torch.eye(2)[None], torch.tensor([[0, 0]]))]) == 0.5
    none = torch.full((1, 2), -100)
    assert math.isnan(nll(Says(), [one(drawn(1, 2, 3), none)]))
    assert math.isnan(token_accuracy(Says(), []))
    z = drawn(1, 2, 3).requires_grad_()
    loss = Tokens().loss(z, none)
    loss.backward()
    assert float(loss.detach()) == 0 and not z.grad.any()


def test_half_precision():
    z, y = example()
    assert torch.equal(Tokens().loss(z.bfloat16(), y), Tokens().loss(z.bfloat16().float(), y))


@pytest.mark.parametrize(
    "y, classes, message",
    [
        (
            integers(3, 4),
            3,
            r"tokens need one class index per token, whole numbers of shape \(N, L\)",
        ),
        (drawn(4, 2), 3, "float32 of shape"),
        (torch.tensor([[0, 3]]), 3, "run from 0 to 3, but 3 classes allow 0 to 2 only .and -100"),
        (torch.tensor([[0, -1]]), 0, "run from -1 to 0, but 0 is the lowest"),
    ],
)
def test_bad_labels(y, classes, message):
    with pytest.raises(ValueError, match=message):
        Tokens().check_labels(y, classes, "d: train")


def test_good_labels():
    Tokens().check_labels(torch.tensor([[0, 2, -100]]), 3, "d: train")
    Tokens().check_labels(torch.tensor([[0, 30_000]]), 0, "d: train")  # no vocabulary named


@pytest.mark.parametrize(
    "z, y, classes, message",
    [
        (drawn(2, 4), integers(3, 2, 4), 0, r"expected logits \(B, L, V\)"),
        (drawn(2, 3, 5), integers(3, 2, 4), 0, r"given logits \(2, 3, 5\)"),
        (drawn(2, 4, 5), integers(3, 2, 4), 9, "answers for 5 classes but d has 9"),
        (drawn(2, 4, 5), torch.full((2, 4), 5), 0, "run from 5 to 5, but 5 classes allow 0 to 4"),
    ],
)
def test_bad_first_batch(z, y, classes, message):
    with pytest.raises(ValueError, match=message):
        Tokens().check_first_batch(z, one(None, y), classes, "d")
    if z.ndim == 3 and not classes and z.shape[:2] != y.shape:
        with pytest.raises(ValueError, match="tokens need logits"):
            Tokens().loss(z, y)


def test_good_first_batch():
    Tokens().check_first_batch(drawn(2, 4, 5), one(None, integers(5, 2, 4)), 0, "d")
