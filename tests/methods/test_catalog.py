"""Every row of the catalog, with its defaults, through ``fit``: trains, resumes, deploys the plain
student, leaves its teacher alone.
"""

import warnings

import pytest
import torch
from losses import images
from small import weights

from kdtutor import Teacher, fit
from kdtutor.methods import DML, ONE, CrossEntropy, catalog, method
from kdtutor.models import build

NAMES = catalog()["name"].tolist()


def network(seed):
    torch.manual_seed(seed)
    return build("resnet8", classes=3, channels=1, image_size=8)


def make(name, teacher):
    row, student = method(name), network(1)
    if row.distiller is DML:
        return DML([student, network(2)])
    return (
        row.distiller(student)
        if row.distiller in (CrossEntropy, ONE)
        else row.distiller(student, teacher, **row.settings)
    )


def train(distiller, epochs=3, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a stage as short as this may end worse than it began
        return fit(distiller, images(), epochs, batch_size=30, progress=False, **kwargs)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_of_the_catalog_goes_through_fit(name):
    goes_through_fit(name, "cpu")


def goes_through_fit(name, device):
    """What holds of a method on every device (tests/methods/test_gpu.py)."""
    net = network(9).train()
    before = weights(net)
    distiller = make(name, Teacher(net))
    history = train(distiller, device=device)
    assert history.status == "finished" and all(r["loss"] == r["loss"] for r in history.rows)
    assert sum(p.numel() for p in distiller.deploy().parameters()) == sum(
        p.numel() for p in network(1).parameters()
    )
    assert not torch.equal(weights(distiller.deploy()).cpu(), weights(network(1)))
    assert torch.equal(before, weights(net).cpu()), (
        "the teacher's weights and batch-norm statistics never move"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_a_method_of_the_catalog_continues_bit_for_bit(name, tmp_path, monkeypatch):
    whole = make(name, network(9))
    train(whole, run_dir=tmp_path / "whole")

    class Killed(Exception):
        pass

    from kdtutor.runs import RunDirectory

    checkpoint = RunDirectory.checkpoint

    def once(self, state):
        checkpoint(self, state)
        if state["epoch"] == 2:
            raise Killed

    monkeypatch.setattr(RunDirectory, "checkpoint", once)
    with pytest.raises(Killed):
        train(make(name, network(9)), run_dir=tmp_path / "parts")
    monkeypatch.setattr(RunDirectory, "checkpoint", checkpoint)
    again = make(name, network(9))
    history = train(again, run_dir=tmp_path / "parts")
    assert [r["epoch"] for r in history.rows] == [1, 2, 3] and torch.equal(
        weights(again), weights(whole)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_method_of_the_catalog_trains_in_mixed_precision(name):
    history = train(make(name, network(9)), precision="bf16", epochs=2)
    assert history.rows[-1]["loss"] == history.rows[-1]["loss"]


def test_every_class_is_found_in_its_folder_and_flat_without_a_second_list():
    from importlib import import_module

    import kdtutor.methods as methods

    for kind in {row.distiller for row in methods.rows.ROWS}:
        folder = kind.__module__.rsplit(".", 1)[0]
        assert getattr(import_module(folder), kind.__name__) is kind
        assert getattr(methods, kind.__name__) is kind and kind.__name__ in methods.__all__
    with pytest.raises(ImportError):
        exec("from kdtutor.methods.response import RKD")


def test_answers_are_not_distilled_where_there_are_no_classes():
    from kdtutor.datasets import Data, Split
    from kdtutor.methods import DML, BornAgain, Hinton
    from kdtutor.tasks import Regression

    x = torch.randn(40, 3)
    data = Data("line", (), Split(x, x[:, :1]), None, task=Regression())
    make = lambda: torch.nn.Linear(3, 1)
    for distiller in (Hinton(make(), make()), BornAgain(make(), make()), DML([make(), make()])):
        with pytest.raises(ValueError, match=r"Regression\(\) has no classes.*softmax"):
            fit(distiller, data, 1, progress=False, test=False)
