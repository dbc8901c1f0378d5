"""Offline methods: a student beside a frozen teacher, each run once per step and read at the layers that the losses need.

A method says which layers it reads and what it makes of a ``Reading``. Reading and judging are apart, so that ``Composition`` can
add methods without running any network twice.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets import Batch
from ..errors import check_weights
from ..landmarks import stages
from ..taps import Taps, call, dry, example_input
from ..teacher import Teacher
from .distiller import Distiller, Terms, as_teacher, check_answers, check_classes

Layers = str | tuple[str, str] | Sequence[Any] | None


class Reading:
    """What one step sees: the student's logits and features, with gradient; the teacher's when first asked for, without.

    batch: the ``Batch``.   x: the student's input (a leaf with gradient where a loss differentiates with respect to it).
    student_logits: (B, C).   student[path]: the student's features at a path.
    """

    def __init__(self, student: nn.Module, teacher: Teacher, batch: Batch, student_layers: Sequence[str],
                 teacher_layers: Sequence[str], input_gradient: bool = False, ran: "Reading | None" = None):
        self.batch, self._teacher, self._layers, self._read = batch, teacher, teacher_layers, None
        if ran is not None:  # the student has run already, beside another teacher
            self.x, self.student, self.student_logits = ran.x, ran.student, ran.student_logits
            return
        device = next((p.device for p in student.parameters()), None)
        if isinstance(batch.x, Tensor) and device is not None and batch.x.device != device:
            raise ValueError(f"the batch is on {batch.x.device} but the student on {device}: move one with .to(device). ``fit`` moves all.")
        self.x = batch.x.detach().requires_grad_() if input_gradient else batch.x
        output, self.student = Taps(student, student_layers)(self.x) if student_layers else (call(student, self.x), {})
        self.student_logits = output.float()

    @property
    def teacher(self) -> dict[str, Tensor]:
        """The teacher's features by path."""
        if self._read is None:
            self._read = self._teacher.features(self.batch, self._layers)
        return self._read[1]

    def teacher_logits(self, temperature: float = 1.0) -> Tensor:
        """The teacher's logits (B, C), from its cache unless its features are read anyway."""
        logits = self._teacher(self.batch, temperature) if not self._layers else (self.teacher, self._read[0])[1]
        check_classes(self.student_logits, logits)
        return logits


class Offline(Distiller):
    """A student and a frozen teacher. Subclasses give ``losses``; those with a first stage of their own override ``stages``.

    layers: pairs of paths (student, teacher) to read, as a list; a lone tuple is one pair, a lone string the same path in both.
    None: the method's own choice. example: a small batch of inputs, for networks that carry no ``input_shape``.
    """

    input_gradient = False  # does a loss differentiate with respect to the pixels?

    def __init__(self, student: nn.Module, teacher: Teacher | nn.Module, layers: Layers = (), example: Tensor | None = None):
        super().__init__(student)
        self.teacher = as_teacher(teacher)
        self.layers = self._pairs(layers)
        if not self.layers and (example is not None or hasattr(student, "input_shape")):
            check_answers(student, self.teacher, example)

    def default_layers(self, net: nn.Module) -> list[str]:
        """The paths that are read where ``layers`` is None: the ends of all stages."""
        return stages(net)

    def _pairs(self, layers: Layers) -> tuple[tuple[str, str], ...]:
        nets = self.student, self.teacher.net if layers != () else None
        if layers is None:
            own, theirs = map(self.default_layers, nets)
            if len(own) != len(theirs):
                raise ValueError(f"the student would be read at {own} and the teacher at {theirs}: different numbers. Pass layers=, pairs "
                                 "of paths (student, teacher).")
            layers = list(zip(own, theirs))
        layers = [layers] if isinstance(layers, (str, tuple)) and layers else layers
        pairs = tuple((p, p) if isinstance(p, str) else tuple(p) for p in layers)
        if any(len(p) != 2 for p in pairs):
            raise ValueError(f"layers={layers!r}: expected a path, a pair (student path, teacher path), or a list of these.")
        for net, paths in zip(nets, zip(*pairs)):
            Taps(net, paths)  # raises for a path that does not exist
        return pairs

    @property
    def student_layers(self) -> list[str]:
        return [s for s, _ in self.layers]

    @property
    def teacher_layers(self) -> list[str]:
        return [t for _, t in self.layers]

    def dry_features(self, example: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """(student, teacher) features of every pair for one small batch, so that connectors fit and mismatches show at once."""
        x = example_input(self.student, example)
        if example is None:
            x = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
        with dry(self.student):
            student_logits, student = Taps(self.student, self.student_layers)(x)
        teacher_logits, teacher = self.teacher.to(x.device).features(x, self.teacher_layers)
        check_classes(student_logits, teacher_logits)
        return [(student[s], teacher[t]) for s, t in self.layers]

    def try_pairs(self, features: Sequence[tuple[Tensor, Tensor]], use) -> list:
        """[use(student, teacher)] of dry features. Raises ``ValueError`` that names the layers and their shapes where ``use`` does."""
        made = []
        for (own, theirs), (s, t) in zip(self.layers, features):
            try:
                made.append(use(s, t))
            except ValueError as error:
                raise ValueError(f"student layer {own!r} gives {tuple(s.shape[1:])} and teacher layer {theirs!r} gives "
                                 f"{tuple(t.shape[1:])} per example: {error}") from error
        return made

    def reads(self) -> tuple[list[str], list[str]]:
        """The student's and the teacher's layers that ``losses`` needs: none where only a first stage reads features."""
        return self.student_layers, self.teacher_layers

    def read(self, batch: Batch) -> Reading:
        """Runs the student, and the teacher when it is asked for."""
        return Reading(self.student, self.teacher, batch, *self.reads(), self.input_gradient)

    def losses(self, reading: Reading) -> Terms:
        """{name: weighted scalar tensor} of the method's last stage; the label term, if any, is called "ce"."""
        raise NotImplementedError(f"{type(self).__name__} must say what it minimises: def losses(self, reading) -> dict.")

    def terms(self, batch: Batch) -> Terms:
        return self.losses(self.read(batch))

    def pairs(self, reading: Reading) -> list[tuple[Tensor, Tensor]]:
        """The (student, teacher) features of every pair of layers."""
        return [(reading.student[s], reading.teacher[t]) for s, t in self.layers]


def label_term(reading: Reading, ce_weight: float) -> dict[str, Tensor]:
    """{"ce": ce_weight * CE(softmax(z_s), y)}, or nothing where the weight is 0."""
    return {"ce": ce_weight * F.cross_entropy(reading.student_logits, reading.batch.y)} if ce_weight else {}


def weight(name: str, value: float) -> float:
    """A weight as a float. Raises ``ValueError`` unless it is finite and > 0."""
    check_weights(**{name: value})
    return float(value)
