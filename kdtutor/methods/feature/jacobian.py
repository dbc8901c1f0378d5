"""Srinivas, Fleuret: Knowledge Transfer with Jacobian Matching (ICML 2018, arXiv 1803.00443).

How does the answer change when a pixel changes? Matching answers under input noise is matching
answers and their derivatives. The paper's text was not available to us: the form here is how others
restate it, and public codes differ from it and from each other."""

from torch import Tensor, nn

from ...distiller import Layers, Offline, Outputs, check_weight, label_term
from ...errors import check_same_shape, check_variant
from ...taps.default_layers import levels
from ...teacher import Teacher
from .attention_transfer import _normalised, attention_loss, attention_map


def jacobian_loss(
    student_jacobian: Tensor, teacher_jacobian: Tensor, variant: str = "paper"
) -> Tensor:
    """How far the student's derivatives point from the teacher's.

    (1/B) sum_b || J_s/||J_s||_2 - J_t/||J_t||_2 ||_2^2, normalised example by example. 0 when
    student equals teacher, up to a factor. The gradient reaches the student only.

    Args:
        student_jacobian: (B, ...) derivatives of one number per example with respect to its input.
        teacher_jacobian: the same shape.
        variant: "paper", or "code": the mean over all entries, smaller by 1 / (entries per
            example).

    Returns:
        A scalar in [0, 4].

    Raises:
        ValueError: for shapes that differ and an unknown variant.

    Source:
        Srinivas, Fleuret, ICML 2018, as others restate it.

    Example:
        >>> import torch
        >>> jacobian_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 5.0]])).item()
        2.0
    """
    check_same_shape("student_jacobian", student_jacobian, "teacher_jacobian", teacher_jacobian)
    squares = (_normalised(student_jacobian) - _normalised(teacher_jacobian.detach())).square()
    return squares.mean() if check_variant(variant) == "code" else squares.sum(1).mean()


def strongest_attention(features: Tensor) -> Tensor:
    """The largest value of the attention map sum_c A_c^2.

    Its derivative is one row of the map's Jacobian.

    Args:
        features: (B, C, H, W).

    Returns:
        (B,).

    Raises:
        ValueError: for features that are not maps.

    Example:
        >>> import torch
        >>> strongest_attention(torch.arange(8.0).reshape(1, 2, 2, 2)).tolist()  # 3^2 + 7^2
        [58.0]
    """
    return attention_map(features).flatten(1).amax(1)


class JacobianMatching(Offline):
    """The student learns how the teacher's attention, or its answer, changes with the pixels.

    L = CE + (at_weight / 2) * sum of ``attention_loss`` + jacobian_weight * sum of
    ``jacobian_loss`` over the layers. J is the derivative of ``strongest_attention`` with respect
    to the pixels: the whole Jacobian of a map would be as large as the map times the image.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher`` of one network.
        layers: pairs of paths to maps; by default the end of the last stage.
        jacobian_weight: None: 1, which is ours (the paper's was not available); for the code 20.
        at_weight: as in ``AttentionTransfer``, ours here; 0 leaves the maps out.
        ce_weight: of the label term, >= 0.
        variant: "paper", or "code": L = CE + 20 * ``jacobian_loss``, J the derivative of the true
            class's logit; no layers.
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: for bad numbers, layers that are not maps, an ensemble, an unknown variant.

    Source:
        Srinivas, Fleuret, ICML 2018, arXiv 1803.00443.

    Example:
        >>> import torch
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import resnet8
        >>> some = Batch(torch.rand(4, 3, 32, 32), torch.arange(4))
        >>> list(JacobianMatching(resnet8(10), resnet8(10)).terms(some))
        ['ce', 'at', 'jacobian']
    """

    input_gradient = True

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        layers: Layers = None,
        jacobian_weight: float | None = None,
        at_weight: float = 12.8,
        ce_weight: float = 1.0,
        variant: str = "paper",
        example: Tensor | None = None,
    ):
        self.variant = check_variant(variant)
        super().__init__(student, teacher, () if variant == "code" else layers, example)
        default = 20.0 if variant == "code" else 1.0
        self.jacobian_weight = check_weight(
            "jacobian_weight", default if jacobian_weight is None else jacobian_weight
        )
        self.at_weight, self.ce_weight = (
            check_weight("at_weight", at_weight, zero=True),
            check_weight("ce_weight", ce_weight, zero=True),
        )
        if self.layers:
            self.check_pairs(self.example_features(example), attention_loss)

    @property
    def uses_logits(self) -> bool:  # type: ignore[override]  # here the variant decides
        return self.variant == "code"

    def default_layers(self, net: nn.Module) -> list[str]:
        return levels(net)[-1:]

    def losses(self, outputs: Outputs):
        if self.variant == "code":
            return label_term(outputs, self.ce_weight) | {
                "jacobian": self.jacobian_weight * self._of_true_class(outputs)
            }
        attention = jacobian = outputs.x.new_zeros(())
        for own, theirs in self.layers:
            s = outputs.student[own]
            j_s = outputs.input_gradient(strongest_attention(s))
            j_t, _, teacher = self.teacher.input_gradient(
                outputs.batch, lambda _, f: strongest_attention(f[theirs]), [theirs]
            )
            attention, jacobian = (
                attention + attention_loss(s, teacher[theirs]),
                jacobian + jacobian_loss(j_s, j_t),
            )
        maps = {"at": self.at_weight / 2 * attention} if self.at_weight else {}
        return (
            label_term(outputs, self.ce_weight)
            | maps
            | {"jacobian": self.jacobian_weight * jacobian}
        )

    def _of_true_class(self, outputs: Outputs) -> Tensor:
        true = lambda z, _=None: z.gather(1, outputs.batch.y[:, None])[:, 0]
        j_s = outputs.input_gradient(true(outputs.student_logits))
        j_t, *_ = self.teacher.input_gradient(outputs.batch, true)
        return jacobian_loss(j_s, j_t, "code")
