"""The ablation bench: what a grid is made of, what it refuses, what a store holds, what the tables
say.
"""

import copy
import functools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from small import blobs, net
from torch import nn
from torch.nn import functional as F

import kdtutor
from kdtutor.ablation import Grid, MethodChoice, Store, load, read_grid, run, status, sweep
from kdtutor.ablation.choice import network
from kdtutor.ablation.results import gain_interval, typeset
from kdtutor.ablation.runner import run_cell
from kdtutor.datasets import Flip
from kdtutor.methods import RKD, Composition, CrossEntropy, Distiller, Hinton
from kdtutor.teacher import Teacher
from kdtutor.training import evaluate, fit

DATA = blobs(n=120)
SMALL = dict(
    dataset=DATA,
    teacher="mlp24",
    students=["mlp8"],
    methods=["CrossEntropy", "Hinton"],
    seeds=(0, 1),
    epochs=2,
    fit={"batch_size": 30},
)


class Mine(Distiller):
    """A method of a user's own."""

    def __init__(self, student, factor=1.0):
        super().__init__(student)
        self.factor = factor

    def terms(self, batch):
        return {"ce": self.factor * F.cross_entropy(self.student(batch.x), batch.y)}


class Fails(Mine):
    def terms(self, batch):
        raise RuntimeError("on purpose")


class Diverges(Mine):
    def terms(self, batch):
        return {"ce": super().terms(batch)["ce"] * float("nan")}


class Hungry(Mine):
    def terms(self, batch):
        return {"ce": torch.empty(2**45).sum()}


# --- choices


@pytest.mark.parametrize(
    "same",
    [
        (
            "RKD",
            "RKD-DA",
            RKD,
            "RKD()",
            functools.partial(RKD),
            functools.partial(RKD, distance_weight=25.0),
        ),
        ("SP", "SimilarityPreserving", "sp"),
        ("RKD-D", "RKD(angle_weight=0.0)"),
    ],
)
def test_equal_methods_are_equal_whatever_they_are_called(same):
    assert len({json.dumps(MethodChoice.of(m).plain()) for m in same}) == 1


def test_different_settings_are_different_methods():
    many = [
        "RKD",
        "RKD-D",
        "RKD(distance_weight=10)",
        *sweep("Hinton", temperature=[1, 8]),
        "Hinton",
        "AT+Hinton",
        "AT",
        "BAN",
        "BAN+L",
        Mine,
        functools.partial(Mine, factor=2.0),
        Fails,
    ]
    assert len({json.dumps(MethodChoice.of(m).plain()) for m in many}) == len(many)
    assert MethodChoice.of("BAN+L").label == "BAN+L" and len(MethodChoice.of("BAN+L").parts) == 1
    assert sweep(RKD, angle_weight=[1.0]) == ["RKD(angle_weight=1.0)"]


def test_methods_are_built_with_their_settings():
    make = lambda member: net(member)
    teacher = Hinton(net(5), net(6)).teacher
    assert MethodChoice.of("Hinton(temperature=8)").build(make, teacher).temperature == 8
    both = MethodChoice.of("SP(sp_weight=2) + Hinton").build(
        lambda m: _resnet(m), _as_teacher(_resnet(9))
    )
    assert isinstance(both, Composition) and both.methods["SP"].sp_weight == 2
    assert len(MethodChoice.of("DML(peers=3)").build(make, None).peers) == 3
    assert MethodChoice.of(functools.partial(Mine, factor=3.0)).build(make, None).factor == 3


def _resnet(seed):
    from losses import small

    return small(seed)


def _as_teacher(network):
    from kdtutor import Teacher

    return Teacher(network)


@pytest.mark.parametrize(
    "choice, words",
    [
        ("Hintn", "'Hinton'"),
        ("Hinton(temperature=)", "cannot be read"),
        ("Hinton(4)", "by name"),
        ("Hinton(temperature=x)", "cannot be read"),
        (3, "no method"),
        (nn.Linear, "no method"),
        ("SP + Hintn", "'Hinton'"),
    ],
)
def test_what_is_no_method_is_refused(choice, words):
    with pytest.raises(ValueError, match=words):
        MethodChoice.of(choice)


# --- grids


