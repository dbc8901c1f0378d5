"""One small batch before training: can both networks take it, and what do they make of it?"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from ..taps import Example, call, eval_mode, example_input, input_gradient, logits_of
from ..taps.examples import CannotRun, attempt, for_network, stated_shape
from ..taps.written_down import check_any_batch
from ..tasks import Task
from ..teacher import Teacher
from .requirements import check_classes, warn_of_probabilities
from .tensors import precise

Found = TypeVar("Found")


def first_that_runs(
    student: nn.Module,
    teacher: Teacher,
    example: Example,
    run: Callable[[Any], Found],
    alike: Callable[[Found], bool] = lambda found: True,
) -> tuple[Any, Found]:
    """An input that all networks take, and what ``run`` makes of it.

    The one rule for sizes: an example is what counts. Without one, the shapes that the networks
    state (``input_shape``) are tried one after the other, the student's first, and then as rows of
    so many numbers: an MLP states the shape of an image, and a network beside it may take rows. A
    stated shape is a suggestion, and no network is refused for it.

    Args:
        student: whose device it lies on.
        teacher: moved to that device; its networks may state another shape.
        example: a small batch of inputs, or None.
        run: inputs -> anything; it raises where they do not fit.
        alike: whether what it made of a suggestion belongs together; if none does, the first is
            taken.

    Returns:
        (inputs, what ``run`` returned).

    Raises:
        ValueError: where no input is known, and the first input's error where none fits.

    Example:
        >>> import torch
        >>> first_that_runs(nn.Linear(4, 2), Teacher(nn.Linear(4, 2)), torch.ones(2, 4), len)[1]
        2
    """
    if (weight := next(student.parameters(), None)) is not None:
        teacher.to(weight.device)
    if example is not None:
        x = example_input(student, example)
        try:
            return x, run(x)
        except CannotRun as error:
            raise CannotRun(
                f"{error} example= must hold inputs that student and teacher take; "
                "models.adapt(teacher, size=...) gives a teacher another size than the student's."
            ) from error
    failed: ValueError | None = None
    ran: list[tuple[Any, Found]] = []
    images = [example_input(net, random=True) for net in stated(student, teacher) or [student]]
    for x in images + [image.flatten(1) for image in images if image.ndim > 2]:
        x = x if weight is None else x.to(weight)
        try:
            ran.append((x, run(x)))
        except ValueError as error:
            failed = failed or error
        else:
            if alike(ran[-1][1]):
                return ran[-1]
    if ran:
        return ran[0]
    assert failed is not None
    if isinstance(failed, CannotRun):
        raise CannotRun(
            f"{failed} Only this input_shape is stated: pass example=, a small batch of the inputs "
            "that both networks take, such as data.normalised(data.train.x[:2])."
        ) from failed
    raise failed


def stated(student: nn.Module, teacher: Teacher) -> list[nn.Module]:
    """The networks that state an ``input_shape``, one for each shape, the student first."""
    shapes: dict[tuple, nn.Module] = {}
    for net in (student, *teacher.nets):
        if shape := stated_shape(net):
            shapes.setdefault(shape, net)
    return list(shapes.values())


def same_axes(tensors: Sequence[Tensor]) -> bool:
    """Have all as many axes? They have not where one network made an image of what is a row."""
    return len({t.ndim for t in tensors}) == 1


def found_input(student: nn.Module, teacher: Teacher) -> Any:
    """An input for the networks that state no ``input_shape``, from one that does, where all take
    it; None where there is no such network, or no such input.
    """
    nets = student, *teacher.nets
    known = stated(student, teacher)
    if not known or all(stated_shape(net) for net in nets):
        return None

    def run(x):
        answers = []
        for net in nets:
            with attempt("network", net, x), eval_mode(net):
                answers.append(call(net, for_network(net, x)))
        return answers

    def alike(answers):
        try:
            return same_axes(list(map(logits_of, answers)))
        except ValueError:  # the output of a body alone
            return True

    try:
        return first_that_runs(student, teacher, None, run, alike)[0]
    except ValueError:
        return None


def check_same_answers(student: nn.Module, teacher: Teacher, example: Example = None) -> None:
    """Before there are any data: raises ``ValueError`` unless both answer for the same classes.

    Where no stated shape fits both, nothing is known yet: ``fit`` sees it in its first batch.
    """

    def run(x):
        with attempt("student", student, x), eval_mode(student):
            own = logits_of(call(student, x))
        with attempt("teacher", teacher.nets[0], x):
            return own, teacher(x)

    try:
        _, (own, theirs) = first_that_runs(student, teacher, example, run, same_axes)
    except ValueError:
        if example is None:
            return
        raise
    check_classes(own, theirs)


def check_answers(nets: Sequence[tuple[str, nn.Module]], x: Any, task: Task | None = None) -> None:
    """Networks that stand side by side, (what it is called, network): raises ``ValueError`` where
    one cannot take the inputs, and unless all answer for the same classes.
    """
    unwrap = logits_of if task is None else task.logits
    answers = []
    for who, net in nets:
        with attempt(who, net, x), eval_mode(net):
            answers.append(unwrap(call(net, example_input(net, x))))
        check_classes(answers[0], answers[-1])


def check_first_answers(distiller: Any, x: Any) -> None:
    """The same of an offline method with inputs of the data: raises ``ValueError`` where a network
    cannot take them.
    """
    student, teacher = distiller.student, distiller.teacher
    with attempt("student", student, x), eval_mode(student):
        output = call(student, x)
    for net in teacher.nets:
        check_any_batch(net)
    try:
        with attempt("teacher", teacher.nets[0], x):
            theirs = teacher(x)
    except CannotRun as error:
        raise ValueError(
            f"{error} If it takes another size, normalisation or number of channels than the "
            "student, wrap it: models.adapt(teacher, size=..., mean=..., std=..., data=data)."
        ) from error
    except ValueError:
        if distiller.uses_logits:
            raise
        return  # a network without a head may still be read inside
    if distiller.uses_logits:
        check_classes(precise(distiller.task.logits(output)), theirs)
        warn_of_probabilities("teacher", theirs, distiller.task.class_axis)


def check_first_gradients(distiller: Any, x: Any) -> None:
    """Raises ``ValueError`` for networks through which no gradient reaches the inputs that the
    method differentiates by.
    """
    score = lambda z, _: z.flatten(1).sum(1)
    net = distiller.teacher.net
    with attempt("teacher", net, x):
        distiller.teacher.input_gradient(x, score)
    if distiller.input_gradient:
        with attempt("student", distiller.student, x):
            input_gradient(distiller.student, x, score)


__all__ = [
    "check_answers",
    "check_first_answers",
    "check_first_gradients",
    "check_same_answers",
    "first_that_runs",
    "found_input",
    "same_axes",
    "stated",
]
