"""What is measured after each epoch: a share, a split, the data's own; never what is trained on."""

from dataclasses import replace

import pytest
import torch
from small import blobs, net, weights

from kdtutor import evaluate, fit
from kdtutor.datasets import Data, GeneratedData, Split
from kdtutor.methods import CrossEntropy
from kdtutor.runs import describe
from kdtutor.runs.dataset import data_parts
from kdtutor.tasks import Classification
from kdtutor.training.validation import set_apart

DATA = blobs()
OTHER = blobs(n=80, seed=5)
QUIET = dict(batch_size=30, lr=0.1, progress=False)


def trained(data=DATA, epochs=3, **settings):
    distiller = CrossEntropy(net())
    return distiller, fit(distiller, data, epochs, **QUIET | settings)


def measured(distiller, split):
    return evaluate(distiller, DATA, split)


@pytest.mark.parametrize("given", [OTHER.train, Data("held", 3, OTHER.train)])
def test_a_split_is_measured_and_not_trained_on(given):
    distiller, history = trained(validation=given)
    assert history.rows[-1]["val_accuracy"] == measured(distiller, OTHER.train)
    assert history.result["val_accuracy_last"] == history.rows[-1]["val_accuracy"]
    whole, plain = trained(validation=0)
    assert torch.equal(weights(distiller), weights(whole)) and history.spec["examples"] == 180
    assert "val_accuracy" not in plain.rows[-1]


def test_none_is_nothing():
    whole, history = trained(validation=0)
    same, none = trained(validation=None)
    assert torch.equal(weights(whole), weights(same)) and none.spec == history.spec


def test_the_data_s_own_split_is_used_and_none_cut_off():
    own = replace(DATA, validation=OTHER.train)
    distiller, history = trained(own)
    assert history.spec["examples"] == 180
    assert history.rows[-1]["val_accuracy"] == measured(distiller, OTHER.train)
    assert "val_accuracy" not in trained(own, validation=0)[1].rows[-1]
    with pytest.raises(ValueError, match=r"validation=0.1, but blobs has a validation split of i"):
        trained(own, validation=0.1)
    _, other = trained(own, validation=DATA.test)
    assert len(set_apart(own, DATA.test)[1]) == 60 and "val_accuracy" in other.rows[-1]


def test_a_column_of_labels_is_read():
    column = replace(OTHER.train, y=OTHER.train.y[:, None])
    distiller, history = trained(validation=column)
    assert history.rows[-1]["val_accuracy"] == measured(distiller, OTHER.train)


def test_it_is_part_of_what_a_run_is(tmp_path):
    specs = [
        trained(epochs=1, validation=v)[1].spec["validation"]
        for v in (0, 0.1, OTHER.train, OTHER.train.select([0, 1]), OTHER.test)
    ]
    assert len(set(specs)) == 5 and specs[0] == 0
    equal = Split(OTHER.train.x.clone(), OTHER.train.y)
    assert trained(epochs=1, validation=equal)[1].spec["validation"] == specs[2]
    trained(run_dir=tmp_path, validation=OTHER.train)
    trained(run_dir=tmp_path, validation=equal)
    with pytest.raises(ValueError, match="holds a run with other settings .*validation"):
        trained(run_dir=tmp_path, validation=OTHER.test)
    with pytest.raises(ValueError, match="holds a run with other settings .*validation_data"):
        trained(replace(DATA, validation=OTHER.test), run_dir=tmp_path)


def test_data_without_a_split_of_their_own_are_what_they_were():
    assert "validation_data" not in trained(epochs=1)[1].spec
    own = replace(DATA, validation=OTHER.train)
    assert describe(own) != describe(DATA) != describe(replace(own, validation=OTHER.test))
    assert describe(replace(own, validation=None)) == describe(DATA)
    assert "validation" not in data_parts(DATA)[1] and "validation" in data_parts(own)[1]
    assert repr(own).startswith("Data(blobs: 180 train, 60 validation, 60 test")


def test_examples_that_are_trained_on_too():
    rest, held = DATA.holdout(0.2, seed=3)
    with pytest.raises(ValueError, match="36 of 36 validation examples are in the training set"):
        trained(validation=held)
    mixed = DATA.train.select([0, 1]), replace(DATA, train=DATA.train.select(range(1, 180)))
    with pytest.raises(ValueError, match="1 of 2 validation examples"):
        set_apart(mixed[1], mixed[0])
    distiller, history = trained(replace(DATA, train=rest), validation=held)
    same, fraction = trained(replace(DATA, train=rest), validation=0)
    assert torch.equal(weights(distiller), weights(same))
    assert history.rows[-1]["val_accuracy"] == measured(distiller, held)


@pytest.mark.parametrize(
    "validation, message",
    [
        (DATA, "validation=blobs has a training and a test split: say which is meant"),
        (
            Split(DATA.test.x.float(), DATA.test.y),
            r"holds inputs float32 \(N, 1, \?, \?\); the training set of blobs holds uint8",
        ),
        (Split(torch.zeros(4, 3, 4, 4).byte(), torch.zeros(4).long()), r"uint8 \(N, 3, \?, \?\)"),
        (Split(torch.zeros(4, 16).byte(), torch.zeros(4).long()), r"holds inputs uint8 \(N, 16\)"),
        (Split(DATA.test.x, DATA.test.y + 1), "the validation split's labels run from 1 to 3"),
        (1.5, "validation fraction 1.5: expected 0"),
        (-0.1, "validation fraction -0.1"),
    ],
)
def test_what_cannot_be_measured_on(validation, message):
    with pytest.raises(ValueError, match=message):
        trained(validation=validation)


def test_images_of_another_size_may_be():
    assert set_apart(DATA, Split(torch.zeros(4, 1, 9, 9).byte(), torch.zeros(4).long()))


def test_generated_data_have_their_own_or_none():
    def make(generator, n, device):
        return torch.rand(n, 1, 4, 4, generator=generator), torch.arange(n) % 3

    data = GeneratedData("g", make, 3, ("a", "b", "c"), Classification(), OTHER.train)
    assert "val_accuracy" in trained(data)[1].rows[-1]
    assert "val_accuracy" not in trained(data, validation=0)[1].rows[-1]
    with pytest.raises(ValueError, match="g has a validation split of its own"):
        trained(data, validation=0.1)
    with pytest.raises(ValueError, match="no share can be cut off g, which is not in memory"):
        trained(replace(data, validation=None), validation=0.1)
