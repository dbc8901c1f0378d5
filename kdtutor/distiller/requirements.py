"""What networks must have in common, and what a plan must not hide: found before any training."""

import re
import warnings
from collections.abc import Iterable

from torch import Tensor, nn

from ..datasets import Batch
from ..teacher import Teacher
from .distiller import Distiller, _inside
from .stages import Stage


def as_teacher(teacher: Teacher | nn.Module) -> Teacher:
    """A network as a frozen ``Teacher``; a ``Teacher`` stays what it is."""
    return teacher if isinstance(teacher, Teacher) else Teacher(teacher)


def check_batch(net: nn.Module, batch: Batch, who: str = "student") -> None:
    """Raises ``ValueError`` with both devices unless the batch's inputs and labels lie where the
    network is.
    """
    device = next((p.device for p in net.parameters()), None)
    for what, t in (("inputs are", batch.x), ("labels are", batch.y)):
        if device is not None and isinstance(t, Tensor) and t.device != device:
            raise ValueError(
                f"the batch's {what} on {t.device} but the {who} is on {device}: move one with "
                ".to(device). ``fit`` moves all."
            )


def check_classes(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raises ``ValueError`` with both shapes unless student and teacher answer for the same
    classes.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student and teacher have different numbers of classes: logits "
            f"{tuple(student_logits.shape)} against {tuple(teacher_logits.shape)}. Distillation of "
            "answers needs the same classes in the same order."
        )


def warn_of_probabilities(who: str, logits: Tensor, axis: int | None) -> None:
    """Warns where a network ends in its softmax: the losses here take logits, and would soften
    probabilities once more. Asked once, before training.
    """
    if axis is None or not logits.is_floating_point() or logits.shape[axis] < 2:
        return
    sums = logits.detach().float().sum(axis)
    if bool((logits >= 0).all()) and bool((sums - 1).abs().max() < 1e-3):
        warnings.warn(
            f"the answers of the {who} are >= 0 and sum to 1, as probabilities do, and logits are "
            "expected: leave out its last softmax, or wrap it so that it gives their logarithm.",
            stacklevel=2,
        )


def check_apart(student: nn.Module, teacher: Teacher | nn.Module) -> None:
    """Raises ``ValueError`` if the teacher is the student, or holds some of its parameters:
    freezing it would freeze the student.
    """
    nets = teacher.nets if isinstance(teacher, Teacher) else [teacher]
    own = {id(p) for p in student.parameters()}
    if any(id(p) in own for net in nets if isinstance(net, nn.Module) for p in net.parameters()):
        raise ValueError(
            "student and teacher share parameters, and a teacher is frozen: give the student a "
            "network of its own, for example copy.deepcopy(net)."
        )


def check_players(distiller: Distiller, stages: Iterable[Stage]) -> None:
    """Raises ``ValueError`` for networks that nobody trains, or that would be trained unasked, and
    for a student that is frozen.

    Three ways to put a network beside the student go wrong without a word: in a plain list or dict
    it is neither moved nor trained nor saved; as an attribute it becomes a part of what learns, so
    a teacher is trained; and if no player has its parameters, it stays as it was made, in training
    mode.
    """
    name = type(distiller).__name__
    kept = list(distiller.deploy().parameters())
    if kept and not any(p.requires_grad for p in kept):
        raise ValueError(
            f"the network that {name} deploys has no trainable parameter: only helpers beside it "
            "would learn. Is it frozen (does it serve as a Teacher too)? A Teacher freezes its "
            "network: give the student one of its own."
        )
    for attribute, value in vars(distiller).items():
        plain = isinstance(value, (list, tuple, set, dict)) and not attribute.startswith("_")
        if plain and any(isinstance(v, nn.Module) for v in _inside(value)):
            raise ValueError(
                f"{name}.{attribute} holds a network in a plain {type(value).__name__}, where it "
                "is neither trained nor moved to the device nor saved. A frozen one: wrap it in "
                "Teacher(net). One that learns: use nn.ModuleList or nn.ModuleDict."
            )
    learning = {id(p) for s in stages for player in s.players for p in player.parameters}
    default = type(distiller).stages is Distiller.stages
    for child, module in distiller.named_children():
        mine = [p for p in module.parameters() if p.requires_grad]
        if module is distiller.student or not mine or isinstance(module, Distiller):
            continue
        if not any(id(p) in learning for p in mine):
            raise ValueError(
                f"{name}.{child} has trainable parameters, and no player trains them. A frozen "
                "network: wrap it in Teacher(net), or freeze it with requires_grad_(False). One "
                "that learns: give its parameters to a Player in stages()."
            )
        if default and _is_a_network(child, module, distiller.student):
            raise ValueError(
                f"{name}.{child} is a network beside the student, and would be trained along with "
                "it. A teacher: wrap it in Teacher(net). One that follows: freeze it with "
                "requires_grad_(False). One that learns: say so with a Player in stages()."
            )


def _is_a_network(name: str, module: nn.Module, student: nn.Module) -> bool:
    """Is it a whole network rather than a helper? By its name, its class, or where it was made."""
    home = type(module).__module__
    return (
        re.fullmatch(r"_?teachers?_?(net|network|model)?s?_?\d*", name.lower()) is not None
        or hasattr(module, "input_shape")
        or (type(module) is type(student) and not home.startswith("torch.nn"))
        or home.startswith(("kdtutor.models.", "torchvision.models.", "timm.", "transformers."))
    )
