"""What people bring as arrays: each type becomes the right tensor or one sentence."""

import traceback

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import net

from kdtutor import fit
from kdtutor.datasets import Data, Split
from kdtutor.methods import CrossEntropy
from kdtutor.tasks import Classification, MultiLabel, NoLabels, Regression, Segmentation

X = np.arange(24, dtype=np.float64).reshape(6, 4) / 24
Y = np.array([0, 1, 2, 0, 1, 2])
make = Data.from_tensors


@pytest.mark.parametrize(
    "x",
    [
        X,
        X.tolist(),
        list(X),
        pd.DataFrame(X),
        torch.from_numpy(X),
        list(torch.from_numpy(X)),
        X.astype(np.float16).astype(">f8"),
        X[::-1][::-1],
    ],
)
def test_floats_become_float32(x):
    data = make(x, Y)
    assert data.train.x.dtype == torch.float32 and data.train.x.shape == (6, 4)
    torch.testing.assert_close(data.train.x, torch.from_numpy(X).float(), atol=1e-3, rtol=0)


def test_other_types_of_inputs_stay_unless_a_type_is_said():
    images = np.zeros((6, 3, 5, 5), np.uint8)
    assert make(images, Y).train.x.dtype == torch.uint8
    table = pd.DataFrame({"age": [1, 2, 3], "children": [0, 0, 1]})
    assert make(table, [0, 1, 0]).train.x.dtype == torch.int64
    assert make(table, [0, 1, 0], dtype=torch.float32).train.x.dtype == torch.float32
    assert make(X, Y, dtype=torch.float64).train.x.dtype == torch.float64
    mapping = make({"ids": np.zeros((6, 3), np.int64), "weight": X}, Y).train.x
    assert mapping["ids"].dtype == torch.int64 and mapping["weight"].dtype == torch.float32


def test_a_copy_of_arrays():
    x = X.copy()
    data = make(x, Y)
    x[:] = 7
    assert data.train.x.max() < 1


@pytest.mark.parametrize(
    "y",
    [
        Y,
        Y.tolist(),
        Y.astype(np.int32),
        Y.astype(np.uint8),
        Y[:, None],
        torch.from_numpy(Y).int()[:, None],
        pd.Series(Y, dtype="int16"),
        pd.DataFrame({"label": Y}),
        [torch.tensor(int(v)) for v in Y],
    ],
)
def test_whole_numbers_become_class_indices(y):
    data = make(X, y)
    assert data.train.y.dtype == torch.int64 and data.train.y.tolist() == Y.tolist()
    assert data.classes == ("0", "1", "2") and data.task == Classification()
    assert len(data.test) == 0


def test_bools():
    for y in (Y > 0, torch.from_numpy(Y > 0)[:, None], [bool(v) for v in Y]):
        data = make(X, y, classes=2)
        assert data.train.y.tolist() == [0, 1, 1, 0, 1, 1] and data.classes == ("0", "1")


@pytest.mark.parametrize(
    "texts",
    [
        lambda y: y,
        np.array,
        pd.Series,
        lambda y: pd.Series(y, dtype="category"),
        lambda y: pd.Series(y, dtype="string"),
        lambda y: np.array(y)[:, None],
    ],
)
def test_text_becomes_sorted_class_names(texts):
    data = make(X, texts(["dog", "ant", "cat"] * 2), X[:2], texts(["eel", "ant"]))
    assert data.classes == ("ant", "cat", "dog", "eel")
    assert data.train.y.tolist() == [2, 0, 1, 2, 0, 1] and data.test.y.tolist() == [3, 0]
    named = make(X, texts(["dog", "ant", "cat"] * 2), classes=["dog", "cat", "ant"])
    assert named.train.y.tolist() == [0, 2, 1, 0, 2, 1] and named.classes == ("dog", "cat", "ant")


def test_soft_labels_other_tasks_and_none():
    rows = np.array([[0.25, 0.75]] * 6)
    data = make(X, rows)
    assert data.train.y.dtype == torch.float32 and data.classes == ("0", "1")
    assert make(X).task == NoLabels() and make(X).train.y is None
    data = make(X, Y.astype(float), task=Regression())
    assert data.train.y.dtype == torch.float32 and data.classes == ()
    hot = np.eye(3, dtype=bool)[Y]
    assert make(X, hot, task=MultiLabel()).classes == ("0", "1", "2")
    maps = make(np.zeros((6, 1, 2, 2), np.uint8), np.zeros((6, 2, 2)).astype(int), classes=3,
                task=Segmentation())  # fmt: skip
    assert maps.train.y.shape == (6, 2, 2)


