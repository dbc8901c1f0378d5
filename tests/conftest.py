"""What all tests share: the smoke budget, quiet and repeatable training on one thread, and places
to work in.
"""

import os
from pathlib import Path

# Before torch, matplotlib or a notebook's kernel start: kernels and subprocesses inherit it.
os.environ.update(
    KDTUTOR_BUDGET="smoke", KDTUTOR_PROGRESS="0", MPLBACKEND="Agg", OMP_NUM_THREADS="1"
)

import hypothesis
import pytest
import torch
from stand_in import DEVICE, StandIn

torch.set_num_threads(1)
# The same examples in every run, and no deadline: how long one takes says more about a busy machine
# than about the code.
hypothesis.settings.register_profile("kdtutor", deadline=None, derandomize=True)
hypothesis.settings.load_profile("kdtutor")

REPO = Path(__file__).resolve().parents[1]
# What `make quick` leaves out, as folders and files under tests/; a new test is in it by default.
# The longest come first, and begin first, so that no process is left alone with one at the end.
THOROUGH = (
    "workbook/test_browser.py",
    "workbook/test_notebooks.py",
    "ablation/test_executors.py",
    "course/test_assignments.py",
    "test_benchmarks.py",
    "ablation/test_background.py",
    "course",
    "contributing",
    "distiller/test_eight.py",
    "taps/test_cut_networks.py",
    "test_packaging.py",
    "test_style.py",
)


def pytest_collection_modifyitems(items):
    def place(item) -> int:
        inside = (item.path.is_relative_to(REPO / "tests" / name) for name in THOROUGH)
        return next((i for i, found in enumerate(inside) if found), len(THOROUGH))

    for item in items:
        if place(item) < len(THOROUGH):
            item.add_marker("thorough")
    items.sort(key=place)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout, wherever pytest was started."""
    return REPO


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu(request):
    """The GPU, for a test that waits for one; and a device that stands in for it everywhere."""
    if request.param == "stand-in":
        with StandIn():
            yield DEVICE
    elif torch.cuda.is_available():
        yield torch.device("cuda", 0)
    else:
        pytest.skip("needs a GPU")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """An empty working directory: what is written by accident lands here, and nothing of the
    checkout is found by accident.
    """
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def repeatable():
    """Every test starts from the same global seed."""
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter):
    """The wrong answers to the assignments, and which part of the test cell caught each
    (tests/course/test_assignments.py).
    """
    reports = [
        r
        for outcome in ("passed", "failed")
        for r in terminalreporter.getreports(outcome)
        if getattr(r, "when", "") == "call"
    ]
    rows = [
        row
        for report in reports
        for key, found in report.user_properties
        if key == "mutants"
        for row in found
    ]
    if rows:
        terminalreporter.section("wrong answers to the assignments, and what catches them")
        for assignment, exercise, what, visible, hidden in sorted(
            map(tuple, rows), key=lambda row: row[:2]
        ):
            terminalreporter.line(
                f"{assignment} · {exercise} · {what}: hidden {'yes' if hidden else 'NO'}; "
                f"visible: {visible or '-'}"
            )
