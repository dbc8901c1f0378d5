"""The form in which a notebook is committed: nothing that changes from run to run, nothing that
GitHub cannot show.
"""

import re

import nbformat
from nbformat import NotebookNode

NOTE = "[interactive: run this notebook to use the controls]"
VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT = ("tags", "jupyter", "nbgrader")  # of a cell's metadata
BAR = re.compile(r"\d+%\|.*|\d+(it)? \[\d\d:\d\d,.*")  # a progress bar of tqdm
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def normalise(nb: NotebookNode) -> NotebookNode:
    """Removes, in place, what changes from run to run or what GitHub cannot show.

    Figures, texts, ids and counts stay.

    Args:
        nb: A notebook, executed or not.

    Returns:
        The same notebook.

    Example:
        >>> from nbformat.v4 import new_code_cell, new_notebook
        >>> cell = new_code_cell("1", metadata={"collapsed": True, "tags": ["a"]})
        >>> normalise(new_notebook(cells=[cell])).cells[0].metadata
        {'tags': ['a']}
    """
    nb.nbformat, nb.nbformat_minor, nb.metadata = 4, 5, nbformat.from_dict(METADATA)
    for index, cell in enumerate(nb.cells):
        cell.setdefault("id", f"cell-{index:02d}")
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k in KEPT})
        if cell.cell_type == "code":
            cell.outputs = _tidy(cell.outputs)
    return nb


def _tidy(outputs: list[NotebookNode]) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        output.pop("transient", None)
        if output.output_type == "stream":
            if BAR.search(output.text):
                output.text = "".join(
                    line for line in re.split(r"(?<=[\r\n])", output.text) if not BAR.search(line)
                )
            if not output.text.strip("\r\n"):
                continue
            # How a stream is cut into pieces is chance.
            if kept and kept[-1].get("name") == output.name:
                kept[-1].text += output.text
                continue
        elif VIEW in output.get("data", {}):
            if BAR.search(text_of(output)):
                continue
            output.data, output.metadata = NotebookNode({"text/plain": NOTE}), NotebookNode()
        kept.append(output)
    return kept


def text_of(output: NotebookNode) -> str:
    """What an output says in words.

    Args:
        output: Of a code cell.

    Returns:
        A stream, a traceback, or every text/… form of its data (never the picture's bytes).

    Example:
        >>> from nbformat.v4 import new_output
        >>> text_of(new_output("stream", text="epoch 1"))
        'epoch 1'
    """
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return COLOUR.sub("", "\n".join([f"{output.ename}: {output.evalue}", *output.traceback]))
    return "\n".join("".join(v) for k, v in output.get("data", {}).items() if k.startswith("text/"))


def place(nb: NotebookNode, index: int) -> str:
    """How a message names a cell: its position and its id.

    Args:
        nb: The notebook.
        index: Of the cell, from 0.

    Returns:
        Words for a message.

    Example:
        >>> from nbformat.v4 import new_code_cell, new_notebook
        >>> place(new_notebook(cells=[new_code_cell("1", id="one")]), 0)
        'cell 1 of 1 (one)'
    """
    return f"cell {index + 1} of {len(nb.cells)} ({nb.cells[index].get('id', 'no id')})"