def test_a_grid_is_every_combination_once():
    grid = Grid(
        **SMALL
        | dict(
            label_noise=[0, 0.4],
            methods=["CrossEntropy", "Hinton", "RKD(layers='relu1')", "Hinton"],
        )
    )
    cells = grid.cells()
    assert len(cells) == 2 * 3 * 2 and len({c.key for c in cells}) == len(cells)
    assert len(grid.teachers()) == 2 and json.loads(json.dumps([c.spec for c in cells])) == [
        c.spec for c in cells
    ]
    assert {c.teacher is None for c in cells if c.label == "CrossEntropy"} == {True}
    assert [c.key for c in grid.cells()] == [c.key for c in cells], (
        "the same grid has the same keys"
    )


def test_what_a_teacher_sees():
    grid = Grid(**SMALL | dict(label_noise=[0.4], teacher_sees=["same", "clean"]))
    assert {c.teacher.spec["label_noise"] for c in grid.cells() if c.teacher} == {0.4, 0.0}
    assert len(grid.cells()) == 2 + 2 * 2, "labels alone need no teacher: those runs are the same"


def test_keys_follow_what_decides_a_run():
    keys = [
        Grid(**SMALL | change).cells()[0].key
        for change in (
            {},
            dict(epochs=3),
            dict(fit={"lr": 0.01}),
            dict(dataset=blobs(n=120, seed=1)),
            dict(students=["mlp9"]),
            dict(images=60),
            dict(corruption_seed=1, label_noise=[0.1]),
            dict(threads=2),
            dict(students=[functools.partial(net, hidden=(8,))]),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert Grid(**SMALL | dict(seeds=(1, 0), methods=["CrossEntropy"])).cells()[1].key == keys[0]


def test_students_of_one_seed_start_alike_whatever_the_method():
    cells = [c for c in Grid(**SMALL).cells() if c.spec["seed"] == 1]
    first, second = (
        c.distiller(DATA, _as_teacher(net(3)) if c.teacher else None).student for c in cells
    )
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values())
    )


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(seeds=[]), "seeds is empty"),
        (dict(methods=[]), "methods is empty"),
        (dict(students=[]), "students is empty"),
        (dict(seeds=[0, 1, 0]), r"\[0\] occur twice"),
        (dict(students="resnet8"), r"expected a list, such as \['resnet8'\]"),
        (dict(methods=["Hintn"]), "'Hinton'"),
        (dict(teacher=None), "Hinton learn from a teacher"),
        (dict(teacher_sees=["noisy"]), "'same'"),
        (dict(fit={"learning_rate": 1}), "learning_rate"),
        (dict(epochs=0), "epochs=0"),
        (dict(threads=0), "threads=0"),
    ],
)
def test_what_cannot_be_a_grid_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Grid(**SMALL | change)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(students=["resnet8", "resnot8"]), "resnot8"),
        (dict(teacher="resnot"), "resnot"),
        (dict(methods=["SP"]), "SP with student 'mlp8'"),
        (dict(methods=["Hinton(temperatur=3)"]), "'temperature'"),
        (dict(label_noise=[1.5]), "1.5"),
        (dict(imbalance=[-1.0]), "-1"),
        (dict(methods=["FitNet(layers=[('1', 'nowhere')])"]), "nowhere"),
    ],
)
def test_what_cannot_run_is_found_before_anything_runs(change, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        run(Grid(**SMALL | change), tmp_path / "s", progress=False)
    assert not list((tmp_path / "s").glob("runs/*"))


def test_grids_in_files(tmp_path):
    file = tmp_path / "g.toml"
    text = (
        'dataset = "digits"\nteacher = "resnet14"\nstudents = ["resnet8"]\nmethods = ["SP"]\nseeds '
        "= [0]\n"
        'imbalance = ["none", 2.0]\n[fit]\nlr = 0.1\n'
    )
    file.write_text(text)
    grid = read_grid(file)
    assert (
        grid.imbalance == (None, 2.0) and grid.fit == {"lr": 0.1} and grid.methods[0].label == "SP"
    )
    for wrong, words in (
        (text.replace("seeds", "seed"), "line 5.*'seed'.*'seeds'"),
        (text.replace("[0]", "[]"), "line 5.*seeds is empty"),
        (text.replace("[0]", "0"), "line 5.*expected a list"),
        (text.replace("= 0.1", "="), "line 8"),
        (text.replace("lr", "rate"), "line 7.*rate"),
    ):
        file.write_text(wrong)
        with pytest.raises(ValueError, match="(?s)g.toml.*" + words):
            read_grid(file)


# --- runs and stores


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s"
    grid = Grid(
        **SMALL
        | dict(methods=["CrossEntropy", "Hinton", Mine], seeds=(0, 1, 2), label_noise=[0, 0.5])
    )
    return grid, path, run(grid, path, progress=False)


def test_equal_runs_are_never_done_twice(finished, monkeypatch):
    grid, path, results = finished
    from kdtutor.ablation import runner

    monkeypatch.setattr(
        runner, "fit", lambda *a, **k: pytest.fail("a finished run was trained again")
    )
    assert run(grid, path, progress=False).frame().equals(results.frame())
    wider = run(Grid(**SMALL | dict(seeds=(2, 1))), path, progress=False)
    assert set(wider.frame()["status"]) == {"finished"}


def test_a_run_holds_all_that_is_needed_to_repeat_it(finished):
    grid, path, results = finished
    frame = results.frame()
    assert (
        len(frame) == 18
        and set(frame["status"]) == {"finished"}
        and frame["test_accuracy_last"].between(0, 1).all()
    )
    taught = frame[frame["method"] == "Hinton"]
    assert (
        taught["teacher_accuracy"].notna().all()
        and set(taught["teacher_sees"]) == {"same"}
        and taught["seconds"].gt(0).all()
    )
    folder = path / "runs" / taught["key"].iloc[0]
    spec = json.loads((folder / "spec.json").read_text())
    assert (
        {"torch", "device", "kdtutor"} <= set(spec["versions"])
        and spec["teachers"]
        and spec["seed"] == 0
    )
    assert (folder / "student.safetensors").exists() and len(
        (folder / "metrics.jsonl").read_text().splitlines()
    ) == 2
    assert len(load(path).frame()) == 18, "teachers are no rows"


def test_the_same_grid_gives_the_same_numbers_elsewhere(finished, tmp_path):
    grid, path, results = finished
    again = run(grid, tmp_path / "t", progress=False).frame()
    same = results.frame()
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), same.drop(columns="seconds"))