def test_a_validation_split_of_its_own():
    data = make(X, Y, X[:3], Y[:3], validation=(X[3:], Y[3:]), name="mine", mean=(0.5,), std=(2,))
    assert repr(data).startswith("Data(mine: 6 train, 3 validation, 3 test, 3 classes, 4")
    train, held = data.holdout(0.1)
    assert train is data.train and held is data.validation and held.y.tolist() == [0, 1, 2]
    assert data.holdout(0) == (data.train, None) and data.mean == (0.5,)


def test_they_train():
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(60, 16))
    data = make(x, (x[:, 0] > 0)[:, None], x, x[:, :1] > 0)
    history = fit(CrossEntropy(net(classes=2)), data, 8, batch_size=10, lr=0.1, progress=False)
    assert history.result["test_accuracy_last"] > 0.9


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(x=X, y=Y.astype(float)), r"y is float64 of shape \(6,\), whole numbers: classes are"),
        (dict(x=X, y=X[:, 0]), r"y is float64 of shape \(6,\): classes .*task=Regression\(\)"),
        (dict(x=X, y=Y + 1), "the labels hold 1, 2, 3: pass classes="),
        (dict(x=X, y=[-1, 1] * 3), "the labels hold -1, 1: pass classes="),
        (dict(x=X, y=Y, classes=2), "labels run from 0 to 2, but 2 classes"),
        (dict(x=X, y=["a"] * 6, classes=["b", "c"]), "y holds 'a', which classes= does not name"),
        (dict(x=X, y=["a", "b"] * 3, classes=3), "classes=3, but the labels name 2: a, b"),
        (dict(x=X, y=["a", None] * 3), "y holds text and None"),
        (dict(x=X, y=np.array([["a", "b"]] * 6)), r"y holds text, of shape \(6, 2\)"),
        (dict(x=X, y=np.eye(3, dtype=int)[Y]), r"int64 of shape \(6, 3\).*One-hot rows: y.argmax"),
        (dict(x=X, y=Y[:5]), "y has 5 rows but the split has 6"),
        (dict(x=[[1.0], [1.0, 2.0]], y=[0, 1]), "x is a list of rows of different shapes"),
        (
            dict(x=[torch.zeros(2), torch.zeros(3)], y=[0, 1]),
            r"x is a list of tensors of the shapes \[\(2,\), \(3,\)\]",
        ),
        (dict(x=["a", "b"], y=[0, 1]), "x is a list of <U1; expected numbers"),
        (dict(x=np.zeros((6, 32, 32, 3), np.uint8), y=Y), r"images \(N, H, W, C\); expected"),
        (
            dict(x=pd.DataFrame({"age": [1, 2], "town": ["A", "B"]}), y=[0, 1]),
            "x has columns that are no numbers: town .pandas.get_dummies",
        ),
        (dict(x=X * np.nan, y=Y), "x: 6 of 6 examples hold NaN"),
        (dict(x=None, y=Y), "x is None"),
        (dict(x=X, y=Y, y_test=Y), "y_test was given without x_test"),
        (
            dict(x=X, y=None, task=Regression(), x_test=X, y_test=["a"] * 6),
            r"y_test holds text, .*the task Regression\(\) needs numbers",
        ),
    ],
)
def test_what_cannot_be_told(wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)


