"""The lessons: each is committed as the policy says and runs; and the runner and the policy catch
what they are there for.
"""

import asyncio
import copy
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

# its cache is built here, not with a message on stderr in a figure's cell
import matplotlib.font_manager  # noqa: F401
import nbformat
import pytest
import zmq.asyncio
from jupyter_client.session import Session
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kdtutor.datasets import root
from kdtutor.workbook.notebooks import (
    NOTE,
    LessonError,
    lessons,
    normalise,
    policy,
    problems,
    run,
    swallowed,
)
from kdtutor.workbook.notebooks.kernel import WakefulManager

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
VIEW = "application/vnd.jupyter.widget-view+json"
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)

# Moves every control of the notebook to its ends and back, clicks every button, and lets an error
# in a widget fail the cell.
SWEEP = """
import ipywidgets as W
from ipywidgets.widgets.widget import _instances

leave = W.Output.__exit__
W.Output.__exit__ = lambda self, *error: leave(self, None, None, None) and None
def ends(w):
    if hasattr(w, "_options_full"): return [value for _, value in w._options_full]
    if isinstance(w, W.FloatLogSlider): return [w.base ** w.min, w.base ** w.max]
    if isinstance(w.value, (int, float)) and hasattr(w, "max"): return [w.min, w.max]
    return [not w.value] if isinstance(w.value, bool) else []
moved = 0
for w in list(_instances.values()):
    if isinstance(w, W.Button): w.click()
    elif hasattr(w, "value") and not isinstance(
        w, (W.HTML, W.Label, W.IntProgress, W.FloatProgress)
    ):
        for value in [*ends(w), w.value]:
            w.value = value; moved += 1
print(moved, "moves")
"""

# The client that the lessons' own runner uses: the plugin's would now and then sleep through an
# answer (kdtutor/lessons/kernel.py).
WAKEFUL = """
import nbclient
from kdtutor.workbook.notebooks.kernel import WakefulManager

nbclient.NotebookClient._kernel_manager_class_default = lambda self: WakefulManager
"""


def write(path: Path, cells: list, **metadata) -> Path:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(new_notebook(cells=cells, metadata=nbformat.from_dict(kernel | metadata)), path)
    return path


