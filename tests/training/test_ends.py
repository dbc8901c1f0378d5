"""How a run ends, what is told after each epoch, and how a finished run goes on."""

import json
import sys

import pytest
import torch
from small import blobs, net, weights

from kdtutor import fit
from kdtutor.methods import CrossEntropy
from kdtutor.models import mlp
from kdtutor.runs import load_weights


def train(epochs, student=None, values=None, **settings):
    """With ``values`` the validation metric is made up, one for each epoch."""
    student = student or net(0, dropout=0.2)
    if values is not None:
        asked = iter([0.0, *values])  # once before training
        settings["metric"] = lambda net, batches: next(asked, 0.0)
    defaults = {"lr": 0.05, "validation": 0.2, "progress": False, "batch_size": 30, "test": False}
    return student, fit(CrossEntropy(student), blobs(), epochs, **defaults | settings)


def losses(history):
    return [row["loss"] for row in history.rows]


def test_it_ends_after_so_many_epochs_without_a_better_value(tmp_path):
    values = [0.1, 0.3, 0.2, 0.3, 0.25, 0.9]
    student, history = train(6, values=values, patience=3, run_dir=tmp_path)
    assert history.status == "early" and len(history.rows) == 5
    assert (tmp_path / "result.json").exists()
    assert history.result["best_epoch"] == 2 and history.best()["epoch"] == 2
    _, again = train(6, values=values, patience=3, run_dir=tmp_path)
    assert again.status == "early" and again.rows == history.rows and again.result == history.result


def made_up(net, batches):
    """The same metric in every run, whatever its values are."""
    return sys.values.pop(0) if sys.values else 0.0


def test_a_run_that_was_killed_as_it_had_waited_long_enough_has_ended(tmp_path, monkeypatch):
    values = lambda *made: monkeypatch.setattr(sys, "values", [0.0, *made], raising=False)

    def broken(row):
        if row["epoch"] == 3:
            raise RuntimeError("the logger broke")

    settings = {"patience": 2, "run_dir": tmp_path, "metric": made_up}
    values(0.5, 0.1, 0.2)
    with pytest.raises(RuntimeError, match="the logger broke"):
        train(6, on_epoch=broken, **settings)
    values(0.9)
    _, history = train(6, **settings)
    assert history.status == "early" and len(history.rows) == 3

    # More epochs for it: it waits anew, from where it had ended.
    values(0.1, 0.2, 0.1, 0.1, 0.9)
    _, longer = train(9, extend=True, **settings)
    assert longer.status == "early" and len(longer.rows) == 7
    assert json.loads((tmp_path / "spec.json").read_text())["extended"] == [3]


def test_without_a_wait_that_long_nothing_ends_early():
    _, history = train(5, values=[0.1, 0.3, 0.2, 0.25, 0.4], patience=3)
    assert history.status == "finished" and len(history.rows) == 5


