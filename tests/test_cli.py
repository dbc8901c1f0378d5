"""The command line: thin commands, one line for bad input, a traceback only on request."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import kdtutor
from kdtutor import datasets
from kdtutor.cli import app


def kd(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def notebooks(monkeypatch):
    """Three lessons without notebooks; ``ran`` fills with what was executed."""

    def run(path, budget, save):
        if budget not in (None, "smoke", "cpu", "full"):
            raise ValueError("unknown budget: smoke, cpu or full")
        if path.stem in module.broken:
            raise module.LessonError("code cell 3:\nZeroDivisionError")
        module.ran.append((path.stem, budget, save))
        return 12.3

    module = ModuleType("kdtutor.workbook.notebooks")
    module.broken = []
    paths = [
        Path("notebooks", f"{name}.ipynb")
        for name in ("00_start_here", "01_distilling_mnist", "02_soft_targets")
    ]
    module.ran = []
    module.lessons = lambda: paths
    module.LessonError = type("LessonError", (RuntimeError,), {})
    module.run = run
    module.problems = lambda path: ["error output", "too large"] if "mnist" in path.stem else []
    monkeypatch.setitem(sys.modules, "kdtutor.workbook.notebooks", module)
    monkeypatch.setattr(kdtutor.workbook, "notebooks", module, raising=False)
    return module


def test_version_and_help():
    assert kd("--version").output.strip() == kdtutor.__version__
    for command in ([], ["data"], ["lessons"]):
        output = kd(*command, "--help").output
        assert "Usage:" in output and "--help" in output


def test_data_list(monkeypatch):
    monkeypatch.setattr(
        datasets,
        "available",
        lambda root: {"digits": (True, "embedded"), "mnist": (False, f"not in {root}")},
    )
    lines = kd("data", "list", "--root", "elsewhere").output.splitlines()
    assert [line.split() for line in lines] == [
        ["digits", "present", "embedded"],
        ["mnist", "absent", "not", "in", "elsewhere"],
    ]


def test_data_list_names_every_dataset(elsewhere):
    done = kd("data", "list")
    assert done.exit_code == 0 and {"digits", "scenes", "mnist", "cifar100"} <= {
        line.split()[0] for line in done.output.splitlines()
    }


def test_data_fetch(monkeypatch):
    monkeypatch.setattr(
        datasets, "fetch", lambda name, root: None if name == "digits" else root / name
    )
    assert (
        kd("data", "fetch", "mnist", "--root", "here").output
        == f"mnist is in {Path('here', 'mnist')}.\n"
    )
    assert kd("data", "fetch", "digits").output == "digits needs no files: nothing to fetch.\n"


@pytest.mark.parametrize(
    "error",
    [ValueError("unknown dataset 'mnits'.\nDid you mean 'mnist'?"), OSError("no\n network")],
)
def test_errors_are_one_line_unless_debugging(monkeypatch, error):
    def fail(name, root):
        raise error

    monkeypatch.setattr(datasets, "fetch", fail)
    done = kd("data", "fetch", "mnits")
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr == f"kdtutor: {' '.join(str(error).split())}\n"
    assert kd("--debug", "data", "fetch", "mnits").exception is error


def test_a_bug_is_not_hidden(monkeypatch):
    monkeypatch.setattr(datasets, "fetch", lambda name, root: {}["bug"])
    assert isinstance(kd("data", "fetch", "mnist").exception, KeyError)


def test_fetch_of_an_unknown_dataset_names_the_near_match(elsewhere):
    done = kd("data", "fetch", "mnits")
    assert done.exit_code == 1 and len(done.stderr.splitlines()) == 1 and "mnist" in done.stderr


def test_lessons_list(notebooks):
    assert kd("lessons", "list").output.split() == [
        "00_start_here",
        "01_distilling_mnist",
        "02_soft_targets",
    ]


@pytest.mark.parametrize(
    "names, ran",
    [
        ([], ["00_start_here", "01_distilling_mnist", "02_soft_targets"]),
        (["02", "00_start_here"], ["02_soft_targets", "00_start_here"]),
        (["notebooks/01_distilling_mnist.ipynb"], ["01_distilling_mnist"]),
    ],
)
def test_lessons_run(notebooks, names, ran):
    done = kd("lessons", "run", *names, "--budget", "smoke", "--no-save")
    assert done.exit_code == 0 and done.output.splitlines() == [
        f"OK   {stem}: 12 s" for stem in ran
    ]
    assert notebooks.ran == [(stem, "smoke", False) for stem in ran]


def test_lesson_that_fails_stops_no_other(notebooks):
    notebooks.broken.append("00_start_here")
    done = kd("lessons", "run")
    assert (
        done.exit_code == 1
        and "FAIL 00_start_here: code cell 3:\nZeroDivisionError\n" in done.output
    )
    assert notebooks.ran == [("01_distilling_mnist", None, True), ("02_soft_targets", None, True)]


def test_lessons_run_bad_names(notebooks):
    lesson, budget = kd("lessons", "run", "01_distiling"), kd("lessons", "run", "--budget", "huge")
    assert lesson.exit_code == budget.exit_code == 1 and notebooks.ran == []
    assert "01_distilling_mnist" in lesson.stderr and "smoke" in budget.stderr


def test_lessons_check(notebooks):
    done = kd("lessons", "check")
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "OK   00_start_here",
        "FAIL 01_distilling_mnist: error output; too large",
        "OK   02_soft_targets",
    ]
    assert kd("lessons", "check", "00", "02").exit_code == 0
