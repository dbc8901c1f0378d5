"""Offline methods: a student beside a frozen teacher, each run once per step and read at the layers
that the losses need.

A method says which layers it reads and what it makes of the ``Outputs``. Reading and judging are
apart, so that ``Composition`` can add methods without running any network twice."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..datasets import Batch
from ..taps import Example, Taps, eval_mode
from ..taps.default_layers import levels, parameters_before
from ..taps.examples import CannotRun, attempt, stated_shape
from ..taps.inputs import check_pixels
from ..taps.layout import check_feature, check_layout
from ..teacher import Teacher
from .distiller import Distiller
from .outputs import Outputs
from .requirements import as_teacher, check_apart, check_batch
from .stages import Terms
from .trial import (
    check_first_answers,
    check_first_gradients,
    check_same_answers,
    first_that_runs,
    found_input,
    same_axes,
    stated,
)

Layers = str | tuple[str, str] | Sequence[Any] | None


class Offline(Distiller):
    """A student and a frozen teacher. Subclasses give ``losses``; those with a first stage of their
    own override ``stages``.

    layers: pairs of paths (student, teacher) to read, as a list; a lone tuple is one pair, a lone
    string the same path in both. None: the method's own choice. Which layouts of features a method
    takes, and how the path says another, stands in ``kdtutor.taps.layout``. example: a small batch
    of inputs, a tensor or a mapping, for networks that carry no ``input_shape`` or take other
    sizes."""

    input_gradient = False  # does a loss differentiate with respect to the student's pixels?
    walks = False  # does it follow the teacher's gradient from pixel to pixel?
    reads_maps = True  # does a loss tell the channels of its features from height and width?
    uses_logits = False  # does a loss compare logits? Then both networks must have the same classes

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        layers: Layers = (),
        example: Example = None,
    ):
        super().__init__(student)
        check_apart(student, teacher)
        self.teacher = as_teacher(teacher)
        # Of a network that states no shape the default layers are found with the other's.
        looks = layers is None and example is None
        self._example = found_input(student, self.teacher) if looks else example
        if example is not None and self.needs_pixels:
            check_pixels(example, type(self).__name__)
        self.layers = self._pairs(layers)
        if self.uses_logits and self._knows_an_input(example):
            check_same_answers(student, self.teacher, example)

    def default_layers(self, net: nn.Module) -> list[str]:
        """The paths that are read where ``layers`` is None: the ends of all stages."""
        return levels(net)

    def _pairs(self, layers: Layers) -> tuple[tuple[str, str], ...]:
        if layers == ():
            return ()
        nets = self.student, self.teacher.net
        if layers is None:
            own, theirs = map(self.default_layers, nets)
            if len(own) != len(theirs):
                raise ValueError(
                    f"the student would be read at {own} and the teacher at {theirs}: different "
                    "numbers. Pass layers=, pairs "
                    "of paths (student, teacher)."
                )
            layers = list(zip(own, theirs))
        pairs = [layers] if isinstance(layers, (str, tuple)) else layers
        pairs = (
            [(p, p) if isinstance(p, str) else p for p in pairs] if isinstance(pairs, list) else []
        )
        if not pairs or not all(
            isinstance(p, (tuple, list))
            and len(p) == 2
            and all(isinstance(q, str) and q for q in p)
            for p in pairs
        ):
            raise ValueError(
                f"layers={layers!r}: expected a path, a pair (student path, teacher path), or a "
                "list of these."
            )
        pairs = tuple(map(tuple, pairs))
        for net, paths in zip(nets, zip(*pairs)):
            Taps(net, paths)  # raises for a path that does not exist
        return pairs

    @property
    def student_layers(self) -> list[str]:
        return [s for s, _ in self.layers]

    @property
    def teacher_layers(self) -> list[str]:
        return [t for _, t in self.layers]

    def example_features(self, example: Example = None) -> list[tuple[Tensor, Tensor]]:
        """(student, teacher) features of every pair for one small batch, so that connectors fit and
        mismatches show at once.
        """

        def read(x):
            with attempt("student", self.student, x), eval_mode(self.student):
                _, student = Taps(self.student, self.student_layers)(x)
            with attempt("teacher", self.teacher.net, x):
                _, teacher = self.teacher.features(x, self.teacher_layers)
            return self._checked(x, student, teacher)

        alike = lambda pairs: all(map(same_axes, pairs))
        x, features = first_that_runs(self.student, self.teacher, example, read, alike)
        if self.reads_maps:
            self._check_layout(x)
        if example is None and tuple(x.shape[1:]) != stated_shape(self.student):
            self._example = x  # for stages(), which looks at the student again
        return features

    @property
    def needs_pixels(self) -> bool:
        """Does it differentiate by its inputs? Then they must be one tensor of numbers."""
        return self.input_gradient or self.walks

    def check_first(self, batch: Batch) -> None:
        if self.needs_pixels:
            check_pixels(batch.x, type(self).__name__)
        if not self.teacher.is_cached:  # else it has seen these data
            check_first_answers(self, batch.x)
        if self.needs_pixels:
            check_first_gradients(self, batch.x)

    def _check_layout(self, x: Any) -> None:
        """Raises ``ValueError`` for layers whose places would be taken for their channels."""
        name = type(self).__name__
        check_layout("student", self.student, self.student_layers, x, name)
        check_layout("teacher", self.teacher.net, self.teacher_layers, x, name)

    def _checked(self, x, student: dict[str, Tensor], teacher: dict[str, Tensor]):
        """The (student, teacher) features of every pair. Raises ``ValueError`` where they are not
        numbers of this batch's examples.
        """
        first = next(iter(x.values())) if isinstance(x, Mapping) else x
        for s, t in self.layers:
            check_feature("student", s, student[s], len(first))
            check_feature("teacher", t, teacher[t], len(first))
        return [(student[s], teacher[t]) for s, t in self.layers]

    def _knows_an_input(self, example: Example) -> bool:
        return example is not None or bool(stated(self.student, self.teacher))

    def _looked_at_all(self) -> bool:
        """Was there an input for each network when the default layers were chosen?"""
        nets = (self.student, *self.teacher.nets)
        return self._example is not None or all(map(stated_shape, nets))

    def check_losses(self, example: Example, *losses) -> None:
        """Tries each loss(student, teacher) on dry features of every pair, where an input is known:
        mismatches show at once.
        """
        if not self._knows_an_input(example):
            return
        try:
            features = self.example_features(example)
        except CannotRun:
            if example is not None:
                raise
            return  # no stated shape fits both: the first batch will show
        for loss in losses:
            self.check_pairs(features, loss)

    def early_features(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """``pairs`` for a first stage: neither network runs further than its last layer."""
        check_batch(self.student, batch)
        check_batch(self.teacher.net, batch, "teacher")
        _, student = Taps(self.student, self.student_layers, stop=True)(batch.x)
        _, teacher = self.teacher.features(batch, self.teacher_layers, stop=True)
        return self._checked(batch.x, student, teacher)

    def lower_parameters(self) -> list[nn.Parameter]:
        """The student's trainable parameters up to its layers, for a first stage. Raises
        ``ValueError`` where none of them can learn.
        """
        lower = parameters_before(self.student, self.student_layers, self._example)
        if not lower and any(p.requires_grad for p in self.student.parameters()):
            raise ValueError(
                f"nothing of the student can learn below {', '.join(self.student_layers)}: what "
                "lies there is frozen, or has no parameters. Choose later layers, or unfreeze some."
            )
        return lower

    def check_pairs(self, features: Sequence[tuple[Tensor, Tensor]], use) -> list:
        """[use(student, teacher)] of dry features. Raises ``ValueError`` that names the layers and
        their shapes where ``use`` does.
        """
        made = []
        for (own, theirs), (s, t) in zip(self.layers, features):
            try:
                made.append(use(s, t))
            except ValueError as error:
                raise ValueError(
                    f"student layer {own!r} gives {tuple(s.shape[1:])} and teacher layer "
                    f"{theirs!r} gives "
                    f"{tuple(t.shape[1:])} per example: {error}"
                ) from error
        return made

    def reads(self) -> tuple[list[str], list[str]]:
        """The student's and the teacher's layers that ``losses`` needs: none where only a first
        stage reads features.
        """
        return self.student_layers, self.teacher_layers

    @property
    def logits_only(self) -> bool:
        """Does it take nothing but answers from its teacher? They may be stored; features and input
        gradients never are.
        """
        return self.uses_logits and not self.layers and not self.input_gradient

    def read(self, batch: Batch) -> Outputs:
        """Runs the student, and the teacher when it is asked for."""
        return Outputs(self, self.teacher, batch, *self.reads(), self.input_gradient)

    def losses(self, outputs: Outputs) -> Terms:
        """{name: weighted scalar tensor} of the method's last stage; the label term, if any, is
        called "ce".
        """
        raise NotImplementedError(
            f"{type(self).__name__} must say what it minimises: def losses(self, outputs) -> dict."
        )

    def terms(self, batch: Batch) -> Terms:
        return self.losses(self.read(batch))

    def pairs(self, outputs: Outputs) -> list[tuple[Tensor, Tensor]]:
        """The (student, teacher) features of every pair of layers."""
        return self._checked(outputs.x, outputs.student, outputs.teacher)


def label_term(outputs: Outputs, ce_weight: float) -> dict[str, Tensor]:
    """{"ce": ce_weight * the task's label loss}, for classes CE(softmax(z_s), y); nothing where the
    weight is 0.
    """
    if not ce_weight:
        return {}
    return {"ce": ce_weight * outputs.task.loss(outputs.student_logits, outputs.batch.y)}


def check_weight(name: str, value: float, zero: bool = False) -> float:
    """A weight as a float. Raises ``ValueError`` unless it is finite and > 0 (zero: or 0, which
    leaves its term out).
    """
    if not (0 <= float(value) < float("inf") and (zero or value)):
        raise ValueError(f"{name}={value}: expected a finite number {'>= 0' if zero else '> 0'}.")
    return float(value)
