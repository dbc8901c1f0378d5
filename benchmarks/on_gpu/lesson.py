"""Runs one notebook's code cells: ``python -m on_gpu.lesson PATH``. Its last line says what it took
and used.
"""

import importlib.util
import json
import sys
import time
import types
from pathlib import Path


class Anything:
    """Stands for any widget: takes everything, keeps what it is given, does nothing."""

    def __init__(self, *args, **given):
        options = given.get("options")
        options = options.items() if isinstance(options, dict) else options
        first = next(iter(options)) if options else None
        self.value = first[1] if isinstance(first, tuple) else first
        self.__dict__ |= given

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__dict__.setdefault(name, Anything())

    def __call__(self, *args, **kwargs):
        return self

    def __iter__(self):
        return iter(())

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        return False


def interactive_output(draw, controls):
    """Draws once, with the values that the controls begin with."""
    draw(**{name: control.value for name, control in controls.items()})
    return Anything()


def any_widget(name: str) -> type:
    """The class of a widget, whatever its name."""
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (Anything,), {})


def stand_ins() -> list[str]:
    """Takes the place of the notebook stack where it is missing; returns what was missing."""
    missing = [n for n in ("ipywidgets", "IPython") if importlib.util.find_spec(n) is None]
    if "ipywidgets" in missing:
        widgets = types.ModuleType("ipywidgets")
        widgets.__getattr__ = any_widget
        widgets.interactive_output = interactive_output
        sys.modules["ipywidgets"] = widgets
    if "IPython" in missing:
        shell, shown = types.ModuleType("IPython"), types.ModuleType("IPython.display")
        shown.display, shown.__getattr__ = lambda *a, **k: None, any_widget
        shell.display, shell.get_ipython = shown, lambda: None
        shell.version_info = (9, 0)  # matplotlib asks
        sys.modules |= {"IPython": shell, "IPython.display": shown}
    return missing


def code(path: Path) -> list[str]:
    """The code cells, without the notebook's own commands."""
    cells = json.loads(path.read_text())["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    plain = lambda text: "\n".join(s for s in text.splitlines() if not s.startswith(("%", "!")))
    return [plain(text) for text in texts]


def main(path: Path) -> None:
    missing, began = stand_ins(), time.perf_counter()
    names = {"__name__": "__main__"}
    for number, text in enumerate(code(path), 1):
        exec(compile(text, f"{path.stem}, code cell {number}", "exec"), names)
    import torch

    used = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else ""
    about = {
        "cells_s": round(time.perf_counter() - began, 1),
        "peak_mib": used and round(used),
        "without": " ".join(missing),
    }
    print(f"\n{json.dumps(about)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
