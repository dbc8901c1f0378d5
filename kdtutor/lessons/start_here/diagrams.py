"""Diagrams of the first lesson, drawn of boxes: how a student learns from a teacher, and the map of
the field.
"""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from ...display.style import BLACK, BLUE, GREEN, ORANGE, figure, styled

KINDS = {
    "response": "the answers",
    "feature": "what the layers\ncompute",
    "relation": "how examples\nrelate",
}
SCHEMES = {
    "offline": "first the teacher, then the student",
    "online": "all learn at the same time",
    "self": "the network teaches itself",
}


def _box(ax, x, y, text, width, height=6.0, face="white", edge=BLACK, line="-", **font):
    """A rounded box with its centre at (x, y)."""
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=1.2",
            facecolor=face,
            edgecolor=edge,
            linestyle=line,
            linewidth=1.5,
        )
    )
    ax.text(x, y, text, ha="center", va="center", **{"fontsize": 10.5, "linespacing": 1.3} | font)


def _canvas(width, height):
    """Empty axes that measure ten units per inch, from the lower left corner."""
    fig, ax = figure(1, 1, width, height)
    ax.set(xlim=(0, 10 * width), ylim=(0, 10 * height), aspect="equal")
    ax.axis("off")
    return fig, ax


@styled
def draw_distillation():
    """How a student learns from a teacher's answers: two losses, one student. A diagram without
    data.
    """
    fig, ax = _canvas(9.6, 4.1)
    _box(ax, 7.5, 21, "images x", 12, face="0.94")
    _box(
        ax,
        29,
        34,
        "TEACHER\nlarge, trained, frozen:\nno gradient reaches it",
        22,
        11,
        face="#FBE3B5",
        edge=ORANGE,
    )
    _box(
        ax,
        29,
        16,
        "STUDENT\nsmall, learns:\nboth gradients end here",
        22,
        11,
        face="#CFE4F3",
        edge=BLUE,
    )
    for y, text, heights, colour in [
        (34, "soft answer\nsoftmax($z_t$ / T)", (1, 4, 2, 1.4), ORANGE),
        (23, "soft answer\nsoftmax($z_s$ / T)", (1.6, 3, 2.4, 1), BLUE),
        (12.5, "plain answer\nsoftmax($z_s$)", (0.3, 4.4, 1, 0.2), BLUE),
        (4.5, "label y", (0, 5, 0, 0), BLACK),
    ]:
        _box(ax, 58, y, "", 24, 7.2)
        ax.text(47.6, y, text, va="center", linespacing=1.3)
        ax.bar([63.4 + 1.6 * i for i in range(4)], heights, 1.2, y - 2.7, color=colour)
    _box(
        ax,
        84.5,
        28.5,
        "SOFT LOSS\nKL(teacher ‖ student)\ntimes T²",
        21.5,
        10.5,
        face="#D5EFE7",
        edge=GREEN,
    )
    _box(ax, 84.5, 8.5, "LABEL LOSS\ncross-entropy", 21.5, 9, face="0.94")
    for start, end in [
        ((13.7, 23), (17.7, 31)),
        ((13.7, 19.5), (17.7, 17)),
        ((40.3, 34), (45.7, 34)),
        ((40.3, 18), (45.7, 22)),
        ((40.3, 14.5), (45.7, 12.8)),
        ((70.3, 34), (73.5, 31)),
        ((70.3, 23), (73.5, 26.5)),
        ((70.3, 12.5), (73.5, 10.5)),
        ((70.3, 4.5), (73.5, 6.5)),
    ]:
        ax.annotate(
            "",
            end,
            start,
            arrowprops={
                "arrowstyle": "-|>",
                "color": BLACK,
                "linewidth": 1.6,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
    ax.text(84.5, 18.8, "+", fontsize=22, ha="center", va="center")
    ax.text(87, 18.8, "(weighted)", va="center")
    return fig


def _pill(ax, x, y, name, lesson, ready):
    """One method on the map, its lesson at the left end."""
    _box(
        ax,
        x,
        y,
        name,
        24.5,
        2.5,
        face=BLACK if ready else "white",
        line="-" if ready else "--",
        edge=BLACK if ready else "0.45",
        color="white" if ready else BLACK,
        weight="bold" if ready else "normal",
    )
    ax.text(
        x - 11.4, y, lesson, ha="left", va="center", fontsize=9.5, color="white" if ready else BLACK
    )


@styled
def draw_field(field, ready=()):
    """The map of the field. field: {(kind, scheme): "Name 01, Other 05"}, names with their lesson.
    ready: names that exist.

    Rows are ``KINDS`` of knowledge, columns are ``SCHEMES``. A full box with bold text is ready; a
    dashed one is planned."""
    cells = {
        place: [entry.rsplit(" ", 1) for entry in names.split(", ")]
        for place, names in field.items()
    }
    rows = {
        kind: 2.3 + 3.1 * max([len(cells.get((kind, s), ())) for s in SCHEMES] + [2])
        for kind in KINDS
    }
    wide, left, top = 27.0, 15.5, sum(rows.values()) + 4.2
    fig, ax = _canvas((left + 3 * wide) / 10, (top + 9) / 10)
    for column, (scheme, meaning) in enumerate(SCHEMES.items()):
        centre = left + wide * (column + 0.5)
        ax.text(centre, top + 5.6, scheme, ha="center", fontsize=13, weight="bold")
        ax.text(centre, top + 2.4, meaning, ha="center", fontsize=10)
    y = top
    for kind, tint in zip(KINDS, ("#FBE9C6", "#D3E8F5", "#F1DCE8")):
        ax.text(
            left - 1.5,
            y - rows[kind] / 2 + 1.2,
            kind,
            ha="right",
            va="bottom",
            fontsize=13,
            weight="bold",
        )
        ax.text(
            left - 1.5, y - rows[kind] / 2 + 0.4, KINDS[kind], ha="right", va="top", fontsize=10
        )
        for column, scheme in enumerate(SCHEMES):
            x, names = left + wide * column, cells.get((kind, scheme), [])
            ax.add_patch(
                plt.Rectangle(
                    (x + 0.4, y - rows[kind] + 0.4),
                    wide - 0.8,
                    rows[kind] - 0.8,
                    color=tint,
                    linewidth=0,
                )
            )
            for i, (name, lesson) in enumerate(names):
                _pill(ax, x + wide / 2, y - 2.7 - 3.1 * i, name, lesson, name in ready)
            if not names:
                ax.text(
                    x + wide / 2,
                    y - rows[kind] / 2,
                    "(no lesson)",
                    ha="center",
                    va="center",
                    fontsize=10,
                    color="0.35",
                )
        y -= rows[kind]
    _pill(ax, left + wide * 0.5, 2, "ready", "lesson", True)
    _pill(ax, left + wide * 1.5, 2, "planned", "lesson", False)
    return fig
