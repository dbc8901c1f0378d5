"""The panel that every widget is built with: what is drawn when, limits, errors, and a picture that
does not jump.
"""

from importlib import import_module

import ipywidgets
import pytest
from matplotlib.figure import Figure

from kdtutor.display.panel import choice, panel, slider


@pytest.fixture
def shown(monkeypatch):
    """What the panel displays, in order."""
    figures = []
    monkeypatch.setattr(import_module("kdtutor.display.panel"), "display", figures.append)
    return figures


def test_each_value_is_drawn_once_and_its_figure_displayed(shown):
    drawn = []
    box = panel(
        lambda T: drawn.append(T) or Figure(), T=slider("Temperature T", 1.0, 0.5, 10.0, 0.5)
    )
    for value in (4.0, 4.0, 2.5):
        box.controls["T"].value = value
    assert drawn == [1.0, 4.0, 2.5]
    assert len(shown) == 3 and all(isinstance(figure, Figure) for figure in shown)


@pytest.mark.parametrize("asked, got", [(99.0, 10.0), (-1.0, 0.5)])
def test_a_value_out_of_range_is_clamped(shown, asked, got):
    drawn = []
    panel(lambda T: drawn.append(T), T=(T := slider("Temperature T", 1.0, 0.5, 10.0)))
    T.value = asked
    assert drawn[-1] == T.value == got


def test_all_controls_reach_the_drawing_by_name(shown):
    drawn = []
    box = panel(
        lambda **values: drawn.append(values),
        T=slider("Temperature T", 1.0, 0.5, 10.0),
        image=slider("Image", 0, 0, 9, 1),
        mean=choice("Mean", ["arithmetic", "geometric"]),
    )
    box.controls["image"].value = 7
    box.controls["mean"].value = "geometric"
    assert drawn[-1] == {"T": 1.0, "image": 7, "mean": "geometric"}
    assert [control.description for control in box.children[0].children] == [
        "Temperature T",
        "Image",
        "Mean",
    ]


def test_an_exception_in_the_drawing_surfaces(shown):
    def draw(T):
        if T > 5:
            raise ValueError("no picture at this temperature")
        return Figure()

    box = panel(draw, T=slider("Temperature T", 1.0, 0.5, 10.0))
    with pytest.raises(ValueError, match="no picture"):
        box.controls["T"].value = 8.0


def test_a_drawing_that_fails_at_once_is_no_panel(shown):
    with pytest.raises(ZeroDivisionError):
        panel(lambda T: 1 / 0, T=slider("Temperature T", 1.0, 0.5, 10.0))


@pytest.mark.parametrize("height", [240, 360])
def test_the_picture_has_a_fixed_height(shown, height):
    box = panel(lambda T: Figure(), height=height, T=slider("Temperature T", 1.0, 0.5, 10.0))
    box.controls["T"].value = 3.0
    assert box.output.layout.height == f"{height}px"
    assert box.children[-1] is box.output


def test_descriptions_are_not_cut_off(shown):
    box = panel(lambda T: Figure(), T=slider("The weight of the soft targets", 1.0, 0.5, 10.0))
    assert box.controls["T"].style.description_width == "initial"


@pytest.mark.parametrize(
    "arguments, kind",
    [((0, 0, 9, 1), ipywidgets.IntSlider), ((1.0, 0.5, 10.0, 0.5), ipywidgets.FloatSlider)],
)
def test_a_slider_fires_when_released(arguments, kind):
    control = slider("Image", *arguments)
    assert type(control) is kind and control.continuous_update is False
    assert (control.value, control.min, control.max, control.step) == arguments


def test_a_log_slider_takes_values_not_exponents(shown):
    control = slider("Temperature T", 4.0, 0.1, 100.0, log=True)
    assert (control.value, control.base**control.min, control.base**control.max) == pytest.approx(
        (4.0, 0.1, 100.0)
    )
    control.value = 1000.0
    assert control.value == pytest.approx(100.0)


def test_a_value_outside_the_sliders_own_range_is_clamped_from_the_start():
    assert slider("Temperature T", 50.0, 0.5, 10.0).value == 10.0


@pytest.mark.parametrize(
    "options", [["a", "b"], [("first", "a"), ("second", "b")], {"first": "a", "second": "b"}]
)
def test_a_choice_starts_at_its_first_option_or_the_given_one(options):
    assert choice("Letter", options).value == "a"
    assert choice("Letter", options, "b").value == "b"
    with pytest.raises(Exception, match="(?i)invalid selection"):
        choice("Letter", options, "c")
