"""README's paragraph and the book's page say what the tables say, and no more."""

import sys

import pytest
from conftest import REPO

sys.path.append(str(REPO / "benchmarks"))
import gpu_page
from on_gpu import PARTS
from on_gpu.table import Table

MACHINE = {
    "command": "python benchmarks/gpu.py",
    "card": "H100",
    "torch": "2.11",
    "date": "2026-01-01",
}


def test_what_is_committed_says_what_the_tables_say():
    assert gpu_page.main(["--check"]) == 0, "python benchmarks/gpu_page.py"


@pytest.fixture
def tables(tmp_path):
    """Writes rows of parts, and reads all tables."""

    def write(machine=MACHINE, **parts):
        for part, (columns, rows) in parts.items():
            Table(tmp_path / f"gpu_{part}.csv", columns, "What it is.").put(rows, machine)
        return gpu_page.read(tmp_path)

    return write


def epoch(pair, batch, precision, **found):
    key = {"pair": pair, "batch": batch, "precision": precision, "contender": "fit, epoch"}
    return key | {"images_per_s": 12345, "over_bare": 1.07} | found


SPEED = ("pair", "batch", "precision")


def test_nothing_is_claimed_without_a_table(tables):
    found = tables()
    assert "Nothing was measured" in gpu_page.paragraph(found)
    assert gpu_page.page(found).count("*Not measured.*") == len(PARTS)


def test_what_is_missing_says_so_and_what_is_there_is_told(tables):
    rows = [epoch("resnet56 -> resnet20", 64, "tf32"), epoch("wrn_40_2 -> wrn_16_2", 256, "bf16")]
    found = tables(speed=(SPEED, rows))
    said = dict(gpu_page.summary(found))
    assert sorted(map(str, said.values())) == [
        *["12345 images/s; 1.07 of the bare loop's time"] * 2,
        *["not measured"] * (len(said) - 2),
    ]
    paragraph = gpu_page.paragraph(found)
    assert "Measured on H100 with torch 2.11" in paragraph and "not measured" in paragraph
    page = gpu_page.page(found)
    assert page.count("*Not measured.*") == len(PARTS) - 1
    assert "| resnet56 -> resnet20 | 64 | tf32 | fit, epoch | 12345 | 1.07 |" in page
    assert "What it is." in page and "command: python benchmarks/gpu.py" in page


def test_a_row_that_failed_is_not_measured(tables):
    rows = [{k: v for k, v in epoch("resnet56 -> resnet20", 64, "tf32").items() if "_" not in k}]
    rows[0]["error"] = "RuntimeError: a|b"
    found = tables(speed=(SPEED, rows))
    assert set(dict(gpu_page.summary(found)).values()) == {"not measured"}
    assert "RuntimeError: a\\|b" in gpu_page.page(found)


def test_figures_over_several_rows(tables):
    found = tables(
        tests=(("file",), [{"file": "a", "test": t, "outcome": o} for t, o in
                           (("1", "passed"), ("2", "failure"), ("3", "passed"), ("4", "skipped"))]),
        sharing=(("how", "runs"), [{"how": "processes", "runs": n, "images_per_s": s}
                                   for n, s in ((1, 100), (2, 180), (4, 170), (8, ""))]),
        lessons=(("lesson",), [{"lesson": "00", "outcome": "finished", "seconds": 90},
                               {"lesson": "01", "outcome": "more than 100 s", "seconds": ""}]),
        minutes=(("method", "student"), [{"method": m, "student": s, "hours": 0.5}
                                         for m in range(12) for s in range(8)]),
        cache=(("pair",), [{"pair": "resnet56 -> resnet20", "ratio": 1.8}]),
    )  # fmt: skip
    said = dict(gpu_page.summary(found))
    assert said["tests that wait for a GPU"] == "2 pass, 1 fail"
    assert said["runs at once until throughput stops growing"] == (
        "2, with 1.8 times the throughput of one"
    )
    assert said["lessons at the full budget"] == ("1 of the 2 tried finish, the longest in 1.5 min")
    assert said["all 480 runs of the study's Table III, one at a time"] == (
        "48 hours, estimated from timed steps"
    )
    assert "1.8 times as fast" in said.values()


def test_hours_need_every_kind_of_run(tables):
    some = [{"method": m, "student": 0, "hours": 0.5} for m in range(12)]
    found = tables(minutes=(("method", "student"), some))
    assert set(dict(gpu_page.summary(found)).values()) == {"not measured"}


def test_the_paragraph_is_about_one_card(tables):
    tables(speed=(SPEED, [epoch("resnet56 -> resnet20", 64, "tf32")]))
    others = [epoch(p, b, "tf32", images_per_s=7) for p in ("a", "b") for b in (64, 256)]
    found = tables(MACHINE | {"card": "T4"}, speed=(SPEED, others))
    assert gpu_page.card_of(found) == "T4"
    assert "12345" not in gpu_page.paragraph(found) and "12345" in gpu_page.page(found)


def test_the_readme_keeps_all_but_its_paragraph():
    text = f"before\n{gpu_page.BEGIN}\nold\n{gpu_page.END}\nafter"
    assert gpu_page.readme(text, r"new \1") == (
        f"before\n{gpu_page.BEGIN}\nnew \\1\n{gpu_page.END}\nafter"
    )
    assert gpu_page.BEGIN in gpu_page.README.read_text()
