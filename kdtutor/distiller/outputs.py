"""What the networks of an offline method made of one batch."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..datasets import Batch
from ..softening import distillation_kl
from ..taps import twice_differentiable
from ..taps.inputs import check_pixels, gradient_by
from ..teacher import Teacher
from .distiller import Distiller
from .requirements import check_batch, check_classes
from .tensors import precise


class Outputs:
    """What one step sees: the student's logits and features, with gradient; the teacher's when
    first asked for, without.

    Args:
        distiller: whose student runs, once, here.
        teacher: who is asked, at most once.
        batch: the inputs and labels.
        student_layers, teacher_layers: paths to read.
        input_gradient: does a loss differentiate with respect to the student's input? Then ``x`` is
            a leaf of its own, with gradient.
        ran: the outputs of the same step beside another teacher: the student does not run again.

    Attributes:
        batch: the ``Batch``.
        task: what its labels are.
        x: the student's input.
        output: what the student returned, whatever it is.
        student: {path: the student's feature}.
    """

    def __init__(
        self,
        distiller: Distiller,
        teacher: Teacher,
        batch: Batch,
        student_layers: Sequence[str],
        teacher_layers: Sequence[str],
        input_gradient: bool = False,
        ran: "Outputs | None" = None,
    ):
        self.batch, self.task = batch, distiller.task
        self._distiller, self._teacher, self._layers = distiller, teacher, teacher_layers
        for net in teacher.nets:
            check_batch(net, batch, "teacher")
        self.x: Any
        self.output: Any
        self.student: dict[str, Tensor]
        if ran is not None:
            self.x, self.output, self.student = ran.x, ran.output, ran.student
            return
        student = distiller.student
        check_batch(student, batch)
        if input_gradient:
            check_pixels(batch.x, type(distiller).__name__)
        self.x = batch.x.detach().requires_grad_() if input_gradient else batch.x
        with twice_differentiable(student) if input_gradient else nullcontext():
            self.output, self.student = distiller.run(student, self.x, student_layers)
        self._check_gradient(student)

    def _check_gradient(self, student: nn.Module) -> None:
        """Raises ``ValueError`` where no gradient would come back from any layer that was read."""
        if not self.student or not torch.is_grad_enabled():
            return
        dead = not any(f.requires_grad for f in self.student.values())
        if dead and any(p.requires_grad for p in student.parameters()):
            raise ValueError(
                f"no gradient leads back from the student's layers {', '.join(self.student)}: what "
                "lies before them is frozen, or runs under torch.no_grad() (reentrant "
                "checkpointing does). Choose later layers, or unfreeze some."
            )

    @cached_property
    def student_logits(self) -> Tensor:
        """The student's logits, in float32 at least: (B, C), or with places behind."""
        self._distiller.hear(self.output)
        return precise(self.task.logits(self.output))

    @property
    def class_axis(self) -> int:
        """The axis of the classes in the logits. Raises ``ValueError`` where the task has none."""
        return self.task.softmax_axis()

    def divergence(self, temperature: float = 1.0) -> Tensor:
        """``distillation_kl`` of the student's answers from the teacher's, over the places whose
        labels take part.
        """
        return distillation_kl(
            self.student_logits,
            self.teacher_logits(temperature),
            temperature,
            self.class_axis,
            self.task.counted(self.batch.y),
        )

    def input_gradient(self, score: Tensor) -> Tensor:
        """d sum(score) / d x of the student, to be differentiated again. Raises ``ValueError``
        where the score does not depend on the pixels.
        """
        return gradient_by(self.x, score, "the student", create_graph=True)

    @cached_property
    def _read(self) -> tuple[Any, dict[str, Tensor]]:
        return self._teacher.features(self.batch, self._layers)

    @property
    def teacher(self) -> dict[str, Tensor]:
        """The teacher's features by path."""
        return self._read[1]

    def teacher_logits(self, temperature: float = 1.0) -> Tensor:
        """The teacher's logits, from its cache unless its features are read anyway. Raises
        ``ValueError`` unless they have the shape of the student's.
        """
        logits = (
            self.task.logits(self._read[0])
            if self._layers
            else self._teacher(self.batch, temperature)
        )
        check_classes(self.student_logits, logits)
        return logits
