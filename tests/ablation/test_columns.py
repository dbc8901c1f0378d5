"""The bench reads what the data's task measures: other metrics than accuracy, and which way is
better.
"""

import functools

import pytest
import torch
from torch import nn

from kdtutor.ablation import Grid, load, run
from kdtutor.datasets import Data, Split
from kdtutor.methods import CrossEntropy
from kdtutor.tasks import Regression


class Half(CrossEntropy):
    """Learns half as much: its error is larger."""

    def terms(self, batch):
        return {"ce": 0.02 * super().terms(batch)["ce"]}


def line():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(160, 3, generator=g)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    return Data("line", (), Split(x[:120], y[:120]), Split(x[120:], y[120:]), task=Regression())


@functools.cache
def results(folder):
    grid = Grid(
        dataset=line(),
        students=[lambda: nn.Linear(3, 1)],
        methods=[CrossEntropy, Half],
        teacher=None,
        seeds=(0, 1, 2),
        epochs=3,
        fit={"lr": 0.05, "batch_size": 16},
    )
    return run(grid, folder, progress=False)


def test_a_metric_where_less_is_better_has_its_columns_and_positive_gains_are_better(tmp_path):
    found = results(tmp_path / "s")
    assert found.metrics() == ["test_mse_last"]
    frame, table = found.frame(), found.table()
    assert set(frame["better"]) == {"lower"}
    mean = frame.groupby("method")["test_mse_last"].mean()
    assert table.loc["CrossEntropy", "mean"] == pytest.approx(mean["CrossEntropy"]), "no percent"
    assert mean["Half"] > mean["CrossEntropy"]
    gain = table.loc["Half", "gain"]
    assert gain == pytest.approx(mean["CrossEntropy"] - mean["Half"]) and gain < 0
    assert "mse" in found.export(tmp_path / "t.md").read_text().splitlines()[0]
    assert load(tmp_path / "s").table().shape == table.shape
    figure = found.plot()
    assert figure.axes[0].get_xlabel() == "gain over labels"


def test_a_metric_that_no_run_has_names_those_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"'test_accuracy_last'; there is \['test_mse_last'\]"):
        results(tmp_path / "s").table("test_accuracy_last")
