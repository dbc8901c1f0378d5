"""Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born-Again Neural Networks (ICML 2018, arXiv 1805.04770).

Two ablations ask *why* a student learns from its teacher's answers. CWTM keeps only how sure the teacher is: labels, with a weight
per example. DKPP keeps the teacher's numbers but shuffles which wrong answer gets which. Both at T = 1, as in the paper.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import check_same_shape
from ...softening import soften
from ...taps import call
from ...teacher import Teacher
from ..distiller import Batch, Distiller, as_teacher, check_answers, check_classes


def cwtm_weights(teacher_logits: Tensor) -> Tensor:
    """How much each example of a batch counts: w_s = max_k p_{s,k} / sum_u max_k p_{u,k} (the factor in Eq. 10).

    teacher_logits: (B, C). Returns (B,), positive, summing to 1: what counts is a confidence beside the others' of its batch. The
    largest probability is used even where the teacher is wrong; Eq. 9 would use the true class's. No gradient.
    """
    confidence = soften(teacher_logits.detach()).amax(-1)
    return confidence / confidence.sum()


def cwtm_loss(student_logits: Tensor, teacher_logits: Tensor, y: Tensor) -> Tensor:
    """Confidence weighted by teacher max (Eq. 10): sum_s w_s CE(softmax(z_s), y_s), a scalar >= 0.

    student_logits, teacher_logits: (B, C).   y: (B,) labels. The weights sum to 1, so this is already a mean: it is not divided
    by B again, and a teacher that is equally sure everywhere gives the plain cross-entropy. Raises ``ValueError`` for shapes that
    differ.
    """
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    student_logits = student_logits if student_logits.dtype == torch.float64 else student_logits.float()
    each = F.cross_entropy(student_logits, y, reduction="none")
    return (cwtm_weights(teacher_logits) * each).sum()


def permute_dark_knowledge(teacher_probs: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Shuffles the probabilities of all classes but the most probable one, in each row on its own.

    teacher_probs: (B, C). Returns (B, C): every row has the same values as before (so the same sum, maximum and entropy) and the
    teacher's argmax keeps its place; which wrong answer is similar to which is lost. generator: for a repeatable shuffle.

    The paper does not say whether one permutation serves a row, a batch or the whole training; here it is fresh for every row.
    """
    rows, classes = teacher_probs.shape
    top = teacher_probs.argmax(1, keepdim=True)
    device = teacher_probs.device if generator is None else generator.device
    keys = torch.rand(rows, classes, generator=generator, device=device).to(teacher_probs.device)
    # Random keys, the argmax's above all others: sorted, the first C - 1 are the other classes in random order.
    shuffled = keys.scatter(1, top, 2.0).argsort(1)[:, :-1]
    places = torch.arange(classes - 1, device=top.device).expand(rows, -1)
    places = places + (places >= top)
    return teacher_probs.scatter(1, places, teacher_probs.gather(1, shuffled))


def dkpp_loss(student_logits: Tensor, teacher_logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Dark knowledge with permuted predictions (Eq. 11): (1/B) sum_s CE(permuted p_s, softmax(z_s)) at T = 1, a scalar >= 0.

    student_logits, teacher_logits: (B, C). The teacher's argmax keeps its place, even where the teacher is wrong; labels are not
    used. The smallest possible value is the teacher's mean entropy. With two classes nothing is left to permute: plain soft
    cross-entropy. The gradient reaches the student only. Raises ``ValueError`` for shapes that differ.
    """
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    targets = permute_dark_knowledge(soften(teacher_logits.detach()), generator)
    student_logits = student_logits if student_logits.dtype == torch.float64 else student_logits.float()
    # The floor keeps 0 * log 0 = 0 where a logarithm would be -inf.
    return -(targets * F.log_softmax(student_logits, -1).clamp_min(-1e30)).sum(-1).mean()


class _FromAnswers(Distiller):
    """A student beside one teacher that answers for the same classes."""

    def __init__(self, student: nn.Module, teacher: Teacher | nn.Module):
        super().__init__(student)
        self.teacher = as_teacher(teacher)
        if hasattr(student, "input_shape"):
            check_answers(student, self.teacher)

    def logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The student's and the teacher's logits, both (B, C), at T = 1."""
        student_logits, teacher_logits = call(self.student, batch.x).float(), self.teacher(batch)
        check_classes(student_logits, teacher_logits)
        return student_logits, teacher_logits


class CWTM(_FromAnswers):
    """L = ``cwtm_loss``: the labels, where a sure teacher makes an example count more. No other word from the teacher.

    teacher: a network or a ``Teacher`` (ensembles included). Raises ``ValueError`` for different numbers of classes.
    """

    def terms(self, batch: Batch):
        return {"cwtm": cwtm_loss(*self.logits(batch), batch.y)}


class DKPP(_FromAnswers):
    """L = ``dkpp_loss``: the teacher's answer with its wrong answers shuffled anew in every step. No labels.

    teacher: a network or a ``Teacher`` (ensembles included). Raises ``ValueError`` for different numbers of classes.
    """

    def terms(self, batch: Batch):
        return {"dkpp": dkpp_loss(*self.logits(batch))}
