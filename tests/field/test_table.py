"""README.md says what the tests say: no situation without a test, no test without a situation."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent
ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", re.M)
HERE = "tried here"


def rows() -> list[tuple[int, list[str], str]]:
    """(number, where it was met, what kdtutor does now) of the table."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    return [(int(n), met.split("<br>"), now) for n, _, met, now in ROW.findall(text)]


def covered() -> set[int]:
    """The numbers in the names of all tests but those of this file."""
    found = set()
    for file in FOLDER.glob("test_*.py"):
        names = re.findall(r"^def test_(\w+)", file.read_text(encoding="utf-8"), re.M)
        for name in names if file != Path(__file__) else ():
            numbers = re.match(r"(\d\d_(?:and_\d\d_)*)", name)
            assert numbers, f"{file.name}: test_{name} has no number of a situation"
            found |= set(map(int, re.findall(r"\d\d", numbers[1])))
    return found


def test_every_situation_is_tested_and_every_test_is_a_situation():
    numbers = [number for number, *_ in rows()]
    assert numbers == list(range(1, len(numbers) + 1)) == sorted(covered())


def test_thirty_were_tried_here_and_ten_or_more_were_reported_in_public():
    here = [HERE in met for _, met, _ in rows()]
    assert here.count(True) == 30 and here.count(False) >= 10
    reports = [report for _, met, _ in rows() for report in met if report != HERE]
    assert all(re.match(r"[\w.-]+/[\w.-]+#\d+: \S", report) for report in reports), reports
    assert len(set(reports)) == len(reports)


def test_what_happens_now_begins_with_its_kind():
    assert [now for *_, now in rows() if not now.startswith(("Works", "Error"))] == []
