"""The one way widgets are built here: sliders on top, a picture of fixed height below, drawn by a
pure function.
"""

from collections.abc import Callable

import ipywidgets as widgets
from IPython.display import display


def panel(draw: Callable, height: int = 360, **controls: widgets.Widget) -> widgets.VBox:
    """Controls above the figure that ``draw(**values)`` returns; redrawn when a value changes.

    Uses ``interactive_output``, so an exception in ``draw`` is shown in the picture's place (and
    raises outside a kernel).

    Args:
        draw: A pure function of the controls' values.
        height: Of the picture in pixels, fixed so that the page does not jump.
        **controls: Widgets by the name of ``draw``'s argument. They need a worded ``description``;
            sliders should have ``continuous_update=False``.

    Returns:
        A box with ``.controls`` (by name) and ``.output`` for tests.
    """

    def redraw(**values):
        display(draw(**values))

    output = widgets.interactive_output(redraw, controls)
    output.layout.height = f"{height}px"
    for control in controls.values():
        control.style.description_width = "initial"
        control.layout.width = control.layout.width or "420px"
    box = widgets.VBox(
        [widgets.HBox(list(controls.values()), layout=widgets.Layout(flex_flow="row wrap")), output]
    )
    box.controls, box.output = controls, output
    return box


def slider(
    description: str, value: float, low: float, high: float, step: float = 0.1, *, log: bool = False
):
    """A slider that fires when the handle is released.

    Args:
        description: In words.
        value: At first.
        low: The least value (with ``log`` too: not an exponent).
        high: The greatest value (with ``log`` too).
        step: Between values; with ``log`` of the exponent of ten.
        log: Whether equal ways multiply instead of add.

    Returns:
        A slider of whole numbers if all four numbers are, else of floats.

    Example:
        >>> slider("temperature", 4, 1, 20, 1).value
        4
    """
    common = dict(description=description, continuous_update=False)
    if log:
        from math import log10

        return widgets.FloatLogSlider(
            value=value, min=log10(low), max=log10(high), step=step, readout_format=".2f", **common
        )
    whole = all(isinstance(v, int) for v in (value, low, high, step))
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    return kind(value=value, min=low, max=high, step=step, **common)


def choice(description: str, options, value=None) -> widgets.Dropdown:
    """A dropdown.

    Args:
        description: In words.
        options: Values, (label, value) pairs or a dict of label to value.
        value: At first; None: the first one.

    Returns:
        The dropdown.

    Example:
        >>> choice("method", ["kd", "fitnets"]).value
        'kd'
    """
    chosen = {} if value is None else {"value": value}
    return widgets.Dropdown(description=description, options=options, **chosen)