def nbmake(path: Path) -> subprocess.CompletedProcess:
    """The notebook executed in place by pytest's notebook plugin, as an instructor would test it,
    in an environment of its own.
    """
    (path.parent / "pytest.ini").write_text("[pytest]\n")
    (path.parent / "conftest.py").write_text(WAKEFUL)
    env = {
        k: v
        for k, v in os.environ.items()
        if k not in ("MPLBACKEND", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST")
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        "pytest.ini",
        "-p",
        "no:cacheprovider",
        "--nbmake",
        "--overwrite",
        "--nbmake-timeout=120",
        path.name,
    ]
    return subprocess.run(command, cwd=path.parent, env=env, capture_output=True, text=True)


# --- the committed lessons


def test_the_lessons_are_found_in_order():
    assert lessons() == LESSONS
    numbers = [path.name[:2] for path in LESSONS]
    assert numbers == sorted(set(numbers)) and {f"{i:02d}" for i in range(10)} <= set(numbers)


@each_lesson
def test_a_lesson_is_committed_as_it_should_be(lesson):
    found = problems(lesson)
    assert not found, "\n".join(found)


@pytest.mark.slow
@each_lesson
def test_a_lesson_runs_and_all_its_controls_work(lesson, tmp_path):
    shutil.copytree(
        NOTEBOOKS,
        tmp_path / "notebooks",
        ignore=shutil.ignore_patterns("assignments", ".ipynb_checkpoints"),
    )
    path = tmp_path / "notebooks" / lesson.name
    nb = nbformat.read(path, 4)
    nb.cells.append(new_code_cell(SWEEP, id="every-control-moved"))
    nbformat.write(nb, path)
    done = nbmake(path)
    assert done.returncode == 0, done.stdout[-6000:]
    nb = nbformat.read(path, 4)
    assert not swallowed(nb), "\n".join(swallowed(nb))
    assert "moves" in nb.cells.pop().outputs[-1].text
    nbformat.write(normalise(nb), path)
    found = problems(path)
    assert not found, "\n".join(["at the smoke budget:", *found])


# --- the runner

DRAW = """import ipywidgets as W
def draw(T):
    if T {when}: raise ValueError("no picture at T = %g" % T)
    print("a picture at T = %g" % T)
T = W.FloatSlider(value=1.0, min=1.0, max=10.0, description="Temperature T")
box = W.VBox([T, W.interactive_output(draw, {{"T": T}})])
box"""


@pytest.fixture
def hidden_error(tmp_path):
    return write(
        tmp_path / "00_hidden.ipynb",
        [new_code_cell("1 + 1"), new_code_cell(DRAW.format(when="< 5"), id="the-slider")],
    )


def test_the_client_hears_an_answer_that_came_while_it_wrote():
    async def talk():
        session, context = Session(key=b"k"), zmq.asyncio.Context()
        kernel, client = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        client.connect(f"tcp://127.0.0.1:{kernel.bind_to_random_port('tcp://127.0.0.1')}")
        channel = WakefulManager().client_factory.shell_channel_class.klass(client, session)
        session.send(client, "execute_request")
        who = (await kernel.recv_multipart())[0]
        waits = asyncio.create_task(channel.get_msg(timeout=20))
        await asyncio.sleep(0.1)
        zmq.Socket.shadow(kernel.underlying).send_multipart(
            [who, *session.serialize(session.msg("execute_reply"))]
        )
        time.sleep(0.3)  # the answer arrives while this loop does something else,
        session.send(
            client, "comm_msg"
        )  # which is to write: that takes the socket's only announcement
        heard = await asyncio.wait_for(waits, timeout=10)
        context.destroy(linger=0)
        return heard["msg_type"]

    assert asyncio.run(talk()) == "execute_reply"


def test_an_error_inside_a_widget_passes_nbmake_and_is_found(hidden_error):
    assert nbmake(hidden_error).returncode == 0, (
        "then Jupyter has learnt to fail here, and this scan may go"
    )
    found = swallowed(nbformat.read(hidden_error, 4))
    assert len(found) == 1
    assert (
        "cell 2 of 2 (the-slider), inside its widget: ValueError: no picture at T = 1" in found[0]
    )


def test_a_run_refuses_an_error_inside_a_widget_and_saves_nothing(hidden_error):
    before = hidden_error.read_bytes()
    message = (
        r"00_hidden.ipynb, cell 2 of 2 \(the-slider\), inside its widget: ValueError: no picture"
    )
    with pytest.raises(LessonError, match=message):
        run(hidden_error)
    assert hidden_error.read_bytes() == before
    assert [p.name for p in hidden_error.parent.iterdir()] == [hidden_error.name]


@pytest.mark.parametrize(
    "cell, says",
    [
        (DRAW.format(when="== 10"), "no picture at T = 10"),
        (
            "import ipywidgets as W\nb = W.Button(description='Train')\nb.on_click(lambda _: 1 / "
            "0)\nb",
            "ZeroDivisionError",
        ),
    ],
)
def test_the_sweep_finds_what_only_a_learner_would_meet(tmp_path, cell, says):
    path = write(tmp_path / "00_later.ipynb", [new_code_cell(cell)])
    before = path.read_bytes()
    run(path, save=False)  # nothing wrong until somebody moves it
    assert path.read_bytes() == before
    nb = nbformat.read(path, 4)
    nb.cells.append(new_code_cell(SWEEP))
    nbformat.write(nb, path)
    with pytest.raises(LessonError, match=says):
        run(path)


@pytest.mark.parametrize(
    "source, says",
    [
        ("undefined_name", "NameError: name 'undefined_name' is not defined"),
        ("import os; os._exit(1)", "[Kk]ernel died"),
        (
            "import ipywidgets as W, sys\no = W.Output()\nwith o: print('overflow', "
            "file=sys.stderr)\no",
            "inside its widget: overflow",
        ),
    ],
)
def test_a_run_names_the_cell_that_failed(tmp_path, source, says):
    cells = [new_markdown_cell("# Broken"), new_code_cell(source, id="bad-one"), new_code_cell("1")]
    path = write(tmp_path / "00_broken.ipynb", cells)
    with pytest.raises(LessonError, match=rf"(?s)00_broken.ipynb, cell 2 of 3 \(bad-one\).*{says}"):
        run(path)


def test_a_run_leaves_a_clean_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("KDTUTOR_BUDGET", "cpu")
    path = write(
        tmp_path / "00_fine.ipynb",
        [
            new_code_cell(
                "import os\nprint(os.environ['KDTUTOR_BUDGET'], os.environ.get('MPLBACKEND') != "
                "'Agg')\n"
                f"print(os.getcwd() == {str(tmp_path)!r})"
            ),
            new_code_cell(
                "%matplotlib inline\nfrom matplotlib.figure import Figure\nf = Figure((2, 1)); "
                "f.subplots(); f"
            ),
            new_code_cell(
                DRAW.format(when="< 0"),
                metadata={"tags": ["widget"], "execution": {"iopub.status.busy": "then"}},
            ),
            new_code_cell(
                "from tqdm.auto import tqdm\nfor i in tqdm(range(3)): print(i, flush=True)"
            ),
        ],
        language_info={"name": "python", "version": "3.1"},
        widgets={"state": {}},
    )
    assert run(path, "smoke") > 0
    nb = nbformat.read(path, 4)
    first, figure, widget, bar = nb.cells
    assert first.outputs[0].text == "smoke True\nTrue\n"
    assert "image/png" in figure.outputs[0].data
    assert [dict(o.data) for o in widget.outputs] == [{"text/plain": NOTE}]
    assert [(o.name, o.text) for o in bar.outputs] == [("stdout", "0\n1\n2\n")]
    assert [c.execution_count for c in nb.cells] == [1, 2, 3, 4]
    assert [dict(c.metadata) for c in nb.cells] == [{}, {}, {"tags": ["widget"]}, {}]
    assert set(nb.metadata) == {"kernelspec", "language_info"} and nb.metadata.language_info == {
        "name": "python"
    }
    saved = path.read_bytes()
    run(path, "smoke")
    assert path.read_bytes() == saved, "a second run changes nothing"


def test_bad_input_is_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match="unknown budget 'smok'. Did you mean 'smoke'"):
        run(tmp_path / "00_fine.ipynb", "smok")
    with pytest.raises(FileNotFoundError, match="no lessons .* in .*: they come with the source"):
        lessons(tmp_path)


