"""The fields of the ablation bench's form: a control for each, how a grid fills it, and what a grid
becomes by it.
"""

import os

import ipywidgets as widgets

from ... import methods, models
from ...datasets import available

LATE = {"continuous_update": False}
DESCRIBED = {"description_width": "130px"}


def _listed(values) -> str:
    return ", ".join("none" if v is None else str(v) for v in values)


def _numbers(text: str, kind, what: str) -> list:
    """The numbers in "0, 0.4"; "none" stands for None. Raises ``ValueError`` that names the
    field."""
    try:
        return [
            None if part.strip() == "none" else kind(part)
            for part in text.split(",")
            if part.strip()
        ]
    except ValueError:
        raise ValueError(f"{what}: {text!r} is no list of numbers such as '0, 1'.") from None


# Each field: how a grid fills it, and what a grid becomes by it.
FIELDS = {
    "dataset": (lambda g: g.dataset, lambda g, v: {"dataset": v.strip()}),
    "teacher": (lambda g: g.teacher or "", lambda g, v: {"teacher": v.strip() or None}),
    "students": (lambda g: list(g.students), lambda g, v: {"students": list(v)}),
    "methods": (lambda g: [m.label for m in g.methods], lambda g, v: {"methods": list(v)}),
    "seeds": (lambda g: _listed(g.seeds), lambda g, v: {"seeds": _numbers(v, int, "Seeds")}),
    "epochs": (lambda g: g.epochs, lambda g, v: {"epochs": v}),
    "images": (lambda g: g.images or 0, lambda g, v: {"images": v or None}),
    "lr": (lambda g: g.fit.get("lr", 0.05), lambda g, v: {"fit": g.fit | {"lr": v}}),
    "label_noise": (
        lambda g: _listed(g.label_noise),
        lambda g, v: {"label_noise": _numbers(v, float, "Label noise")},
    ),
    "imbalance": (
        lambda g: _listed(g.imbalance),
        lambda g, v: {"imbalance": _numbers(v, float, "Imbalance")},
    ),
}


def grid_controls() -> dict[str, widgets.Widget]:
    """A control for each field of the form, and one for the number of processes.

    Returns:
        {name: widget}; "workers" is no field of a grid.
    """
    names = [n for n, (present, _) in available("data").items() if present]
    tags = lambda name: widgets.TagsInput(allow_duplicates=False, tag_style="info", tooltip=name)
    text = lambda name, hint: widgets.Text(
        description=name, placeholder=hint, style=DESCRIBED, **LATE
    )
    whole = lambda name, low: widgets.BoundedIntText(
        min=low, max=10**7, description=name, style=DESCRIBED
    )
    controls = {
        "dataset": widgets.Combobox(options=names, description="Dataset", style=DESCRIBED, **LATE),
        "teacher": widgets.Combobox(
            options=list(models.NAMES), description="Teacher", style=DESCRIBED, **LATE
        ),
        "students": tags("Students"),
        "methods": tags("Methods"),
        "seeds": text("Seeds", "such as 0, 1, 2"),
        "epochs": whole("Epochs", 1),
        "images": whole("Images (0: all)", 0),
        "lr": widgets.BoundedFloatText(
            min=1e-6, max=100, step=0.01, description="Learning rate", style=DESCRIBED
        ),
        "label_noise": text("Label noise", "rates, such as 0, 0.4"),
        "imbalance": text("Imbalance γ", "exponents, such as none, 0.2"),
        "workers": widgets.IntSlider(
            value=0,
            min=0,
            max=os.cpu_count() or 1,
            description="Processes",
            style=DESCRIBED,
            **LATE,
        ),
    }
    for control in controls.values():
        control.layout.width = "330px"
    return controls


def arranged(c: dict[str, widgets.Widget]) -> widgets.Box:
    """The controls side by side, with a hint on how methods are written.

    Args:
        c: As ``grid_controls`` gives them.

    Returns:
        A box of widgets.
    """
    labelled = lambda name, text: widgets.HBox(
        [widgets.Label(text, layout={"width": "126px", "justify_content": "flex-end"}), c[name]]
    )
    hint = widgets.HTML(
        "<small style='line-height: 1.4; display: block'>Methods: "
        + ", ".join(methods.catalog()["name"])
        + "; with settings: RKD(distance_weight=10); sums: AT+Hinton. Type a name, then "
        "Enter.</small>",
        layout={"width": "480px"},
    )
    left = widgets.VBox(
        [
            c["dataset"],
            c["teacher"],
            labelled("students", "Students"),
            labelled("methods", "Methods"),
            hint,
        ]
    )
    right = widgets.VBox(
        [c[n] for n in ("seeds", "epochs", "images", "lr", "label_noise", "imbalance", "workers")]
    )
    return widgets.HBox([left, right], layout={"flex_flow": "row wrap", "grid_gap": "16px"})
