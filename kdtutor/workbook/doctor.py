"""What a lesson needs, and whether it is here: ``kdtutor doctor``.

A check is a function of the data directory that yields ``Line``s. One that raises becomes a FAIL
line with the error, so whatever is broken the rest is still reported."""

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MINIMUM_PYTHON = (3, 11)
# free disk that the lessons need at the default budget: datasets, runs, the teacher's cache
DISK_GB = 1.0
REINSTALL = "make clean lab, or in an environment of your own: pip install -c constraints.txt -e ."
MODULES = {"scikit-learn": "sklearn"}  # packages that are imported under another name


class Line(NamedTuple):
    """One line of the report.

    Args:
        ok: Whether all is well.
        name: What was looked at.
        detail: What was found.
        remedy: What to do about it, shown when it is not ok.

    Example:
        >>> print(Line(False, "free disk", "0.1 GB", "make room on that disk"))
        FAIL free disk: 0.1 GB -> make room on that disk
    """

    ok: bool
    name: str
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        detail = " ".join(self.detail.split())
        return f"{'OK  ' if self.ok else 'FAIL'} {self.name}: {detail}" + (
            "" if self.ok else f" -> {self.remedy}"
        )


def python(root: Path) -> Iterator[Line]:
    """Is Python new enough?

    Args:
        root: The data directory.

    Returns:
        One line.
    """
    ok = sys.version_info[:2] >= MINIMUM_PYTHON
    need = ".".join(map(str, MINIMUM_PYTHON))
    yield Line(
        ok,
        "Python",
        f"{platform.python_version()} in {sys.prefix}",
        f"install Python {need} or newer, then {REINSTALL}",
    )


