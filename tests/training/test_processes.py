"""Several processes train one run together, over gloo on this machine, with an unchanged script."""

import contextlib
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdtutor.runs import load_state

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("together.py")


def start(what: str, folder: Path, processes: int = 2) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    alone = [sys.executable, str(SCRIPT), what, str(folder)]
    together = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    together += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    return subprocess.run(
        alone if processes == 1 else together + alone[1:],
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
    )


def free_port() -> int:
    """A port below those that the system gives away, so that nobody takes it until it is used."""
    for port in random.SystemRandom().sample(range(20000, 30000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port is free")


def by_hand(what: str, folder: Path) -> list[subprocess.Popen]:
    """Two processes that nobody watches over: how each ends by itself."""
    port = free_port()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    env |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    begun = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), what, str(folder)],
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in begun:
        process.errors = process.communicate(timeout=300)[1]
    return begun


def run(what: str, folder: Path, processes: int = 2) -> list[dict]:
    ended = start(what, folder, processes)
    assert not ended.returncode, ended.stderr[-3000:]
    return [load_state(folder / f"{what}_{rank}") for rank in range(processes)]


def largest_difference(a: dict, b: dict) -> float:
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict:
    """{what: what one process ends with}."""
    folder = tmp_path_factory.mktemp("alone")
    return {what: run(what, folder, 1)[0] for what in ("kd", "uneven", "crd")}


@pytest.mark.parametrize("what", ["kd", "uneven"])
def test_two_processes_are_one_with_the_whole_batch(what, alone, tmp_path):
    first, second = run(what, tmp_path)
    assert largest_difference(first["state"], second["state"]) == 0
    assert largest_difference(first["state"], alone[what]["state"]) < 1e-5
    assert first["rows"] == second["rows"] and first["result"] == second["result"]
    for mine, want in zip(first["rows"], alone[what]["rows"]):
        assert mine == pytest.approx(want, abs=1e-5)
    assert first["result"] == pytest.approx(alone[what]["result"], abs=1e-5)


def test_the_first_process_alone_writes_and_shows(tmp_path):
    ended = start("kd", tmp_path)
    assert not ended.returncode, ended.stderr[-3000:]
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 3
    assert '"processes": 2' in (tmp_path / "run" / "spec.json").read_text()


def test_crds_memory_stays_whole(alone, tmp_path):
    """After one step on all images, whatever negatives were drawn: every row was replaced, by the
    row of the process that saw its image.
    """
    first, second = run("crd", tmp_path)
    for name in ("memory_student", "memory_teacher", "z"):
        assert torch.equal(first["state"][name], second["state"][name])
    for name in ("memory_student", "memory_teacher"):
        difference = first["state"][name] - alone["crd"]["state"][name]
        assert float(difference.abs().max()) < 1e-5


def test_one_is_killed_and_all_go_on_later(tmp_path):
    first, second = by_hand("killed", tmp_path)
    assert second.returncode == 9 and first.returncode == 1
    (line,) = [line for line in first.errors.splitlines() if not line.startswith("[")]
    assert line.startswith("kdtutor: process 0 of 2 ends, for another one ended or hangs")
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 2
    (tmp_path / "again").write_text("")
    first, second = run("killed", tmp_path)
    assert first["status"] == second["status"] == "finished"
    assert [row["epoch"] for row in first["rows"]] == [1, 2, 3, 4]
    assert largest_difference(first["state"], second["state"]) == 0
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "again").write_text("")
    unbroken, _ = run("killed", whole)
    assert unbroken["rows"] == first["rows"]
    assert largest_difference(unbroken["state"], first["state"]) == 0


def test_buffers_of_every_kind_stay_as_they_are_and_statistics_are_those_of_all(tmp_path):
    first, second = run("kept", tmp_path)
    (alone,) = run("kept", tmp_path, 1)
    mine, other, want = (r["state"] for r in (first, second, alone))
    for name in ("least", "mask", "table", "short", "complex", "empty", "shared"):
        key = f"student.{name}"
        assert torch.equal(mine[key], want[key]) and torch.equal(other[key], want[key])
    for key in ("student.norm.running_mean", "student.bias.weight"):
        assert torch.equal(mine[key], other[key])
        assert torch.allclose(mine[key], want[key], atol=1e-4)


def test_a_memory_that_is_gathered_ends_with_one_line_too(tmp_path):
    first, second = by_hand("crd_killed", tmp_path)
    assert second.returncode == 9 and first.returncode == 1
    (line,) = [line for line in first.errors.splitlines() if line.startswith("kdtutor")]
    assert line.startswith("kdtutor: process 0 of 2 ends") and "Traceback" not in first.errors


def test_nobody_waits_for_a_process_whose_logger_broke(tmp_path):
    first, second = by_hand("logger", tmp_path)
    assert first.returncode == 0 and second.returncode == 1
    assert "kdtutor: the first process ended with KeyError: 'the logger broke'" in second.errors


def test_what_a_share_cannot_see_is_said_once(tmp_path):
    ended = start("warned", tmp_path)
    assert not ended.returncode, ended.stderr[-3000:]
    assert ended.stderr.count("RKD relates the examples of a batch to one another") == 1
    assert ended.stderr.count("BatchNorm normalises over 32 of the 64 examples") == 1


@pytest.mark.parametrize(
    "what, message",
    [
        ("small", "a batch of 1 for 2 processes: each needs at least one example"),
        ("last", "a batch of 1 for 2 processes: each needs at least one example"),
        ("refused", "epochs=0: expected a whole number of at least 1"),
    ],
)
def test_an_error_ends_all_of_them(what, message, tmp_path):
    ended = start(what, tmp_path)
    assert ended.returncode and message in ended.stderr
    assert "in epoch" not in ended.stderr  # said before the first
