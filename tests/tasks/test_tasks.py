"""What all tasks have in common: descriptions, missing labels, answers of every form."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from kdtutor.tasks import (
    Classification,
    Detection,
    MultiLabel,
    NoLabels,
    Regression,
    Segmentation,
    Task,
    Tokens,
)
from tests.tasks.common import Says, one

TASKS = [Classification(), Segmentation(), Tokens(), Regression(), MultiLabel(), NoLabels()]


def give(output):
    return []


def weighed(output, y):
    return output.mean()


@pytest.mark.parametrize(
    "task, name, axis, ignore, moved, metrics, directions",
    [
        (Classification(), "classification", 1, None, {}, ["accuracy"], [True]),
        (
            Segmentation(),
            "segmentation",
            1,
            255,
            {"y": "mask"},
            ["mean_iou", "pixel_accuracy"],
            [True, True],
        ),
        (Tokens(), "tokens", 2, -100, {}, ["nll", "token_accuracy"], [False, True]),
        (Regression(), "regression", None, None, {}, ["mse"], [False]),
        (
            MultiLabel(),
            "multi_label",
            None,
            None,
            {},
            ["mean_average_precision", "label_accuracy"],
            [True, True],
        ),
        (
            Detection(predict=give),
            "detection",
            None,
            None,
            {"boxes": "boxes", "labels": "labels"},
            ["average_precision_50"],
            [True],
        ),
        (NoLabels(), "no_labels", None, None, {}, [], []),
    ],
)
def test_settings(task, name, axis, ignore, moved, metrics, directions):
    assert (task.name, task.class_axis, task.ignore, dict(task.moved)) == (
        name,
        axis,
        ignore,
        moved,
    )
    assert [m.name for m in task.metrics] == metrics
    assert [m.higher_is_better for m in task.metrics] == directions
    assert isinstance(task, Task) and hash(task) == hash(task) and task == type(task)(**vars(task))


def test_descriptions_hold_every_setting_and_no_address():
    assert repr(Segmentation(7)) == "Segmentation(ignore=7)"
    assert repr(Tokens()) == "Tokens(ignore=-100)"
    assert repr(Classification()) == "Classification()"
    assert repr(Detection(weighed, give)) == "Detection(loss=weighed, predict=give)"
    assert repr(Task()) == "Task()"
    assert Segmentation(7) != Segmentation() and Segmentation(7) == Segmentation(7)
    with pytest.raises(AttributeError):
        Segmentation().ignore = 1
    for task in (*TASKS, Detection(weighed, give)):
        assert pickle.loads(pickle.dumps(task)) == task


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_unlabelled_data(task):
    task.check_labels(None, 3, "d: train")
    with pytest.raises(ValueError, match="no labels|needs labels"):
        task.loss(torch.zeros(2, 3), None)
    for metric in task.metrics:
        with pytest.raises(ValueError, match=r"needs labels.*have none \(y is None\)"):
            metric.values(Says(), [one(torch.zeros(2, 3), None)])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: z,
        lambda z: SimpleNamespace(logits=z, attentions=None),
        lambda z: {"hidden": z * 0, "logits": z},
        lambda z: {"aux": z * 0, "out": z},
        lambda z: (z, z * 0),
    ],
)
def test_logits_of_any_answer(wrap):
    z = torch.arange(6.0).view(2, 3)
    assert Classification().logits(wrap(z)) is z
    Classification().check_first_batch(wrap(z), one(None, torch.tensor([0, 1])), 3, "d")

    class Wrapped(torch.nn.Module):
        def forward(self, x):
            return wrap(x)

    (metric,) = Classification().metrics
    assert metric.values(Wrapped(), [one(z, torch.tensor([2, 0]))]) == {"accuracy": 0.5}


@pytest.mark.parametrize("output", [{"a": 1}, None, ("a",)])
def test_no_logits(output):
    with pytest.raises((ValueError, TypeError), match="logits"):
        Classification().logits(output)


def test_no_labels_has_no_loss_and_takes_no_labels():
    with pytest.raises(ValueError, match="no label loss: leave the label term out"):
        NoLabels().loss(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="d: train has labels .int64 of shape .2,.. but"):
        NoLabels().check_labels(torch.tensor([0, 1]), 3, "d: train")


def test_a_task_without_a_loss_says_so():
    with pytest.raises(NotImplementedError, match="Task defines no loss"):
        Task().loss(torch.zeros(1), None)
