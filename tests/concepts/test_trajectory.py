"""Concepts over training: the weights' way logged by fit, checkpoints, maps at each of them, the
six metrics at the end.
"""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from small import TwoStage, blobs, net, weights
from torch import nn

from kdtutor import fit
from kdtutor.concepts import (
    Trajectory,
    checkpoints,
    concept_metrics,
    entropy_map,
    first_order_map,
    trajectory,
    weight_distance,
)
from kdtutor.methods import CrossEntropy
from kdtutor.runs import load_state, save_weights
from kdtutor.training.history import History
from kdtutor.training.weight_path import WeightPath

BATCH = 32
COLUMNS = ["weight_norm", "moved", "moved_by_steps"]


class Spying(CrossEntropy):
    """Notes the weights that each step begins with, and ends the training where it is told to."""

    def __init__(self, student, stop_at=None):
        super().__init__(student)
        self._seen, self._stop_at = [], stop_at  # underscored: no settings of the run

    def terms(self, batch):
        self._seen.append(
            {k: v.detach().clone().double().numpy() for k, v in self.student.named_parameters()}
        )
        if len(self._seen) == self._stop_at:
            raise KeyboardInterrupt
        return super().terms(batch)


def trained(run_dir=None, epochs=4, path="fc1", stop_at=None, **kw):
    spy = Spying(net(1), stop_at)
    snapshots = [0, 1, 3, epochs] if run_dir else ()
    history = fit(
        spy,
        blobs(),
        epochs,
        batch_size=BATCH,
        validation=0,
        test=False,
        run_dir=run_dir,
        snapshots=snapshots,
        weight_path=path,
        progress=False,
        **kw,
    )
    return spy, history


def columns(history):
    return [[row[c] for c in COLUMNS] for row in history.rows]


def way(seen, last, names, epochs):
    """By hand: the columns of each epoch, from the weights at every step."""
    vectors = [np.concatenate([w[n].ravel() for n in names]) for w in [*seen, last]]
    per, rows = (len(vectors) - 1) // epochs, []
    for e in range(epochs):
        mine = vectors[e * per : (e + 1) * per + 1]
        steps = [np.linalg.norm(b - a) for a, b in itertools.pairwise(mine)]
        rows.append([np.linalg.norm(mine[0]), np.linalg.norm(mine[-1] - mine[0]), sum(steps)])
    return rows


def now(module):
    return {k: v.detach().double().numpy() for k, v in module.named_parameters()}


# ---- the way of the weights


