"""Metrics: their names, their direction, and what they may return."""

from functools import partial

import numpy as np
import pytest
import torch

from kdtutor.tasks import Metric


def top_share(net, batches, k=1):
    return 0.5


class Judge:
    def __call__(self, net, batches):
        return 0.5


class MeanError:
    higher_is_better = False

    def __call__(self, net, batches):
        return 0.5


class Named(Judge):
    name = "f1"


@pytest.mark.parametrize(
    "function, name",
    [
        (top_share, "top_share"),
        (partial(top_share, k=2), "top_share"),
        (partial(partial(top_share, k=2), k=3), "top_share"),
        (lambda net, batches: 1.0, "metric"),
        (partial(lambda net, batches, k: 1.0, k=1), "metric"),
        (Judge(), "Judge"),
        (partial(Judge()), "Judge"),
        (Named(), "f1"),
    ],
)
def test_names(function, name):
    assert Metric.of(function).name == name
    assert Metric(function, name="mine").name == "mine"


@pytest.mark.parametrize(
    "name",
    [
        "loss",
        "val_Loss",
        "error",
        "top1err",
        "mse",
        "RMSE",
        "mae",
        "nll",
        "perplexity",
        "cross_entropy",
        "brier",
        "ECE",
        "hausdorff_distance",
        "bits_per_char",
        "kl_divergence",
    ],
)
def test_what_sounds_like_an_error_must_state_its_direction(name):
    def function(net, batches):
        return 1.0

    function.__name__ = name
    with pytest.raises(ValueError, match=f"{name}.*which way is better.*higher_is_better=False"):
        Metric.of(function)
    with pytest.raises(ValueError, match="which way is better"):
        Metric.of(partial(function))
    assert not Metric(function, higher_is_better=False).higher_is_better
    assert Metric(function, higher_is_better=True).higher_is_better
    function.higher_is_better = False
    assert not Metric.of(function).higher_is_better
    assert not Metric.of(partial(function)).higher_is_better
    function.higher_is_better = None  # torchmetrics: not stated
    with pytest.raises(ValueError, match="which way is better"):
        Metric.of(function)


def test_direction_of_the_rest():
    assert Metric.of(top_share).higher_is_better
    assert not Metric.of(MeanError()).higher_is_better
    assert Metric(MeanError(), higher_is_better=True).higher_is_better
    metric = Metric(top_share, higher_is_better=False)
    assert Metric.of(metric) is metric


@pytest.mark.parametrize(
    "given, expected",
    [
        (0.25, {"m": 0.25}),
        (3, {"m": 3.0}),
        (np.float32(0.5), {"m": 0.5}),
        (torch.tensor(0.5), {"m": 0.5}),
        ({"iou": 0.5, "f1": torch.tensor(0.25)}, {"iou": 0.5, "f1": 0.25}),
    ],
)
def test_values(given, expected):
    values = Metric(lambda net, batches: given, name="m").values(None, [])
    assert values == expected and list(values) == list(expected)
    assert all(type(v) is float for v in values.values())


@pytest.mark.parametrize(
    "given, words",
    [
        (None, "NoneType"),
        ("0.5", "str '0.5'"),
        (torch.ones(2), r"a tensor of shape \(2,\)"),
        ({}, "mapping"),
        ({"iou": "high"}, "'iou': 'str'"),
        ({1: 0.5}, r"names \[1\]"),
        ([0.5], "list"),
    ],
)
def test_anything_else_is_one_clear_error(given, words):
    with pytest.raises(ValueError, match=f"metric 'm' returned .*{words}.*expected a number"):
        Metric(lambda net, batches: given, name="m").values(None, [])


def test_the_function_gets_network_and_batches():
    seen = []
    Metric(lambda net, batches: seen.append((net, batches)) or 1.0).values("net", ["batch"])
    assert seen == [("net", ["batch"])]


def test_not_callable():
    with pytest.raises(ValueError, match="metric='accuracy': expected a function"):
        Metric.of("accuracy")


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "a, b, higher, lower",
    [
        (2.0, 1.0, True, False),
        (1.0, 2.0, False, True),
        (1.0, 1.0, False, False),
        (NAN, 1.0, False, False),
        (NAN, None, False, False),
        (NAN, NAN, False, False),
        (None, None, False, False),
        (None, 1.0, False, False),
        (-5.0, None, True, True),
        (5.0, NAN, True, True),
        (INF, 1.0, True, False),
        (1.0, INF, False, True),
    ],
)
def test_better(a, b, higher, lower):
    assert Metric(top_share, higher_is_better=True).better(a, b) is higher
    assert Metric(top_share, higher_is_better=False).better(a, b) is lower
