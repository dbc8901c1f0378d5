"""Writes what the tables of ``benchmarks/gpu.py`` say: README's paragraph, and the book's page.

    python benchmarks/gpu_page.py            rewrites both
    python benchmarks/gpu_page.py --check    exit status 1 if they do not say what the tables say

Nothing is known here but the tables: where a row is missing, its place says "not measured"."""

import argparse
import csv
import re
from collections import Counter
from pathlib import Path

from on_gpu import PARTS

REPO = Path(__file__).resolve().parents[1]
RESULTS = REPO / "data" / "results"
README, PAGE = REPO / "README.md", REPO / "book" / "gpu.md"
BEGIN, END = "<!-- what a GPU does: written by benchmarks/gpu_page.py -->", "<!-- end -->"
NONE = "not measured"
PAIRS = {
    "ResNet-56 → ResNet-20": "resnet56 -> resnet20",
    "WRN-40-2 → WRN-16-2": "wrn_40_2 -> wrn_16_2",
}
TITLES = {
    "tests": "The tests that wait for a GPU",
    "speed": "A step and an epoch of distillation",
    "cache": "A teacher's answers from the cache",
    "methods": "Every method's step",
    "sharing": "Several runs on one card",
    "entropy": "Entropy maps",
    "compiled": "Compiled networks",
    "lessons": "Lessons at the full budget",
    "minutes": "How long the study's Table III takes",
    "table3": "Runs of the study's Table III",
}

Rows = list[dict[str, str]]


def read(folder: Path = RESULTS) -> dict[str, tuple[Rows, list[str]]]:
    """{part: (rows, lines of provenance)}; no rows where there is no table yet."""
    found = {}
    for part in PARTS:
        path = folder / f"gpu_{part}.csv"
        lines = path.read_text().splitlines() if path.exists() else []
        rows = list(csv.DictReader(s for s in lines if not s.startswith("#")))
        found[part] = rows, [s[2:] for s in lines if s.startswith("#")]
    return found


def card_of(tables) -> str | None:
    """The card that most rows come from."""
    cards = Counter(row["card"] for rows, _ in tables.values() for row in rows)
    return cards.most_common(1)[0][0] if cards else None


def summary(tables) -> list[tuple[str, str]]:
    """(what, figure) of README's paragraph, for one card."""
    card = card_of(tables)
    mine = {part: [r for r in rows if r["card"] == card] for part, (rows, _) in tables.items()}

    def one(part: str, column: str, shape="{}", **key) -> str:
        """The figure in a column of the row with this key."""
        for row in mine[part]:
            if all(row.get(k) == v for k, v in key.items()) and row.get(column):
                return shape.format(*(row.get(c, "") for c in column.split()))
        return NONE

    rows = [("tests that wait for a GPU", tests(mine["tests"]))]
    for words, pair in PAIRS.items():
        for batch, precision in (("64", "tf32"), ("256", "bf16")):
            key = dict(pair=pair, batch=batch, precision=precision, contender="fit, epoch")
            speed = one("speed", "images_per_s", "{} images/s", **key)
            over = one("speed", "over_bare", "; {} of the bare loop's time", **key)
            what = f"{words}, batches of {batch}, {precision}: an epoch of `fit`"
            rows.append((what, speed if NONE in (speed, over) else speed + over))
        cached = one("cache", "ratio", "{} times as fast", pair=pair)
        rows.append((f"{words}, batches of 64, the teacher's answers cached", cached))
    rows += [
        ("runs at once until throughput stops growing", most(mine["sharing"])),
        ("lessons at the full budget", lessons(mine["lessons"])),
        ("all 480 runs of the study's Table III, one at a time", hours(mine["minutes"])),
    ]
    return rows


def tests(rows: Rows) -> str:
    outcomes = Counter(r["outcome"] for r in rows if r.get("outcome"))
    failed = sum(n for outcome, n in outcomes.items() if outcome not in ("passed", "skipped"))
    return f"{outcomes['passed']} pass, {failed} fail" if outcomes else NONE


def most(rows: Rows) -> str:
    """The number of processes with the highest throughput, and what they gain over one."""
    found = {
        int(r["runs"]): float(r["images_per_s"])
        for r in rows
        if r["how"] == "processes" and r.get("images_per_s")
    }
    if 1 not in found or len(found) < 2:
        return NONE
    best = max(found, key=found.__getitem__)
    return f"{best}, with {found[best] / found[1]:.1f} times the throughput of one"


def lessons(rows: Rows) -> str:
    done = [r for r in rows if r.get("outcome") == "finished"]
    if not rows:
        return NONE
    longest = max((float(r["seconds"]) for r in done), default=0)
    return f"{len(done)} of the {len(rows)} tried finish, the longest in {longest / 60:.1f} min"


def hours(rows: Rows) -> str:
    """Only where every kind of run was timed."""
    found = [float(r["hours"]) for r in rows if r.get("hours")]
    return f"{sum(found):.0f} hours, estimated from timed steps" if len(found) == 96 else NONE


def paragraph(tables) -> str:
    """README's lines between its two marks."""
    card = card_of(tables)
    figures = summary(tables)
    if card is None:
        return (
            "Nothing was measured on a GPU yet, so nothing is promised here. `make gpu` measures "
            "it, nine minutes a call, and\nwrites this paragraph "
            "([benchmarks/README.md](benchmarks/README.md) says how)."
        )
    first = next(r for rows, _ in tables.values() for r in rows if r["card"] == card)
    table = "\n".join(f"| {what} | {figure} |" for what, figure in figures)
    return (
        f"Measured on {card} with torch {first['torch']} by `make gpu`; all of it is in\n"
        f"[book/gpu.md](book/gpu.md).\n\n| | |\n|---|---|\n{table}"
    )


def page(tables) -> str:
    """The book's page: every table whole, or that it is not measured."""
    parts = [
        "# What a GPU does",
        "Every number on this page comes from `data/results/gpu_*.csv`, which `make gpu` writes. "
        "What is not measured says so.",
    ]
    for part in PARTS:
        rows, about = tables[part]
        parts.append(f"## {TITLES[part]}")
        if not rows:
            parts.append(f"*{NONE.capitalize()}.*")
            continue
        columns = [c for c in rows[0] if any(r[c] for r in rows)]
        cell = lambda text: (text or "").replace("|", "\\|")
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(cell(r[c]) for c in columns) + " |" for r in rows]
        parts += [about[-1], "\n".join(lines)]
        parts.append("Where: " + "; ".join(about[:-1]) + ".")
    return "\n\n".join(parts) + "\n"


def readme(text: str, inside: str) -> str:
    """README with its paragraph."""
    return re.sub(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{BEGIN}\n{inside}\n{END}",
        text,
        flags=re.DOTALL,
    )


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check, tables = parser.parse_args(given).check, read()
    wanted = {README: readme(README.read_text(), paragraph(tables)), PAGE: page(tables)}
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    for path in stale:
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path])
        print(
            f"{path.relative_to(REPO)}: {'does not say what the tables say' * check or 'written'}"
        )
    return int(check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
