"""Made-up submissions for the tests of the classroom: a right one, and the ones that a grader is
afraid of.
"""

from pathlib import Path

import nbformat

# What stands in the place of the first exercise's body.
LOOPS = "    while True:\n        pass\n"
LOOPS_ON = """    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
"""
EATS_MEMORY = "    hoard = []\n    while True:\n        hoard.append(torch.ones(25_000_000))\n"
EATS_LISTS = (
    "    hoard = []\n    while True:\n        hoard.append('x' * 50_000_000 + str(len(hoard)))\n"
)
PRINTS_ON = "    while True:\n        print('y' * 1000)\n"
WRITES_OUTSIDE = "    open('../../../gradebook.db', 'w').write('full marks')\n"
DIES = "    import os\n    os._exit(1)\n"
WARNS = """    import sys, warnings
    warnings.warn("a warning")
    print("a note", file=sys.stderr)
    return (logits / temperature).softmax(-1)
"""


def solved(
    source: Path,
    release: Path,
    *,
    bodies: dict[str, str] | None = None,
    only: set[str] | None = None,
):
    """The released notebook with the exercises solved: all, or those in ``only``; ``bodies``
    replaces the body of some of them.
    """
    nb, solutions = (
        nbformat.read(release, 4),
        {c.id: c.source for c in nbformat.read(source, 4).cells},
    )
    for cell in nb.cells:
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution"):
            if cell.id in (bodies or {}):
                cell.source = cell.source.replace(
                    "    # YOUR CODE HERE\n    raise NotImplementedError()",
                    bodies[cell.id].rstrip("\n"),
                )
                assert bodies[cell.id].rstrip("\n") in cell.source
            elif only is None or cell.id in only:
                cell.source = solutions[cell.id]
    return nb


def submit(course: Path, student: str, assignment: str, content) -> Path:
    """Puts a notebook, or a text that is none, where nbgrader looks for a submission."""
    path = course / "submitted" / student / assignment / f"{assignment}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        content if isinstance(content, str) else nbformat.writes(content), encoding="utf-8"
    )
    return path