def packages(root: Path) -> Iterator[Line]:
    """Is every package that pyproject.toml lists installed, new enough, and can it be imported?

    Args:
        root: The data directory.

    Returns:
        One line per package.
    """
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    for requirement in map(Requirement, requires("kdtutor") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
            importlib.import_module(MODULES.get(requirement.name, requirement.name))
        except PackageNotFoundError:
            yield Line(False, requirement.name, "not installed", REINSTALL)
        except Exception as error:
            yield Line(
                False,
                requirement.name,
                f"{found} cannot be imported: {type(error).__name__}: {error}",
                REINSTALL,
            )
        else:
            ok = requirement.specifier.contains(found, prereleases=True)
            yield Line(ok, requirement.name, f"{found} ({requirement.specifier})", REINSTALL)


def torch_pair(root: Path) -> Iterator[Line]:
    """Were torch and torchvision built for each other?

    A mismatch shows in torchvision's compiled operators.

    Args:
        root: The data directory.

    Returns:
        One line.
    """
    import torch
    import torchvision

    pair = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    try:
        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    except Exception as error:
        yield Line(
            False, "torch pair", f"{pair} do not match: {type(error).__name__}: {error}", REINSTALL
        )
    else:
        yield Line(
            kept == [0, 2], "torch pair", f"{pair}, nms keeps boxes {kept} of [0, 1, 2]", REINSTALL
        )


def device(root: Path) -> Iterator[Line]:
    """Where will training run, and does the device answer?

    Args:
        root: The data directory.

    Returns:
        One line.
    """
    import torch

    try:
        if torch.cuda.is_available():
            name, memory = (
                torch.cuda.get_device_name(),
                torch.cuda.get_device_properties(0).total_memory,
            )
            kind, detail = "cuda", f"cuda: {name}, {memory / 2**30:.0f} GiB"
        elif torch.backends.mps.is_available():
            kind, detail = "mps", f"mps: Apple GPU of {platform.machine()}"
        else:
            kind, detail = (
                "cpu",
                f"cpu: {platform.machine()}, no GPU that torch can use (none is needed)",
            )
        ok = torch.ones(8, device=kind).sum().item() == 8
    except RuntimeError as error:
        ok, detail = False, f"{type(error).__name__}: {error}"
    yield Line(
        ok,
        "device",
        detail,
        "update the GPU's driver, or hide the GPU: CUDA_VISIBLE_DEVICES= make lab",
    )


def usable_cores() -> int:
    """Cores that this process may use.

    Returns:
        Its affinity, or the quota of its container where that is less; at least 1.

    Example:
        >>> usable_cores() >= 1
        True
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no container, or "max": no quota
        return cores


def threads(root: Path) -> Iterator[Line]:
    """Does torch use as many threads as there are cores?

    More of them than cores makes every step slower.

    Args:
        root: The data directory.

    Returns:
        One line.
    """
    import torch

    used, cores = torch.get_num_threads(), usable_cores()
    yield Line(
        used <= cores,
        "threads",
        f"torch uses {used} on {cores} usable cores",
        f"set OMP_NUM_THREADS={cores}",
    )


def widgets(root: Path) -> Iterator[Line]:
    """Will JupyterLab draw the sliders?

    It needs ipywidgets and, in the same environment, the prebuilt extension.

    Args:
        root: The data directory.

    Returns:
        One line.
    """
    import ipywidgets
    import jupyterlab
    from jupyter_core.paths import jupyter_path

    versions = f"JupyterLab {jupyterlab.__version__}, ipywidgets {ipywidgets.__version__}"
    manager = Path("@jupyter-widgets", "jupyterlab-manager", "package.json")
    found = [
        folder for folder in jupyter_path("labextensions") if (Path(folder) / manager).is_file()
    ]
    yield Line(
        bool(found),
        "widgets",
        versions + (f", extension in {found[0]}" if found else ", but no extension for them"),
        "pip install --force-reinstall jupyterlab_widgets, in the environment that JupyterLab runs "
        "in",
    )


def _existing(root: Path) -> Path:
    """The directory itself, or the nearest one above it that exists."""
    root = Path(root).absolute()
    return next(folder for folder in (root, *root.parents) if folder.is_dir())


def disk(root: Path) -> Iterator[Line]:
    """Is there room for datasets and runs?

    Args:
        root: The data directory.

    Returns:
        One line.
    """
    place = _existing(root)
    free = shutil.disk_usage(place).free / 1e9
    yield Line(
        free >= DISK_GB,
        "free disk",
        f"{free:.1f} GB in {place} (lessons need {DISK_GB:.0f})",
        "make room on that disk",
    )


def data_directory(root: Path) -> Iterator[Line]:
    """Can datasets be put where they are looked for?

    Tried for real: permission bits lie to root and on network disks.

    Args:
        root: The data directory.

    Returns:
        One line.
    """
    place = _existing(root)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield Line(
            False,
            "data directory",
            f"{place} is not writable: {error.strerror}",
            "work in a folder of your own, or name another: --root PATH",
        )
    else:
        yield Line(True, "data directory", f"{Path(root).absolute()} is writable")


def datasets(root: Path) -> Iterator[Line]:
    """Which datasets are here?

    digits and scenes come with the packages and must be; the others are optional.

    Args:
        root: The data directory.

    Returns:
        One line per dataset.
    """
    from .. import datasets

    for name, (present, detail) in datasets.available(root).items():
        embedded = name in ("digits", "scenes")
        if present or embedded:
            yield Line(present, f"dataset {name}", detail, REINSTALL)
        else:
            yield Line(True, f"dataset {name}", f"absent (optional): {detail}")


CHECKS: list[Callable[[Path], Iterator[Line]]] = [
    python,
    packages,
    torch_pair,
    device,
    threads,
    widgets,
    disk,
    data_directory,
    datasets,
]


def diagnose(root: str | Path = "data") -> Iterator[Line]:
    """All lines, as they become known.

    Args:
        root: The data directory.

    Returns:
        What each of ``CHECKS`` yields; one that raises is a FAIL line with the error.
    """
    root = Path(root)
    # Where "data" means the checkout's; a package too broken to tell is reported below.
    with suppress(Exception):
        from ..datasets.root import resolve

        root = resolve(root)
    for check in CHECKS:
        try:
            yield from check(root)
        except Exception as error:  # a broken package may raise anything on import
            yield Line(
                False,
                check.__name__.replace("_", " "),
                f"{type(error).__name__}: {error}",
                REINSTALL,
            )
