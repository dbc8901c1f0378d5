"""The ablation bench as a form: choose a grid, start it in the background, watch its table and
figure grow; stop and continue.
"""

import asyncio
import html
import io
from dataclasses import replace
from pathlib import Path

import ipywidgets as widgets

from ...errors import unknown
from .. import Grid, Results, Store, background, forecast, read_grid
from ..columns import measured
from ..results import typeset
from .fields import FIELDS, arranged, grid_controls

LOOK = 2.0  # seconds between two looks at the store
FIRST = Grid(epochs=5, fit={"lr": 0.1})


class Bench(widgets.VBox):
    """The form over one store.

    ``grid()``, ``start()``, ``stop()``, ``refresh()`` do what the buttons do. A grid that was
    started
    runs in a process of its own: the kernel may restart, and a new form over the same store finds
    it. Settings of that grid that have no field (teacher_sees, teacher_epochs, ...) stay as they
    are.

    Args:
        store: The store's folder.
        **defaults: Values of the fields for a store without a grid.

    Attributes:
        controls: {name: widget}.

    Raises:
        ValueError: For an unknown field.
    """

    def __init__(self, store: str | Path = "runs/form", **defaults):
        self.store, self.results, self._shown, self._watch, self.controls = (
            Path(store),
            None,
            None,
            None,
            grid_controls(),
        )
        self.state, self.message, self.table, self.figure = (
            *(widgets.HTML() for _ in range(3)),
            widgets.Image(format="png"),
        )
        self.bar = widgets.IntProgress(
            value=0, max=1, description="Runs", layout={"width": "400px"}
        )
        self.buttons = {
            name: widgets.Button(description=name, icon=icon, button_style=style, tooltip=tip)
            for name, icon, style, tip in (
                (
                    "Start",
                    "play",
                    "primary",
                    "Run what the store does not hold yet, in the background",
                ),
                ("Stop", "stop", "", "End within one epoch; Start continues"),
                ("How long?", "clock-o", "", "Count the runs and time a few steps of each kind"),
                ("Look now", "refresh", "", "Read the store again"),
            )
        }
        for name, action in zip(self.buttons, (self.start, self.stop, self.estimate, self.refresh)):
            self.buttons[name].on_click(lambda _, action=action: self._tell(action))
        self._show(FIRST)
        for name, value in defaults.items():
            if name not in self.controls:
                raise unknown("field of the form", name, self.controls)
            self.controls[name].value = value
        super().__init__(
            [
                arranged(self.controls),
                widgets.HBox(list(self.buttons.values())),
                self.message,
                self.state,
                self.bar,
                self.table,
                self.figure,
            ]
        )
        self._clear()
        self._tell(self._resume)

    def _show(self, grid: Grid) -> None:
        """Fills the fields."""
        self._grid = grid
        for name, (read, _) in FIELDS.items():
            self.controls[name].value = read(grid)
        self._filled = {name: self.controls[name].value for name in FIELDS}

    def grid(self) -> Grid:
        """The grid that the fields describe: the one that filled them, but for what was changed.

        Returns:
            A ``Grid``.

        Raises:
            ValueError: For a field that cannot be read, and for a grid that cannot work.
        """
        changes = {}
        for name, (_, write) in FIELDS.items():
            if self.controls[name].value != self._filled[name]:
                changes |= write(self._grid, self.controls[name].value)
        return replace(self._grid, **changes)

    def start(self) -> None:
        """Starts the grid in the background.

        Raises:
            ValueError: As ``grid`` does.
            RuntimeError: Where a grid runs in this store already or its process did not come up.
        """
        grid = self.grid()
        background.start(grid, self.store, workers=self.controls["workers"].value, retry=True)
        self._show(grid)
        self._clear()
        self.results = Results(Store(self.store), grid.cells())
        self.watch()
        self.refresh()

    def stop(self) -> str | None:
        """Asks the grid to end within one epoch.

        Returns:
            What to show, if nothing runs; else None.
        """
        if not background.running(self.store):
            return "Nothing runs here."
        Store(self.store).stop()
        return self.refresh()

    def estimate(self) -> str:
        """How many runs there are and how long they would take.

        Returns:
            HTML, see ``forecast``.
        """
        workers = max(1, self.controls["workers"].value)
        return f"<pre>{html.escape(forecast(self.grid(), self.store, workers))}</pre>"

    def refresh(self) -> None:
        """Reads the store and shows what there is; redraws only what changed."""
        if self.results is None:
            self.state.value = "Choose a grid, then Start."
            return
        alive, stopped, frame = (
            background.running(self.store),
            self.results.store.stopped,
            self.results.frame(),
        )
        ended = int((frame["status"] != "pending").sum())
        self.bar.max, self.bar.value = len(frame), ended
        if ended != self._shown:
            self._shown = ended
            self._draw(frame)
        bad = frame[frame["status"].isin(["failed", "diverged", "died", "out of memory"])]
        reasons = "".join(
            f"<br>✗ {html.escape(f'{r.method}, seed {r.seed}: {r.status}: {r.reason}'[:200])}"
            for r in bad.itertuples()
        )
        words = (
            "Stopping: within one epoch."
            if stopped and alive
            else "Running in the background: this kernel may restart."
            if alive
            else "Finished."
            if ended == len(frame)
            else "Stopped. Start continues where it stopped."
            if stopped
            else f"It ended early: {html.escape(background.last_words(self.store), quote=False)}. "
            "Start continues."
        )
        self.state.value = f"{ended} of {len(frame)} runs. {words}{reasons}"

    def _clear(self) -> None:
        self._shown, self.table.value = None, ""
        self.figure.layout.display, self.figure.layout.max_width = "none", "100%"

    def _draw(self, frame) -> None:
        if not any(frame[name].notna().any() for name in measured(frame)):
            return
        table = self.results.table()
        self.table.value = typeset(table, "html")
        if table["gain"].notna().any():
            picture, figure = io.BytesIO(), self.results.plot()
            figure.savefig(picture, format="png", dpi=200)
            self.figure.value, self.figure.layout.display = picture.getvalue(), ""
            self.figure.layout.width = f"{90 * figure.get_figwidth():.0f}px"

    def _resume(self) -> None:
        """What an earlier form left in the store: its grid, and its process if that still runs."""
        if (file := self.store / "grid.toml").exists():
            self._show(read_grid(file))
            self.results = Results(Store(self.store), self._grid.cells())
            if background.running(self.store):
                self.watch()
        self.refresh()

    def watch(self) -> None:
        """Looks at the store every two seconds while the grid runs, where there is an event loop:
        in a notebook's kernel.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._watch is None or self._watch.done():
            self._watch = loop.create_task(self._look())

    async def _look(self) -> None:
        while background.running(self.store):
            await asyncio.sleep(LOOK)
            try:
                self.refresh()
            except Exception as error:  # shown, and looked at again: the grid itself goes on
                self.state.value = (
                    f"<b>✗</b> {html.escape(f'{type(error).__name__}: {error}', quote=False)}"
                )
        self._tell(self.refresh)

    def _tell(self, action) -> None:
        """Does it and shows what it says; what was wrong is shown in its place."""
        try:
            self.message.value = action() or ""
        except (ValueError, OSError, RuntimeError) as error:
            self.message.value = f"<b>✗</b> {html.escape(str(error), quote=False)}"


def bench(store: str | Path = "runs/form", **defaults) -> Bench:
    """The form over a store.

    What the store holds is shown, and a grid that an earlier kernel started is found again.

    Args:
        store: The store's folder.
        **defaults: Values of the fields for a store without a grid, such as ``bench("runs/mine",
            methods=["CrossEntropy", "SP"], epochs=20, seeds="0, 1, 2")``.

    Returns:
        A ``Bench``, which a notebook shows.

    Raises:
        ValueError: For an unknown field.
    """
    return Bench(store, **defaults)


__all__ = ["Bench", "bench"]
