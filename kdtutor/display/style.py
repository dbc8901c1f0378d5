"""How every figure looks: a colour-blind-safe palette, sizes that read well in a notebook and on
GitHub.

Figures come from pure functions ``draw_…(data, …) -> Figure``: no globals, no ``plt.show``, the
same input gives the same picture. Colour is never the only cue: lines differ in dash and marker,
bars in hatch or label."""

import matplotlib.pyplot as plt

# Okabe and Ito's palette, reordered so that the first colours differ most in lightness as well.
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#222222",
)
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
MAP = "cividis"
# One colour per role in the whole workbook.
ROLE = {"teacher": ORANGE, "student": BLUE, "distilled": GREEN, "label": BLACK}

RC = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "image.cmap": MAP,
}

styled = plt.rc_context(RC)
"""Decorator of a draw function: labels and legends added to a figure take the workbook's style."""


def figure(rows: int = 1, columns: int = 1, width: float = 9.0, height: float = 3.2, **kwargs):
    """A figure in the workbook's style, 100 dpi.

    The figure is closed for pyplot, so a notebook shows it once, where it is returned or displayed,
    and a slider leaks nothing.

    Args:
        rows: Of axes.
        columns: Of axes.
        width: In inches.
        height: In inches.
        **kwargs: Of ``plt.subplots``.

    Returns:
        (Figure, Axes or array of Axes), as ``plt.subplots``.

    Example:
        >>> figure(columns=2)[1].shape
        (2,)
    """
    with plt.rc_context(RC):
        fig, axes = plt.subplots(rows, columns, figsize=(width, height), **kwargs)
    plt.close(fig)
    return fig, axes