@pytest.mark.parametrize(
    "method, state, words",
    [
        (Fails, "failed", "on purpose"),
        (Diverges, "diverged", "NaN"),
        (Hungry, "out of memory", "memory"),
    ],
)
def test_a_run_that_fails_is_a_row_and_stops_nobody(tmp_path, method, state, words):
    results = run(
        Grid(**SMALL | dict(methods=[method, "CrossEntropy"], seeds=(0,))),
        tmp_path / "s",
        progress=False,
    )
    bad, good = (
        results.frame().set_index("method").loc[m] for m in (method.__name__, "CrossEntropy")
    )
    assert bad["status"] == state and words in bad["reason"] and good["status"] == "finished"
    assert words in status(results) and ("Traceback" in bad["traceback"] or state == "diverged")
    table = results.table()
    assert (
        table.loc[method.__name__, "seeds"] == 0 and table.loc[method.__name__, "unfinished"] == 1
    )


def test_failed_runs_are_kept_until_one_asks_for_them_again(tmp_path, monkeypatch):
    def out_of_order(*args):
        raise RuntimeError("on purpose")

    grid = Grid(**SMALL | dict(methods=[Mine], seeds=(0,)))
    monkeypatch.setattr(F, "cross_entropy", out_of_order)  # mended later; the method is the same
    run(grid, tmp_path / "s", progress=False)
    monkeypatch.undo()
    assert run(grid, tmp_path / "s", progress=False).frame()["status"].tolist() == ["failed"]
    assert run(grid, tmp_path / "s", progress=False, retry=True).frame()["status"].tolist() == [
        "finished"
    ]
    assert not list(tmp_path.glob("s/runs/*/failure.json"))


def test_a_failed_teacher_is_the_reason_of_its_students(tmp_path, monkeypatch):
    from kdtutor.methods import CrossEntropy

    monkeypatch.setattr(CrossEntropy, "terms", Fails.terms)
    frame = run(
        Grid(**SMALL | dict(methods=["Hinton"], seeds=(0,))), tmp_path / "s", progress=False
    ).frame()
    assert (
        frame["status"].tolist() == ["failed"]
        and "its teacher" in frame["reason"][0]
        and "on purpose" in frame["reason"][0]
    )


def test_stop_ends_a_grid_within_one_epoch_and_it_goes_on_later(tmp_path, finished):
    grid = Grid(**SMALL | dict(epochs=6))
    home = Store(tmp_path / "s")
    epochs = []

    class Stops(Mine):
        def terms(self, batch):
            epochs.append(1)
            if len(epochs) == 5:
                home.stop()
            return super().terms(batch)

    grid = Grid(**SMALL | dict(methods=[Stops], epochs=6, seeds=(0,)))
    frame = run(grid, home.path, progress=False).frame()
    assert frame["status"].tolist() == ["pending"] and len(epochs) <= 2 * 3
    assert run(grid, home.path, progress=False).frame()["status"].tolist() == ["finished"]
    assert len(epochs) == 6 * 2, "nothing finished is done again"