def test_parts_and_normalisation_in_the_constructor():
    images = Split(torch.zeros(6, 1, 4, 4).byte(), torch.from_numpy(Y))
    with pytest.raises(TypeError, match="mine: train is a tuple; expected a Split.*from_tensors"):
        Data("mine", 3, (X, Y))
    with pytest.raises(TypeError, match="mine: test is a ndarray"):
        Data("mine", 3, images, X)
    for mean, std, message in [
        ((0.5,), (), "expected as many numbers in each"),
        ((0.5,), (0.0,), "those of std above 0"),
        (0.5, 0.5, "mean=0.5 and std=0.5: expected one number per channel"),
        ((0.5,) * 3, (0.5,) * 3, "are for 3 channels, and the images have 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            Data("mine", 3, images, mean=mean, std=std)


def test_columns_and_bools_in_the_constructor():
    part = Split(torch.from_numpy(X), torch.from_numpy(Y)[:, None])
    data = Data("mine", 3, part, part)
    assert data.train.y.tolist() == Y.tolist() and data.test.y.shape == (6,)
    assert data.train.source == part.source and part.y.shape == (6, 1)
    assert Data("mine", 2, Split(part.x, part.y > 0)).train.y.tolist() == [0, 1, 1, 0, 1, 1]
    small = Split(part.x, torch.from_numpy(Y).to(torch.uint8))
    assert Data("mine", 3, small).train is small
    with pytest.raises(ValueError, match=r"float64 of shape \(6, 1\).*Classes stored as floats"):
        Data("mine", 3, Split(part.x, part.y.double()))


@pytest.mark.parametrize(
    "x, y, said",
    [
        (X, np.ma.masked_array(Y, Y == 1), "y lacks 2 values, the first at position 1"),
        (np.ma.masked_array(X, X > 0.9), Y, "x lacks 2 values, the first at position 5"),
        (X, [0, 1, None, 0, 1, 2], "y lacks 1 values, the first at position 2"),
        ([[1.0, None]] * 6, Y, "x lacks 6 values, the first at position 0"),
        (X, np.where(Y == 1, np.nan, Y), r"2 labels are missing \(NaN\), the first at position 1"),
        (X, pd.Series([0, 1, None, 0, 1, 2], dtype="Int64"), "missing|lacks"),
    ],
)
def test_what_is_missing_is_said_with_its_place(x, y, said):
    with pytest.raises(ValueError, match=said):
        make(x, y, classes=3)


def test_nothing_is_read_from_behind_a_mask():
    whole = np.ma.masked_array(X, np.zeros_like(X, dtype=bool))
    assert torch.equal(make(whole, Y).train.x, make(X, Y).train.x)
    with pytest.raises(ValueError, match="lacks 2 values"):
        Split(X, np.ma.masked_array(Y, Y == 1))


def test_the_number_of_classes_may_be_numpys():
    assert make(X, Y, classes=Y.max() + 1).classes == ("0", "1", "2")
    with pytest.raises(ValueError, match="classes=2, but the labels name 3"):
        make(X, list("abcabc"), classes=np.int64(2))


def test_two_classes_of_one_name_cannot_be_told_apart_by_it():
    with pytest.raises(ValueError, match="names 'a' twice"):
        make(X, list("acacac"), classes=("a", "a", "c"))


ODD = [
    None, 3, 2.5, True, "a", b"a", [], [[]], [1, 2, 3], [None] * 6, {}, {"a": X}, {1: 2}, object(),
    torch.tensor(1.0), torch.zeros(0, 4), torch.zeros(6), torch.zeros(6, 4), X * np.nan, Y, Y - 1,
    Y[:, None], Y > 0, Y.astype(np.uint16), torch.zeros(6, 3), torch.full((6, 3), 1 / 3),
    torch.zeros(6, 4).to_sparse(), torch.zeros(6, 4, dtype=torch.complex64), list("abcabc"),
    [torch.zeros(2), torch.zeros(3)], [torch.zeros(2)] * 6, np.array([object()] * 6), iter([1]),
    np.zeros((6, 3, 8, 8), np.uint8), np.zeros((6, 8, 8, 3), np.uint8), pd.Series([0, None] * 3),
    pd.Series([0, None] * 3, dtype="Int64"), pd.DataFrame({"a": list("abcabc")}),
    np.zeros(6, "datetime64[s]"), Split(torch.zeros(6, 4), None), torch.zeros(6, 4, device="meta"),
]  # fmt: skip


@settings(max_examples=1500)
@given(x=st.sampled_from(ODD), y=st.sampled_from(ODD), other=st.data())
def test_anything_is_a_result_or_an_error_of_ours(x, y, other):
    """What is raised comes from a line of ours that raises."""
    more = {
        "classes": st.sampled_from([None, 3, *ODD]),
        "task": st.sampled_from([None, Classification(), Regression(), MultiLabel(), 3]),
        "mean": st.sampled_from([(), *ODD]),
        "dtype": st.sampled_from([None, torch.float64, *ODD]),
        "validation": st.sampled_from([None, (X, Y), *ODD]),
    }
    chosen = other.draw(st.fixed_dictionaries({}, optional=more))
    try:
        assert isinstance(make(x, y, **chosen), Data)
    except (ValueError, TypeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        assert "kdtutor" in last.filename and "raise " in (last.line or ""), (last, error)
