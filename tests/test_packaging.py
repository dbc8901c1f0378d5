"""Two commands from a fresh clone: one list of dependencies, pins for all of it, and one clear line
where it cannot work.
"""

import ast
import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parents[1]
HELPER = REPO / ".ci" / "environment.py"
SETTINGS = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
SYSTEMS = {
    "linux": dict(
        sys_platform="linux", platform_system="Linux", os_name="posix", platform_machine="x86_64"
    ),
    "macos": dict(
        sys_platform="darwin", platform_system="Darwin", os_name="posix", platform_machine="arm64"
    ),
    "windows": dict(
        sys_platform="win32", platform_system="Windows", os_name="nt", platform_machine="AMD64"
    ),
}
posix = pytest.mark.skipif(
    os.name != "posix" or not shutil.which("make"), reason="needs make and a POSIX shell"
)


def pins() -> dict[str, str]:
    lines = (REPO / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {
        canonicalize_name(n): v
        for n, v in (line.split("==") for line in lines if line and not line.startswith("#"))
    }


def direct() -> list[Requirement]:
    """Everything that pyproject.toml lists: dependencies and all extras."""
    extras = PROJECT.get("optional-dependencies", {}).values()
    return [
        Requirement(r) for r in [*PROJECT["dependencies"], *(r for extra in extras for r in extra)]
    ]


# One list of dependencies, and its pins


def test_conda_gives_the_same_environment_from_the_same_list():
    environment = yaml.safe_load((REPO / "environment.yml").read_text(encoding="utf-8"))
    *conda, through_pip = environment["dependencies"]
    conda = {r.name: r for r in map(Requirement, conda)}
    assert set(conda) == {"python", "pip"}, "packages belong into pyproject.toml alone"
    assert conda["python"].specifier == SpecifierSet(PROJECT["requires-python"])
    assert through_pip == {"pip": ["-c constraints.txt", "-e ."]}
    assert environment["name"] == PROJECT["name"]


def test_constraints_are_versions_only():
    lines = (REPO / "constraints.txt").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if not line.startswith("#")]
    assert [
        line for line in entries if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)
    ] == []
    assert len(pins()) == len(entries), "a package is pinned twice"


@pytest.mark.parametrize(
    "name",
    [
        "constraints.txt",
        "environment.yml",
        "pyproject.toml",
        "Makefile",
        ".pre-commit-config.yaml",
        ".ci/run",
        ".ci/environment.py",
    ],
)
def test_no_host_and_no_place_of_one_machine_in_the_build_files(name):
    text = (REPO / name).read_text(encoding="utf-8")
    assert not re.search(
        r"\w+://|--(extra-)?index-url|--find-links|/(home|root|tmp|work|Users|opt)/", text
    )