def test_a_store_of_another_version_is_refused(tmp_path):
    (tmp_path / "store.json").write_text('{"format": 0}')
    with pytest.raises(ValueError, match="format 0"):
        Store(tmp_path)
    with pytest.raises(FileNotFoundError, match="no store"):
        load(tmp_path / "nowhere")


# --- results


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [-3.0, 0.5], [0.1] * 5])
def test_the_interval_of_a_gain_is_the_t_interval(values):
    low, high = gain_interval(values, 0.9)
    if np.std(values) > 0:
        assert (low, high) == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.9))
    assert np.isnan(gain_interval([1.0])).all()


def test_the_table_pairs_by_seed(finished):
    _, _, results = finished
    frame, table = results.frame(), results.table()
    assert table.index.names == ["label_noise", "method"] and table["seeds"].tolist() == [3] * 6
    value = frame.pivot(
        index=["label_noise", "seed"], columns="method", values="test_accuracy_last"
    )
    gains = 100 * (value["Hinton"] - value["CrossEntropy"]).loc[0.5]
    row = table.loc[(0.5, "Hinton")]
    assert row["gain"] == pytest.approx(gains.mean()) and (
        row["low"],
        row["high"],
    ) == pytest.approx(gain_interval(gains))
    assert row["clear"] == (row["low"] > 0 or row["high"] < 0) and np.isnan(
        table.loc[(0.5, "CrossEntropy"), "gain"]
    )
    with pytest.raises(ValueError, match="'test_accuracy_last'"):
        results.table("accuracy")


def test_a_method_of_a_notebook_is_known_by_what_it_does():
    def define(body, before=""):
        names = {"Mine": Mine, "__name__": "__main__"}
        exec(
            f"{before}class Own(Mine):\n    rate = 0.5\n"
            f"    def terms(self, batch):\n        {body}",
            names,
        )  # as a cell does: no file
        return MethodChoice.of(names["Own"]).plain()

    same = define("return {'a': 1 * self.rate}")
    assert define("return {'a': 1 * self.rate}", before="\n\n# further down\n") == same
    for other in (
        "return {'a': 2 * self.rate}",
        "return {'b': 1 * self.rate}",
        "return {'a': 1 * self.factor}",
        "return {'a': 1 + self.rate}",
        "return {k: 1 for k in 'a'}",
    ):
        assert define(other) != same
    assert define("return {k: 1 for k in 'a'}") != define("return {k: 2 for k in 'a'}"), (
        "code inside code counts"
    )


def test_a_teacher_that_is_a_student_too_stays_in_the_table(tmp_path):
    grid = Grid(**SMALL | dict(students=["mlp24", "mlp8"], seeds=(0, 1)))
    here = run(grid, tmp_path, progress=False)
    assert grid.teachers()[0].key in {c.key for c in grid.cells()}
    there = load(tmp_path)
    assert set(there.frame()["key"]) == {c.key for c in grid.cells()}
    pd.testing.assert_frame_equal(there.table().sort_index(), here.table().sort_index())


def test_runs_of_other_grids_in_a_store_are_other_rows(tmp_path):
    run(Grid(**SMALL), tmp_path, progress=False)
    run(Grid(**SMALL | {"teacher": "mlp30"}), tmp_path, progress=False)
    run(Grid(**SMALL | {"epochs": 3}), tmp_path, progress=False)
    table = load(tmp_path).table().reset_index()
    hinton = table[table["method"] == "Hinton"]
    assert sorted(zip(hinton["epochs"], hinton["teacher_net"].str[:5], hinton["pairs"])) == [
        ("2", "mlp24", 2),
        ("2", "mlp30", 2),
        ("3", "mlp24", 2),
    ]


def test_a_baseline_with_a_teacher_is_paired_by_teacher(tmp_path):
    grid = Grid(
        **SMALL
        | dict(label_noise=[0.4], teacher_sees=["same", "clean"], methods=["Hinton", "DKPP"])
    )
    results = run(grid, tmp_path, progress=False)
    table = results.table(baseline="Hinton").reset_index()
    frame = results.frame().set_index(["method", "teacher_sees", "seed"])["test_accuracy_last"]
    for _, row in table[table["method"] == "DKPP"].iterrows():
        gain = (
            100 * (frame["DKPP", row["teacher_sees"]] - frame["Hinton", row["teacher_sees"]]).mean()
        )
        assert row["gain"] == pytest.approx(gain) and row["pairs"] == 2


