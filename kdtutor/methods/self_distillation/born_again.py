"""Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born-Again Neural Networks (ICML 2018, arXiv
1805.04770).

A student of the teacher's own architecture learns from the teacher's unsoftened answers, becomes
the teacher of the next student, and so on: generations. Two ablations ask *why* a student learns
from its teacher's answers. CWTM keeps only how sure the teacher is: labels, with a weight per
example. DKPP keeps the teacher's numbers but shuffles which wrong answer gets which. Both at T = 1,
as in the paper."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...distiller import Distiller, Offline, Outputs, label_term
from ...errors import check_same_shape, explained
from ...softening import soften
from ...taps import Example
from ...tasks.task import class_labels
from ...teacher import Teacher
from ..baseline import CrossEntropy


@explained
def cwtm_weights(teacher_logits: Tensor) -> Tensor:
    """How much each example of a batch counts.

    w_s = max_k p_{s,k} / sum_u max_k p_{u,k}: what counts is a confidence beside the others' of its
    batch. The largest probability is used even where the teacher is wrong; Eq. 9 would use the true
    class's. No gradient.

    Args:
        teacher_logits: (B, C).

    Returns:
        (B,), positive, summing to 1.

    Source:
        Furlanello et al., ICML 2018, the factor in Eq. 10.

    Example:
        >>> [round(w, 3) for w in cwtm_weights(torch.tensor([[9.0, 0.0], [0.0, 0.0]])).tolist()]
        [0.667, 0.333]
    """
    confidence = soften(teacher_logits.detach()).amax(-1)
    return confidence / confidence.sum()


@explained
def cwtm_loss(student_logits: Tensor, teacher_logits: Tensor, y: Tensor) -> Tensor:
    """Confidence weighted by teacher max: sum_s w_s CE(softmax(z_s), y_s).

    The weights sum to 1, so this is already a mean: it is not divided by B again, and a teacher
    that is equally sure everywhere gives the plain cross-entropy.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C).
        y: (B,) labels.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: for shapes that differ.

    Source:
        Furlanello et al., ICML 2018, Eq. 10.

    Example:
        >>> z, y = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1])
        >>> torch.allclose(cwtm_loss(z, torch.zeros(2, 2), y), F.cross_entropy(z, y))
        True
    """
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    student_logits = (
        student_logits if student_logits.dtype == torch.float64 else student_logits.float()
    )
    # The floor keeps 0 * log 0 = 0 and the gradient finite where a logarithm would be -inf.
    each = F.nll_loss(F.log_softmax(student_logits, -1).clamp_min(-1e30), y, reduction="none")
    return (cwtm_weights(teacher_logits) * each).sum()


@explained
def permute_dark_knowledge(
    teacher_probs: Tensor, generator: torch.Generator | None = None, keys: Tensor | None = None
) -> Tensor:
    """Shuffles the probabilities of all classes but the most probable one, in each row on its own.

    Every row keeps its values (so its sum, maximum and entropy) and the teacher's argmax its place;
    which wrong answer is similar to which is lost. The paper does not say whether one permutation
    serves a row, a batch or the whole training; here it is fresh for every row, or with
    ``persistent_keys`` an example's own for the whole training.

    Args:
        teacher_probs: (B, C).
        generator: for a repeatable shuffle.
        keys: (B, C) finite numbers whose order is the shuffle, instead of fresh random ones.

    Returns:
        (B, C).

    Raises:
        ValueError: unless there are two dimensions.

    Source:
        Furlanello et al., ICML 2018, Eq. 11.

    Example:
        >>> p = torch.tensor([[0.6, 0.3, 0.1]])
        >>> permute_dark_knowledge(p, keys=torch.tensor([[0.0, 2.0, 1.0]])).tolist() == [[
        ...     p[0, 0].item(), p[0, 2].item(), p[0, 1].item()
        ... ]]
        True
    """
    if teacher_probs.ndim != 2:
        raise ValueError(
            f"teacher_probs has shape {tuple(teacher_probs.shape)}; expected (batch, classes)."
        )
    rows, classes = teacher_probs.shape
    top = teacher_probs.argmax(1, keepdim=True)
    if keys is None:
        device = teacher_probs.device if generator is None else generator.device
        keys = torch.rand(rows, classes, generator=generator, device=device)
    keys = keys.to(teacher_probs.device)
    # Random keys, the argmax's above all others: sorted, the first C - 1 are the other classes in
    # random order.
    shuffled = keys.scatter(1, top, torch.inf).argsort(1)[:, :-1]
    places = torch.arange(classes - 1, device=top.device).expand(rows, -1)
    places = places + (places >= top)
    return teacher_probs.scatter(1, places, teacher_probs.gather(1, shuffled))


@explained
def persistent_keys(index: Tensor, classes: int, seed: int = 0) -> Tensor:
    """Keys for ``permute_dark_knowledge`` that depend on the example's index alone.

    The same shuffle in every epoch. A counter-based generator (splitmix64), so that no table has to
    be kept.

    Args:
        index: (B,) positions in the training set.
        classes: C.
        seed: another one gives other shuffles.

    Returns:
        (B, C) in [0, 1).

    Example:
        >>> here, there = (persistent_keys(torch.tensor(i), 3) for i in ([5, 2], [2]))
        >>> torch.equal(here[1], there[0])
        True
    """
    # One odd counter per example, class and seed (2^40: above all indices), through splitmix64's
    # mixing: two rounds of xor-shift and multiply, one shift. Its constants are unsigned 64-bit
    # numbers, written as the signed ones that torch has; & takes the sign away after a shift.
    z = (
        (index[:, None] * classes + torch.arange(classes, device=index.device)) * 2
        + seed % 2**22 * 2**40
        + 1
    )
    z = z * -7046029254386353131  # 0x9E3779B97F4A7C15, wrapping
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        z = (z ^ ((z >> shift) & ((1 << (64 - shift)) - 1))) * factor
    # 24 bits: what a float32 holds exactly.
    return ((z ^ ((z >> 31) & ((1 << 33) - 1))) & ((1 << 24) - 1)).float() / (1 << 24)


@explained
def dkpp_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    generator: torch.Generator | None = None,
    keys: Tensor | None = None,
) -> Tensor:
    """Dark knowledge with permuted predictions, at T = 1.

    (1/B) sum_s CE(permuted p_s, softmax(z_s)).

    The teacher's argmax keeps its place, even where the teacher is wrong; labels are not used. The
    smallest possible value is the teacher's mean entropy. With two classes nothing is left to
    permute: plain soft cross-entropy. The gradient reaches the student only.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C).
        generator: of ``permute_dark_knowledge``.
        keys: of ``permute_dark_knowledge``; without them ``torch.func.vmap`` needs ``randomness=``.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: for shapes that differ.

    Source:
        Furlanello et al., ICML 2018, Eq. 11.

    Example:
        >>> s, t = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 1.0]])
        >>> torch.allclose(dkpp_loss(s, t), F.cross_entropy(s, soften(t)))
        True
    """
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    targets = permute_dark_knowledge(soften(teacher_logits.detach()), generator, keys)
    student_logits = (
        student_logits if student_logits.dtype == torch.float64 else student_logits.float()
    )
    # The floor keeps 0 * log 0 = 0 where a logarithm would be -inf.
    return -(targets * F.log_softmax(student_logits, -1).clamp_min(-1e30)).sum(-1).mean()


@explained
class BornAgain(Offline):
    """A student of the teacher's own architecture learns the teacher's unsoftened answers.

    L = KL(p_t || p_s) at T = 1, and with labels=True (BAN+L) plus CE(softmax(z_s), y), both with
    weight 1. The paper writes the cross-entropy with the teacher's answer, which differs by the
    teacher's entropy, a constant. Without labels is its better form for images.

    Args:
        student: the network to train.
        teacher: the previous generation (or any network, or a ``Teacher``).
        labels: BAN+L.
        example: a small batch of inputs, a tensor or a mapping, on which both are tried at once.

    Raises:
        ValueError: for different numbers of classes.

    Source:
        Furlanello et al., ICML 2018, arXiv 1805.04770.

    Example:
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import mlp
        >>> distiller = BornAgain(mlp((8,), inputs=4), mlp((8,), inputs=4), labels=True)
        >>> list(distiller.terms(Batch(torch.rand(3, 4), torch.tensor([0, 1, 2]))))
        ['ce', 'ban']
    """

    uses_logits = True

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        labels: bool = False,
        example: Example = None,
    ):
        super().__init__(student, teacher, example=example)
        self.labels = bool(labels)

    def losses(self, outputs: Outputs):
        return {**label_term(outputs, float(self.labels)), "ban": outputs.divergence()}


@explained
class CWTM(Offline):
    """The labels, where a sure teacher makes an example count more: L = ``cwtm_loss``.

    No other word from the teacher.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher`` (ensembles included).
        example: a small batch of inputs, a tensor or a mapping, on which both are tried at once.

    Raises:
        ValueError: for different numbers of classes.

    Source:
        Furlanello et al., ICML 2018, Eq. 10.

    Example:
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import mlp
        >>> distiller = CWTM(mlp((8,), inputs=4), mlp((8,), inputs=4))
        >>> list(distiller.terms(Batch(torch.rand(3, 4), torch.tensor([0, 1, 2]))))
        ['cwtm']
    """

    uses_logits = True
    relates_examples = True  # the weights of a batch sum to 1

    def __init__(self, student: nn.Module, teacher: Teacher | nn.Module, example: Example = None):
        super().__init__(student, teacher, example=example)

    def losses(self, outputs: Outputs):
        y = class_labels(outputs.batch.y, "CWTM")
        return {"cwtm": cwtm_loss(outputs.student_logits, outputs.teacher_logits(), y)}


@explained
class DKPP(Offline):
    """The teacher's answer with its wrong answers shuffled, no labels: L = ``dkpp_loss``.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher`` (ensembles included).
        persistent: every training example keeps one shuffle (it needs batches with ``index``, as
            ``fit`` gives); False: a fresh one in every step.
        seed: of the persistent shuffles.
        example: a small batch of inputs, a tensor or a mapping, on which both are tried at once.

    Raises:
        ValueError: for different numbers of classes.

    Source:
        Furlanello et al., ICML 2018, Eq. 11.

    Example:
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import mlp
        >>> distiller = DKPP(mlp((8,), inputs=4), mlp((8,), inputs=4))
        >>> list(distiller.terms(Batch(torch.rand(3, 4), torch.tensor([0, 1, 2]))))
        ['dkpp']
    """

    uses_logits = True

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        persistent: bool = False,
        seed: int = 0,
        example: Example = None,
    ):
        super().__init__(student, teacher, example=example)
        self.persistent, self.seed = bool(persistent), int(seed)

    def losses(self, outputs: Outputs):
        _ = outputs.class_axis  # raises where there are no classes, so that none can be shuffled
        logits, keys = outputs.teacher_logits(), None
        if self.persistent:
            if outputs.batch.index is None:
                raise ValueError(
                    "DKPP(persistent=True) keeps one shuffle per training example: it needs "
                    "batches with index, as fit gives."
                )
            keys = persistent_keys(outputs.batch.index, logits.shape[1], self.seed)
        return {"dkpp": dkpp_loss(outputs.student_logits, logits, keys=keys)}


@explained
def generations(
    make_student: Callable[[], nn.Module],
    count: int = 3,
    labels: bool = False,
    teacher: Teacher | nn.Module | None = None,
) -> Iterator[Distiller]:
    """The plans of successive generations: fit each before asking for the next.

        nets = []
        for seed, plan in enumerate(generations(make_student, count=3)):
            fit(plan, data, epochs=30, seed=seed)
            nets.append(plan.student)  # the teacher, BAN-1, BAN-2, BAN-3
        ensemble = Teacher(nets[1:])  # Ens*3: their mean prediction, the teacher left out

    Args:
        make_student: gives a new network with new random weights (the paper: same architecture,
            same schedule, a new seed).
        count: generations after the teacher, >= 1.
        labels: BAN+L.
        teacher: a trained one to begin with; None: the first plan trains it from the labels.

    Yields:
        ``CrossEntropy`` for the teacher (if there was none), then ``BornAgain`` count times.

    Raises:
        ValueError: for a count below 1.

    Source:
        Furlanello et al., ICML 2018, arXiv 1805.04770.

    Example:
        >>> from kdtutor.models import mlp
        >>> [type(plan).__name__ for plan in generations(lambda: mlp((8,), inputs=4), count=2)]
        ['CrossEntropy', 'BornAgain', 'BornAgain']
    """
    if count < 1:
        raise ValueError(f"count={count}: expected at least one generation after the teacher.")
    if teacher is None:
        first = CrossEntropy(make_student())
        yield first
        teacher = first.student
    for _ in range(count):
        plan = BornAgain(make_student(), teacher, labels)
        yield plan
        teacher = plan.student
