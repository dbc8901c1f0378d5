"""``make gpu``: every part runs, a call goes on where the last one stopped, and what dies takes
nothing with it but its own row.
"""

import csv
import json
import os
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import REPO

BENCHMARKS = REPO / "benchmarks"
sys.path.append(str(BENCHMARKS))
from gpu import Call  # noqa: E402
from on_gpu import BROKEN, PARTS  # noqa: E402
from on_gpu.table import Table  # noqa: E402

NOTEBOOK_STACK = ("ipywidgets", "IPython", "jupyterlab", "nbformat", "nbclient", "ipykernel")
BEYOND_TRAINING = ("pandas", "scipy", "sklearn", "matplotlib", "seaborn", "typer", "tqdm")


@pytest.fixture
def without(tmp_path):
    """The environment of a process that cannot import some modules."""

    def environment(*names):
        (tmp_path / "bare").mkdir(exist_ok=True)
        (tmp_path / "bare" / "sitecustomize.py").write_text(
            f"import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"
        )
        return os.environ | {"PYTHONPATH": str(tmp_path / "bare")}

    return environment


def gpu(*arguments, env=None):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), *arguments],
        capture_output=True,
        text=True,
        env=env,
        timeout=500,
    )


def rows(path):
    return list(csv.DictReader(s for s in path.read_text().splitlines() if s[:1] != "#"))


@pytest.mark.slow
@pytest.mark.thorough
def test_quick_runs_every_part_without_the_notebook_stack_and_only_once(without, tmp_path):
    out, env = tmp_path / "out", without(*NOTEBOOK_STACK)
    env["PYTEST_ADDOPTS"] = "-p no:nbmake"  # a plugin of that stack: where it lacks, it lacks
    first = gpu("--quick", "--out", str(out), env=env)
    assert first.returncode == 0, first.stderr
    assert "left:" not in first.stdout and "failed" not in first.stdout, first.stdout
    for part in PARTS:
        found = rows(out / f"gpu_{part}.csv")
        assert found and not any(r["error"] for r in found), part
        assert all(r["card"].startswith("none") and r["torch"] and r["date"] for r in found)
        assert (
            "# command: python benchmarks/gpu.py --quick\n" in (out / f"gpu_{part}.csv").read_text()
        )
    assert {r["outcome"] for r in rows(out / "gpu_tests.csv")} == {"passed", "skipped"}
    assert {r["outcome"] for r in rows(out / "gpu_lessons.csv")} == {"finished"}
    before = {p: rows(out / f"gpu_{p}.csv") for p in PARTS}
    again = gpu("--quick", "--out", str(out), env=env)
    assert again.returncode == 0 and "0 rows more" in again.stdout
    assert before == {p: rows(out / f"gpu_{p}.csv") for p in PARTS}


