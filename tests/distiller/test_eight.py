"""The seam carries other kinds of distillers than the catalog's, none of them special-cased: each
trains, is measured, resumes bit for bit after a kill, runs in a grid by class, and in bf16."""

import functools
import math
import os

import pytest
import torch
from losses import Killed, images, small
from small import weights

from kdtutor import evaluate, fit
from kdtutor.ablation import Grid, run
from kdtutor.datasets import CropFlip
from kdtutor.runs import load_state
from tests.distiller import eight

CASES = {
    "exits": (eight.Exits, small, images),
    "rivals": (eight.Rivals, small, images),
    "runs on": (eight.RunsOn, small, images),
    "tokens": (eight.AttentionOfTokens, eight.Encoder, eight.tokens),
    "segmenter": (eight.PixelKD, eight.Segmenter, eight.parts),
    "detector": (eight.BoxKD, eight.Detector, eight.boxed),
    "generator": (eight.Imitates, small, eight.drawn),
    "follows": (eight.Follows, small, images),
}
# What the deployed network's column is called in a grid's frame; None: nothing is measured.
MEASURED = {
    "segmenter": "test_mean_iou_last",
    "detector": "test_average_precision_50_last",
    "tokens": None,
    "generator": None,
}
every = pytest.mark.parametrize("name", CASES)
SETTINGS = dict(batch_size=24, lr=0.02, progress=False)


@functools.cache
def data_of(name):
    return CASES[name][2]()


def made(name):
    kind, student, _ = CASES[name]
    return kind(eight.seeded(student))


@every
def test_it_learns_and_deploys_its_student(name):
    distiller = made(name)
    before = weights(distiller.student)
    history = fit(distiller, data_of(name), 3, **SETTINGS)
    assert len(history.rows) == 3 and all(math.isfinite(r["loss"]) for r in history.rows)
    assert distiller.deploy() is distiller.student
    assert not torch.equal(before, weights(distiller.student))


@every
def test_it_resumes_bit_for_bit_after_a_kill(name, tmp_path, monkeypatch):
    want = made(name)
    wanted = fit(want, data_of(name), 3, **SETTINGS)
    real, left = os.replace, 4

    def killing(*args):
        nonlocal left
        left -= 1
        real(*args)
        if not left:
            raise Killed

    monkeypatch.setattr(os, "replace", killing)
    with pytest.raises(Killed):
        fit(made(name), data_of(name), 3, run_dir=tmp_path, **SETTINGS)
    monkeypatch.setattr(os, "replace", real)
    assert 0 < load_state(tmp_path / "checkpoint.safetensors")["epoch"] < 3
    got = made(name)
    again = fit(got, data_of(name), 3, run_dir=tmp_path, **SETTINGS)
    assert torch.equal(weights(want), weights(got))
    plain = lambda rows: [{k: v for k, v in r.items() if k != "seconds"} for r in rows]
    assert plain(again.rows) == plain(wanted.rows)


@every
def test_it_runs_in_a_grid_by_class(name, tmp_path):
    kind, student, _ = CASES[name]
    grid = Grid(
        dataset=data_of(name), students=[student], methods=[kind], teacher=None, seeds=(0, 1),
        epochs=2, fit={"batch_size": 24, "lr": 0.02},
    )  # fmt: skip
    frame = run(grid, tmp_path, progress=False).frame()
    assert list(frame["status"]) == ["finished"] * 2, frame.get("reason")
    column = MEASURED.get(name, "test_accuracy_last")
    if column:
        assert frame[column].between(0, 1).all()
        assert list(run(grid, tmp_path, progress=False).table(baseline=kind.__name__)["seeds"]) == [
            2
        ]


@every
def test_it_runs_in_bf16(name):
    distiller = made(name)
    history = fit(distiller, data_of(name), 2, precision="bf16", **SETTINGS)
    assert all(math.isfinite(r["loss"]) for r in history.rows)
    assert {p.dtype for p in distiller.parameters()} == {torch.float32}


