"""Lessons as a learner meets them: real JupyterLab on 127.0.0.1 in a real Chromium, all cells run,
a control moved by keyboard.

Needs Playwright and a Chromium (``KDTUTOR_CHROMIUM`` or on the PATH). Screenshots go to
``build/screenshots/``: look at them."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

# its cache is built here, not with a message on stderr in a figure's cell
import matplotlib.font_manager  # noqa: F401
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM = (
    os.environ.get("KDTUTOR_CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("google-chrome")
    or ""
)
pytest.importorskip("playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and Path(CHROMIUM).exists()),
        reason="no Chromium: apt-get install chromium, or set KDTUTOR_CHROMIUM to its path",
    ),
]

# The lessons, and the control that is moved in each (None: only opened and run).
LESSONS = {
    "00": "Temperature T",
    "01": None,
    "02": None,
    "03": "Generation (0: the teacher)",
    "04": "Step size",
    "05": "Student's value",
    "06": "Power p",
    "07": "Turn all (degrees)",
    "08": "How sure B is of the right class ★",
    "09": "Exponent γ",
    "10": "Threshold b, nats",
    "14": "Number of seeds",
}
LAPTOP = {"width": 1366, "height": 900}
SETTINGS = {  # every cell in the page, also those out of sight; no dialogs about news
    "@jupyterlab/notebook-extension/tracker": '{"windowingMode": "none"}',
    "@jupyterlab/apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": '
    'false, "doNotDisturbMode": true}',
}

OPENED = (
    "() => { const w = window.jupyterapp?.shell?.currentWidget; return w?.sessionContext && "
    "w.content?.model?.cells; }"
)
START = """async () => {
  const app = window.jupyterapp, panel = app.shell.currentWidget;
  await panel.context.ready; await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  await app.commands.execute('notebook:clear-all-cell-outputs');
  // not awaited: the wait below has a limit and says where it stopped
  app.commands.execute('notebook:run-all-cells');
}"""
# How far it got: the kernel's status, each code cell's count, and what went wrong.
STATE = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const cells = [...panel.content.model.cells]
    .filter(c => c.type === 'code' && c.sharedModel.getSource().trim());
  const outputs = c => Array.from({length: c.outputs.length}, (_, i) => c.outputs.get(i).toJSON());
  const counts = cells.map(c => c.executionCount);
  const errors = cells.flatMap(outputs).filter(o => o.output_type === 'error')
    .map(o => `${o.ename}: ${o.evalue}`);
  return {status: panel.sessionContext.session?.kernel?.status, counts, errors};
}"""
SHOWN_ERRORS = (
    '[data-mime-type="application/vnd.jupyter.error"], '
    '[data-mime-type="application/vnd.jupyter.stderr"], '
    ".jupyter-widgets-error-widget"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the notebooks, with settings of its own: (address, token, folder)."""
    base = tmp_path_factory.mktemp("lab")
    (base / "root").mkdir()
    if (ROOT / "notebooks").is_dir():
        shutil.copytree(
            ROOT / "notebooks",
            base / "root" / "notebooks",
            ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
        )
    for name, text in SETTINGS.items():
        path = base / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(16)
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "share",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "IPYTHONDIR": "ipython",
    }
    env = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"} | {
        k: str(base / v) for k, v in own.items()
    }
    log = base / "lab.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--allow-root",
                "--ip=127.0.0.1",
                f"--port={port}",
                "--ServerApp.port_retries=0",
                "--expose-app-in-browser",
                f"--ServerApp.root_dir={base / 'root'}",
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env | {"JUPYTER_TOKEN": token},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, (
                    f"JupyterLab did not start:\n{log.read_text()[-3000:]}"
                )
                time.sleep(0.5)
        else:
            pytest.fail(f"JupyterLab was not ready in two minutes:\n{log.read_text()[-3000:]}")
        yield address, token, base / "root"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture(
    scope="module"
)  # not "session": while it is open no other test of this process could run a notebook
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        chromium = p.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_and_run(browser, lab):
    """``open_and_run("notebooks/00_….ipynb")``: (the page after all cells ran, what ran). The
    kernel goes when the test ends.
    """
    address, token, _ = lab
    pages = []

    def open_(path, seconds=300):
        page = browser.new_page(viewport=LAPTOP)
        pages.append(page)
        page.goto(f"{address}/lab/tree/{path}?reset&token={token}", timeout=90_000)
        page.wait_for_function(OPENED, timeout=90_000)
        page.evaluate(START)
        end, calm = time.monotonic() + seconds, 0
        while (
            calm < 3
        ):  # the kernel rests for a moment between a cell and what its widgets have to say
            state = page.evaluate(STATE)
            done = state["status"] == "idle" and (state["errors"] or None not in state["counts"])
            calm = calm + 1 if done else 0
            assert time.monotonic() < end, f"{path} did not run through in {seconds} s: {state}"
            page.wait_for_timeout(200)
        return page, state

    yield open_
    for page in pages:
        page.evaluate(
            "async () => { await "
            "window.jupyterapp?.shell?.currentWidget?.sessionContext?.shutdown(); }"
        )
        page.close()


def cell_with(page, description):
    """The first cell with a control of this description: (cell, its slider's handle, its
    picture)."""
    control = page.locator(".widget-slider", has=page.get_by_text(description, exact=True)).first
    cell = page.locator(".jp-CodeCell", has=control).first
    return cell, control.get_by_role("slider").first, cell.locator(".widget-output img").first


def move(page, description, key="ArrowRight", times=3, seconds=30):
    """Moves a slider by keyboard, and waits until the picture below it is another one. Returns the
    cell.
    """
    from playwright.sync_api import expect

    cell, handle, picture = cell_with(page, description)
    picture.wait_for(timeout=30_000)
    for _ in range(times):
        cell.scroll_into_view_if_needed()
        before, was = picture.get_attribute("src"), handle.get_attribute("aria-valuetext")
        handle.focus()
        page.keyboard.press(key)
        expect(handle).not_to_have_attribute("aria-valuetext", was, timeout=10_000)
        expect(picture).not_to_have_attribute("src", before, timeout=seconds * 1000)
    return cell


def photograph(page, name):
    """The whole notebook as one tall picture, in build/screenshots/."""
    cells = page.locator(".jp-Notebook .jp-Cell")
    top, bottom = cells.first.bounding_box(), cells.last.bounding_box()
    height = bottom["y"] + bottom["height"] - top["y"] + 200
    page.set_viewport_size({"width": LAPTOP["width"], "height": min(int(height), 16_000)})
    page.locator(".jp-WindowedPanel-outer").first.evaluate("e => e.scrollTo(0, 0)")
    page.wait_for_timeout(1500)
    page.screenshot(path=shots() / f"{name}.png")
    page.set_viewport_size(LAPTOP)
    print("screenshot:", SCREENSHOTS / f"{name}.png")


def shots():
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS


def assert_fits(cell):
    """No picture of a widget is larger than the place that its panel gives it."""
    for place in cell.locator(".widget-output").all():
        spill = place.evaluate(
            "e => [e.scrollHeight - e.clientHeight, e.scrollWidth - e.clientWidth]"
        )
        assert max(spill) <= 2, (
            f"the picture is larger than its place by {spill} pixels (height, width)"
        )


def assert_clean(page, result):
    assert result["errors"] == []
    assert result["counts"] == list(range(1, len(result["counts"]) + 1))
    assert page.locator(SHOWN_ERRORS).all_inner_texts() == []


@pytest.mark.parametrize("number", LESSONS)
def test_a_lesson_in_jupyterlab(number, open_and_run, lab):
    found = sorted((lab[2] / "notebooks").glob(f"{number}_*.ipynb"))
    assert len(found) == 1, f"lesson {number} is not in notebooks/"
    page, result = open_and_run(f"notebooks/{found[0].name}")
    assert_clean(page, result)
    if LESSONS[number]:
        cell = move(page, LESSONS[number])
        assert_fits(cell)
        cell.screenshot(path=shots() / f"{number}_moved.png")
    photograph(page, found[0].stem)
    assert_clean(page, result)


# --- the machinery itself: tiny notebooks, one that is well and two that must be seen to fail

PANEL = """%matplotlib inline
from kdtutor.display.style import figure
from kdtutor.display.panel import choice, panel, slider
def draw(T, line):
    fig, ax = figure(height=3.2); ax.plot([0, T], line); return fig
panel(draw, T=slider("Temperature T", 1.0, 0.5, 10.0, 0.5), line=choice("Line", ["-", "--"]))"""
WIDGET = """import sys, ipywidgets as W
from IPython.display import display
from matplotlib.figure import Figure
%matplotlib inline
def draw(T):
    {line}
    fig = Figure((4, 3)); fig.subplots().plot([0, T]); display(fig)
T = W.FloatSlider(value=1.0, min=1.0, max=10.0, step=0.5,
                  description="{name}", continuous_update=False)
out = W.interactive_output(draw, {{"T": T}}); out.layout.height = "{height}px"
W.VBox([T, out])"""


@pytest.fixture
def tiny(lab):
    """Writes a notebook of the given sources into JupyterLab's folder, as if saved after a run;
    returns its name.
    """

    def write(name, *sources):
        cells = [new_code_cell(source, execution_count=i) for i, source in enumerate(sources, 1)]
        kernel = {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
        nbformat.write(new_notebook(cells=cells, metadata=kernel), lab[2] / name)
        return name

    return write


def test_a_grid_is_started_and_shown_by_the_form(tiny, open_and_run):
    page, result = open_and_run(
        tiny(
            "form.ipynb",
            "from kdtutor.ablation.form import bench\n"
            "bench('form-store', teacher='mlp64', students=['mlp16'], label_noise='0, 0.4', "
            "epochs=4)",
        )
    )
    cell = page.locator(".jp-CodeCell").first
    cell.screenshot(path=shots() / "form_new.png")
    cell.get_by_role("button", name="Start").click()
    page.get_by_text("Running in the background").wait_for(timeout=60_000)
    page.get_by_text("12 of 12 runs. Finished.").wait_for(
        timeout=180_000
    )  # by itself: nothing is clicked
    cell.locator("table").wait_for(timeout=10_000)
    cell.locator("img").wait_for(timeout=10_000)
    cell.screenshot(path=shots() / "form_finished.png")
    assert_clean(page, result)


def test_a_moved_slider_changes_the_picture(tiny, open_and_run):
    page, result = open_and_run(tiny("good.ipynb", "1 + 1", PANEL, "'last'"))
    assert_clean(page, result)
    assert_fits(move(page, "Temperature T"))
    photograph(page, "tiny")


def test_faults_of_widgets_are_noticed(tiny, open_and_run):
    page, result = open_and_run(
        tiny(
            "faults.ipynb",
            WIDGET.format(name="Frozen", line="T = 2.0", height=400),
            WIDGET.format(name="Large", line="", height=100),
        )
    )
    assert_clean(page, result)
    with pytest.raises(AssertionError, match="src"):
        move(page, "Frozen", times=1, seconds=5)
    with pytest.raises(AssertionError, match="larger than its place"):
        assert_fits(move(page, "Large", times=1))


@pytest.mark.parametrize(
    "line", ["raise ValueError('no picture')", "print('careful', file=sys.stderr)"]
)
def test_an_error_inside_a_widget_is_noticed(tiny, open_and_run, line):
    page, result = open_and_run(
        tiny("hidden.ipynb", WIDGET.format(name="Broken", line=line, height=400))
    )
    assert result["errors"] == [], "the cell itself does not fail"
    page.locator(SHOWN_ERRORS).first.wait_for(timeout=15_000)
    with pytest.raises(AssertionError):
        assert_clean(page, result)


def test_a_cell_that_fails_is_noticed(tiny, open_and_run):
    page, result = open_and_run(tiny("failed.ipynb", "1 + 1", "1 / 0", "3"))
    assert result["errors"] == ["ZeroDivisionError: division by zero"]
    with pytest.raises(AssertionError):
        assert_clean(page, result)
