"""fit(): learns, repeats bit for bit, survives kills at any moment, and stops with clear words."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from small import TwoStage, blobs, net, weights
from torch.nn import functional as F

from kdtutor import Teacher, fit, runs
from kdtutor.datasets import CropFlip, Data, Split
from kdtutor.methods import CrossEntropy, Hinton
from kdtutor.runs import RunDirectory, load_state, load_weights, save_state
from kdtutor.training import NonFiniteError, constant, cosine, evaluate, linear, sgd, steps

HERE = Path(__file__).resolve().parents[2]


def losses(history):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in history.rows]


def two_stage(seed=1, **kwargs):
    student = net(seed, dropout=0.2)
    layer = next(n for n, m in student.named_modules() if isinstance(m, torch.nn.ReLU))
    return TwoStage(student, net(2, hidden=(24,)), layer)


# --- learning


def test_fit_learns_and_reports_last_and_best():
    data, student = blobs(), net(1)
    before = evaluate(student, data)
    history = fit(CrossEntropy(student), data, 10, batch_size=16, progress=False)
    result = history.result
    assert history.status == "finished" and len(history.rows) == 10
    assert result["test_accuracy_last"] > max(0.8, before) and result[
        "test_accuracy_last"
    ] == evaluate(student, data)
    assert (
        result["val_accuracy_best"]
        == max(r["val_accuracy"] for r in history.rows)
        == history.best()["val_accuracy"]
    )
    assert (
        result["val_accuracy_best"] >= result["val_accuracy_last"]
        and 1 <= result["best_epoch"] <= 10
    )
    frame = history.frame()
    assert list(frame["epoch"]) == list(range(1, 11)) and {
        "stage",
        "lr",
        "loss",
        "ce",
        "val_accuracy",
        "seconds",
    } <= set(frame)


@pytest.mark.parametrize("course, best", [([5, 5, 5], 1), ([1, 5, 5, 2], 2), ([5, 5, 6], 3)])
def test_of_equally_good_epochs_the_first_is_the_best(course, best):
    values = iter([0.0, *course, *course])  # once on trial before training
    metric = lambda net, batches: float(next(values))
    history = fit(CrossEntropy(net(1)), blobs(), len(course), metric=metric, progress=False)
    assert history.result["best_epoch"] == best


def test_no_validation_and_no_test():
    history = fit(CrossEntropy(net(1)), blobs(), 2, validation=0, test=False, progress=False)
    assert (
        "val_accuracy" not in history.rows[0]
        and set(history.result) == {"seconds"}
        and history.best() is None
    )


def test_validation_is_held_out_and_the_same_for_every_seed():
    data, seen = blobs(), set()

    class Spy(CrossEntropy):
        def terms(self, batch):
            seen.update(batch.index.tolist())
            return super().terms(batch)

    _, held = data.holdout(0.2)
    for seed in (0, 1):
        fit(Spy(net(1)), data, 3, validation=0.2, seed=seed, batch_size=8, progress=False)
    assert seen.isdisjoint(held.index.tolist()) and len(seen) + len(held) == len(data.train)


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    results = []
    for seed in (0, 0, 1):
        torch.rand(seed + 3)  # the caller's random state must not matter
        student = net(1, dropout=0.3)
        fit(CrossEntropy(student), blobs(augment=CropFlip(1)), 3, seed=seed, progress=False)
        results.append(weights(student))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    fit(CrossEntropy(net_without_seeding()), blobs(), 1, progress=False)
    assert torch.equal(torch.rand(3), want)


def net_without_seeding():
    with torch.random.fork_rng():
        return net(1)


def test_schedules():
    assert [constant(p) for p in (0, 0.5, 0.9)] == [1, 1, 1]
    assert linear(0.25) == 0.75 and cosine(0) == 1 and cosine(0.5) == pytest.approx(0.5)
    schedule = steps(0.5, 0.75)
    assert [round(schedule(p), 6) for p in (0, 0.49, 0.5, 0.75, 0.99)] == [1, 1, 0.1, 0.01, 0.01]
    history = fit(CrossEntropy(net(1)), blobs(), 4, lr=0.4, schedule=steps(0.5), progress=False)
    assert [round(r["lr"], 6) for r in history.rows] == [0.4, 0.4, 0.04, 0.04]


def test_the_optimizer_can_be_replaced():
    made = []

    def adam(parameters):
        made.append(torch.optim.Adam(parameters, 1e-2))
        return made[-1]

    history = fit(CrossEntropy(net(1)), blobs(), 3, optimizer=adam, progress=False)
    assert len(made) == 1 and history.rows[-1]["loss"] < history.rows[0]["loss"]
    assert sgd(0.1)([torch.nn.Parameter(torch.zeros(2))]).param_groups[0]["nesterov"]


def test_bf16_learns():
    history = fit(CrossEntropy(net(1)), blobs(), 6, batch_size=16, precision="bf16", progress=False)
    assert (
        history.rows[-1]["loss"] < history.rows[0]["loss"]
        and history.result["test_accuracy_last"] > 0.7
    )


def test_x_may_be_a_mapping():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(120, 5, generator=g), torch.randn(120, 5, generator=g)
    y = ((a * b).sum(1) > 0).long()
    data = Data(
        "pairs",
        ("no", "yes"),
        Split({"a": a[:80], "b": b[:80]}, y[:80]),
        Split({"a": a[80:], "b": b[80:]}, y[80:]),
    )

    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(5, 2)

        def forward(self, a, b):
            return self.fc(a * b)

    teacher = Pair()
    fit(CrossEntropy(teacher), data, 20, batch_size=16, lr=0.2, progress=False)
    history = fit(Hinton(Pair(), teacher), data, 20, batch_size=16, lr=0.2, progress=False)
    assert history.result["test_accuracy_last"] > 0.85


# --- runs: resuming and kills


class Killed(BaseException):
    """Like a kill: nothing catches it."""


def plain(run_dir=None, epochs=6, **kwargs):
    distiller = two_stage()
    history = fit(
        distiller,
        blobs(augment=CropFlip(1)),
        epochs,
        lr=0.05,
        seed=3,
        run_dir=run_dir,
        progress=False,
        **kwargs,
    )
    return distiller, history


def test_a_run_directory_changes_nothing_and_a_finished_run_is_read(tmp_path):
    (a, ha), (b, hb) = plain(), plain(tmp_path / "run")
    assert torch.equal(weights(a), weights(b)) and losses(ha) == losses(hb)
    c, hc = plain(tmp_path / "run")
    assert hc.rows == hb.rows and hc.result == hb.result and torch.equal(weights(b), weights(c))
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "spec.json",
        "metrics.jsonl",
        "checkpoint.safetensors",
        "student.safetensors",
        "student_best.safetensors",
        "result.json",
    }
    fresh = load_weights(net(9, dropout=0.2), tmp_path / "run" / "student.safetensors")
    assert torch.equal(weights(fresh), weights(a.deploy()))


def test_killed_at_every_write_and_resumed_is_bit_identical(tmp_path, monkeypatch):
    want, wanted = plain()
    real, writes = os.replace, 0

    def counting(*args):
        nonlocal writes
        writes += 1
        return real(*args)

    monkeypatch.setattr(runs.files.os, "replace", counting)
    plain(tmp_path / "count")
    for moment in range(1, writes + 1):
        for after in (False, True):
            left = moment

            def killing(*args):
                nonlocal left
                left -= 1
                if left == 0 and not after:
                    raise Killed
                real(*args)
                if left == 0:
                    raise Killed

            monkeypatch.setattr(runs.files.os, "replace", killing)
            folder = tmp_path / f"{moment}{after}"
            with pytest.raises(Killed):
                plain(folder)
            monkeypatch.setattr(runs.files.os, "replace", real)
            got, history = plain(folder)
            assert torch.equal(weights(got), weights(want)) and losses(history) == losses(wanted), (
                moment,
                after,
            )
            assert {k: v for k, v in history.result.items() if k != "seconds"} == {
                k: v for k, v in wanted.result.items() if k != "seconds"
            }
            assert not list(folder.glob(".*"))


SCRIPT = """
import sys; sys.path[:0] = [{here!r}, {here!r} + "/tests"]
import torch; torch.set_num_threads(1)
from tests.training.test_loop import plain
print("go", flush=True)
plain(sys.argv[1], epochs=40)
"""


def test_kill_9_at_random_moments_and_resumed_is_bit_identical(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    want, wanted = plain(epochs=40)
    torch.set_num_threads(threads)
    folder, kills = tmp_path / "run", 0
    for delay in (0.05, 0.15, 0.3, 0.45):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(here=str(HERE)), str(folder)],
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    subprocess.run([sys.executable, "-c", SCRIPT.format(here=str(HERE)), str(folder)], check=True)
    assert kills >= 1
    got = two_stage()
    got.load_state_dict(load_state(folder / "checkpoint.safetensors")["distiller"])
    assert torch.equal(weights(got), weights(want))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in r.items() if k != "seconds"} for r in rows] == losses(wanted)


def test_ctrl_c_leaves_a_history_and_a_checkpoint(tmp_path, capsys, monkeypatch):
    want, wanted = plain()
    real, steps = F.cross_entropy, 0

    def interrupting(*args, **kwargs):
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    # The class stays what it is: one with another body would be another run.
    monkeypatch.setattr(F, "cross_entropy", interrupting)
    distiller, data = two_stage(), blobs(augment=CropFlip(1))
    history = fit(distiller, data, 6, lr=0.05, seed=3, run_dir=tmp_path / "run", progress=False)
    assert (
        history.status == "interrupted"
        and 1 <= len(history.rows) < 6
        and len(history.frame()) == len(history.rows)
    )
    assert "continue" in capsys.readouterr().out
    monkeypatch.undo()
    got, history = plain(tmp_path / "run")
    assert (
        history.status == "finished"
        and torch.equal(weights(got), weights(want))
        and losses(history) == losses(wanted)
    )


def test_ctrl_c_without_a_run_directory_leaves_a_usable_history():
    class Interrupting(CrossEntropy):
        def terms(self, batch):
            if self.progress > 0.4:
                raise KeyboardInterrupt
            return super().terms(batch)

    history = fit(Interrupting(net(1)), blobs(), 10, progress=False)
    assert history.status == "interrupted" and len(history.rows) == 4 and history.best()


def test_other_settings_in_the_same_directory_are_refused(tmp_path):
    plain(tmp_path / "run")
    with pytest.raises(ValueError, match="epochs: 6 there, 7 now"):
        plain(tmp_path / "run", epochs=7)
    data = blobs()
    fit(Hinton(net(1), net(2)), data, 1, run_dir=tmp_path / "kd", progress=False)
    with pytest.raises(ValueError, match="teachers"):
        fit(Hinton(net(1), net(3)), data, 1, run_dir=tmp_path / "kd", progress=False)
    with pytest.raises(ValueError, match="temperature: 4.0 there, 5.0 now"):
        fit(Hinton(net(1), net(2), temperature=5), data, 1, run_dir=tmp_path / "kd", progress=False)


def test_snapshots_are_the_weights_of_those_epochs(tmp_path):
    student = net(1)
    before = weights(student)
    fit(CrossEntropy(student), blobs(), 3, run_dir=tmp_path, snapshots=(0, 2, 3), progress=False)
    saved = [
        weights(load_weights(net(9), tmp_path / f"epoch_{e:04d}.safetensors")) for e in (0, 2, 3)
    ]
    assert (
        torch.equal(saved[0], before)
        and torch.equal(saved[2], weights(student))
        and not torch.equal(saved[1], saved[2])
    )
    assert not (tmp_path / "epoch_0001.safetensors").exists()
    with pytest.raises(ValueError, match="run_dir"):
        fit(CrossEntropy(net(1)), blobs(), 1, snapshots=(1,), progress=False)


# --- files


def test_states_round_trip(tmp_path):
    tied = torch.randn(3, 4)
    state = {
        "a": tied,
        "b": [tied, {"n": 3, 4: None}],
        "c": (1.5, "x"),
        "image": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    save_state(tmp_path / "s", state)
    got = load_state(tmp_path / "s")
    assert (
        torch.equal(got["a"], tied)
        and torch.equal(got["b"][0], tied)
        and got["b"][1] == {"n": 3, 4: None}
        and got["c"] == [1.5, "x"]
    )
    assert torch.equal(got["image"], state["image"])


@pytest.mark.parametrize("damage", ["truncate", "flip", "text", "empty"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    plain(tmp_path / "run")
    file = tmp_path / "run" / "checkpoint.safetensors"
    raw = bytearray(file.read_bytes())
    if damage == "flip":
        raw[-20] ^= 0xFF
    file.write_bytes(
        {
            "truncate": bytes(raw[: len(raw) // 2]),
            "flip": bytes(raw),
            "text": b"hello",
            "empty": b"",
        }[damage]
    )
    with pytest.raises(
        ValueError, match=r"checkpoint\.safetensors is truncated, corrupted.*Delete it"
    ):
        plain(tmp_path / "run")


def test_weights_of_another_architecture_are_refused(tmp_path):
    runs.save_weights(net(1), tmp_path / "w")
    with pytest.raises(ValueError, match="another architecture"):
        load_weights(net(1, hidden=(5,)), tmp_path / "w")


def test_one_folder_is_opened_many_times_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(RunDirectory, [tmp_path / "run"] * 400))
    assert list((tmp_path / "run").iterdir()) == []


def test_an_unwritable_run_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot create the run directory.*choose a folder"):
        fit(CrossEntropy(net(1)), blobs(), 1, run_dir=tmp_path / "file" / "run", progress=False)
    if os.geteuid() != 0:  # root may write everywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(OSError, match="cannot write"):
            fit(CrossEntropy(net(1)), blobs(), 1, run_dir=tmp_path / "closed", progress=False)


def test_a_full_disk_is_one_clear_error_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    plain(tmp_path / "run", epochs=6)
    monkeypatch.setattr(
        runs.files.os,
        "fsync",
        lambda f: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    with pytest.raises(OSError, match="No space left.*intact"):
        save_state(tmp_path / "run" / "checkpoint.safetensors", {"a": torch.zeros(3)})
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before and not list(
        (tmp_path / "run").glob(".*")
    )


# --- bad input


def test_nan_in_a_loss_names_the_term_the_step_and_the_student():
    class Bad(CrossEntropy):
        count = 0

        def terms(self, batch):
            self.count += 1
            return {
                **super().terms(batch),
                "extra": torch.tensor(float("nan") if self.count == 3 else 0.0),
            }

    with pytest.raises(NonFiniteError, match="'extra' is NaN or Inf at epoch 1, step 3"):
        fit(Bad(net(1)), blobs(), 2, batch_size=16, progress=False)


def test_nan_logits_are_traced_to_their_network():
    data = blobs()
    broken = net(2)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="'kd'.*step 1: the teacher's logits"):
        fit(Hinton(net(1), broken), data, 1, progress=False)
    with pytest.raises(NonFiniteError, match="'ce'.*the student's logits.*lower lr"):
        fit(CrossEntropy(broken.requires_grad_(True)), data, 1, progress=False)


def test_nan_images_are_refused_when_the_data_is_made():
    x = torch.rand(10, 1, 4, 4)
    x[7, 0, 1, 1] = float("inf")
    with pytest.raises(
        ValueError, match="1 of 10 examples hold NaN or Inf, the first at position 7"
    ):
        Split(x, torch.zeros(10, dtype=torch.long))


def test_labels_out_of_range():
    x = torch.zeros(4, 1, 4, 4, dtype=torch.uint8)
    good, bad = Split(x, torch.tensor([0, 1, 2, 0])), Split(x, torch.tensor([0, 1, 3, 0]))
    with pytest.raises(
        ValueError, match="train labels run from 0 to 3, but 3 classes allow 0 to 2"
    ):
        Data("d", ("a", "b", "c"), bad, good)
    with pytest.raises(ValueError, match="rows"):
        Split(x, torch.zeros(3))


def test_teacher_and_student_with_different_classes():
    with pytest.raises(ValueError, match=r"different numbers of classes.*\(2, 3\).*\(2, 4\)"):
        Hinton(net(1), net(2, classes=4))
    foreign = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    with pytest.raises(ValueError, match="different numbers of classes"):
        fit(Hinton(foreign, net(2, classes=4)), blobs(), 1, progress=False)
    with pytest.raises(ValueError, match="answers for 2 classes but blobs has 3"):
        fit(CrossEntropy(net(1, classes=2)), blobs(), 1, progress=False)


def test_a_student_that_is_its_own_teacher_is_refused():
    both = net(1)
    with pytest.raises(ValueError, match="share parameters"):
        Hinton(both, both)
    Teacher(both)
    with pytest.raises(ValueError, match="no trainable parameter.*Teacher"):
        fit(CrossEntropy(both), blobs(), 1, progress=False)


@pytest.mark.parametrize(
    "kwargs, words",
    [
        (dict(epochs=0), "epochs=0"),
        (dict(batch_size=0), "batch_size=0"),
        (dict(precision="bf61"), "'bf16'"),
        (dict(validation=1.0), "validation fraction"),
        (dict(validation=-0.1), "validation fraction"),
    ],
)
def test_bad_settings(kwargs, words):
    with pytest.raises(ValueError, match=words):
        fit(CrossEntropy(net(1)), blobs(), **{"epochs": 1, "progress": False, **kwargs})


def test_a_batch_larger_than_the_data_is_the_whole_data():
    history = fit(CrossEntropy(net(1)), blobs(), 3, batch_size=10_000, lr=0.1, progress=False)
    assert len(history.rows) == 3 and history.rows[-1]["loss"] < history.rows[0]["loss"]


def test_evaluate_leaves_the_mode_and_checks_shapes():
    student = net(1, dropout=0.5).train()
    assert evaluate(student, blobs()) == evaluate(student, blobs()) and student.training
    with pytest.raises(ValueError, match="metric="):
        evaluate(torch.nn.Flatten(0), blobs())


def test_the_progress_bar_shows_terms_validation_and_time_left(capsys, monkeypatch):
    monkeypatch.delenv("KDTUTOR_PROGRESS", raising=False)
    fit(Hinton(net(1), net(2)), blobs(), 3, batch_size=16, seed=0)
    shown = capsys.readouterr().err
    assert (
        "epoch 3/3" in shown
        and "ce " in shown
        and "kd " in shown
        and "val_accuracy 0." in shown
        and "100%" in shown
    )
    monkeypatch.setenv("KDTUTOR_PROGRESS", "0")
    fit(CrossEntropy(net(1)), blobs(), 1)
    assert capsys.readouterr().err == ""
