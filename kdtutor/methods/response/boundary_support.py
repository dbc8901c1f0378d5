"""Heo, Lee, Yun, Choi: Knowledge Distillation with Adversarial Samples Supporting Decision Boundary
(BSS, AAAI 2019).

A boundary supporting sample is an image pushed by small gradient steps just across the teacher's
boundary between its own class and another. There the teacher's answer says where its boundary runs;
the student learns that answer too."""

import torch
from torch import Tensor, nn

from ...distiller import Offline, Outputs, check_weight, label_term
from ...distiller.tensors import precise, readable
from ...errors import check_temperature, explained
from ...softening import distillation_kl, soften
from ...taps import call, input_gradient
from ...taps.inputs import check_pixels
from ...tasks.task import class_labels
from ...teacher import Teacher

Bounds = tuple[float, float] | None


@explained
def boundary_samples(
    teacher: Teacher | nn.Module,
    x: Tensor,
    base_class: Tensor,
    target_class: Tensor,
    steps: int = 10,
    step_size: float = 0.3,
    overshoot: float = 1e-4,
    bounds: Bounds = None,
) -> Tensor:
    """Walks each image just across the teacher's boundary between two classes.

    One step, with z the teacher's logits and gap = z_base - z_target: x <- x + step_size * (gap +
    overshoot) * g / ||g||_2, g = d(z_target - z_base)/dx, as in the authors' code (the paper's step
    was not available to us). A sample stops once the base class is no longer the teacher's answer;
    one that has not crossed after ``steps`` steps is returned as far as it came. Where the logits
    are steep this oversteps: to first order the boundary lies at step_size = 1 / ||g||_2.

    Args:
        teacher: any network, also a student in training; nothing about it changes.
        x: (B, ...) inputs.
        base_class: (B,) or one number for all.
        target_class: (B,) or one number for all.
        steps: of the walk, at most.
        step_size: of the walk, in units of the gap between logits.
        overshoot: how far beyond equal logits a step aims.
        bounds: (lowest, highest) pixel, to which every step is clipped: (0, 1) for images without
            normalisation, +-2.5 in the authors' normalised CIFAR-10; None for none.

    Returns:
        (B, ...), no gradient.

    Raises:
        ValueError: where base and target are the same class, or no class of the teacher's.

    Source:
        Heo et al., Knowledge Distillation with Adversarial Samples, AAAI 2019, and the authors'
        code.

    Example:
        >>> net = nn.Linear(1, 2, bias=False)
        >>> net.weight.data = torch.tensor([[1.0], [-1.0]])  # the boundary is at 0
        >>> boundary_samples(net, torch.tensor([[1.0]]), 0, 1, step_size=0.5).item() < 0
        True
    """
    net = teacher.net if isinstance(teacher, Teacher) else teacher
    x = x.detach().clone()
    base, target = (
        torch.as_tensor(c, device=x.device).expand(len(x)) for c in (base_class, target_class)
    )
    if bool((base == target).any()):
        raise ValueError(
            f"base_class and target_class are equal for {int((base == target).sum())} of {len(x)} "
            "samples: there is no "
            "boundary of a class with itself."
        )
    asked = torch.cat([base, target])
    low, high = (int(asked.min()), int(asked.max())) if len(asked) else (0, 0)
    return _walk(net, x, base, target, (low, high), steps, step_size, overshoot, bounds)


def _walk(net, x, base, target, asked, steps, step_size, overshoot, bounds) -> Tensor:
    """The walk of ``boundary_samples``, whose classes lie between the two numbers ``asked``.

    On a CPU samples that have crossed leave the batch, which saves their gradients; of a GPU no
    value is read, so that nobody waits, and they stay in it unmoved.
    """

    def pick(z: Tensor, c: Tensor) -> Tensor:
        if not 0 <= asked[0] <= asked[1] < z.shape[1]:
            raise ValueError(
                f"base_class and target_class must be among the teacher's {z.shape[1]} classes, 0 "
                f"to {z.shape[1] - 1}; "
                f"got {asked[0]} to {asked[1]}."
            )
        return z.gather(1, c[:, None])[:, 0]

    leave, each = readable(x), [1] * (x.ndim - 1)
    walking, crossed = torch.arange(len(x), device=x.device), torch.zeros_like(base).bool()
    for _ in range(steps):
        b, t = base[walking], target[walking]
        gradient, logits, _ = input_gradient(net, x[walking], lambda z, _: pick(z, t) - pick(z, b))
        inside, gap = logits.argmax(1) == b, pick(logits, b) - pick(logits, t)
        if leave:
            walking, gradient, gap = walking[inside], gradient[inside], gap[inside]
            if not len(walking):
                break
        length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)  # where the logits are flat
        moved = x[walking] + (step_size * (gap + overshoot) / length).view(-1, *each) * gradient
        moved = (moved if bounds is None else moved.clamp(*bounds)).to(x.dtype)
        if leave:
            x[walking] = moved
        else:
            crossed = crossed | ~inside
            x = torch.where(crossed.view(-1, *each), x, moved)
    return x


