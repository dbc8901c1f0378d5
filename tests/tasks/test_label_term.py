"""Label smoothing and class weights: torch's values, in every task with a cross-entropy; and soft
labels.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import blobs, net

from kdtutor import Teacher
from kdtutor.datasets import Batch, Data, Split
from kdtutor.methods import (
    BSS,
    CRD,
    CWTM,
    CrossEntropy,
    GradientAttentionTransfer,
    Hinton,
    JacobianMatching,
)
from kdtutor.runs import describe
from kdtutor.tasks import Classification, Segmentation, Tokens, accuracy
from kdtutor.tasks.task import class_labels
from tests.tasks.common import Says, batches, drawn, integers

WEIGHTS = (0.5, 2.0, 0.0, 1.25)
SETTINGS = [
    {"label_smoothing": 0.1},
    {"class_weights": WEIGHTS},
    {"label_smoothing": 0.3, "class_weights": WEIGHTS},
]


def torchs(settings):
    weights = settings.get("class_weights")
    return {
        "label_smoothing": settings.get("label_smoothing", 0.0),
        "weight": None if weights is None else torch.tensor(weights),
    }


@pytest.mark.parametrize("settings", SETTINGS)
def test_they_equal_torch(settings):
    z, y = drawn(9, 4), integers(4, 9)
    p = drawn(9, 4, seed=1).softmax(1)
    said = torchs(settings)
    assert torch.equal(Classification(**settings).loss(z, y), F.cross_entropy(z, y, **said))
    assert torch.equal(Classification(**settings).loss(z, p), F.cross_entropy(z, p, **said))
    assert Classification(**settings).loss(z, y) != Classification().loss(z, y)


@pytest.mark.parametrize("settings", SETTINGS)
def test_maps_and_tokens_equal_torch_without_what_is_ignored(settings):
    said = torchs(settings)
    z, y = drawn(2, 4, 3, 3), integers(4, 2, 3, 3)
    y[0, 0] = 255
    want = F.cross_entropy(z, y, ignore_index=255, **said)
    torch.testing.assert_close(Segmentation(**settings).loss(z, y), want)
    z, y = drawn(2, 5, 4), integers(4, 2, 5)
    y[1, :2] = -100
    want = F.cross_entropy(z.flatten(0, 1), y.flatten(), **said)
    torch.testing.assert_close(Tokens(**settings).loss(z, y), want)
    nothing = torch.full_like(y, -100)
    assert Tokens(**settings).loss(z, nothing) == 0


def test_by_hand():
    z, y = torch.zeros(2, 2), torch.tensor([0, 1])
    z[0, 0] = 1.0
    ce = -F.log_softmax(z, 1)
    want = (3 * ce[0, 0] + ce[1, 1]) / 4
    torch.testing.assert_close(Classification(class_weights=(3, 1)).loss(z, y), want)
    want = (0.9 * ce[0, 0] + 0.1 * ce[0, 1] + 0.9 * ce[1, 1] + 0.1 * ce[1, 0]) / 2
    torch.testing.assert_close(Classification(label_smoothing=0.2).loss(z, y), want)


def test_in_other_precisions():
    task, z, y = Classification(class_weights=WEIGHTS), drawn(5, 4), integers(4, 5)
    assert task.loss(z.bfloat16(), y).dtype == torch.float32
    assert task.loss(z.double(), y).dtype == torch.float64
    assert task.loss(z, z.softmax(1).double()).dtype == torch.float32


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"label_smoothing": 1.5}, "label_smoothing=1.5: expected a share from 0"),
        ({"label_smoothing": True}, "label_smoothing=True"),
        ({"label_smoothing": "0.1"}, "label_smoothing='0.1'"),
        ({"class_weights": 2.0}, "class_weights=2.0: expected one number per class"),
        ({"class_weights": "12"}, "class_weights='12': expected one number per class"),
        ({"class_weights": {0: 1.0}}, "expected one number per class"),
        ({"class_weights": (1, -1)}, r"class_weights=\(1.0, -1.0\): expected finite numbers >= 0"),
        ({"class_weights": (0, 0)}, "one is above 0"),
        ({"class_weights": (1, float("inf"))}, "expected finite numbers"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    for kind in (Classification, Segmentation, Tokens):
        with pytest.raises(ValueError, match=message):
            kind(**settings)


def test_as_many_weights_as_classes():
    with pytest.raises(ValueError, match="class_weights has 2 numbers but the dataset has 3"):
        blobs().with_task(Classification(class_weights=(1, 2)))
    task = Classification(class_weights=(1, 2, 3))
    with pytest.raises(ValueError, match="3 numbers but the student's answer has 5 classes"):
        task.check_first_batch(drawn(2, 5), Batch(None, integers(3, 2)), 3, "d")


def test_what_is_left_alone_makes_no_other_task():
    assert repr(Classification()) == "Classification()"
    assert repr(Tokens()) == "Tokens(ignore=-100)"
    task = Classification(class_weights=np.array([1, 2]))
    assert task == Classification(class_weights=torch.tensor([1.0, 2.0]))
    assert repr(task) == "Classification(class_weights=(1.0, 2.0))"
    assert describe(Classification(label_smoothing=0.0)) == describe(Classification())
    assert describe(Classification(label_smoothing=0.1)) != describe(Classification())
    assert Classification().__getstate__() is None
    assert Segmentation().__getstate__() == {"ignore": 255}
    for same in (task, Classification(), Segmentation(7, label_smoothing=0.1)):
        assert pickle.loads(pickle.dumps(same)) == copy.deepcopy(same) == same


# Soft labels

SOFT = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.5, 0.5], [0.1, 0.1, 0.8]])


def test_soft_labels_are_a_label_form():
    Classification().check_labels(SOFT, 3, "d: train")
    z = drawn(3, 3)
    slow = -(SOFT * F.log_softmax(z, 1)).sum(1).mean()
    torch.testing.assert_close(Classification().loss(z, SOFT), slow)
    torch.testing.assert_close(Classification().loss(z, SOFT.double()), slow)
    hard = F.one_hot(torch.tensor([2, 0, 1]), 3).float()
    want = Classification().loss(z, torch.tensor([2, 0, 1]))
    torch.testing.assert_close(Classification().loss(z, hard), want)
    right = accuracy(Says(), batches(torch.eye(3)[[0, 0, 2]], SOFT, 2))
    assert right == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "y, message",
    [
        (torch.tensor([[1.0, 1.0, 0.0]] * 2), r"no probabilities in 2 of 2 rows.*MultiLabel\(\)"),
        (torch.tensor([[1.5, -0.5, 0.0]]), "no probabilities in 1 of 1 rows, the first at pos"),
        (torch.tensor([[0.3, 0.3, 0.398]]), "no probabilities"),
        (torch.tensor([[0.5, 0.5]]), "rows of 2 numbers but there are 3 classes"),
        (torch.tensor([[1, 0, 1]]), r"int64 of shape \(1, 3\).*task=MultiLabel"),
        (torch.tensor([[1.0], [0.0]]), r"float32 of shape \(2, 1\).*Classes stored as floats"),
        (torch.tensor([1.0, 0.0]), "Classes stored as floats: y.long.*task=Regression"),
    ],
)
def test_rows_that_are_no_probabilities(y, message):
    with pytest.raises(ValueError, match=message):
        Classification().check_labels(y, 3, "d: train")
    with pytest.raises(ValueError, match=message):
        Data("d", 3, Split(torch.rand(len(y), 4), y))


def test_rounding_is_allowed():
    Classification().check_labels(torch.tensor([[0.33333, 0.33333, 0.33333]]), 3, "d")


def test_loss_refuses_floats_that_are_no_rows():
    for y in (torch.tensor([0.0, 1.0]), torch.tensor([[0.0], [1.0]]), torch.rand(2, 4)):
        with pytest.raises(ValueError, match="class indices .B,., or probabilities"):
            Classification().loss(drawn(2, 3), y)


def test_columns_and_bools_become_class_indices():
    as_labels = Classification().as_labels
    assert as_labels(torch.tensor([[2], [0]])).tolist() == [2, 0]
    assert as_labels(torch.tensor([True, False])).tolist() == [1, 0]
    assert as_labels(torch.tensor([[True], [False]])).dtype == torch.int64
    y = torch.tensor([0, 1], dtype=torch.uint8)
    assert as_labels(y) is y and as_labels(SOFT) is SOFT and as_labels(None) is None
    many = torch.tensor([[True, False]])
    assert as_labels(many) is many


def test_class_labels():
    y = class_labels(torch.tensor([1, 0], dtype=torch.uint8), "X")
    assert y.dtype == torch.int64 and y.tolist() == [1, 0]
    for bad in (SOFT, None, torch.zeros(2, 3, 3).long()):
        with pytest.raises(ValueError, match="X needs one class index per example"):
            class_labels(bad, "X")


def _batch():
    x = torch.rand(3, 1, 4, 4)
    return Batch(x, SOFT, torch.arange(3))


@pytest.mark.parametrize(
    "make, who",
    [
        (lambda s, t: BSS(s, t), "BSS"),
        (lambda s, t: CWTM(s, t), "CWTM"),
        (lambda s, t: JacobianMatching(s, t, variant="code"), "JacobianMatching"),
        (
            lambda s, t: CRD(s, t, Split(torch.rand(3, 1, 4, 4), torch.arange(3)), negatives=1),
            "CRD",
        ),
    ],
)
def test_methods_that_look_classes_up_refuse_soft_labels(make, who):
    distiller = make(net(), Teacher(net(1)))
    with pytest.raises(ValueError, match=rf"{who}.* needs one class index per example.*mixup"):
        distiller.terms(_batch())


def test_crd_refuses_a_memory_without_classes():
    for y in (SOFT, None):
        with pytest.raises(ValueError, match="CRD needs one class index per example"):
            CRD(net(), net(1), Split(torch.rand(3, 1, 4, 4), y))


def test_other_methods_take_them():
    student, batch = net(), _batch()
    for distiller in (
        CrossEntropy(student),
        Hinton(student, net(1)),
        GradientAttentionTransfer(student, net(1)),
    ):
        z = student(batch.x)
        want = -(SOFT * F.log_softmax(z, 1)).sum(1).mean()
        terms = distiller.terms(batch)
        torch.testing.assert_close(terms["ce"] / getattr(distiller, "ce_weight", 1.0), want)