@pytest.mark.parametrize(
    "path, names",
    [("fc1", ["fc1.weight"]), ("fc", ["fc.weight"]), ("", ["fc1.weight", "fc.weight"])],
)
def test_fit_logs_the_way_of_a_layers_weights_without_biases(path, names):
    spy, history = trained(path=path)
    want = way(spy._seen, now(spy.student), names, 4)
    assert len(spy._seen) == 4 * (180 // BATCH) and np.allclose(columns(history), want, rtol=1e-4)
    assert all(steps > epoch for _, epoch, steps in columns(history))
    start = want[0][0]
    sums = np.cumsum([[0, 0], *[[row[1] / start, row[2] / start] for row in want]], axis=0)
    for column, variant in enumerate(("paper", "code")):
        assert np.allclose(
            weight_distance(history, [0, 1, 3, 4], variant), sums[[0, 1, 3, 4], column], rtol=1e-4
        )
    assert weight_distance(history, range(5)) == weight_distance(history, [0, 1, 2, 3, 4], "paper")


def test_logging_the_way_changes_nothing_else():
    spy, history = trained()
    plain = Spying(net(1))
    rest = fit(plain, blobs(), 4, batch_size=BATCH, validation=0, test=False, progress=False)
    assert torch.equal(weights(plain.student), weights(spy.student))
    assert (
        not set(COLUMNS) & set(rest.rows[0])
        and "weight_path" not in rest.spec
        and history.spec["weight_path"] == "fc1"
    )
    assert [r["loss"] for r in rest.rows] == [r["loss"] for r in history.rows]


@pytest.mark.parametrize("stop_at", [1, 3, 6, 12, 20])
def test_the_way_is_the_same_when_the_run_was_interrupted_and_continued(tmp_path, stop_at):
    whole = trained()[1]
    _, stopped = trained(tmp_path, stop_at=stop_at)
    assert stopped.status == "interrupted" and len(stopped.rows) == (stop_at - 1) // 5
    _, history = trained(tmp_path)
    assert history.status == "finished" and columns(history) == columns(whole)
    assert trained(tmp_path)[1].rows == history.rows  # a finished run is read
    assert weight_distance(history, [4], "code") == weight_distance(whole, [4], "code")


def test_stages_and_several_players_are_one_way():
    student = net(1, dropout=0.2)
    distiller, start = TwoStage(student, net(2, hidden=(24,)), "relu1"), now(student)["fc1.weight"]
    history = fit(
        distiller, blobs(), 3, validation=0, test=False, weight_path="fc1", progress=False
    )
    assert history.rows[0]["weight_norm"] == pytest.approx(np.linalg.norm(start), rel=1e-5)
    assert [r["stage"] for r in history.rows] == ["hint", "labels", "labels"] and all(
        r["moved"] > 0 for r in history.rows
    )
    assert weight_distance(history, [3])[0] >= np.linalg.norm(
        now(student)["fc1.weight"] - start
    ) / np.linalg.norm(start)


def test_a_way_of_known_steps():
    module = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    module[0].weight.data = torch.tensor([[3.0, 4.0]])
    path = WeightPath(module, "0")
    path.begin()
    for step in ([1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]):
        module[0].weight.data += torch.tensor([step])
        module[0].bias.data += 10
        path.step()
    assert path.row() == {"weight_norm": 5.0, "moved": 2.0, "moved_by_steps": 4.0}
    path.begin()
    assert path.row() == {
        "weight_norm": pytest.approx(math.sqrt(9 + 36)),
        "moved": 0.0,
        "moved_by_steps": 0.0,
    }


def test_layers_without_a_way_are_refused():
    with pytest.raises(ValueError, match="unknown layer path.*'fc2'.*Did you mean.*'fc1'"):
        trained(path="fc2")
    with pytest.raises(ValueError, match="'relu1' has no weights whose path"):
        trained(path="relu1")
    with pytest.raises(ValueError, match="'1' has no weights"):
        WeightPath(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "1")


def test_another_layer_is_another_run(tmp_path):
    trained(tmp_path)
    with pytest.raises(ValueError, match="weight_path: 'fc1' there, 'fc' now"):
        trained(tmp_path, path="fc")


def test_weight_distance_refuses_what_it_cannot_know():
    history = trained()[1]
    for epochs in ([0, 5], [-1, 2]):
        with pytest.raises(ValueError, match=r"4 were trained"):
            weight_distance(history, epochs)
    with pytest.raises(ValueError, match="variant"):
        weight_distance(history, [1], "steps")
    for empty in (History(rows=[{"epoch": 1, "loss": 1.0}]), History()):
        with pytest.raises(ValueError, match="weight_path='layer'"):
            weight_distance(empty, [0])


# ---- checkpoints and trajectories


def test_checkpoints_are_found_in_the_order_of_epochs(tmp_path):
    spy, history = trained(tmp_path / "run")
    found = checkpoints(tmp_path / "run")
    assert list(found) == [0, 1, 3, 4]
    states = {e: load_state(f)["weights"] for e, f in found.items()}
    fc1 = {e: s["fc1.weight"].double() for e, s in states.items()}
    assert torch.equal(states[4]["fc1.weight"], spy.student.fc1.weight) and torch.equal(
        states[0]["fc1.weight"], net(1).fc1.weight
    )
    assert (fc1[1] - fc1[0]).norm().item() == pytest.approx(history.rows[0]["moved"], rel=1e-4)
    assert (fc1[4] - fc1[3]).norm().item() == pytest.approx(history.rows[3]["moved"], rel=1e-4)
    for name in ("epoch_0010", "epoch_20000", "epoch_0002", "epoch_x", "student"):
        (tmp_path / f"{name}.safetensors").touch()
    assert (
        list(checkpoints(tmp_path)) == [2, 10, 20000]
        and checkpoints(str(tmp_path))[10].name == "epoch_0010.safetensors"
    )
    for nothing in (tmp_path / "absent", tmp_path / "run" / ".." / "none"):
        with pytest.raises(ValueError, match=r"holds no weights of epochs.*snapshots=\[0"):
            checkpoints(nothing)


@pytest.mark.parametrize("make", [entropy_map, first_order_map])
def test_a_trajectory_is_the_maps_of_each_checkpoints_network(tmp_path, make):
    trained(tmp_path)
    x, mine = torch.randn(3, 1, 4, 4), net(7)
    before = weights(mine)
    kw = dict(grid=2, target=-2.9) | (dict(noise=16) if make is entropy_map else {})
    course = trajectory(mine, tmp_path, x, "relu1", make=make, progress=False, **kw)
    assert (
        isinstance(course, Trajectory) and course.epochs == [0, 1, 3, 4] and len(course.maps) == 4
    )
    assert torch.equal(weights(mine), before) and mine.training
    for epoch, maps in zip(course.epochs, course.maps):
        own = net(8)
        own.load_state_dict(load_state(checkpoints(tmp_path)[epoch])["weights"])
        assert torch.equal(maps.sigma, make(own, x, "relu1", **kw).sigma) and maps.layer == "relu1"
    assert course.entropy().shape == (4, 3, 2, 2) and torch.equal(
        course.entropy()[2], course.maps[2].entropy
    )
    assert not torch.equal(course.maps[0].sigma, course.maps[3].sigma)


def test_weights_may_be_files_state_dicts_or_functions_in_any_order(tmp_path):
    nets, x = [net(s) for s in range(3)], torch.randn(2, 1, 4, 4)
    save_weights(nets[0], tmp_path / "a.safetensors")
    course = trajectory(
        net(9),
        {20: lambda: nets[2].state_dict(), 5: nets[1].state_dict(), 0: tmp_path / "a.safetensors"},
        x,
        "fc1",
        make=first_order_map,
        grid=2,
        progress=False,
    )
    assert course.epochs == [0, 5, 20]
    for own, maps in zip(nets, course.maps):
        assert torch.equal(maps.sigma, first_order_map(own, x, "fc1", 2).sigma)


def test_weights_of_another_architecture_are_named(tmp_path):
    x, mine, other = torch.randn(2, 1, 4, 4), net(1), net(1, hidden=(9,))
    save_weights(other, tmp_path / "epoch_0003.safetensors")
    before = copy.deepcopy(mine.state_dict())
    with pytest.raises(ValueError, match="epoch 7 belong to another architecture"):
        trajectory(
            mine, {7: other.state_dict()}, x, "fc1", make=first_order_map, grid=2, progress=False
        )
    with pytest.raises(ValueError, match="epoch_0003.*another architecture"):
        trajectory(mine, tmp_path, x, "fc1", make=first_order_map, grid=2, progress=False)
    assert all(torch.equal(before[k], v) for k, v in mine.state_dict().items())
    with pytest.raises(ValueError, match="holds no weights"):
        trajectory(mine, tmp_path / "none", x, "fc1", progress=False)


def test_from_training_to_the_six_metrics(tmp_path):
    data = blobs(side=8)
    student = net(1, side=8)
    history = fit(
        CrossEntropy(student),
        data,
        3,
        run_dir=tmp_path,
        snapshots=[0, 1, 2, 3],
        weight_path="fc1",
        progress=False,
    )
    x = data.normalised(data.test.x[:6])
    course = trajectory(student, tmp_path, x, "relu1", grid=8, make=first_order_map, progress=False)
    masks = torch.zeros(6, 8, 8)
    masks[:, 2:6, 2:6] = 1
    distance = weight_distance(history, course.epochs)
    report = concept_metrics(course.maps, masks, epochs=course.epochs, distance=distance)
    assert (
        report.epochs()["epoch"].tolist() == [0, 1, 2, 3]
        and report.n_fg > 0
        and 0 < report.rho <= 1
    )
    assert (
        distance[0] == 0
        and distance[1] <= report.d_mean <= distance[3]
        and report.per_image["epoch"].min() >= 1
    )
    direct = concept_metrics(course.entropy(), masks, epochs=course.epochs, distance=distance)
    assert direct.values == pytest.approx(report.values)