@explained
def base_samples(
    student_logits: Tensor, teacher_logits: Tensor, y: Tensor, most: int = 64
) -> Tensor:
    """Which images are worth a walk: those that teacher and student both get right.

    If there are more than ``most``, those where the wrong classes' probabilities differ most:
    sum_{k != y} (p_t,k - p_s,k)^2 at T = 1.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C).
        y: (B,) labels.
        most: how many at most.

    Returns:
        Positions in the batch, perhaps none.

    Example:
        >>> z = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> base_samples(z, z, torch.tensor([0, 0])).tolist()
        [0]
    """
    right = ((student_logits.argmax(1) == y) & (teacher_logits.argmax(1) == y)).nonzero()[:, 0]
    if len(right) <= most:
        return right
    difference = (
        (soften(teacher_logits) - soften(student_logits)).square().scatter(1, y[:, None], 0).sum(1)
    )
    return right[difference[right].topk(most).indices]


@explained
def target_classes(teacher_logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A class for each image other than the teacher's answer.

    Drawn by the teacher's probability: p_k / (1 - max p).

    Args:
        teacher_logits: (B, C).
        generator: for a repeatable draw.

    Returns:
        (B,) classes.

    Example:
        >>> target_classes(torch.tensor([[3.0, 1.0], [0.0, 1.0]])).tolist()
        [1, 0]
    """
    logits = teacher_logits.scatter(1, teacher_logits.argmax(1, keepdim=True), float("-inf"))
    return torch.multinomial(soften(logits), 1, generator=generator)[:, 0]


@explained
class BSS(Offline):
    """The student learns the teacher's answer at images just across its boundary, too.

    L = CE + kd_weight(e) * KL_T(x) + bss_weight(e) * KL_T(x_bss), KL_T = KL(p_t^T || p_s^T)
    averaged over its samples. kd_weight(e) = 1 + 3 (1 - e) and bss_weight(e) = 2 max(1 - 4e/3, 0),
    e the progress of training, are the authors' code, as is T = 3 without the factor T^2. Walks are
    taken for the images of ``base_samples`` towards ``target_classes``. Where fewer than two images
    qualify the term is 0: batch normalisation cannot train on one.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher`` of one network.
        temperature: T, finite and > 0.
        most: samples per batch, at least 2.
        steps: of the walk; 0: no walk.
        step_size: of the walk.
        bounds: pixels' range, None for none, or "batch": from the least to the greatest value in
            the batch, whatever the normalisation (ours; the code has +-2.5).
        ce_weight: of the label term, >= 0.
        example: a small batch of inputs, a tensor: both networks are tried on it at once.

    Raises:
        ValueError: for bad numbers, different classes and an ensemble, which has no single
            gradient.

    Source:
        Heo et al., Knowledge Distillation with Adversarial Samples, AAAI 2019, and the authors'
        code.

    Example:
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import mlp
        >>> distiller = BSS(mlp((8,), inputs=4), mlp((32,), inputs=4))
        >>> list(distiller.terms(Batch(torch.rand(3, 4), torch.tensor([0, 1, 2]))))
        ['ce', 'kd', 'bss']
    """

    uses_logits = walks = True

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        temperature: float = 3.0,
        most: int = 64,
        steps: int = 10,
        step_size: float = 0.3,
        bounds: Bounds | str = "batch",
        ce_weight: float = 1.0,
        example: Tensor | None = None,
    ):
        super().__init__(student, teacher, example=example)
        _ = self.teacher.net  # raises for an ensemble, which has no single gradient
        self.temperature, self.ce_weight = (
            check_temperature(temperature),
            check_weight("ce_weight", ce_weight, zero=True),
        )
        if most < 2 or steps < 0:
            raise ValueError(
                f"most={most}, steps={steps}: expected at least 2 samples of a batch, and 0 steps "
                "(no walk) or more."
            )
        self.most, self.steps, self.step_size = (
            int(most),
            int(steps),
            check_weight("step_size", step_size),
        )
        if bounds != "batch" and bounds is not None:
            low, high = bounds if isinstance(bounds, (tuple, list)) and len(bounds) == 2 else (1, 0)
            if not low < high:
                raise ValueError(
                    f"bounds={bounds!r}: expected (lowest, highest) pixel, 'batch', or None for "
                    "no bounds."
                )
            bounds = (float(low), float(high))
        self.bounds = bounds

    def losses(self, outputs: Outputs):
        check_pixels(outputs.batch.x, "BSS")
        student, teacher, y, t = (
            outputs.student_logits,
            outputs.teacher_logits(),
            class_labels(outputs.batch.y, "BSS"),
            self.temperature,
        )
        kd_weight, bss_weight = 1 + 3 * (1 - self.progress), 2 * max(1 - 4 / 3 * self.progress, 0.0)
        terms = label_term(outputs, self.ce_weight) | {
            "kd": kd_weight / t**2 * distillation_kl(student, teacher, t)
        }
        chosen = base_samples(student.detach(), teacher, y, self.most) if bss_weight else y[:0]
        if len(chosen) < 2:
            return terms | {"bss": 0.0 * student.sum()}
        x = outputs.batch.x[chosen]
        bounds = self.bounds
        if isinstance(bounds, str):  # "batch"
            bounds = (float(outputs.batch.x.min()), float(outputs.batch.x.max()))
        x = boundary_samples(
            self.teacher,
            x,
            y[chosen],
            target_classes(teacher[chosen]),
            self.steps,
            self.step_size,
            bounds=bounds,
        )
        answers = precise(self.task.logits(call(self.student, x)))
        term = distillation_kl(answers, self.teacher(x), t)
        return terms | {"bss": bss_weight / t**2 * term}