def test_only_the_last_stage_ends_early():
    from kdtutor.methods import Player, Stage

    class TwoStages(CrossEntropy):
        def stages(self):
            player = lambda: Player("student", self.terms, list(self.parameters()))
            return [Stage("first", 0.6, [player()]), Stage("second", 0.4, [player()])]

    values = iter([0.0, 0.9, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    history = fit(
        TwoStages(net(0)),
        blobs(),
        10,
        metric=lambda net, batches: next(values),
        patience=2,
        progress=False,
        test=False,
    )
    # six epochs of the first stage; the second's best is its first, two epochs later it ends
    assert [row["stage"] for row in history.rows] == ["first"] * 6 + ["second"] * 3


def test_a_logger_is_told_every_row_once(tmp_path):
    told = []
    asked = iter([False, True])
    _, first = train(4, run_dir=tmp_path, on_epoch=told.append, stop=lambda: next(asked))
    assert first.status == "stopped" and len(told) == 2
    _, history = train(4, run_dir=tmp_path, on_epoch=told.append)
    assert [{**row} for row in told] == history.rows
    told[0].clear()
    assert history.rows[0]["epoch"] == 1
    train(4, run_dir=tmp_path, on_epoch=lambda row: pytest.fail("a finished run has no epochs"))


def test_five_lines_of_a_logger():
    class SummaryWriter:
        """The one method of TensorBoard's that is needed."""

        def __init__(self):
            self.seen = []

        def add_scalar(self, name, value, step):
            self.seen.append((name, value, step))

    writer = SummaryWriter()

    def log(row):
        for name, value in row.items():
            if isinstance(value, float):
                writer.add_scalar(name, value, row["epoch"])

    _, history = train(2, on_epoch=log)
    assert ("loss", history.rows[1]["loss"], 2) in writer.seen


def test_a_finished_run_goes_on_as_a_run_of_that_length_would(tmp_path):
    settings = {"schedule": lambda progress: 0.5, "ema": 0.9}
    want, wanted = train(6, **settings)
    train(4, run_dir=tmp_path, **settings)
    student, history = train(6, run_dir=tmp_path, extend=True, **settings)
    assert losses(history) == losses(wanted) and torch.equal(weights(student), weights(want))
    spec = json.loads((tmp_path / "spec.json").read_text())
    assert spec["epochs"] == 6 and spec["extended"] == [4]
    kept = load_weights(net(9, dropout=0.2), tmp_path / "student.safetensors")
    assert torch.equal(weights(kept), weights(student))


def test_the_rates_go_on_where_those_of_the_longer_run_are(tmp_path):
    _, whole = train(6)
    train(3, run_dir=tmp_path)
    _, longer = train(6, run_dir=tmp_path, extend=True)
    rates = lambda history: [row["lr"] for row in history.rows[3:]]
    assert rates(longer) == rates(whole)


def test_the_trained_student_itself_goes_on(tmp_path):
    student, _ = train(2, run_dir=tmp_path)
    fresh, _ = train(2, run_dir=tmp_path / "other")
    _, history = train(4, student=student, run_dir=tmp_path, extend=True)
    _, wanted = train(4, run_dir=tmp_path / "other", extend=True)
    assert losses(history) == losses(wanted)


def test_a_longer_run_that_was_stopped_goes_on_and_is_read_when_it_is_finished(tmp_path):
    train(2, run_dir=tmp_path)
    asked = iter([True])
    _, stopped = train(5, run_dir=tmp_path, extend=True, stop=lambda: next(asked))
    assert stopped.status == "stopped" and len(stopped.rows) == 3
    _, history = train(5, run_dir=tmp_path, extend=True)
    assert history.status == "finished" and len(history.rows) == 5
    _, again = train(5, run_dir=tmp_path, extend=True)
    assert again.rows == history.rows
    train(6, run_dir=tmp_path, extend=True)
    assert json.loads((tmp_path / "spec.json").read_text())["extended"] == [2, 5]


def test_a_run_that_never_was_longer_may_be_asked_to_be(tmp_path):
    asked = iter([True])
    train(3, run_dir=tmp_path, stop=lambda: next(asked))
    _, history = train(3, run_dir=tmp_path, extend=True)
    assert history.status == "finished" and len(history.rows) == 3


def test_what_cannot_go_on(tmp_path):
    with pytest.raises(ValueError, match="there is none in run_dir=None"):
        train(2, extend=True)
    with pytest.raises(ValueError, match="train it first, without extend"):
        train(2, extend=True, run_dir=tmp_path / "none")
    asked = iter([True])
    train(3, run_dir=tmp_path, stop=lambda: next(asked))
    with pytest.raises(ValueError, match="has not finished its 3 epochs"):
        train(5, run_dir=tmp_path, extend=True)
    train(3, run_dir=tmp_path)
    with pytest.raises(ValueError, match="holds a run of 3 epochs: extend=True needs more"):
        train(2, run_dir=tmp_path, extend=True)
    with pytest.raises(ValueError, match="other settings.*lr=0.07"):
        train(5, run_dir=tmp_path, extend=True, lr=0.07)
    assert (tmp_path / "result.json").exists()
    with pytest.raises(ValueError, match="other settings"):
        fit(
            CrossEntropy(mlp((5,), classes=3, inputs=16)),
            blobs(),
            5,
            lr=0.05,
            run_dir=tmp_path,
            extend=True,
            progress=False,
        )
    with pytest.raises(ValueError, match="epochs: 3 there, 5 now"):
        train(5, run_dir=tmp_path)