def test_a_table_calls_methods_as_its_grid_does(tmp_path):
    run(Grid(**SMALL), tmp_path, progress=False)
    more = run(
        Grid(**SMALL | dict(methods=["crossentropy", "Hinton(temperature=4)"], seeds=(0, 1, 2))),
        tmp_path,
        progress=False,
    )
    assert (
        more.table()["seeds"].to_dict() == {"CrossEntropy": 3, "Hinton(temperature=4)": 3}
        and more.table()["gain"].notna().sum() == 1
    )


def test_pairs_are_counted_as_pairs(tmp_path):
    results = run(Grid(**SMALL | {"seeds": (0, 1, 2)}), tmp_path, progress=False)
    base = next(c for c in results.cells if c.label == "CrossEntropy")
    (results.store.folder(base.key) / "result.json").unlink()
    with results.store.turn(base, wait=False):
        results.store.fail(base, "diverged", "on purpose")
    table = results.table()
    assert (
        table.loc["Hinton", ["seeds", "pairs"]].tolist() == [3, 2]
        and table.loc["CrossEntropy", "unfinished"] == 1
    )
    assert any(
        "2 seeds" in t.get_text() for legend in results.plot().legends for t in [legend.get_title()]
    )


def test_a_store_tells_of_what_is_still_to_do(tmp_path):
    Store(tmp_path).remember(Grid(**SMALL).cells())
    assert status(load(tmp_path)).split() == ["4", "pending"]


def key(**changes):
    return Grid(**SMALL | dict(methods=["CrossEntropy"], seeds=(0,)) | changes).cells()[0].key


def test_whatever_training_sees_is_in_the_key():
    keys = [
        key(),
        key(dataset=DATA.augmented(Flip())),
        key(dataset=replace(DATA, mean=(0.5,), std=(0.2,))),
        key(dataset=DATA.augmented(lambda x: x.flip(-1))),
        key(dataset=DATA.augmented(lambda x: x.flip(-2))),
    ]
    flipped = replace(DATA, train=replace(DATA.train, y=DATA.train.y.flip(0)))
    assert len({*keys, key(dataset=flipped)}) == 6 and key(dataset=replace(DATA)) == keys[0]


def test_images_of_another_folder_are_another_key(tmp_path):
    from PIL import Image

    for root, value in (("a", 10), ("b", 20)):
        for part in ("train", "test"):
            for kind in ("x", "y"):
                (tmp_path / root / "pets" / part / kind).mkdir(parents=True)
                for i in range(3):
                    Image.new("L", (8, 8), value + i).save(
                        tmp_path / root / "pets" / part / kind / f"{i}.png"
                    )
    assert key(dataset="pets", root=tmp_path / "a") != key(dataset="pets", root=tmp_path / "b")


def test_a_changed_network_or_base_class_is_another_key():
    def network(change):
        names = {"nn": nn, "__name__": "__main__"}
        exec(
            f"class Own(nn.Sequential):\n    def forward(self, x):\n        return {change} * "
            "super().forward(x)\n",
            names,
        )
        return lambda: names["Own"](nn.Flatten(), nn.Linear(16, 3))

    first, again, other = (key(students=[network(c)]) for c in (1, 1, 2))
    assert first == again != other

    def method(default, base):
        names = {"Mine": Mine, "__name__": "__main__"}
        exec(
            f"class Base(Mine):\n    rate = {base}\nclass Own(Base):\n    def __init__(self, "
            f"student, factor={default}):\n        pass\n",
            names,
        )
        return MethodChoice.of(names["Own"]).plain()

    assert method(1, 1) == method(1, 1) != method(2, 1) and method(1, 1) != method(1, 2)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"epochs": 2.5}, "epochs=2.5: expected a whole number"),
        ({"epochs": "10"}, "epochs='10'"),
        ({"images": 0}, "images=0"),
        ({"seeds": [0, 0.5]}, r"seeds=\[0.5\]: expected whole"),
        ({"seeds": ["a"]}, "expected whole"),
        ({"threads": True}, "threads=True"),
        ({"fit": {"precision": "fp16"}}, "precision='fp16'.*bf16"),
        ({"fit": {"lr": "x"}}, "lr='x'"),
        ({"fit": {"lr": float("nan")}}, "lr=nan"),
        ({"methods": ["FitNet(layers='relu1')"], "epochs": 1}, "2 stages and needs as many epochs"),
    ],
)
def test_values_that_cannot_work_are_found_before_anything_runs(change, says):
    with pytest.raises(ValueError, match=says):
        Grid(**SMALL | change).cells()


