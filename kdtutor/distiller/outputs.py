"""What one training step of an offline method sees."""

from collections.abc import Sequence
from contextlib import nullcontext

from torch import Tensor, nn

from ..datasets import Batch
from ..taps import Taps, call, twice_differentiable
from ..teacher import Teacher
from .plan import check_batch, check_classes
from .tensors import precise


class Outputs:
    """What one step sees: the student's logits and features, with gradient; the teacher's when
    first asked for, without.

    batch: the ``Batch``.   x: the student's input (a leaf with gradient where a loss differentiates
    with respect to it). student_logits: (B, C).   student[path]: the student's features at a path.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        batch: Batch,
        student_layers: Sequence[str],
        teacher_layers: Sequence[str],
        input_gradient: bool = False,
        ran: "Outputs | None" = None,
    ):
        self.batch, self._teacher, self._layers, self._read = batch, teacher, teacher_layers, None
        for net in teacher.nets:
            check_batch(net, batch, "teacher")
        if ran is not None:  # the student has run already, beside another teacher
            self.x, self.student, self.student_logits = ran.x, ran.student, ran.student_logits
            return
        check_batch(student, batch)
        self.x = batch.x.detach().requires_grad_() if input_gradient else batch.x
        with twice_differentiable(student) if input_gradient else nullcontext():
            output, self.student = (
                Taps(student, student_layers)(self.x)
                if student_layers
                else (call(student, self.x), {})
            )
        self.student_logits = precise(output)

    @property
    def teacher(self) -> dict[str, Tensor]:
        """The teacher's features by path."""
        if self._read is None:
            self._read = self._teacher.features(self.batch, self._layers)
        return self._read[1]

    def teacher_logits(self, temperature: float = 1.0) -> Tensor:
        """The teacher's logits (B, C), from its cache unless its features are read anyway."""
        logits = (
            self._teacher(self.batch, temperature)
            if not self._layers
            else (self.teacher, self._read[0])[1]
        )
        check_classes(self.student_logits, logits)
        return logits
