"""Widgets of lesson 07, over points and embeddings that were computed once: controls on top of
``figures``.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from ...display.panel import choice, panel, slider
from . import contrast
from . import figures as relations


def constellation_view(points: Tensor, turn: float = 40.0, scale: float = 1.5):
    """Move a student's copy of the teacher's points over ``draw_constellations``.

    points: (B, 2). Controls: turn, scale, shift, push.
    """

    def draw(turn, scale, shift, push):
        return relations.draw_constellations(
            points, {"student": relations.moved(points, turn, scale, shift, push)}
        )

    last = relations.NAMES[len(points) - 1]
    return panel(
        draw,
        height=380,
        turn=slider("Turn all (degrees)", turn, -180.0, 180.0, 5.0),
        scale=slider("Scale all", scale, 0.5, 1.5, 0.05),
        shift=slider("Shift all to the right", 0.0, -1.5, 1.5, 0.1),
        push=slider(f"Push only {last} up", 0.0, 0.0, 2.0, 0.1),
    )


def relations_view(features: Mapping[str, Tensor], y: Tensor):
    """Choose a relation, and the corner of its angles, over ``draw_relations``.

    features: name of the network -> (B, D).   y: (B,) labels in ascending order. Controls: kind,
    vertex."""
    draw = lambda kind, vertex: relations.draw_relations(features, y, kind, vertex)
    return panel(
        draw,
        height=410,
        kind=choice(
            "Relation", {words: kind for kind, words in relations.KINDS.items()}, "similarity"
        ),
        vertex=slider("Corner of the angles (row)", 0, 0, len(y) - 1, 1),
    )


def chance_view(negatives: int = 16384):
    """A slider for the number of negatives over ``draw_chance``. Control: negatives."""
    return panel(
        lambda negatives: contrast.draw_chance(round(negatives)),
        height=400,
        negatives=slider("Negatives K", negatives, 1, 1e5, 0.01, log=True),
    )


def lineup_view(lineup: Callable[[int], tuple], count: int, start: int = 0):
    """Choose the image that asks over ``draw_lineup``. lineup: position -> the arguments of
    ``draw_lineup``, looked up. Control: image.
    """
    return panel(
        lambda image: contrast.draw_lineup(*lineup(image)),
        height=440,
        image=slider("Image no.", start, 0, count - 1, 1),
    )
