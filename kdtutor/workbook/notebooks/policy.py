"""What a committed lesson must be like, as a list of plain sentences about what is not."""

import copy
import json
import re
import statistics
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .normal import BAR, NOTE, VIEW, normalise, place, text_of

CELLS = (25, 45)
FIGURES = (4, 8)
EXERCISES = 2  # at least: code cells that raise NotImplementedError
MEDIAN_LINES, MAX_LINES = 8, 25  # of a code cell
MAX_WIDTH = 120  # characters of a line of code: more is cut off on a laptop and on GitHub
MAX_BYTES = 1_000_000  # beyond it GitHub may not show a notebook
CAPTION = "What to see:"
FORBIDDEN = ("tqdm.notebook", "%matplotlib widget", "%matplotlib notebook")
MACHINE = re.compile(
    r"(?<![\w.:/])(?:file://)?/(?:home|root|tmp|work|Users|mnt|opt|usr|var)/\S*"
    r"|\b[A-Z]:\\(?:Users|home)\\\S*"
)
ADDRESS = re.compile(r"\b0x[0-9a-f]{8,}\b")


def problems(path: str | Path) -> list[str]:
    """What is wrong with a committed lesson.

    Args:
        path: The notebook.

    Returns:
        One sentence each; an empty list if nothing is.

    Example:
        >>> problems("nowhere.ipynb")
        ["not a valid notebook: [Errno 2] No such file or directory: 'nowhere.ipynb'"]
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        ids = [cell.get("id") for cell in json.loads(text)["cells"]]  # before nbformat mends them
        nb = nbformat.reads(text, as_version=4)
        nbformat.validate(nb)
    except Exception as error:
        return [f"not a valid notebook: {(str(error).splitlines() or [repr(error)])[0]}"]
    size = path.stat().st_size
    heavy = (
        [f"{size / 1e6:.1f} MB, expected less than {MAX_BYTES / 1e6:g}"]
        if size >= MAX_BYTES
        else []
    )
    unnamed = (
        ["not every cell has an id of its own"] if None in ids or len(set(ids)) < len(ids) else []
    )
    return heavy + unnamed + _shape(nb) + _figures(nb) + _outputs(nb) + _metadata(nb)


def _code(nb: NotebookNode) -> list[int]:
    return [i for i, c in enumerate(nb.cells) if c.cell_type == "code" and c.source.strip()]


def _shape(nb: NotebookNode) -> list[str]:
    """Length, order and exercises."""
    code = _code(nb)
    lines = {i: len(nb.cells[i].source.strip().splitlines()) for i in code}
    median = statistics.median(lines.values() or [0])
    exercises = sum("raise NotImplementedError" in nb.cells[i].source for i in code)
    rules = [
        (
            CELLS[0] <= len(nb.cells) <= CELLS[1],
            f"{len(nb.cells)} cells, expected {CELLS[0]} to {CELLS[1]}",
        ),
        (
            [nb.cells[i].execution_count for i in code] == list(range(1, len(code) + 1)),
            "not executed from top to bottom in a fresh kernel",
        ),
        (
            median <= MEDIAN_LINES,
            f"the median code cell has {median:g} lines, expected at most {MEDIAN_LINES}",
        ),
        (
            exercises >= EXERCISES,
            f"{exercises} exercises (raise NotImplementedError), expected at least {EXERCISES}",
        ),
    ]
    wide = {i: max(map(len, nb.cells[i].source.splitlines())) for i in code}
    return (
        [text for right, text in rules if not right]
        + [
            f"{place(nb, i)}: {n} lines of code, expected at most {MAX_LINES}"
            for i, n in lines.items()
            if n > MAX_LINES
        ]
        + [
            f"{place(nb, i)}: a line of {n} characters, expected at most {MAX_WIDTH}"
            for i, n in wide.items()
            if n > MAX_WIDTH
        ]
    )


def _figures(nb: NotebookNode) -> list[str]:
    """Every widget has a static figure, every figure a caption."""
    code, found = _code(nb), []
    pictures = {i: sum("image/png" in o.get("data", {}) for o in nb.cells[i].outputs) for i in code}
    total = sum(pictures.values())
    if not FIGURES[0] <= total <= FIGURES[1]:
        found.append(f"{total} figures, expected {FIGURES[0]} to {FIGURES[1]}")
    for i, after in zip(code, [*code[1:], None]):
        widget = any(VIEW in o.get("data", {}) or NOTE in text_of(o) for o in nb.cells[i].outputs)
        if widget and not pictures[i] and not pictures.get(after):
            found.append(
                f"{place(nb, i)}: a widget without a static figure in this or the next code cell"
            )
        follows = nb.cells[i + 1] if i + 1 < len(nb.cells) else None
        if pictures[i] and not (
            follows and follows.cell_type == "markdown" and CAPTION in follows.source
        ):
            found.append(f"{place(nb, i)}: a figure without a text cell '{CAPTION} …' after it")
    return found


def _outputs(nb: NotebookNode) -> list[str]:
    """Nothing that went wrong, nothing of the machine that it ran on."""
    found = []
    for i, cell in enumerate(nb.cells):
        outputs = cell.get("outputs", [])
        texts = [text_of(o) for o in outputs]
        stderr = "".join(o.text for o in outputs if o.get("name") == "stderr").strip()
        found += [
            f"{place(nb, i)}: {text}"
            for wrong, text in [
                (any(o.output_type == "error" for o in outputs), "an error in its output"),
                (
                    stderr,
                    f"a message on stderr in its output: {stderr.partition(chr(10))[0][:100]}",
                ),
                (any(BAR.search(t) for t in texts), "a progress bar in its output"),
                (
                    any(ADDRESS.search(t) for t in texts),
                    "a memory address in its output, which changes from run to run",
                ),
                (any(MACHINE.search(t) for t in [*texts, cell.source]), "a path of this machine"),
                (any(word in cell.source for word in FORBIDDEN), f"one of {', '.join(FORBIDDEN)}"),
            ]
            if wrong
        ]
    return found


def _metadata(nb: NotebookNode) -> list[str]:
    """Nothing that changes from run to run."""
    found = (
        ["metadata.widgets kept: GitHub may refuse the notebook"]
        if "widgets" in nb.metadata
        else []
    )
    found += [
        f"{place(nb, i)}: execution times kept"
        for i, c in enumerate(nb.cells)
        if "execution" in c.metadata
    ]
    if not found and normalise(copy.deepcopy(nb)) != nb:
        found.append("not normalised: use `kdtutor lessons run`")
    return found
