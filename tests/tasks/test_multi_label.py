"""Multi-label data: loss and metrics against loops and scikit-learn, the checks."""

import math

import pytest
import torch
from sklearn.metrics import average_precision_score

from kdtutor.tasks import MultiLabel, label_accuracy, mean_average_precision
from tests.tasks.common import Says, batches, drawn, integers, one


def slow_average_precision(score, positive):
    """From the definition: every threshold, all examples at or above it."""
    total, before, result = sum(positive), 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        chosen = [p for s, p in zip(score, positive) if s >= threshold]
        recall = sum(chosen) / total
        result += (recall - before) * sum(chosen) / len(chosen)
        before = recall
    return result


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("size", [1, 4, 20])
def test_metrics_equal_slow_code(ties, size):
    z, y = drawn(20, 5), integers(2, 20, 5)
    z = (z * 2).round() if ties else z
    y[:, 3] = 0  # a class without positives is left out
    columns = [c for c in range(5) if c != 3]
    slow = [slow_average_precision(z[:, c].tolist(), y[:, c].tolist()) for c in columns]
    outside = [average_precision_score(y[:, c], z[:, c]) for c in columns]
    measured = mean_average_precision(Says(), batches(z, y, size))
    assert measured == pytest.approx(sum(slow) / 4) == pytest.approx(sum(outside) / 4)
    right = sum((a > 0) == b for a, b in zip(z.flatten().tolist(), y.flatten().tolist()))
    assert label_accuracy(Says(), batches(z, y, size)) == pytest.approx(right / 100)


def test_known_values():
    y = torch.tensor([[1], [0], [1], [0]])
    best, worst = torch.tensor([[4.0], [2], [3], [1]]), torch.tensor([[1.0], [4], [2], [3]])
    assert mean_average_precision(Says(), [one(best, y)]) == 1
    assert mean_average_precision(Says(), [one(worst, y)]) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert mean_average_precision(Says(), [one(worst * 0, y)]) == 0.5
    assert math.isnan(mean_average_precision(Says(), [one(best, y * 0)]))
    assert math.isnan(mean_average_precision(Says(), []))
    assert math.isnan(label_accuracy(Says(), []))


@pytest.mark.parametrize("kind", [torch.float32, torch.bool, torch.int64, torch.uint8])
def test_loss_equals_slow_code(kind):
    z, y = drawn(6, 4), integers(2, 6, 4)
    slow = 0.0
    for a, b in zip(z.flatten().tolist(), y.flatten().tolist()):
        p = 1 / (1 + math.exp(-a))
        slow -= math.log(p if b else 1 - p)
    assert float(MultiLabel().loss(z, y.to(kind))) == pytest.approx(slow / 24, rel=1e-5)
    assert MultiLabel().loss(z.bfloat16(), y.to(kind)).dtype == torch.float32


@pytest.mark.parametrize(
    "y, message",
    [
        (integers(2, 4), r"zeros and ones of shape \(N, 3\), a column per class"),
        (integers(2, 4, 2), r"int64 of shape \(4, 2\)"),
        (
            torch.tensor([[0, 1, 0], [0, 2, 1]]),
            r"1 of 2 rows, the first at position 1: \[0, 2, 1\]",
        ),
        (torch.tensor([[0.5, 0, 0]]), "other values than 0 and 1"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(ValueError, match=message):
        MultiLabel().check_labels(y, 3, "d: train")


def test_good_labels():
    for kind in (torch.float32, torch.bool, torch.int64):
        MultiLabel().check_labels(integers(2, 4, 3).to(kind), 3, "d: train")


@pytest.mark.parametrize(
    "z, y, message",
    [
        (drawn(2, 3), integers(2, 2, 4), "answers for 3 classes but d has 4"),
        (
            drawn(2, 5),
            integers(2, 2, 4),
            r"given logits \(2, 5\) and labels int64 of shape \(2, 4\)",
        ),
        (drawn(2), integers(2, 2, 4), r"expected logits \(B, C\)"),
    ],
)
def test_bad_first_batch(z, y, message):
    with pytest.raises(ValueError, match=message):
        MultiLabel().check_first_batch(z, one(None, y), 4, "d")
    with pytest.raises(ValueError, match="multi-label data needs"):
        MultiLabel().loss(z, y)