def test_exits_are_measured_each_under_its_name():
    history = fit(made("exits"), data_of("exits"), 4, **SETTINGS)
    columns = {"val_accuracy", "layer1.val_accuracy", "layer2.val_accuracy"}
    assert columns <= set(history.rows[-1])
    assert {"test_accuracy_last", "layer1.test_accuracy_last"} <= set(history.result)
    assert history.rows[-1]["layer1.ce"] < history.rows[0]["layer1.ce"]


def test_six_players_with_two_optimisers_for_each_peer_log_their_losses_and_rates():
    distiller = made("rivals")
    history = fit(distiller, data_of("rivals"), 4, **SETTINGS)
    row = history.rows[-1]
    names = ["net0", "forger0", "critic0", "net1", "forger1", "critic1"]
    assert {f"{n}.{what}" for n in names for what in ("loss", "lr")} <= set(row)
    assert row["forger0.lr"] == 1e-3, "constant, whatever the others' schedule"
    assert row["critic0.lr"] == pytest.approx(1e-3 * (1 - 15 / 16)), (
        "linear: the last of four steps in the last of four epochs"
    )
    assert row["net0.lr"] < 0.02 * 0.1, "the cosine of fit"
    assert 0 <= row["critic0.right"] <= 1 and {"val_accuracy", "net1.val_accuracy"} <= set(row)
    assert row["loss"] == pytest.approx(sum(row[f"{n}.loss"] for n in names), rel=1e-5)


def test_the_companion_of_a_network_that_runs_on_learns_too():
    distiller = made("runs on")
    before = weights(distiller.companion)
    lower = weights(distiller.student.layer1)
    history = fit(distiller, data_of("runs on"), 4, **SETTINGS)
    assert not torch.equal(before, weights(distiller.companion))
    assert not torch.equal(lower, weights(distiller.student.layer1))
    assert history.rows[-1]["mixed"] < history.rows[0]["mixed"]


def test_attention_of_tokens_without_labels_is_learned():
    history = fit(
        made("tokens"), data_of("tokens"), 8, optimizer=eight.adam, batch_size=16, progress=False
    )
    assert history.rows[-1]["attention"] < 0.9 * history.rows[0]["attention"]
    assert not [k for k in history.rows[-1] if k.startswith("val_")]


@pytest.mark.slow
def test_a_segmenter_sees_crops_and_flips_with_their_masks():
    def miou(augment):
        data = eight.parts(160, 64, augment)
        distiller = made("segmenter")
        fit(distiller, data, 20, batch_size=16, lr=0.1, validation=0, test=False, progress=False)
        return evaluate(distiller, data)

    plain, augmented = miou(None), miou(CropFlip(2))
    assert plain > 0.3 and abs(plain - augmented) <= 0.03, (plain, augmented)


@pytest.mark.slow
def test_a_detector_learns_boxes_that_were_padded():
    data = eight.boxed(augment=CropFlip(2))
    distiller = made("detector")
    history = fit(distiller, data, 20, batch_size=16, lr=0.02, validation=0, progress=False)
    assert history.rows[-1]["boxes"] < 0.6 * history.rows[0]["boxes"]
    assert 0 <= history.result["test_average_precision_50_last"] <= 1


def test_a_generator_takes_one_step_against_ten_of_the_students():
    distiller, steps = made("generator"), {"generator": 0, "student": 0}
    plan = distiller.stages()
    for player in plan[0].players:

        def counted(batch, ask=player.terms, name=player.name):
            steps[name] += 1
            return ask(batch)

        player.terms = counted
    distiller.stages = lambda: plan
    fit(distiller, data_of("generator"), 2, **SETTINGS)
    assert steps == {"generator": 8, "student": 80}, "two epochs of four batches"


def test_a_teacher_that_follows_keeps_its_statistics_and_is_measured():
    distiller = made("follows")
    before = {k: v.clone() for k, v in distiller.ema.state_dict().items()}
    history = fit(distiller, data_of("follows"), 2, **SETTINGS)
    after = distiller.ema.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in after if "running" in k)
    assert not torch.equal(before["fc.weight"], after["fc.weight"])
    assert "ema.val_accuracy" in history.rows[-1] and not distiller.ema.training
