"""Answers of a teacher that a grid stores: when, what is in them, and that they change nothing."""

import json
from dataclasses import replace

import pytest
import torch
from small import blobs

from kdtutor.ablation import Grid, Store, run
from kdtutor.ablation import teacher_cache as module
from kdtutor.ablation.results import forecast
from kdtutor.ablation.teacher_cache import fill, planned, teacher_of, with_logit_cache
from kdtutor.datasets import Flip
from kdtutor.methods import Hinton

DATA = blobs(n=120, augment=Flip())
GRID = dict(
    dataset=DATA,
    teacher="mlp24",
    students=["mlp8"],
    methods=["CrossEntropy", "Hinton", "RKD-D", "DKPP", "BAN+L"],
    seeds=(0, 1),
    epochs=3,
    fit={"batch_size": 30},
)
ASKS = {"Hinton", "DKPP", "BAN+L"}


def files(store):
    return sorted(p.name for p in store.glob("runs/*/logits-*"))


def losses(store):
    return {
        p.parent.name: [json.loads(row)["loss"] for row in p.read_text().splitlines()]
        for p in store.glob("runs/*/metrics.jsonl")
    }


def test_methods_that_ask_for_nothing_else():
    assert {c.label for c in Grid(**GRID).cells() if c.logits_only} == ASKS


class Mixed(Hinton):
    """Asks its teacher about pixels that are not the batch's."""


def test_a_class_of_ones_own_is_never_taken_for_one_that_does():
    assert not any(c.logits_only for c in Grid(**GRID | {"methods": [Mixed]}).cells())


def test_they_are_stored_where_that_pays():
    (plan,) = planned(Grid(**GRID).cells(), None)[1]
    assert (plan.runs, plan.asked, plan.views, plan.size, plan.stored) == (
        6,
        18,
        2,
        len(DATA.train) * 2 * 3 * 4,
        True,
    )
    assert str(plan).startswith(
        "teacher mlp24: 6 runs, 18 questions about each image, 2 views of it (2 KiB): its answers "
        "are stored once"
    )
    few = Grid(**GRID | dict(methods=["Hinton"], seeds=(0,), epochs=2))
    for wanted, stored in ((None, False), (True, True), (False, False)):
        cells, (plan,) = planned(few.cells(), wanted)
        assert plan.stored is stored and (cells[0].logit_cache is not None) is stored
    assert "computed as they are asked for" in str(planned(few.cells(), None)[1][0])
    numberless = DATA.augmented(lambda images: images)
    assert planned(Grid(**GRID | {"dataset": numberless}).cells(), True)[1] == [], (
        "views without numbers cannot be stored"
    )


def test_not_where_they_are_too_large(monkeypatch):
    monkeypatch.setattr(module, "MOST", 100)
    assert not planned(Grid(**GRID).cells(), None)[1][0].stored


def test_one_file_for_a_teacher_and_its_images_whatever_the_labels():
    grid = Grid(
        **GRID
        | dict(
            methods=["Hinton"],
            label_noise=(0, 0.4),
            imbalance=(None, 2.0),
            teacher_sees=("clean",),
            students=["mlp8", "mlp9"],
        )
    )
    cells, plans = planned(grid.cells(), None)
    assert len({c.logit_cache for c in cells}) == 2 and len(plans) == 2
    by = {(c.spec["label_noise"], c.spec["imbalance"]): c.logit_cache for c in cells}
    assert by[0, None] == by[0.4, None] != by[0, 2.0] == by[0.4, 2.0]
    half, _ = planned(replace(grid, fit={"precision": "bf16"}).cells(), None)
    assert not {c.logit_cache for c in half} & {c.logit_cache for c in cells}


