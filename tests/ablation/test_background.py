"""A grid in the background and its form: it outlives the kernel that started it, and what it says
is true.
"""

import os
import time
from dataclasses import replace

import pandas as pd
import pytest
from jupyter_client.manager import start_new_kernel
from small import blobs

from kdtutor.ablation import Grid, Store, background, load, read_grid, run, write_grid
from kdtutor.ablation.form import bench
from kdtutor.methods import Hinton

TINY = dict(
    dataset="digits",
    teacher="mlp24",
    students=["mlp8"],
    seeds=(0, 1),
    epochs=2,
    images=200,
    fit={"lr": 0.1},
)
FORM = dict(teacher="mlp24", students=["mlp8"], seeds="0, 1", epochs=2, images=200)


def wait(condition, seconds=120):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, "it takes too long"
        time.sleep(0.1)


# --- files of grids


def test_a_grid_is_written_as_it_is_read(tmp_path):
    for grid in (
        Grid(),
        Grid(**TINY),
        Grid(
            teacher=None,
            methods=["CrossEntropy", "DML"],
            label_noise=(0, 0.4),
            imbalance=(None, 0.2),
            root="x y",
        ),
        Grid(
            methods=["BAN+L", "AT+Hinton(temperature=2.0)", 'RKD-D(layers="fc:input")', Hinton],
            fit={"precision": "bf16"},
        ),
    ):
        assert read_grid(write_grid(grid, tmp_path / "g.toml")) == grid
    with pytest.raises(ValueError, match="Data.*only names"):
        write_grid(Grid(**TINY | {"dataset": blobs()}), tmp_path / "g.toml")


# --- the process


@pytest.mark.slow
def test_a_grid_runs_in_a_process_of_its_own(tmp_path):
    store = tmp_path / "a store"
    assert not background.running(store)
    background.start(Grid(**TINY), store)
    assert background.running(store)
    with pytest.raises(RuntimeError, match="runs in .* already: stop it first"):
        background.start(Grid(**TINY), store)
    wait(lambda: not background.running(store))
    here = run(Grid(**TINY), tmp_path / "here", progress=False).frame()
    there = load(store).frame().set_index("key").loc[here["key"]].reset_index()
    pd.testing.assert_frame_equal(there.drop(columns="seconds"), here.drop(columns="seconds"))
    assert "Hinton" in background.last_words(store)


def test_what_cannot_work_is_said_at_once(tmp_path):
    with pytest.raises(ValueError, match="only names"):
        background.start(Grid(**TINY | {"dataset": blobs(), "images": None}), tmp_path)
    with pytest.raises(ValueError, match="resnet9"):
        background.start(Grid(**TINY | {"students": ["resnet9"]}), tmp_path)
    assert not background.running(tmp_path)


@pytest.fixture
def kernel(tmp_path):
    manager, client = start_new_kernel(cwd=str(tmp_path), env=os.environ | {"OMP_NUM_THREADS": "1"})
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def said(client, code: str) -> str:
    """What a cell prints. Its errors fail."""
    printed = []
    reply = client.execute_interactive(
        code, timeout=120, output_hook=lambda m: printed.append(m["content"].get("text", ""))
    )
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed)


@pytest.mark.slow
@pytest.mark.parametrize("now", [False, True], ids=["restarted", "killed"])
def test_a_grid_that_a_notebook_started_survives_its_kernel(tmp_path, kernel, now):
    manager, client = kernel
    asked = FORM | {"seeds": "0, 1, 2, 3", "epochs": 300}
    open_form = f"from kdtutor.ablation.form import bench; form = bench('s', **{asked}); "
    assert "0 of 8 runs. Running" in said(
        client, open_form + "form.buttons['Start'].click(); print(form.state.value)"
    )
    wait(lambda: list(tmp_path.glob("s/runs/*/metrics.jsonl")))
    manager.restart_kernel(now=now)
    client.wait_for_ready(timeout=60)
    assert background.running(tmp_path / "s"), (tmp_path / "s" / "grid.log").read_text()
    found = said(
        client,
        "from kdtutor.ablation.form import bench; form = bench('s'); print(form.state.value, "
        "form.controls['epochs'].value)",
    )
    assert "of 8 runs. Running in the background" in found and found.split()[-1] == "300"
    assert "Stopping" in said(client, "form.buttons['Stop'].click(); print(form.state.value)")
    wait(lambda: not background.running(tmp_path / "s"))
    # The kernel's own event loop looks on by itself, between cells.
    wait(lambda: "Stopped. Start continues" in said(client, "print(form.state.value)"), seconds=60)