def test_direct_dependencies_are_pinned_at_or_above_their_floors():
    for requirement in direct():
        assert requirement.specifier, f"{requirement.name} has no floor"
        pin = pins()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} is pinned to {pin}"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_whole_closure_is_pinned_on_every_system(system, python):
    environment = SYSTEMS[system] | dict(
        python_version=python,
        python_full_version=python + ".9",
        implementation_name="cpython",
        platform_python_implementation="CPython",
    )
    todo, seen, unpinned = [(r, "") for r in direct()], set(), set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate(environment | {"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in pins():
            unpinned.add(name)
        for wanted in {"", *requirement.extras} - {e for n, e in seen if n == name}:
            seen.add((name, wanted))
            # not on this system: its own needs are unknown here
            with contextlib.suppress(PackageNotFoundError):
                todo += [(Requirement(r), wanted) for r in requires(name) or []]
    assert len(seen) > 100
    assert unpinned == set()


def test_this_environment_has_the_pinned_versions():
    if not (Path(sys.prefix) / ".ready-test").exists():
        pytest.skip("not an environment that make made")
    differs = {}
    for name, pin in pins().items():
        try:
            if version(name) != pin:
                differs[name] = (version(name), pin)
        except PackageNotFoundError:  # of another system
            pass
    assert differs == {}


def test_one_version():
    import kdtutor

    assert kdtutor.__version__ == version("kdtutor")


def test_import_loads_no_notebook_stack(elsewhere):
    heavy = [
        "pandas",
        "matplotlib",
        "seaborn",
        "scipy",
        "sklearn",
        "torchvision",
        "ipywidgets",
        "IPython",
        "jupyterlab",
        "typer",
    ]
    code = (
        "import sys; from kdtutor import Teacher, datasets, evaluate, fit, methods, models, "
        "softening, taps, training; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


LINT = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"
)


def lint(folder: Path) -> subprocess.CompletedProcess:
    """import-linter over the kdtutor that lies in ``folder``."""
    return subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


def test_imports_point_one_way():
    done = lint(REPO)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the package that may be broken."""
    copy = tmp_path_factory.mktemp("house")
    shutil.copytree(REPO / "kdtutor", copy / "kdtutor", ignore=lambda *_: ["__pycache__"])
    shutil.copy(REPO / "pyproject.toml", copy)
    return copy


@pytest.mark.parametrize(
    "room, imported",
    [
        ("concepts/__init__.py", "kdtutor.methods"),
        ("errors.py", "kdtutor.display"),
        ("training/__init__.py", "kdtutor.workbook"),
    ],
)
def test_an_import_upward_is_refused(house, room, imported):
    path = house / "kdtutor" / room
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\nimport {imported}\n", encoding="utf-8")
    try:
        done = lint(house)
    finally:
        path.write_text(before, encoding="utf-8")
    importer = "kdtutor." + room.removesuffix(".py").removesuffix("/__init__")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{importer} is not allowed to import {imported}" in done.stdout, done.stdout


def test_a_room_without_a_layer_is_refused(house):
    attic = house / "kdtutor" / "attic"
    attic.mkdir()
    (attic / "__init__.py").touch()
    try:
        done = lint(house)
    finally:
        shutil.rmtree(attic)
    assert done.returncode != 0 and "attic" in done.stdout + done.stderr


def test_the_marker_of_types_is_shipped():
    data = SETTINGS["tool"]["setuptools"]["package-data"]["kdtutor"]
    assert "py.typed" in data and (REPO / "kdtutor" / "py.typed").exists()
    assert all(list((REPO / "kdtutor").glob(name)) for name in data)


def test_the_license_is_the_same_everywhere():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (REPO / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    assert citation["version"] == version("kdtutor") and citation["cff-version"] == "1.2.0"


# The helper behind make lab and make test, run as a real process


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def run(*command, **environment) -> subprocess.CompletedProcess:
    """With the surrounding make's own variables taken away (the suite itself runs under make)."""
    env = {
        k: v
        for k, v in os.environ.items()
        if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VENV", "PYTHON")
    }
    return subprocess.run(
        [str(c) for c in command],
        cwd=REPO,
        env=env | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def refusal(done: subprocess.CompletedProcess) -> str:
    """The one line that a refusal prints."""
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1 and lines[0].startswith("kdtutor: "), done.stderr
    return lines[0]


@pytest.fixture
def venv(tmp_path) -> Path:
    return tmp_path / "a place" / "venv"


@pytest.fixture
def project(tmp_path) -> Path:
    """A checkout of its own, whose pins a test may change."""
    copy = tmp_path / "checkout"
    for name in (".ci/environment.py", "pyproject.toml", "constraints.txt"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, copy / name)
    return copy


def fake_venv(venv: Path, pip: str = "exit 0", other: str = "") -> Path:
    """An environment whose interpreter claims to be 3.12.1; its pip writes down its arguments and
    does as told, others too.
    """
    script(
        venv / "bin" / "python",
        f"""
        case "$*" in
          *version_info*) echo 3.12.1 ;;
          *"-m pip install"*) echo "$@" >> "{venv}/calls"; {pip} ;;
          {other}
        esac
    """,
    )
    (venv / "pyvenv.cfg").touch()
    return venv / "calls"


def test_helper_parses_on_old_pythons():
    text = HELPER.read_text(encoding="ascii")  # Python 2 reads nothing else
    new = (
        ast.JoinedStr,
        ast.AnnAssign,
        ast.NamedExpr,
        ast.AsyncFunctionDef,
        ast.Nonlocal,
        ast.Starred,
        ast.YieldFrom,
        ast.Match,
    )
    for node in ast.walk(ast.parse(text, feature_version=(3, 7))):
        assert not isinstance(node, new), f"line {node.lineno}: not in every Python"
        if isinstance(node, ast.FunctionDef):
            assert (
                not node.returns
                and not any(a.annotation for a in node.args.args)
                and not node.args.kwonlyargs
            )


@posix
@pytest.mark.parametrize("target", ["lab", "test", "doctor"])
def test_old_python_is_refused_in_one_line(target, tmp_path, venv):
    old = script(tmp_path / "python3.9", "echo 3.9.7")
    line = refusal(run("make", target, f"PYTHON={old}", f"VENV={venv}"))
    assert "Python 3.11 or newer is needed" in line and "python3.9 is 3.9.7" in line
    assert not venv.exists()


@posix
def test_only_old_pythons_on_the_path(tmp_path, venv):
    script(tmp_path / "bin" / "python3", "echo 3.8.10")
    script(
        tmp_path / "bin" / "python3.12", "echo 'command not found' >&2; exit 127"
    )  # a version manager's stand-in
    line = refusal(run(sys.executable, HELPER, "--venv", venv, PATH=str(tmp_path / "bin")))
    assert "python3 is 3.8.10" in line


@posix
def test_newest_python_on_the_path_is_taken(tmp_path, venv):
    for name, number in ("python3", "3.9.7"), ("python3.11", "3.11.2"), ("python3.13", "3.13.1"):
        script(
            tmp_path / "bin" / name,
            f'case "$*" in *version_info*) echo {number} ;; *) exit 3 ;; esac',
        )
    done = run(sys.executable, HELPER, "--venv", venv, "--need-gb", "0", PATH=str(tmp_path / "bin"))
    assert "kdtutor: python3.13 -m venv" in done.stderr and done.returncode == 1


@posix
def test_no_python_at_all(tmp_path, venv):
    (tmp_path / "bin").mkdir()
    for tool in "make", "id":
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    assert "Python 3.11 or newer is needed" in refusal(
        run("make", "lab", f"VENV={venv}", PATH=str(tmp_path / "bin"))
    )


def test_named_python_that_does_not_run(venv):
    assert "no-such-python does not run" in refusal(
        run(sys.executable, HELPER, "--venv", venv, "--python", "no-such-python")
    )


@posix
def test_python_without_venv(tmp_path, venv):
    bare = script(tmp_path / "python3.11", "echo 3.11.2; exit 1")
    assert "apt install python3-venv" in refusal(
        run(sys.executable, HELPER, "--venv", venv, "--python", bare)
    )


@posix
def test_full_disk_is_refused_before_anything_is_written(venv):
    line = refusal(run("make", "test", f"PYTHON={sys.executable}", f"VENV={venv}", "NEED_GB=1e9"))
    assert (
        "not enough free disk" in line
        and "1000000000 GB" in line
        and re.search(r"and [\d.]+ GB are free", line)
    )
    assert not venv.exists()


def test_little_disk_is_enough_when_torch_is_there(venv):
    (venv / "lib" / "python3.12" / "site-packages" / f"torch-{pins()['torch']}.dist-info").mkdir(
        parents=True
    )
    (venv / "Lib").exists() or (venv / "Lib").symlink_to(venv / "lib")
    line = refusal(
        run(sys.executable, HELPER, "--venv", venv, "--python", sys.executable, "--need-gb", "1e9")
    )
    assert "is not a virtual environment" in line  # came past the disk


@posix
def test_network_gone(tmp_path, venv):
    offline = {k: "" for k in os.environ if k.startswith("PIP_")} | dict(
        PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_NO_CACHE_DIR="1"
    )
    done = run(
        sys.executable,
        HELPER,
        "--venv",
        venv,
        "--python",
        sys.executable,
        "--need-gb",
        "0",
        **offline,
    )
    line = refusal(done)
    assert "no network: pip could not reach the package index" in line
    log = Path(re.search(r"pip's log: (.*)\)", line)[1])
    assert "127.0.0.1" in log.read_text(encoding="utf-8")
    assert not (venv / ".ready").exists() and not (venv / "tmp").exists()


@posix
@pytest.mark.parametrize(
    "said, line",
    [
        (
            "ERROR: No matching distribution found for torch==2.15.0",
            "No matching distribution found for torch==2.15.0",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
            "device",
            "the disk is full",
        ),
        ("Retrying after connection broken by 'ReadTimeoutError'", "no network"),
    ],
)
def test_pip_failures_become_one_line(venv, said, line):
    fake_venv(venv, f'echo "{said}"; exit 1')
    found = refusal(
        run(sys.executable, HELPER, "--venv", venv, "--python", sys.executable, "--need-gb", "0")
    )
    assert line in found and str(venv / "pip.log") in found


@posix
def test_interrupted_install_leaves_no_pip_behind(venv):
    fake_venv(venv, "echo $$; exec sleep 60")
    helper = subprocess.Popen(
        [sys.executable, HELPER, "--venv", venv, "--python", sys.executable, "--need-gb", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    log = venv / "pip.log"
    while not log.exists() or not log.read_text().endswith("\n"):
        assert helper.poll() is None
        time.sleep(0.02)
    helper.terminate()
    assert (
        helper.communicate(timeout=60)[1].startswith("kdtutor: interrupted")
        and helper.returncode == 130
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)
    assert not (venv / ".ready").exists()


@posix
def test_second_time_is_quick_and_an_unfinished_install_does_not_count(project, venv):
    def prepare(*arguments):
        return run(
            sys.executable,
            project / ".ci" / "environment.py",
            "--venv",
            venv,
            "--python",
            sys.executable,
            "--need-gb",
            "0",
            *arguments,
        )

    def count():
        return len(calls.read_text().splitlines()) if calls.exists() else 0

    calls = fake_venv(venv, "exit 1")
    assert prepare().returncode == 1 and count() == 1
    fake_venv(venv)
    assert (
        prepare().returncode == 0 and count() == 3
    )  # began again: the build backend, then the package
    assert (
        "--no-build-isolation -e ." in calls.read_text()
        and "-c constraints.txt" in calls.read_text()
    )
    assert prepare().returncode == 0 and count() == 3  # nothing to do
    assert (
        prepare("--extra", "test").returncode == 0
        and count() == 5
        and calls.read_text().strip().endswith("-e .[test]")
    )
    assert prepare().returncode == 0 and count() == 5  # the test environment serves the lessons too
    with (project / "constraints.txt").open("a", encoding="utf-8") as file:
        file.write("# another pin\n")
    fake_venv(venv, "kill -9 $$")
    assert prepare().returncode == 1 and count() == 6
    fake_venv(venv)
    assert prepare().returncode == 0 and count() == 8
    (
        venv / "bin" / "python"
    ).unlink()  # the interpreter was removed: not ready, whatever the stamp says
    assert "does not run" in refusal(prepare("--python", "no-such-python"))


def test_a_folder_that_is_something_else_is_left_alone(venv):
    venv.mkdir(parents=True)
    (venv / "thesis.tex").write_text("years of work", encoding="utf-8")
    line = refusal(
        run(sys.executable, HELPER, "--venv", venv, "--python", sys.executable, "--need-gb", "0")
    )
    assert "is not a virtual environment" in line and (venv / "thesis.tex").exists()


@posix
def test_clean_removes_environments_only(venv):
    venv.mkdir(parents=True)
    (venv / "thesis.tex").write_text("years of work", encoding="utf-8")
    dry = run("make", "-n", "clean", f"VENV={venv}").stdout
    guard = next(line for line in dry.splitlines() if str(venv) in line)
    run("sh", "-c", guard)
    assert (venv / "thesis.tex").exists()
    (venv / "pyvenv.cfg").touch()
    run("sh", "-c", guard)
    assert not venv.exists()


# What the commands start


@posix
def test_lab_listens_on_this_machine_only_and_keeps_its_token(venv):
    fake_venv(
        venv,
        other=f'*"-m jupyterlab"*) echo "$@" > "{venv}/lab"; command -v python >> "{venv}/lab" ;;',
    )
    done = run(
        "make",
        "lab",
        f"PYTHON={sys.executable}",
        f"VENV={venv}",
        "NEED_GB=0",
        "LAB_ARGS=--no-browser --port=8899",
    )
    assert done.returncode == 0, done.stderr
    command, python = (venv / "lab").read_text(encoding="utf-8").splitlines()
    assert command.startswith("-m jupyterlab --ip=127.0.0.1 ") and command.endswith(
        " --no-browser --port=8899"
    )
    assert (
        "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in command
        and "--ServerApp.root_dir=." in command
    )
    assert "token" not in command and "password" not in command
    assert ("--allow-root" in command) == (os.geteuid() == 0)
    assert python == str(venv / "bin" / "python"), (
        "a terminal in JupyterLab does not find the environment's commands"
    )


@posix
@pytest.mark.parametrize("failing", [None, "check", "test"])
def test_pipeline_runs_check_and_test_in_an_environment_that_goes_away(tmp_path, failing):
    bin_ = tmp_path / "bin"
    script(
        bin_ / "make",
        f'echo "$@" >> "{tmp_path}/made"; mkdir -p "${{2#VENV=}}"; '
        f'touch "${{2#VENV=}}/.ready-test"; [ "$1" != {failing} ] || exit 2',
    )
    script(bin_ / "chromium", "exit 0")
    (tmp_path / "tmp").mkdir()
    done = run(
        REPO / ".ci" / "run",
        PATH=f"{bin_}{os.pathsep}{os.environ['PATH']}",
        TMPDIR=str(tmp_path / "tmp"),
        CI="true",
    )
    assert done.returncode == (2 if failing else 0), done.stderr
    made = [line.split() for line in (tmp_path / "made").read_text().splitlines()]
    wanted = ["check"] if failing == "check" else ["check", "test"]
    assert [target for target, *_ in made] == wanted
    assert all(venv.startswith(f"VENV={tmp_path / 'tmp'}") for _, venv in made)
    assert list((tmp_path / "tmp").iterdir()) == []


@posix
def test_pipeline_installs_a_browser_where_there_is_none(tmp_path):
    bin_ = tmp_path / "bin"
    for tool in "dirname", "mktemp", "rm", "sh", "tail", "mkdir":
        bin_.mkdir(exist_ok=True)
        (bin_ / tool).symlink_to(shutil.which(tool))
    script(bin_ / "id", "echo 0")
    script(bin_ / "apt-get", f'echo "$@" >> "{tmp_path}/apt"')
    script(bin_ / "make", "exit 0")
    assert run(REPO / ".ci" / "run", PATH=str(bin_), TMPDIR=str(tmp_path)).returncode == 0
    assert (tmp_path / "apt").read_text().splitlines() == ["update", "install -y chromium"]
