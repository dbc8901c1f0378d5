"""What people pass by mistake: one sentence that says what was given, what is expected and what to
do, before anything runs.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from small import blobs, net
from torch.utils.data import DataLoader, TensorDataset

from kdtutor import Teacher, evaluate, fit
from kdtutor.datasets import Data, Split, from_loaders
from kdtutor.methods import CrossEntropy, Hinton

PAIRS = TensorDataset(torch.rand(8, 1, 4, 4), torch.arange(8) % 3)


@pytest.mark.parametrize("data", [PAIRS, DataLoader(PAIRS), "digits", None, [1, 2]])
def test_data_of_another_kind(data):
    kind = type(data).__name__
    with pytest.raises(TypeError, match=f"data is a {kind}; expected a kdtutor.datasets.Data"):
        fit(CrossEntropy(net()), data, 1, progress=False)
    with pytest.raises(TypeError, match=f"data is a {kind}"):
        evaluate(net(), data)


def test_a_network_instead_of_a_method():
    with pytest.raises(TypeError, match=r"distiller is a MLP; .*CrossEntropy\(net\)"):
        fit(net(), blobs(), 1, progress=False)


@pytest.mark.parametrize("student", [None, "resnet8", [net()]])
def test_a_student_that_is_no_network(student):
    for make in (CrossEntropy, lambda s: Hinton(s, net(1))):
        with pytest.raises(TypeError, match="student is a .*; expected a torch.nn.Module"):
            make(student)


@pytest.mark.parametrize("validation", [DataLoader(PAIRS), "0.1", True])
def test_a_validation_that_is_no_fraction(validation):
    with pytest.raises(ValueError, match="validation is a .*; expected a fraction"):
        fit(CrossEntropy(net()), blobs(), 1, validation=validation, progress=False)


def test_inputs_and_weights_of_different_types():
    x = torch.rand(30, 16, dtype=torch.float64)
    data = Data("mine", 3, Split(x, torch.arange(30) % 3))
    with pytest.raises(ValueError, match=r"weights torch.float32.*x.float"):
        fit(CrossEntropy(net()), data, 1, progress=False)
    assert fit(CrossEntropy(net().double()), data, 1, progress=False).status == "finished"


def test_a_teacher_without_parameters_can_be_cached():
    data = blobs()
    teacher = Teacher(torch.nn.Sequential(torch.nn.Flatten(), Three())).cached(data, fill=True)
    some = next(data.batches(data.train, 8))
    assert torch.equal(teacher(some), some.x.flatten(1)[:, :3])


class Three(torch.nn.Module):
    def forward(self, x):
        return x[:, :3]


@pytest.mark.parametrize(
    "x, y",
    [
        (np.random.default_rng(0).random((12, 4), np.float32), np.arange(12) % 3),
        (pd.DataFrame(np.ones((12, 4), np.float32)), pd.Series(np.arange(12) % 3)),
        (torch.rand(12, 4), (np.arange(12) % 3).astype(np.int32)),
    ],
)
def test_arrays_and_tables_become_tensors(x, y):
    split = Split(x, y, extra={"weight": np.ones(12)})
    assert torch.is_tensor(split.x) and torch.is_tensor(split.y) and len(split) == 12
    assert torch.equal(split.x, torch.as_tensor(np.asarray(x)))
    assert torch.is_tensor(split.extra["weight"])
    data = Data("mine", 3, split, split)
    assert data.classes == ("0", "1", "2") and len(next(data.batches(split, 4)).y) == 4


def test_a_mapping_of_arrays():
    split = Split({"a": np.zeros((3, 2)), "b": torch.ones(3)}, None)
    assert split.x["a"].dtype == torch.float64 and split.y is None


def test_arrays_are_copied():
    x = np.zeros((3, 2), np.float32)
    split = Split(x, None)
    x[:] = 1
    assert not split.x.any()


@pytest.mark.parametrize(
    "x, y, said",
    [
        ([[1.0]], torch.zeros(1), "x is a list; expected a tensor"),
        (torch.rand(2, 1), ["cat", "dog"], "y is a list"),
        (torch.rand(2, 1), np.array(["cat", "dog"]), "y is an array of <U3; expected numbers"),
        (np.array([object()]), None, "x is an array of object"),
    ],
)
def test_what_is_neither(x, y, said):
    with pytest.raises(ValueError, match=said):
        Split(x, y)


def test_class_names_in_one_word():
    split = Split(torch.rand(2, 1), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="classes='cat'.*names of the classes"):
        Data("mine", "cat", split)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_network_that_ends_in_its_softmax_is_told_of(who):
    nets = {"student": net(0), "teacher": net(1)}
    nets[who] = torch.nn.Sequential(nets[who], torch.nn.Softmax(1))
    with pytest.warns(UserWarning, match=f"answers of the {who} are >= 0 and sum to 1"):
        fit(Hinton(nets["student"], nets["teacher"]), blobs(), 1, progress=False)


def test_logits_are_told_of_nothing(recwarn):
    fit(Hinton(net(0), net(1)), blobs(), 1, lr=0.01, progress=False)
    assert not [w for w in recwarn if "sum to 1" in str(w.message)]


class Counted(CrossEntropy):
    steps = 0

    def terms(self, batch):
        Counted.steps += 1
        return super().terms(batch)


def streamed(x, y):
    part = lambda a, b: DataLoader(TensorDataset(a, b), 6)
    return from_loaders(part(X, Y), part(x, y), part(X, Y), classes=3)


X, Y = torch.rand(12, 16), torch.arange(12) % 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: Data("mine", 3, Split(X, Y), Split(X, None)),
        lambda: Data("mine", 3, Split(X, Y), Split(X[:, :4], Y)),
        lambda: Data("mine", 3, Split(X, Y), Split(X.double(), Y)),
        lambda: streamed(X[:, :4], Y),
        lambda: streamed(X.double(), Y),
    ],
)
def test_a_test_set_that_cannot_be_measured_is_found_before_training(make):
    Counted.steps = 0
    with pytest.raises(ValueError, match="the test examples of"):
        fit(Counted(net()), make(), 1, progress=False)
    assert not Counted.steps
    fit(CrossEntropy(net()), make(), 1, progress=False, test=False)


def test_a_validation_without_examples():
    with pytest.raises(ValueError, match="without examples"):
        fit(CrossEntropy(net()), blobs(), 1, validation=blobs().train.select([]), progress=False)


def test_sparse_adam_is_one_sentence():
    with pytest.raises(ValueError, match="sparse gradients only"):
        fit(CrossEntropy(net()), blobs(), 1, optimizer=torch.optim.SparseAdam, progress=False)


def test_labels_beyond_the_answers_where_nobody_named_the_classes():
    y = (torch.arange(12) > 10).long() * 3  # the last one alone
    with pytest.raises(ValueError, match="labels run from 0 to 3, but 3 classes allow 0 to 2"):
        fit(CrossEntropy(net()), Data("mine", (), Split(X, y)), 1, batch_size=4, progress=False)
    assert fit(CrossEntropy(net()), Data("mine", (), Split(X, Y)), 1, progress=False).rows


@pytest.mark.parametrize("classes", [1, ()])
def test_a_softmax_over_one_class(classes):
    data = Data("mine", classes, Split(X, torch.zeros(12, dtype=torch.long)))
    one = lambda: torch.nn.Linear(16, 1)
    for method in (CrossEntropy(one()), Hinton(one(), one())):
        with pytest.raises(ValueError, match="a single class.*nothing could be learned"):
            fit(method, data, 1, progress=False)


def test_a_teacher_without_weights():
    student, teacher = (torch.nn.Linear(16, 3) for _ in range(2))
    with pytest.raises(ValueError, match="device meta, which holds no weights"):
        fit(Hinton(student, teacher.to("meta")), Data("mine", 3, Split(X, Y)), 1, progress=False)