def test_lessons_of_an_installed_package_are_looked_for_here(elsewhere, monkeypatch):
    monkeypatch.setattr("kdtutor.workbook.notebooks.execute.checkout", lambda: None)
    with pytest.raises(FileNotFoundError):
        lessons()
    (elsewhere / "notebooks").mkdir()
    paths = [
        write(elsewhere / "notebooks" / name, [])
        for name in ("01_b.ipynb", "00_a.ipynb", "notes.ipynb")
    ]
    assert [p.resolve() for p in lessons()] == [paths[1], paths[0]]


def test_one_data_folder_for_notebooks_and_commands(elsewhere, monkeypatch):
    base = NOTEBOOKS.parent
    assert root.resolve() == base / "data", "nothing here: the checkout's"
    assert root.resolve("mine") == Path("mine"), "any other name means what it says"
    assert root.resolve(elsewhere) == elsewhere and root.resolve("~/x") == Path.home() / "x"
    monkeypatch.setattr(root, "checkout", lambda: None)
    assert root.resolve() == Path("data"), "an installed package: here"
    monkeypatch.undo()
    monkeypatch.chdir(elsewhere)
    (elsewhere / "data").mkdir()
    assert root.resolve() == Path("data"), "there is one here"


# --- the policy


def picture():
    return new_output(
        "display_data", {"image/png": "aGVsbG8=", "text/plain": "<Figure size 900x320 with 1 Axes>"}
    )


