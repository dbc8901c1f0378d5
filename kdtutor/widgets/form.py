"""The ablation bench as a form: choose a grid, start it in the background, watch its table and figure grow; stop and continue."""

import asyncio
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as widgets

from .. import methods, models
from ..ablation import Grid, Results, Store, background, forecast, read_grid
from ..ablation.report import typeset
from ..datasets import available
from ..errors import unknown

LOOK = 2.0  # seconds between two looks at the store
DESCRIBED = {"description_width": "130px"}


def _numbers(text: str, kind, what: str) -> list:
    """The numbers in "0, 0.4"; "none" stands for None. Raises ``ValueError`` that names the field."""
    try:
        return [None if part.strip() == "none" else kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"{what}: {text!r} is no list of numbers such as '0, 0.4'.") from None


class Bench(widgets.VBox):
    """The form over one store. ``controls`` by name; ``grid()``, ``start()``, ``stop()``, ``refresh()`` do what the buttons do.

    A grid that was started runs in a process of its own: the kernel may restart, and a new form over the same store finds it.
    """

    def __init__(self, store: str | Path = "runs/form", **defaults):
        self.store, self.results, self._shown, self._watch = Path(store), None, None, None
        names = [n for n, (present, _) in available("data").items() if present]
        text = lambda name, value, hint="": widgets.Text(value=value, description=name, placeholder=hint, continuous_update=False)
        tags = lambda name, value: widgets.TagsInput(value=value, allow_duplicates=False, tag_style="info", tooltip=name)
        self.controls = {
            "dataset": widgets.Combobox(value="digits", options=names, description="Dataset", continuous_update=False),
            "teacher": widgets.Combobox(value="resnet14", options=list(models.NAMES), description="Teacher", continuous_update=False),
            "students": tags("Students", ["resnet8"]),
            "methods": tags("Methods", ["CrossEntropy", "Hinton"]),
            "seeds": widgets.IntSlider(value=3, min=1, max=10, description="Seeds", continuous_update=False),
            "epochs": widgets.BoundedIntText(value=5, min=1, max=1000, description="Epochs"),
            "images": widgets.BoundedIntText(value=0, min=0, max=10**7, description="Images (0: all)"),
            "lr": widgets.BoundedFloatText(value=0.1, min=1e-6, max=10, step=0.01, description="Learning rate"),
            "label_noise": text("Label noise", "0", "rates, such as 0, 0.4"),
            "imbalance": text("Imbalance γ", "none", "exponents, such as none, 0.2"),
            "workers": widgets.IntSlider(value=0, min=0, max=os.cpu_count() or 1, description="Processes", continuous_update=False),
        }
        for control in self.controls.values():
            control.style = control.style if isinstance(control, widgets.TagsInput) else DESCRIBED
            control.layout.width = "330px"
        self.message, self.table, self.figure = widgets.HTML(), widgets.HTML(), widgets.Image(format="png")
        self.figure.layout.display, self.figure.layout.max_width = "none", "100%"
        self.bar = widgets.IntProgress(value=0, max=1, description="Runs", layout={"width": "400px"})
        self.buttons = {name: widgets.Button(description=name, icon=icon, button_style=style, tooltip=tip) for name, icon, style, tip in (
            ("Start", "play", "primary", "Run what the store does not hold yet, in the background"),
            ("Stop", "stop", "", "End within one epoch; Start continues"),
            ("How long?", "clock-o", "", "Count the runs and time a few steps of each kind"),
            ("Look now", "refresh", "", "Read the store again"))}
        for name, action in zip(self.buttons, (self.start, self.stop, self.estimate, self.refresh)):
            self.buttons[name].on_click(lambda _, action=action: self._tell(action))
        self._set(defaults)
        super().__init__([self._fields(), widgets.HBox(list(self.buttons.values())), self.message, self.bar, self.table, self.figure])
        self._tell(self._resume)

    def _fields(self) -> widgets.Box:
        c = self.controls
        labelled = lambda name, text: widgets.HBox([widgets.Label(text, layout={"width": "126px", "justify_content": "flex-end"}), c[name]])
        hint = widgets.HTML(f"<small style='line-height: 1.4; display: block'>Methods: {', '.join(methods.catalog()['name'])}; with settings: RKD(distance_weight=10); sums: AT+Hinton. "
                            "Type a name, then Enter.</small>", layout={"width": "480px"})
        left = widgets.VBox([c["dataset"], c["teacher"], labelled("students", "Students"), labelled("methods", "Methods"), hint])
        right = widgets.VBox([c[n] for n in ("seeds", "epochs", "images", "lr", "label_noise", "imbalance", "workers")])
        return widgets.HBox([left, right], layout={"flex_flow": "row wrap", "grid_gap": "16px"})

    def _set(self, values: dict) -> None:
        for name, value in values.items():
            if name not in self.controls:
                raise unknown("field of the form", name, self.controls)
            self.controls[name].value = value

    def grid(self) -> Grid:
        """The grid that the fields describe. Raises ``ValueError`` for what cannot work."""
        v = {name: control.value for name, control in self.controls.items()}
        return Grid(dataset=v["dataset"], teacher=v["teacher"].strip() or None, students=list(v["students"]), methods=list(v["methods"]),
                    seeds=range(v["seeds"]), epochs=v["epochs"], images=v["images"] or None, fit={"lr": v["lr"]},
                    label_noise=_numbers(v["label_noise"], float, "Label noise"), imbalance=_numbers(v["imbalance"], float, "Imbalance"))

    def start(self) -> str:
        """Starts the grid in the background."""
        grid = self.grid()
        background.start(grid, self.store, workers=self.controls["workers"].value, retry=True)
        self.results = Results(Store(self.store), grid.cells())
        self.watch()
        return self.refresh()

    def stop(self) -> str:
        """Asks the grid to end within one epoch."""
        if not background.running(self.store):
            return "Nothing runs here."
        Store(self.store).stop()
        return self.refresh()

    def estimate(self) -> str:
        """How many runs there are and how long they would take."""
        return f"<pre>{html.escape(forecast(self.grid(), self.store, max(1, self.controls['workers'].value)))}</pre>"

    def refresh(self) -> str:
        """Reads the store and shows what there is; redraws only what changed."""
        if self.results is None:
            return "Choose a grid, then Start."
        alive, stopped, frame = background.running(self.store), self.results.store.stopped, self.results.frame()
        ended = int((frame["status"] != "pending").sum())
        self.bar.max, self.bar.value = len(frame), ended
        if ended != self._shown:
            self._shown = ended
            self._draw(frame)
        bad = frame[frame["status"].isin(["failed", "diverged", "died", "out of memory"])]
        reasons = "".join(f"<br>✗ {html.escape(f'{r.method}, seed {r.seed}: {r.status}: {r.reason}'[:200])}" for r in bad.itertuples())
        state = ("Stopping: within one epoch." if stopped and alive else "Running in the background: this kernel may restart." if alive
                 else "Finished." if ended == len(frame) else "Stopped. Start continues where it stopped." if stopped
                 else f"It ended early: {html.escape(background.last_words(self.store))}. Start continues.")
        return f"{ended} of {len(frame)} runs. {state}{reasons}"

    def _draw(self, frame) -> None:
        if "test_accuracy_last" not in frame or not frame["test_accuracy_last"].notna().any():
            return
        table = self.results.table()
        self.table.value = typeset(table, "html")
        if table["gain"].notna().any():
            picture, figure = io.BytesIO(), self.results.plot()
            figure.savefig(picture, format="png", dpi=200)
            self.figure.value, self.figure.layout.display = picture.getvalue(), ""
            self.figure.layout.width = f"{90 * figure.get_figwidth():.0f}px"

    def _resume(self) -> str:
        """What an earlier form left in the store: its grid, and its process if that still runs."""
        file = self.store / "grid.toml"
        if not file.exists():
            return self.refresh()
        grid = read_grid(file)
        self._set({"dataset": grid.dataset, "teacher": grid.teacher or "", "students": list(grid.students), "epochs": grid.epochs,
                   "methods": [m.label for m in grid.methods], "seeds": len(grid.seeds), "images": grid.images or 0,
                   "lr": grid.fit.get("lr", 0.1), "label_noise": _listed(grid.label_noise), "imbalance": _listed(grid.imbalance)})
        self.results = Results(Store(self.store), grid.cells())
        if background.running(self.store):
            self.watch()
        return self.refresh()

    def watch(self) -> None:
        """Looks at the store every two seconds while the grid runs, where there is an event loop: in a notebook's kernel."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._watch is None or self._watch.done():
            self._watch = loop.create_task(self._look())

    async def _look(self) -> None:
        while background.running(self.store):
            await asyncio.sleep(LOOK)
            self._tell(self.refresh)
        self._tell(self.refresh)

    def _tell(self, action) -> None:
        """Does it and shows what it says; what was wrong is shown in its place."""
        try:
            self.message.value = action()
        except (ValueError, OSError, RuntimeError) as error:
            self.message.value = f"<b>✗</b> {html.escape(str(error), quote=False)}"


def _listed(values: Sequence) -> str:
    return ", ".join("none" if v is None else f"{v:g}" for v in values)


def bench(store: str | Path = "runs/form", **defaults) -> Bench:
    """The form over a store; defaults: values of its fields, such as ``bench("runs/mine", methods=["CrossEntropy", "SP"], epochs=20)``.

    What the store holds already is shown, and a grid that an earlier kernel started is found again. Raises ``ValueError`` for an unknown
    field.
    """
    return Bench(store, **defaults)


__all__ = ["Bench", "bench"]
