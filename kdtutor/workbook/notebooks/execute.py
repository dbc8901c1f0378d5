"""Run a lesson from top to bottom as a learner would, and find the errors that Jupyter hides inside
widgets.
"""

import json
import os
import re
import time
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ...datasets.root import checkout
from ...errors import unknown
from ..budget import BUDGETS
from .normal import COLOUR, VIEW, normalise, place, text_of

STATE = "application/vnd.jupyter.widget-state+json"
CELL_SECONDS = 1200  # longer than any cell takes at the smaller budgets; no limit at "full"


class LessonError(RuntimeError):
    """A lesson did not run from top to bottom: names the cell, with its traceback."""


def lessons(folder: str | Path | None = None) -> list[Path]:
    """The lesson notebooks, ``NN_*.ipynb``, in order.

    Args:
        folder: Where they lie. None: in the checkout, else below the current directory.

    Returns:
        Their paths, at least one.

    Raises:
        FileNotFoundError: If there is none, with the places that were looked at.
    """
    base = checkout()
    places = (
        [Path(folder)]
        if folder
        else [*([base / "notebooks"] if base else []), Path("notebooks"), Path()]
    )
    for where in places:
        if found := sorted(where.glob("[0-9][0-9]_*.ipynb")):
            return found
    looked = dict.fromkeys(str(where.resolve()) for where in places)
    raise FileNotFoundError(
        f"no lessons (NN_*.ipynb) in {' or '.join(looked)}: they come with the "
        "source, not with the installed package. Work in a clone of the repository."
    )


def run(path: str | Path, budget: str | None = None, save: bool = True) -> float:
    """Executes a lesson in its own folder and saves it, normalised, in one step.

    Args:
        path: The notebook.
        budget: "smoke", "cpu" or "full"; None keeps ``KDTUTOR_BUDGET``.
        save: False: leave the file as it is.

    Returns:
        The seconds that it took.

    Raises:
        LessonError: If a cell fails or if an error hides inside a widget; nothing is saved then.
        ValueError: For another budget.
    """
    # It builds its cache here, not with a message on stderr in a figure's cell.
    import matplotlib.font_manager  # noqa: F401
    from nbclient import NotebookClient

    from .kernel import WakefulManager

    if budget not in (None, *BUDGETS):
        raise unknown("budget", budget, BUDGETS)
    path, at = Path(path), [0]
    nb = nbformat.read(path, as_version=4)
    env = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"} | {"KDTUTOR_PROGRESS": "0"}
    env |= {"KDTUTOR_BUDGET": budget} if budget else {}
    client = NotebookClient(
        nb,
        kernel_manager_class=WakefulManager,
        record_timing=False,
        timeout=None if env.get("KDTUTOR_BUDGET") == "full" else CELL_SECONDS,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=lambda cell, cell_index: at.__setitem__(0, cell_index),
    )
    begin = time.perf_counter()
    try:
        client.execute(env=env)
    except Exception as error:  # a failed cell, a dead kernel, a timeout
        raise LessonError(
            f"{path.name}, {place(nb, at[0])}:\n{COLOUR.sub('', str(error)).strip()}"
        ) from None
    seconds = time.perf_counter() - begin
    if hidden := swallowed(nb):
        raise LessonError(f"{path.name}, " + "\n".join(hidden))
    if save:
        part = path.with_name(path.name + ".part")
        part.write_text(nbformat.writes(normalise(nb)) + "\n", encoding="utf-8", newline="\n")
        os.replace(part, path)
    return seconds


def swallowed(nb: NotebookNode) -> list[str]:
    """The errors that did not fail their cell.

    They are shown inside a widget, or raised by a callback. Reads the widget state that an
    execution leaves in ``nb.metadata.widgets``: use it before ``normalise``. Messages on stderr
    inside a widget count too, because nothing shows them afterwards.

    Args:
        nb: An executed notebook.

    Returns:
        A text for each, with its cell; an empty list if there is none.

    Example:
        >>> swallowed(nbformat.v4.new_notebook())
        []
    """
    state = nb.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    found, seen = [], set()
    for index, cell in enumerate(nb.cells):
        outputs = cell.get("outputs", [])
        found += [f"{place(nb, index)}: {text_of(o)}" for o in outputs if o.output_type == "error"]
        models = [o.data[VIEW].get("model_id") for o in outputs if VIEW in o.get("data", {})]
        while models:  # a view, and all that it is made of
            if (name := models.pop()) in state and name not in seen:
                seen.add(name)
                models += re.findall(r"IPY_MODEL_(\w+)", json.dumps(state[name]["state"]))
                found += [
                    f"{place(nb, index)}, inside its widget: {text}"
                    for text in _complaints(state[name])
                ]
    return found + [
        f"a widget that no cell shows: {text}"
        for name in state
        if name not in seen
        for text in _complaints(state[name])
    ]


def _complaints(model: dict) -> list[str]:
    outputs = model["state"].get("outputs", []) if model["model_name"] == "OutputModel" else []
    return [
        text_of(o)
        for o in map(nbformat.from_dict, outputs)
        if o.output_type == "error" or o.get("name") == "stderr"
    ]