# --- the form


@pytest.mark.slow
def test_the_form_from_the_first_run_to_the_table(tmp_path):
    form = bench(tmp_path, **FORM)
    assert form.state.value == "Choose a grid, then Start." and form.figure.layout.display == "none"
    assert form.grid() == Grid(**TINY)
    form.buttons["How long?"].click()
    assert "5 runs, 5 of them pending" in form.message.value
    form.buttons["Start"].click()
    assert "Running in the background" in form.state.value
    wait(lambda: not background.running(tmp_path))
    form.buttons["Look now"].click()
    assert form.state.value == "4 of 4 runs. Finished." and form.bar.value == form.bar.max == 4
    assert (
        "Hinton" in form.table.value
        and form.figure.value[:4] == b"\x89PNG"
        and form.figure.layout.display == ""
    )
    again = bench(tmp_path)
    assert (
        again.grid() == form.grid()
        and again.table.value == form.table.value
        and again.state.value == form.state.value
    )
    form.buttons["Stop"].click()
    assert form.message.value == "Nothing runs here."


@pytest.mark.slow
def test_stop_holds_also_before_the_grid_has_begun(tmp_path):
    form = bench(tmp_path, **FORM | {"epochs": 1000})
    form.start()
    form.stop()
    assert "Stopping" in form.state.value
    wait(lambda: form.refresh() or "Stopped" in form.state.value)
    assert not background.running(tmp_path) and Store(tmp_path).stopped


@pytest.mark.parametrize(
    "field, value, says",
    [
        ("label_noise", "0, x", "Label noise: '0, x' is no list"),
        ("students", ["resnet9"], "take 8 or 14"),
        ("methods", ["Hintn"], "Did you mean 'Hinton'"),
        ("methods", [], "methods is empty"),
        ("teacher", "", "learn from a teacher"),
        ("dataset", "cifar11", "cifar10"),
        ("label_noise", "2", "expected a share"),
        ("imbalance", "-1", "expected an exponent"),
    ],
)
def test_what_is_wrong_stands_in_the_form(tmp_path, field, value, says):
    form = bench(tmp_path, **FORM)
    form.controls[field].value = value
    form.buttons["Start"].click()
    assert form.message.value.startswith("<b>✗</b>") and says in form.message.value
    assert not background.running(tmp_path)


def test_a_failed_run_is_told_with_its_reason(tmp_path):
    form = bench(tmp_path, **FORM)
    grid = form.grid()
    write_grid(grid, tmp_path / "grid.toml")
    home, cell = Store(tmp_path), grid.cells()[0]
    with home.turn(cell, wait=False):
        home.fail(cell, "diverged", "loss <nan>")
    assert "CrossEntropy, seed 0: diverged: loss &lt;nan&gt;" in bench(tmp_path).state.value


def test_what_has_no_field_stays_as_it_was(tmp_path):
    grid = Grid(
        **TINY
        | dict(
            seeds=(3, 40),
            teacher_sees=("same", "clean"),
            teacher_epochs=5,
            label_noise=(1 / 3,),
            epochs=2000,
            fit={"weight_decay": 0.01},
        )
    )
    write_grid(grid, tmp_path / "grid.toml")
    form = bench(tmp_path, epochs=7)  # the store's grid comes first
    assert form.grid() == grid
    form.controls["lr"].value = 0.3
    assert form.grid() == replace(grid, fit={"weight_decay": 0.01, "lr": 0.3})


@pytest.mark.slow
def test_another_grid_never_stands_under_an_old_table(tmp_path):
    form = bench(tmp_path, **FORM)
    form.start()
    wait(lambda: not background.running(tmp_path))
    form.refresh()
    old = form.table.value
    form.controls["lr"].value = 0.001
    form.start()
    assert form.table.value == "" and form.figure.layout.display == "none"
    wait(lambda: not background.running(tmp_path))
    form.refresh()
    assert form.state.value == "4 of 4 runs. Finished." and form.table.value not in ("", old)
    form.controls["lr"].value = 0.1  # all in the store
    form.start()
    wait(lambda: not background.running(tmp_path))
    form.refresh()
    assert form.table.value == old


def test_an_unknown_field(tmp_path):
    with pytest.raises(ValueError, match="unknown field of the form 'epoch'.*epochs"):
        bench(tmp_path, epoch=3)