class OpensAFile(Mine):
    def terms(self, batch):
        open("/no/such/file")  # noqa: SIM115 - it is not there


def test_a_file_that_a_run_misses_is_a_row_and_the_grid_goes_on(tmp_path):
    frame = run(
        Grid(**SMALL | dict(methods=[OpensAFile, "CrossEntropy"], seeds=(0,))),
        tmp_path,
        progress=False,
    ).frame()
    assert (
        frame["status"].tolist() == ["failed", "finished"]
        and "FileNotFoundError" in frame["reason"][0]
    )


def test_students_of_a_stopped_teacher_are_stopped_not_failed(tmp_path):
    cell = next(c for c in Grid(**SMALL).cells() if c.teacher)
    assert (
        run_cell(cell, str(tmp_path))["status"] == "stopped"
        and Store(tmp_path).record(cell.key)["status"] == "pending"
    )


def test_one_student_stands_beside_its_own_published_rows(finished, monkeypatch):
    monkeypatch.setattr(
        "kdtutor.ablation.results.published",
        lambda name: pd.DataFrame(
            {
                "student": ["MLP8", "MLP8", "WRN-16-2"],
                "method": ["Baseline", "Hinton", "Hinton"],
                "mean": [90.0, 91.5, 95.0],
                "std": [0.1, 0.2, 0.3],
            }
        ),
    )
    beside = finished[2].against("any").reset_index()
    ours = beside[beside["gain"].notna() & (beside["method"] == "Hinton")]
    assert set(ours["net"]) == {"mlp8"} and set(ours["published_gain"]) == {1.5}


def test_tables_by_the_beginning_of_their_name():
    assert {"method", "noise_rate", "mean"} <= set(kdtutor.published("icpr2020_table5"))
    assert {"method", "seed", "test_accuracy_last"} <= set(kdtutor.measured("methods_cifar10"))
    with pytest.raises(ValueError, match="unknown measured table 'methods_cifer'.*methods_cifar10"):
        kdtutor.measured("methods_cifer")


def test_the_published_table_stands_beside(finished):
    _, _, results = finished
    beside = results.against("icpr2020_table5")
    assert beside.loc[(0.0, "CrossEntropy"), "published"] == 93.95 and beside.loc[
        (0.4, "Hinton"), "published_gain"
    ] == pytest.approx(11.85)
    assert beside.loc[(0.0, "Mine"), "published"] != beside.loc[(0.0, "Mine"), "published"], (
        "a gap where the paper has nothing"
    )
    held_out = beside.loc[(0.0, "Hinton"), "trained_on"]
    share = results.frame().loc[lambda f: f["method"] == "Hinton", "trained_on"].iloc[0]
    assert 0.75 < share < 1 and held_out == f"{100 * share:.3g} %"
    assert "trained_on" not in results.table()
    with pytest.raises(ValueError, match="published table"):
        results.against("icpr1999")


def test_runs_on_all_images_say_so_beside_a_published_table(tmp_path):
    grid = Grid(**SMALL | dict(methods=["CrossEntropy"], seeds=(0,), fit={"validation": 0}))
    beside = run(grid, tmp_path, progress=False).against("icpr2020_table5").reset_index()
    assert beside.loc[beside["seeds"].notna(), "trained_on"].unique().tolist() == ["100 %"]


def test_one_method_may_stand_twice_in_a_sum(tmp_path):
    both = "Hinton(temperature=2)+Hinton(temperature=8)"
    choice = MethodChoice.of(both)
    assert {n: s["temperature"] for n, (_, s) in choice.parts.items()} == {
        "Hinton": 2,
        "Hinton_2": 8,
    }
    grid = Grid(**SMALL | dict(methods=[both, "Hinton(temperature=8)"], seeds=(0,)))
    cells = [c for c in grid.cells() if not c.spec["label_noise"]]
    assert len({c.key for c in cells}) == 2
    data = cells[0].data()
    made = cells[0].distiller(data, Teacher(network(SMALL["teacher"], data, 0)))
    terms = made.terms(next(iter(data.batches(data.train, 8))))
    assert {"Hinton.kd", "Hinton_2.kd"} <= terms.keys()