def good() -> nbformat.NotebookNode:
    """A notebook without problems: prose, five figures with captions, one of them behind a widget,
    two exercises.
    """
    versions = new_output("stream", name="stdout", text="1.0\n")
    cells = [
        new_markdown_cell("# A lesson"),
        new_code_cell("print('versions')", outputs=[versions]),
    ]
    for i in range(5):
        cells += [
            new_markdown_cell(f"## Part {i}"),
            new_code_cell("draw(4.0)", outputs=[picture()]),
            new_markdown_cell("**What to see:** a line."),
        ]
    cells.insert(
        -2, new_code_cell("panel(draw)", outputs=[new_output("display_data", {"text/plain": NOTE})])
    )
    for _ in range(2):
        stub = "def f(x):\n    raise NotImplementedError"
        cells += [new_markdown_cell("### Exercise"), new_code_cell(stub), new_code_cell("check(f)")]
    cells += [new_markdown_cell("Summary") for _ in range(4)]
    nb = normalise(new_notebook(cells=cells))
    for i, cell in enumerate(nb.cells):
        cell.id = f"c{i:02d}"
    return counted(nb)


def counted(nb):
    for i, cell in enumerate([c for c in nb.cells if c.cell_type == "code"], 1):
        cell.execution_count = i
    return nb


def code(nb, containing="draw(4.0)"):
    return next(c for c in nb.cells if c.cell_type == "code" and containing in c.source)


def printed(text, name="stdout"):
    return lambda nb: code(nb).outputs.append(new_output("stream", name=name, text=text))


def drop(nb, test):
    nb.cells = [c for c in nb.cells if not test(c)]
    counted(nb)