@pytest.mark.slow
def test_they_change_nothing_and_the_teacher_rests(tmp_path, capsys):
    stored, _ = (
        run(Grid(**GRID), tmp_path / "cached"),
        run(Grid(**GRID, cache_logits=False), tmp_path / "computed", progress=False),
    )
    assert "its answers are stored once for all of them" in capsys.readouterr().out
    assert len(files(tmp_path / "cached")) == 1 and not files(tmp_path / "computed")
    a, b = losses(tmp_path / "cached"), losses(tmp_path / "computed")
    assert a.keys() == b.keys() and all(a[k] == pytest.approx(b[k], abs=1e-5) for k in a)
    told = stored.frame().set_index("method")["teacher_logits"]
    assert set(told[list(ASKS)]) == {"cached"} and set(told[["RKD-D", "CrossEntropy"]]) == {
        "computed"
    }
    cell = next(c for c in planned(Grid(**GRID).cells(), None)[0] if c.label == "Hinton")
    home, calls = Store(tmp_path / "cached"), []
    teacher = with_logit_cache(teacher_of(cell, home, cell.data()), cell, home)
    teacher.net.register_forward_hook(lambda *_: calls.append(1))
    for batch in DATA.batches(
        DATA.train, 30, augment=True, shuffle=torch.Generator().manual_seed(0)
    ):
        teacher(batch)
    assert not calls


@pytest.mark.slow
def test_they_are_computed_once(tmp_path):
    run(Grid(**GRID), tmp_path, progress=False)
    (file,) = tmp_path.glob("runs/*/logits-*")
    before = file.stat().st_mtime_ns
    more = run(Grid(**GRID | {"seeds": (0, 1, 2)}), tmp_path, progress=False)
    assert (more.frame()["status"] == "finished").all() and file.stat().st_mtime_ns == before


@pytest.mark.slow
def test_only_runs_that_are_left_count_but_what_is_there_is_used(tmp_path):
    few, more = (Grid(**GRID | dict(methods=["Hinton"], seeds=range(n), epochs=1)) for n in (2, 4))
    first = run(few, tmp_path, progress=False)  # 2 questions, 2 views
    assert set(first.frame()["teacher_logits"]) == {"computed"}
    home = Store(tmp_path)
    assert (
        planned(more.cells(), None)[1][0].stored
        and not planned(more.cells(), None, home)[1][0].stored
    )
    run(replace(few, cache_logits=True, seeds=(2,)), tmp_path, progress=False)
    assert planned(more.cells(), None, home)[1][0].stored
    assert run(more, tmp_path, progress=False).frame()["teacher_logits"].tolist() == [
        "computed",
        "computed",
        "cached",
        "cached",
    ]


@pytest.mark.slow
def test_what_cannot_be_filled_is_computed(tmp_path, capsys, monkeypatch):
    def fails(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr("kdtutor.ablation.runner.fill", fails)
    frame = run(Grid(**GRID | {"methods": ["Hinton"]}), tmp_path).frame()
    assert "not stored (no memory)" in capsys.readouterr().out
    assert set(frame["status"]) == {"finished"} and set(frame["teacher_logits"]) == {"computed"}


@pytest.mark.slow
def test_a_stopped_filling_leaves_nothing_and_goes_on_later(tmp_path):
    cell = next(c for c in planned(Grid(**GRID).cells(), None)[0] if c.logit_cache)
    run(
        Grid(**GRID | {"methods": ["CrossEntropy", "RKD-D"]}), tmp_path, progress=False
    )  # trains the teacher
    Store(tmp_path).stop()
    fill(cell, str(tmp_path))
    assert not files(tmp_path)
    results = run(Grid(**GRID), tmp_path, progress=False)
    assert files(tmp_path) and (results.frame()["status"] == "finished").all()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut off", "a flipped bit"])
def test_a_damaged_file_is_a_row_with_what_to_do(tmp_path, damage):
    run(Grid(**GRID | {"seeds": (0,)}), tmp_path, progress=False)
    (file,) = tmp_path.glob("runs/*/logits-*")
    content = bytearray(file.read_bytes())
    content[-5] ^= 0x40
    file.write_bytes(content if damage == "a flipped bit" else content[:40])
    frame = run(Grid(**GRID), tmp_path, progress=False).frame()
    bad = frame[frame["status"] == "failed"]
    assert (
        set(bad["method"]) == ASKS
        and set(bad["seed"]) == {1}
        and bad["reason"].str.contains("Delete it").all()
    )
    file.unlink()
    again = run(Grid(**GRID), tmp_path, progress=False, retry=True).frame()
    assert (again["status"] == "finished").all()


def test_the_forecast_tells_of_them(tmp_path):
    assert "its answers are stored once" in forecast(
        Grid(**GRID | {"methods": ["Hinton"]}), tmp_path
    )
