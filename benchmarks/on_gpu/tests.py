"""The tests that wait for a GPU, each with what became of it."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from .cells import Cell, Options

COLUMNS = ("file",)
NOTE = "Tests marked gpu, on the card; a failure with its message."
REPO = Path(__file__).resolve().parents[2]
ASKS = re.compile(r"def test_\w+\([^)]*\bgpu\b")


def cells(options: Options) -> list[Cell]:
    """One for each file with such tests: found by their text, for not every file can be imported
    where the notebook stack is missing.
    """
    files = [p for p in sorted((REPO / "tests").rglob("test_*.py")) if ASKS.search(p.read_text())]
    if options.quick:
        files = [p for p in files if p.match("training/*") or p.match("datasets/*")]
    return [
        Cell({"file": p.relative_to(REPO).as_posix()}, 45, lambda p=p: run(p, options))
        for p in files
    ]


def run(file: Path, options: Options) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        which = ["-k", "stand-in"] if options.quick else ["-m", "gpu"]
        command = [sys.executable, "-m", "pytest", "-q", *which, "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, str(file), f"--junitxml={report}"], cwd=REPO, capture_output=True, text=True
        )
        if not report.exists():
            last = [*done.stdout.splitlines(), *done.stderr.splitlines(), ""][-2]
            return [{"test": "", "outcome": "error", "said": last}]
        return [outcome(case) for case in ElementTree.parse(report).iter("testcase")]


def outcome(case: ElementTree.Element) -> dict:
    """A row for a test of pytest's report."""
    row = {"test": case.get("name"), "outcome": "passed", "seconds": case.get("time"), "said": ""}
    for child in case:
        if child.tag in ("failure", "error", "skipped"):
            said = (child.get("message") or child.text or "").strip()
            row |= {"outcome": child.tag, "said": " ".join(said.split())[:300]}
    return row