VIOLATIONS = {
    "too few cells": (
        lambda nb: drop(nb, lambda c: c.source == "Summary"),
        "24 cells, expected 25 to 45",
    ),
    "too many cells": (
        lambda nb: nb.cells.extend(new_markdown_cell("x") for _ in range(20)),
        "48 cells, expected 25 to 45",
    ),
    "never run": (
        lambda nb: code(nb).update(execution_count=None),
        "not executed from top to bottom",
    ),
    "run out of order": (
        lambda nb: code(nb).update(execution_count=99),
        "not executed from top to bottom",
    ),
    "an error": (
        lambda nb: code(nb).outputs.append(
            new_output("error", ename="E", evalue="v", traceback=[])
        ),
        "an error in its output",
    ),
    "a warning": (
        printed("UserWarning: old\nmore", "stderr"),
        "on stderr in its output: UserWarning: old",
    ),
    "a bar": (printed(" 30%|███       | 3/10 [00:01<00:02,  2.9it/s]"), "a progress bar"),
    "an address": (printed("<object at 0x7f3a2b4c5d60>"), "a memory address"),
    "a path printed": (printed("saved in /home/ada/kdtutor/runs"), "a path of this machine"),
    "a path on Windows": (printed(r"C:\Users\ada\kdtutor"), "a path of this machine"),
    "a path as a result": (
        lambda nb: code(nb).outputs.append(
            new_output("display_data", {"text/plain": "PosixPath('/tmp/x')"})
        ),
        "a path of this machine",
    ),
    "a path in the prose": (
        lambda nb: nb.cells[0].update(source="See /home/me/README.md"),
        "a path of this machine",
    ),
    "tqdm.notebook": (
        lambda nb: code(nb).update(source="from tqdm.notebook import tqdm"),
        "one of tqdm.notebook",
    ),
    "a figure needs a kernel": (
        lambda nb: code(nb).update(source="%matplotlib widget"),
        "%matplotlib widget",
    ),
    "widget state": (lambda nb: nb.metadata.update(widgets={"state": {}}), "metadata.widgets"),
    "times": (
        lambda nb: code(nb).metadata.update(execution={"iopub.execute_input": "2026"}),
        "execution times kept",
    ),
    "a widget view": (
        lambda nb: code(nb).outputs.append(new_output("display_data", {VIEW: {"model_id": "x"}})),
        "not normalised",
    ),
    "churn": (lambda nb: code(nb).metadata.update(scrolled=True), "not normalised"),
    "too few figures": (
        lambda nb: [
            c.update(outputs=[])
            for c in nb.cells
            if c.source == "draw(4.0)" and c.execution_count < 5
        ],
        "2 figures, expected 4 to 8",
    ),
    "too many figures": (
        lambda nb: code(nb).outputs.extend(picture() for _ in range(4)),
        "9 figures, expected 4 to 8",
    ),
    "a widget alone": (
        lambda nb: (
            nb.cells.insert(
                2, new_code_cell("panel(d)", outputs=code(nb, "panel").outputs, id="lonely")
            )
            or nb.cells.insert(3, new_code_cell("1"))
            or counted(nb)
        ),
        "(lonely): a widget without a static figure",
    ),
    "no caption": (
        lambda nb: drop(nb, lambda c, gone=nb.cells[4]: c is gone),
        "a figure without a text cell 'What to see: …'",
    ),
    "a caption elsewhere": (
        lambda nb: nb.cells[4].update(source="A line."),
        "a figure without a text cell",
    ),
    "one exercise": (
        lambda nb: code(nb, "NotImplementedError").update(source="pass"),
        "1 exercises",
    ),
    "a long cell": (
        lambda nb: code(nb).update(source="\n".join(["x = 1"] * 26)),
        "26 lines of code, expected at most 25",
    ),
    "a wide line": (
        lambda nb: code(nb).update(source="x = " + "1" * 117),
        "a line of 121 characters, expected at most 120",
    ),
    "long cells": (
        lambda nb: [
            c.update(source="\n".join([c.source] + ["x = 1"] * 8))
            for c in nb.cells
            if c.cell_type == "code"
        ],
        "the median code cell has 9 lines",
    ),
    "no ids": (lambda nb: code(nb).pop("id"), "not every cell has an id"),
    "two equal ids": (lambda nb: nb.cells[1].update(id=nb.cells[2].id), "not every cell has an id"),
    "too large": (
        lambda nb: code(nb).outputs[0].data.update({"image/png": "A" * 1_000_000}),
        "1.0 MB, expected less than 1",
    ),
}


def test_a_good_notebook_has_no_problems(tmp_path):
    path = tmp_path / "00_good.ipynb"
    path.write_text(nbformat.writes(good()))
    assert problems(path) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_named(tmp_path, name):
    spoil, sentence = VIOLATIONS[name]
    nb = good()
    spoil(nb)
    path = tmp_path / "00_bad.ipynb"
    path.write_text(json.dumps(nb))  # nbformat itself would mend some of them
    found = problems(path)
    assert [text for text in found if sentence in text], found
    assert len(found) <= 2, "one mistake, not a list of consequences"


def test_no_notebook_at_all_is_named(tmp_path):
    path = tmp_path / "00_bad.ipynb"
    path.write_text("no JSON")
    assert problems(path)[0].startswith("not a valid notebook")


def test_ordinary_text_is_no_machine_path():
    for text in (
        "see https://example.org/home/index.html",
        "accuracy/error",
        "1/2",
        "p(y|x)/T",
        "../data/mnist",
        "A:\\ x",
    ):
        assert not policy.MACHINE.search(text)


def test_normalising_twice_is_normalising_once():
    nb = good()
    assert normalise(copy.deepcopy(nb)) == nb