def test_the_parts_need_torch_numpy_and_safetensors_only(without):
    """Lessons run in processes of their own, with what their figures need."""
    code = f"import importlib\nfor part in {PARTS!r}: importlib.import_module('on_gpu.' + part)"
    env = without(*NOTEBOOK_STACK, *BEYOND_TRAINING)
    env["PYTHONPATH"] += os.pathsep + os.pathsep.join([str(REPO), str(BENCHMARKS)])
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_it_is_one_clear_line(tmp_path):
    done = gpu("--out", str(tmp_path), env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert "no GPU that this torch" in done.stdout and "--quick" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


MACHINE = {"card": "a card", "torch": "2.11.0", "date": "2026-01-01"}
SCRIPT = """
import json, os, sys, time
told = json.loads(sys.argv[1])
say = lambda **what: print(json.dumps(what), flush=True)
say(machine={machine})
say(part="speed", columns=["what"], note="A note.")
known = [key[0] for key in json.loads(sys.stdin.readline())]
{then}
"""


@pytest.fixture
def call(tmp_path):
    """A call whose process is a script; ``then`` is what it does once it knows what is there."""

    def make(then, minutes=1.0, again=()):
        script = tmp_path / "child.py"
        script.write_text(SCRIPT.format(machine=MACHINE, then=textwrap.dedent(then)))
        told = {"out": str(tmp_path), "deadline": time.monotonic() + 60 * minutes}
        return Call([sys.executable, str(script)], told, set(again))

    return make


MEASURE = """
for what in "abc":
    if what in known:
        continue
    say(part="speed", begun={"what": what}, about=1)
    if what == "b":
        %s
    say(part="speed", rows=[{"what": what, "ms": 1}], seconds=1.0)
"""


def test_a_process_that_dies_costs_its_own_row(call, tmp_path):
    one = call(MEASURE % "os.abort()")
    assert one.run() == 0
    found = {r["what"]: r for r in rows(tmp_path / "gpu_speed.csv")}
    assert list(found) == ["a", "b", "c"]
    assert "died with exit status -6" in found["b"]["error"] and not found["a"]["error"]
    assert "3 rows more" in one.summary() and "1 failed" in one.summary()


def test_after_a_fault_of_cuda_a_new_process_goes_on(call, tmp_path):
    then = MEASURE % (
        'say(part="speed", rows=[{"what": "b", "error": "illegal address"}], seconds=1.0)\n'
        f"        os._exit({BROKEN})"
    )
    assert call(then).run() == 0
    found = [(r["what"], r["error"]) for r in rows(tmp_path / "gpu_speed.csv")]
    assert found == [("a", ""), ("b", "illegal address"), ("c", "")]


def test_when_the_time_is_over_all_processes_end_and_the_next_call_goes_on(call, tmp_path):
    hang = (
        "import subprocess\n"
        "        subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " stdout=open(os.devnull, 'w'), stderr=open(os.devnull, 'w'),"
        f" env=os.environ | {{'MARK': {str(tmp_path)!r}}})\n"
        "        time.sleep(600)"
    )
    began = time.monotonic()
    one = call(MEASURE % hang, minutes=0.2)
    assert one.run() == 0 and time.monotonic() - began < 120
    assert "call again" in one.summary() and "1 rows more" in one.summary()
    assert [r["what"] for r in rows(tmp_path / "gpu_speed.csv")] == ["a"]
    while [p for p in processes() if str(tmp_path) in p]:
        assert time.monotonic() - began < 120, "what the process started goes on"
        time.sleep(0.1)
    assert call(MEASURE % "pass").run() == 0
    assert [r["what"] for r in rows(tmp_path / "gpu_speed.csv")] == ["a", "b", "c"]


def test_a_cell_that_hangs_is_given_up_and_the_others_measured(call, tmp_path, monkeypatch):
    monkeypatch.setattr("gpu.PATIENCE", 5)
    assert call(MEASURE % "time.sleep(600)").run() == 0
    found = [(r["what"], r["error"]) for r in rows(tmp_path / "gpu_speed.csv")]
    assert found == [("a", ""), ("b", "given up: it did not end"), ("c", "")]


def processes() -> list[str]:
    """The environments of all processes, where the system shows them."""
    from pathlib import Path

    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found.append(path.read_text(errors="replace").replace("\0", "\n"))
        except OSError:
            continue
    return [text for text in found if "MARK=" in text]


def test_what_is_measured_again_takes_the_old_rows_place(call, tmp_path):
    assert call(MEASURE % "pass").run() == 0
    other = Table(tmp_path / "gpu_speed.csv", ["what"], "A note.")
    other.put([{"what": "a", "ms": 9}], MACHINE | {"card": "another"})
    then = """
        new = [{"what": w, "ms": 2} for w in "abc" if w not in known]
        say(part="speed", rows=new, seconds=1.0)
        """
    assert call(then).run() == 0
    assert [r["ms"] for r in rows(tmp_path / "gpu_speed.csv")] == ["1", "1", "1", "9"]
    assert call(then, again=["speed"]).run() == 0
    found = rows(tmp_path / "gpu_speed.csv")
    assert [(r["card"], r["ms"]) for r in found] == [("another", "9")] + [("a card", "2")] * 3


def test_what_is_lacking_or_too_long_is_said(call):
    one = call(
        """
        say(part="table3", lack="CIFAR-10 is not here")
        say(part="speed", later={"what": "long"})
        """
    )
    assert one.run() == 0
    assert "table3: CIFAR-10 is not here" in one.summary() and "too little time" in one.summary()


def test_a_process_that_cannot_begin_is_an_error(tmp_path):
    told = {"out": str(tmp_path), "deadline": time.monotonic() + 60}
    assert Call([sys.executable, "-c", "raise SystemExit(1)"], told, set()).run() == 1


def test_a_table_keeps_what_a_reader_needs(tmp_path):
    import pandas as pd

    table = Table(tmp_path / "t.csv", ["what", "batch"], "Milliseconds, the median of five.")
    assert table.put([{"what": "a, b", "batch": 64, "ms": 1.5}], MACHINE | {"cuda": "13.0"}) == 1
    assert table.put([{"what": "a, b", "batch": 64, "ms": 1.5}], MACHINE) == 0
    table.put([{"what": "c", "batch": 64, "error": "OutOfMemoryError"}], MACHINE)
    frame = pd.read_csv(tmp_path / "t.csv", comment="#")
    assert frame["what"].tolist() == ["a, b", "c"] and frame["card"].tolist() == ["a card"] * 2
    assert [*frame] == ["what", "batch", "ms", "error", "card", "torch", "date"]
    text = (tmp_path / "t.csv").read_text()
    assert text.startswith("# date: 2026-01-01\n") and "# Milliseconds" in text
    again = Table(tmp_path / "t.csv", ["what", "batch"], "")
    assert again.known(MACHINE) == {("a, b", "64"), ("c", "64")}
    assert not again.known(MACHINE | {"card": "another"})
    assert json.dumps(sorted(again.known(MACHINE)))


def test_why_a_part_without_cells_failed_is_forgotten_once_it_goes_on(tmp_path):
    table = Table(tmp_path / "t.csv", ["method", "seed"], "Runs.")
    table.put([{"error": "no data"}], MACHINE)
    table.put([{"error": "no data"}], MACHINE | {"card": "another"})
    table.put([{"method": "AT", "seed": 0, "accuracy": 90}], MACHINE)
    found = rows(tmp_path / "t.csv")
    assert [(r["card"], r["error"]) for r in found] == [("another", "no data"), ("a card", "")]


SEEDS = """
import torch
from on_gpu.sharing import CLASSES, stacked_step
from on_gpu.speed import bare_step
from kdtutor.models import resnet8

torch.manual_seed(9)
teacher = resnet8(CLASSES).eval().requires_grad_(False)
x, y = torch.randn(3, 4, 3, 16, 16), torch.randint(CLASSES, (3, 4))
together = stacked_step(teacher, 2, "cpu")
for step in range(3):
    together(x[step], y[step])
for seed in range(2):
    torch.manual_seed(seed)
    student = resnet8(CLASSES).train()
    alone = bare_step(teacher, student, "float32")
    for step in range(3):
        alone(x[step], y[step])
    for name, w in student.named_parameters():
        assert torch.allclose(together.weights[name][seed], w, rtol=1e-3, atol=1e-5), name
    for name, b in student.named_buffers():
        assert torch.allclose(together.buffers[name][seed].float(), b.float(), rtol=1e-3), name
assert not torch.equal(together.weights["fc.weight"][0], together.weights["fc.weight"][1])
"""


def test_seeds_in_one_program_are_the_seeds_alone():
    """What part ``sharing`` compares computes the same."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPO), str(BENCHMARKS)])}
    done = subprocess.run([sys.executable, "-c", SEEDS], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
