"""Widgets of the first lesson: a teacher's answer for one image, and which classes look alike to
it. Nothing trains here.
"""

import torch

from ...display.panel import choice, panel, slider
from .figures import class_answers, draw_answer, draw_similarity


def teacher_view(images, logits, labels, classes, chosen):
    """A temperature slider (0.5 to 20) over a teacher's answers for chosen images, the picture
    beside the bars.

    images: (N, 1, H, W).   logits: (N, C), the teacher's, computed once.   labels: (N,) positions
    in ``classes``. chosen: {"what to call it": position among the N images}, the choices of the
    dropdown, in this order. Returns the panel; ``.controls`` has "temperature" and "image"."""

    def draw(temperature, image):
        return draw_answer(images[image], logits[image], int(labels[image]), classes, temperature)

    return panel(
        draw,
        height=360,
        temperature=slider("Temperature T", 1.0, 0.5, 20.0, 0.05, log=True),
        image=choice("Image", chosen, next(iter(chosen.values()))),
    )


def similarity_view(logits, labels, classes):
    """The mean soft answer for each true class, at a temperature, of one teacher or of the mean of
    all.

    logits: (M, N, C), of M teachers for the same N images.   labels: (N,). Returns the panel;
    ``.controls`` has "temperature" and "teacher": 0 is the mean of all tables, m the m-th teacher's
    own."""

    def draw(temperature, teacher):
        shown = logits if teacher == 0 else logits[teacher - 1 : teacher]
        return draw_similarity(
            torch.stack([class_answers(z, labels, temperature) for z in shown]).mean(0),
            classes,
            temperature,
        )

    names = {"mean of all": 0} | {f"teacher {m}": m for m in range(1, len(logits) + 1)}
    return panel(
        draw,
        height=620,
        temperature=slider("Softness T of the table", 4.0, 0.5, 20.0, 0.05, log=True),
        teacher=choice("Teacher", names, 0),
    )
