"""Srinivas, Fleuret: Knowledge Transfer with Jacobian Matching (ICML 2018, arXiv 1803.00443).

How does the answer change when a pixel changes? Matching answers under input noise is matching answers and their derivatives. The
paper's text was not available to us; the form here is the one that public restatements agree on.
"""

import torch
from torch import Tensor, nn

from ...errors import check_same_shape
from ...landmarks import stages
from ...teacher import Teacher
from ..offline import Layers, Offline, Reading, label_term, weight
from .attention_transfer import _normalised, attention_loss, attention_map


def jacobian_loss(student_jacobian: Tensor, teacher_jacobian: Tensor) -> Tensor:
    """(1/B) sum_b || J_s/||J_s||_2 - J_t/||J_t||_2 ||_2^2, a scalar in [0, 4]; 0 when student equals teacher, up to a factor.

    student_jacobian, teacher_jacobian: (B, ...) derivatives of one number per example with respect to its input, the same shape;
    normalised example by example. The gradient reaches the student only. Raises ``ValueError`` for shapes that differ.
    """
    check_same_shape("student_jacobian", student_jacobian, "teacher_jacobian", teacher_jacobian)
    return (_normalised(student_jacobian) - _normalised(teacher_jacobian.detach())).square().sum(1).mean()


def strongest_attention(features: Tensor) -> Tensor:
    """The largest value of the attention map sum_c A_c^2: (B, C, H, W) -> (B,). Its derivative is one row of the map's Jacobian."""
    return attention_map(features).flatten(1).amax(1)


class JacobianMatching(Offline):
    """L = CE + (at_weight / 2) * sum of ``attention_loss`` + jacobian_weight * sum of ``jacobian_loss`` over the layers.

    J is the derivative of ``strongest_attention`` with respect to the pixels: the whole Jacobian of a map would be as large as the map
    times the image. layers: by default the end of the last stage. Both weights are ours: the paper's were not available.
    """

    input_gradient = True

    def __init__(self, student: nn.Module, teacher: Teacher | nn.Module, layers: Layers = None, jacobian_weight: float = 1.0,
                 at_weight: float = 12.8, ce_weight: float = 1.0, example: Tensor | None = None):
        super().__init__(student, teacher, layers, example)
        self.jacobian_weight, self.at_weight = weight("jacobian_weight", jacobian_weight), weight("at_weight", at_weight)
        self.ce_weight = float(ce_weight)
        self.try_pairs(self.dry_features(example), attention_loss)

    def default_layers(self, net: nn.Module) -> list[str]:
        return stages(net)[-1:]

    def losses(self, reading: Reading):
        attention = jacobian = 0.0
        for own, theirs in self.layers:
            s = reading.student[own]
            j_s, = torch.autograd.grad(strongest_attention(s).sum(), reading.x, create_graph=True)
            j_t, _, teacher = self.teacher.input_gradient(reading.batch, lambda _, f: strongest_attention(f[theirs]), [theirs])
            attention, jacobian = attention + attention_loss(s, teacher[theirs]), jacobian + jacobian_loss(j_s, j_t)
        return label_term(reading, self.ce_weight) | {"at": self.at_weight / 2 * attention, "jacobian": self.jacobian_weight * jacobian}