def runs_of(tmp_path, seeds, values):
    """A table of two methods whose accuracies are made up."""
    grid = Grid(**SMALL | dict(methods=["CrossEntropy", "Hinton"], seeds=seeds, label_noise=(0.0,)))
    results = run(grid, tmp_path, progress=False)
    for row in results.frame().itertuples():
        file = tmp_path / "runs" / row.key / "result.json"
        known = json.loads(file.read_text())
        known["test_accuracy_last"] = values[row.method][row.seed]
        file.write_text(json.dumps(known))
    return results


def test_two_seeds_are_never_clear(tmp_path):
    table = runs_of(tmp_path, (0, 1), {"CrossEntropy": [0.8, 0.81], "Hinton": [0.9, 0.91]}).table()
    assert table.loc["Hinton", "gain"] == pytest.approx(10) and not table["clear"].any()
    assert "*" not in typeset(table, "md").split("---|")[-1].split("\\*")[0]


def test_equal_gains_within_a_step_of_the_test_set_are_not_clear(tmp_path):
    """60 test images: a step is 1.7 points."""
    base = [0.8, 0.85, 0.9]
    for gain, clear in ((1 / 60, False), (6 / 60, True)):
        values = {"CrossEntropy": base, "Hinton": [b + gain for b in base]}
        table = runs_of(tmp_path / str(clear), (0, 1, 2), values).table()
        assert table.loc["Hinton", "low"] == pytest.approx(100 * gain)
        assert bool(table.loc["Hinton", "clear"]) == clear


def test_runs_without_a_result_are_counted_in_every_export(finished, tmp_path):
    table = finished[2].table()
    table["unfinished"] = 2
    for kind in ("md", "tex", "html"):
        assert "3 of 5" in typeset(table, kind)


def test_a_name_in_a_strangers_store_is_text(finished):
    table = finished[2].table().reset_index()
    table["method"] = "<img src=x onerror=alert(1)>|&_{}"
    table = table.set_index(["label_noise", "method"])
    assert "<img" not in typeset(table, "html") and "&lt;img" in typeset(table, "html")
    assert "\\<img" in typeset(table, "md") and "\\|" in typeset(table, "md")
    assert r"\&\_\{\}" in typeset(table, "tex")


def test_two_versions_of_a_class_are_two_rows(tmp_path):
    for factor in (1.0, 3.0):
        # As in a notebook: the cell is run again with another body.
        names = {"Mine": Mine, "__name__": "__main__"}
        exec(f"class Own(Mine):\n    factor_of_mine = {factor}", names)
        grid = Grid(**SMALL | dict(methods=["CrossEntropy", names["Own"]], seeds=(0,)))
        run(grid, tmp_path, progress=False)
    table = load(tmp_path).table()
    assert [name.split(" #")[0] for name in table.index] == ["CrossEntropy", "Own", "Own"]
    assert table["seeds"].tolist() == [1, 1, 1] and table.index.nunique() == 3


def trained_net(seed=3):
    made = net(seed, hidden=(24,))
    fit(CrossEntropy(made), DATA, 5, lr=0.1, progress=False)
    return made


