"""Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (NeurIPS workshop 2014, arXiv
1503.02531).

The student learns from the teacher's softened answer and, with a considerably lower weight, from
the label. The loss itself is ``kdtutor.softening.distillation_kl``. For MNIST the paper distils on
soft targets alone (``ce_weight=0``) at T = 20."""

from torch import nn

from ...distiller import Offline, Outputs, label_term
from ...errors import check_temperature, explained
from ...taps import Example
from ...teacher import Teacher


@explained
class Hinton(Offline):
    """The student learns from the teacher's softened answer and, with less weight, from the label.

    L = ce_weight * CE(softmax(z_s), y) + kd_weight * T^2 * KL(p_t^T || p_s^T), both terms from the
    same student logits. A weight of 0 leaves its term out.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher`` (ensembles included).
        temperature: T of the soft term, finite and > 0; the label term has T = 1.
        ce_weight: >= 0.
        kd_weight: >= 0, one of both > 0. The defaults (T = 4, 0.1, 0.9) are those of the public
            benchmarks; the paper asks for a "considerably lower" label weight without a number.
        example: a small batch of inputs, a tensor or a mapping, on which both are tried at once.

    Raises:
        ValueError: for bad numbers and, as soon as the shapes are known, for different numbers of
            classes.

    Source:
        Hinton, Vinyals, Dean, 2015, arXiv 1503.02531, section 2.

    Example:
        >>> import torch
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import mlp
        >>> distiller = Hinton(mlp((8,), inputs=4), mlp((32,), inputs=4))
        >>> list(distiller.terms(Batch(torch.rand(3, 4), torch.tensor([0, 1, 2]))))
        ['ce', 'kd']
    """

    uses_logits = True

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        temperature: float = 4.0,
        ce_weight: float = 0.1,
        kd_weight: float = 0.9,
        example: Example = None,
    ):
        super().__init__(student, teacher, example=example)
        self.temperature = check_temperature(temperature)
        if not (
            0 <= ce_weight < float("inf")
            and 0 <= kd_weight < float("inf")
            and ce_weight + kd_weight > 0
        ):
            raise ValueError(
                f"ce_weight={ce_weight}, kd_weight={kd_weight}: both must be finite and >= 0, and "
                "one of them > 0."
            )
        self.ce_weight, self.kd_weight = float(ce_weight), float(kd_weight)

    def losses(self, outputs: Outputs):
        terms = label_term(outputs, self.ce_weight)
        if self.kd_weight:
            terms["kd"] = self.kd_weight * outputs.divergence(self.temperature)
        return terms
