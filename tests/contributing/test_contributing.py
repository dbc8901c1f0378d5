"""The example of CONTRIBUTING.md, taken from the page: a file, a row and a test make a method."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GRID = """
import kdtutor, torch
from pathlib import Path
from small import blobs
from kdtutor.ablation import Grid, run
from kdtutor.methods import CosineFeatures, catalog, find

torch.set_num_threads(1)
assert Path(kdtutor.__file__).is_relative_to(Path.cwd()), "not the copy"
assert find("cosine") is CosineFeatures and "Cosine" in set(catalog()["name"])
grid = Grid(
    dataset=blobs(side=8), teacher="resnet8", students=["resnet8"], seeds=[0], epochs=1,
    methods=["CrossEntropy", "Cosine"],
)
frame = run(grid, "store", progress=False).frame()
assert set(frame["method"]) >= {"CrossEntropy", "Cosine"} and set(frame["status"]) == {"finished"}
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the checkout to which the page's method was added, as the page says."""
    repo, copy = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("checkout")
    without = shutil.ignore_patterns("__pycache__")
    for room in "kdtutor", "tests":
        shutil.copytree(repo / room, copy / room, ignore=without)
    shutil.copy(repo / "pyproject.toml", copy)
    page = (repo / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.S))
    new, rows, test = blocks  # in the order of the page
    for name in new, test:
        assert not (copy / name).exists()
        (copy / name).write_text(blocks[name], encoding="utf-8")
    imported, row = blocks[rows].strip().split("\n\n")
    table = (copy / rows).read_text(encoding="utf-8")
    assert table.count("\nfrom .row import") == table.count("\n)\n# fmt: on") == 1
    table = table.replace("\nfrom .row import", f"\n{imported}\nfrom .row import")
    table = table.replace("\n)\n# fmt: on", f"\n    {row},\n)\n# fmt: on")
    (copy / rows).write_text(table, encoding="utf-8")
    return copy


def python(house: Path, *arguments) -> str:
    path = os.pathsep.join([str(house), str(house / "tests")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=house,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_s_test_and_those_of_the_catalog(house):
    own = python(house, "-m", "pytest", "-q", "tests/methods/feature/test_cosine.py")
    assert "5 passed" in own
    catalog = python(house, "-m", "pytest", "-q", "tests/methods/test_catalog.py", "-k", "Cosine")
    assert "3 passed" in catalog
    python(house, "-m", "pytest", "-q", "tests/distiller/test_stages.py", "-k", "catalog")


def test_a_grid_knows_it_by_name(house):
    python(house, "-c", GRID)


def test_the_example_is_in_the_house_s_style(house):
    pytest.importorskip("ruff", reason="ruff is not installed here (`make check` installs it)")
    mine = ["kdtutor/methods/feature/cosine.py", "tests/methods/feature/test_cosine.py"]
    python(house, "-m", "ruff", "check", *mine)
    python(house, "-m", "ruff", "format", "--check", *mine)