@pytest.mark.parametrize("kind", ["network", "teacher", "ensemble"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_finished_teacher_is_measured_and_taken_as_it_is(tmp_path, kind, workers):
    members = [trained_net(s) for s in ((3, 4) if kind == "ensemble" else (3,))]
    before = [copy.deepcopy(m.state_dict()) for m in members]
    teacher = members[0] if kind == "network" else Teacher(members)
    grid = Grid(**SMALL | dict(teacher=teacher, seeds=(0,)))
    results = run(grid, tmp_path, workers=workers, progress=False)
    frame = results.frame()
    assert frame["status"].tolist() == ["finished"] * 2, frame.get("reason")
    (taught,) = frame[frame["method"] == "Hinton"].itertuples()
    want = evaluate(Teacher(copy.deepcopy(members)), DATA)
    assert taught.teacher_accuracy == want > 0.5
    assert all(
        torch.equal(a, b)
        for m, state in zip(members, before)
        for a, b in zip(m.state_dict().values(), state.values())
    )
    (cell,) = (c for c in grid.cells() if c.teacher)
    student = cell.distiller(DATA, Teacher(copy.deepcopy(members)))
    alone = fit(student, DATA, 2, seed=0, progress=False, **SMALL["fit"])
    assert alone.result["test_accuracy_last"] == taught.test_accuracy_last


def test_another_teacher_is_another_run_and_a_students_module_is_refused(tmp_path):
    keys = {
        next(c.key for c in Grid(**SMALL | dict(teacher=t, seeds=(0,))).cells() if c.teacher)
        for t in (net(3), net(4), Teacher([net(3), net(4)]), Teacher([net(3), net(4)], "geometric"))
    }
    assert len(keys) == 4
    with pytest.raises(ValueError, match="students hold MLP, a network: every run would train"):
        Grid(students=[net(1)])
    with pytest.raises(ValueError, match="different numbers of classes"):
        Grid(**SMALL | dict(teacher=net(3, classes=7))).cells()


def test_several_processes_of_one_run_are_no_grid(tmp_path, monkeypatch):
    for name, value in (("RANK", 0), ("WORLD_SIZE", 2), ("MASTER_ADDR", "a"), ("MASTER_PORT", 1)):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ValueError, match=r"start it with python, and give run"):
        run(Grid(**SMALL), tmp_path, progress=False)


def test_a_run_that_ends_early_is_a_finished_one(tmp_path):
    settings = {"patience": 1, "lr": 0.0, "clip_norm": 1.0, "drop_last": False, "ema": 0.5}
    grid = Grid(**SMALL | dict(methods=["CrossEntropy"], seeds=(0,), epochs=4, fit=settings))
    for _ in range(2):
        frame = run(grid, tmp_path, progress=False).frame()
        assert (
            frame["status"].tolist() == ["finished"] and frame["test_accuracy_last"].notna().all()
        )
    with pytest.raises(ValueError, match="a grid sets"):
        Grid(fit={"seed": 3})


@pytest.mark.parametrize("ending", ["md", "tex", "csv"])
def test_tables_are_exported(finished, tmp_path, ending):
    text = finished[2].export(tmp_path / f"t.{ending}").read_text()
    assert (
        "Hinton" in text
        and ("±" in text) == (ending == "md")
        and ("\\toprule" in text) == (ending == "tex")
    )
    with pytest.raises(ValueError, match=r"\.parquet, \.csv, \.md or \.tex"):
        finished[2].export(tmp_path / "t.xlsx")


def test_the_figure_shows_every_gain(finished):
    import matplotlib.pyplot as plt

    table = finished[2].table()
    fig = finished[2].plot()
    drawn = [c for ax in fig.axes for c in ax.containers]
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["label_noise 0", "label_noise 0.5"]
    points = np.concatenate([c.lines[0].get_xdata() for c in drawn])
    assert sorted(points) == pytest.approx(sorted(table["gain"].dropna()))
    plt.close("all")
    with pytest.raises(ValueError, match="CrossEntropy"):
        from kdtutor.ablation.figure import draw_gains

        draw_gains(table.assign(gain=np.nan))


# --- the command line


def command(*args):
    from typer.testing import CliRunner

    from kdtutor.cli import app

    return CliRunner().invoke(app, ["ablate", *map(str, args)])


def test_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KDTUTOR_PROGRESS", "0")
    file, store = tmp_path / "g.toml", tmp_path / "s"
    file.write_text(
        'dataset = "digits"\nteacher = "mlp24"\nstudents = ["mlp8"]\nseeds = [0, 1]\nepochs = '
        "2\nimages = 100\n"
    )
    dry = command(file, "--store", store, "--dry-run")
    assert dry.exit_code == 0 and "5 runs, 5 of them pending" in dry.output and not store.exists()
    ran = command(file, "--store", store, "--export", tmp_path / "t.md")
    assert (
        ran.exit_code == 0
        and "teacher mlp24" in ran.output
        and "Hinton" in ran.output
        and "±" in (tmp_path / "t.md").read_text()
    )
    assert "0 of them pending" in command(file, "--store", store, "--dry-run").output
    assert "4 finished" in command("status", "--store", store).output
    assert "CrossEntropy" in command("table", "--store", store).output
    assert command("stop", "--store", store).exit_code == 0 and (store / "STOP").exists()


@pytest.mark.parametrize(
    "args, words",
    [(("g.toml",), "line 1"), (("status",), "no store"), (("nowhere.toml",), "nowhere.toml")],
)
def test_bad_commands_get_one_line(tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.toml").write_text("datset = 'digits'\n")
    result = command(*args, "--store", tmp_path / "s")
    assert result.exit_code == 1 and words in result.output and "Traceback" not in result.output
