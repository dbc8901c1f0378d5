"""Tung, Mori: Similarity-Preserving Knowledge Distillation (SP, ICCV 2019, arXiv 1907.09682).

Two images that the teacher finds similar should be similar for the student: the matrix of
similarities within a batch is the knowledge."""

from torch import Tensor, nn

from ...distiller import Layers, Offline, Outputs, check_weight, label_term
from ...distiller.autograd import directions, gram
from ...distiller.tensors import check_features, check_relations, precise, rescaled, rows
from ...errors import explained
from ...taps.default_layers import levels
from ...teacher import Teacher


@explained
def similarity_matrix(features: Tensor) -> Tensor:
    """How similar the examples of a batch are to each other.

    G = F F^T with rows of length 1, F the flattened features. Scale drops out.

    Args:
        features: (B, ...).

    Returns:
        (B, B).

    Source:
        Tung, Mori, ICCV 2019, arXiv 1907.09682.

    Example:
        >>> import torch
        >>> similarity_matrix(torch.tensor([[3.0, 0.0], [0.0, 2.0]])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    check_features(features=features)
    features = rescaled(rows(precise(features)))
    return directions(gram(features))


@explained
def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """How far the student's similarities are from the teacher's.

    ||G_s - G_t||_F^2 / B^2, G from ``similarity_matrix``. 0 when student equals teacher. The
    gradient reaches the student only.

    Args:
        student: (B, ...) features, flattened.
        teacher: (B, ...); the sizes may differ.

    Returns:
        A scalar in [0, 4/B].

    Raises:
        ValueError: for different batches and for a batch of one, which has no pairs.

    Source:
        Tung, Mori, ICCV 2019, arXiv 1907.09682.

    Example:
        >>> import torch
        >>> alike, apart = torch.ones(2, 2), torch.eye(2)
        >>> round(similarity_loss(alike, apart).item(), 3)  # 2 (0.293^2 + 0.707^2) / 4
        0.293
    """
    check_relations(student, teacher, 2, "pairs")
    return (similarity_matrix(student) - similarity_matrix(teacher.detach())).square().mean()


@explained
class SimilarityPreserving(Offline):
    """What the teacher finds similar should be similar for the student.

    L = CE + sp_weight * sum over layers of ``similarity_loss``.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher``.
        sp_weight: > 0; 3000 and the default layer are public code's, said there to be verified by
            the paper's first author (we recall 2000 and several layers from the paper, and could
            not check).
        layers: pairs of paths; by default the end of the last stage.
        ce_weight: of the label term, >= 0.
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: for bad numbers and layers that do not exist.

    Source:
        Tung, Mori, ICCV 2019, arXiv 1907.09682.

    Example:
        >>> import torch
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import resnet8
        >>> some = Batch(torch.rand(4, 3, 32, 32), torch.arange(4))
        >>> list(SimilarityPreserving(resnet8(10), resnet8(10)).terms(some))
        ['ce', 'sp']
    """

    reads_maps = False  # rows of numbers
    relates_examples = True

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        sp_weight: float = 3000.0,
        layers: Layers = None,
        ce_weight: float = 1.0,
        example: Tensor | None = None,
    ):
        super().__init__(student, teacher, layers, example)
        self.sp_weight, self.ce_weight = (
            check_weight("sp_weight", sp_weight),
            check_weight("ce_weight", ce_weight, zero=True),
        )
        self.check_losses(example, similarity_loss)

    def default_layers(self, net: nn.Module) -> list[str]:
        return levels(net)[-1:]

    def losses(self, outputs: Outputs):
        total = sum(similarity_loss(s, t) for s, t in self.pairs(outputs))
        return label_term(outputs, self.ce_weight) | {"sp": self.sp_weight * total}
