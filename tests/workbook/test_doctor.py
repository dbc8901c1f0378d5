"""kdtutor doctor: every thing that can be broken is reported as a FAIL line with its remedy, and
nothing as a traceback.
"""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import torchvision
from typer.testing import CliRunner

from kdtutor import datasets
from kdtutor.cli import app
from kdtutor.workbook import doctor


def lines(check, root="data"):
    return list(check(Path(root)))


def failed(check, root="data"):
    """The FAIL lines of one check, which must each say what to do."""
    bad = [line for line in lines(check, root) if not line.ok]
    assert all(
        line.detail and line.remedy and str(line).startswith("FAIL ") and "\n" not in str(line)
        for line in bad
    )
    return bad


def test_everything_is_fine_here(elsewhere):
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    for name in (
        "Python",
        "torch",
        "torch pair",
        "device",
        "threads",
        "widgets",
        "free disk",
        "data directory",
        "dataset digits",
    ):
        assert f"OK   {name}: " in done.output
    assert not list(elsewhere.iterdir()), "the doctor left something behind"


def test_old_python(monkeypatch):
    monkeypatch.setattr(doctor, "MINIMUM_PYTHON", (99, 1))
    assert "install Python 99.1" in failed(doctor.python)[0].remedy


def test_package_missing_too_old_or_broken(monkeypatch):
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: [
            "no-such-package>=1",
            "numpy>=999",
            "seaborn>=0.1",
            "scipy>=1",
            "colorama>=99; extra == 'nobody'",
        ],
    )
    monkeypatch.setitem(sys.modules, "seaborn", None)  # an import that raises
    bad = {line.name: line.detail for line in failed(doctor.packages)}
    assert set(bad) == {"no-such-package", "numpy", "seaborn"}
    assert bad["no-such-package"] == "not installed" and ">=999" in bad["numpy"]
    assert "cannot be imported" in bad["seaborn"]
    assert [line.name for line in lines(doctor.packages) if line.ok] == ["scipy"]


def test_every_dependency_has_a_line():
    named = {line.name for line in lines(doctor.packages)}
    assert {
        "torch",
        "torchvision",
        "scikit-learn",
        "ipywidgets",
        "jupyterlab",
        "typer",
    } <= named and "pytest" not in named


@pytest.mark.parametrize("nms", [lambda *a: torch.tensor([0]), None])
def test_torch_and_torchvision_do_not_match(monkeypatch, nms):
    def missing(*args):
        raise RuntimeError("operator torchvision::nms\ndoes not exist")

    monkeypatch.setattr(torchvision.ops, "nms", nms or missing)
    (line,) = failed(doctor.torch_pair)
    assert torch.__version__ in line.detail and torchvision.__version__ in line.detail


def test_gpu_that_does_not_answer(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("CUDA driver version is insufficient")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", broken)
    monkeypatch.setattr(doctor, "CHECKS", [doctor.device])
    (line,) = doctor.diagnose()
    assert (
        not line.ok
        and line.name == "device"
        and "insufficient" in line.detail
        and "driver" in line.remedy
    )


def test_gpu_that_computes_nonsense(monkeypatch):
    monkeypatch.setattr(torch, "ones", lambda *a, device: torch.zeros(8))
    assert "driver" in failed(doctor.device)[0].remedy


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr(doctor, "usable_cores", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert failed(doctor.threads)[0].remedy == "set OMP_NUM_THREADS=1"


@pytest.mark.parametrize(
    "quota, cores", [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("", 64)]
)
def test_cores_of_a_container(monkeypatch, quota, cores):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: quota)
    assert doctor.usable_cores() == cores


def test_widgets_without_their_extension(monkeypatch, tmp_path):
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *a: [str(tmp_path)])
    assert "no extension" in failed(doctor.widgets)[0].detail


def test_full_disk(monkeypatch):
    monkeypatch.setattr(doctor, "DISK_GB", 1e9)
    assert failed(doctor.disk)[0].remedy.startswith("make room")


def test_data_directory_that_cannot_be_written(monkeypatch, tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert (
        f"{tmp_path} is not writable: Permission denied"
        in failed(doctor.data_directory, tmp_path / "not" / "yet")[0].detail
    )


def test_datasets_that_are_absent(monkeypatch):
    here = {
        "digits": (False, "scikit-learn is broken"),
        "scenes": (True, "generated"),
        "mnist": (False, "kdtutor data fetch mnist"),
        "cub200": (False, "to be copied by hand: its publisher's page"),
        "cifar10": (True, "50000 + 10000 images"),
    }
    monkeypatch.setattr(datasets, "available", lambda root: here)
    report = {line.name: line for line in lines(doctor.datasets)}
    assert [name for name, line in report.items() if not line.ok] == ["dataset digits"]
    assert report["dataset mnist"].detail == "absent (optional): kdtutor data fetch mnist"
    assert (
        report["dataset cub200"].detail
        == "absent (optional): to be copied by hand: its publisher's page"
    )
    assert report["dataset cifar10"].detail == "50000 + 10000 images"


def test_real_datasets_in_an_empty_directory(tmp_path):
    report = {line.name.removeprefix("dataset "): line for line in lines(doctor.datasets, tmp_path)}
    assert {"digits", "scenes", "mnist", "fashion_mnist", "cifar10", "cifar100"} <= set(report)
    assert all(line.ok for line in report.values())
    assert "absent" in report["mnist"].detail and "absent" not in report["digits"].detail


def test_a_check_that_raises_is_a_line_and_the_rest_still_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    report = {line.name: line for line in doctor.diagnose()}
    assert not report["torch pair"].ok and not report["widgets"].ok and not report["torchvision"].ok
    assert "ModuleNotFoundError" in report["widgets"].detail
    assert report["free disk"].ok and report["dataset digits"].ok


def test_torch_that_does_not_load(tmp_path):
    (tmp_path / "torch.py").write_text(
        "raise OSError('libcudnn.so.9: cannot open shared object file')", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-m", "kdtutor.cli", "doctor"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (
        "FAIL torch: " in done.stdout
        and "libcudnn.so.9" in done.stdout
        and "OK   widgets: " in done.stdout
    )


def test_exit_status(monkeypatch, elsewhere):
    monkeypatch.setattr(doctor, "DISK_GB", 1e9)
    done = CliRunner().invoke(app, ["doctor", "--root", "data"])
    assert done.exit_code == 1 and "FAIL free disk: " in done.output and "1 to mend" in done.output
