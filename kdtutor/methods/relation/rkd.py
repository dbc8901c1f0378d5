"""Park, Kim, Lu, Cho: Relational Knowledge Distillation (RKD, CVPR 2019, arXiv 1904.05068).

Not where the teacher puts each example, but how examples lie to each other: the distances of pairs
and the angles of triplets."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...datasets import Batch
from ...datasets.batch import tree_map
from ...distiller import Layers, Offline, Outputs, check_weight, label_term
from ...distiller.autograd import HandMade, directions, gram, unit_vectors, unit_vectors_backward
from ...distiller.tensors import check_features, check_relations, full_precision, precise, rescaled
from ...errors import check_variant, check_weights, explained
from ...taps.default_layers import embedding
from ...teacher import Teacher

# Cosines at once on a CPU, 4 MiB in float32: they stay in its cache, and the B^3 of them are never
# all there.
BLOCK = 2**20


@explained
def pair_distances(x: Tensor) -> Tensor:
    """psi_D: the distances of all pairs over their mean; scale drops out.

    ||x_i - x_j||_2 over the mean of all B(B-1) distances, 0 on the diagonal.

    Args:
        x: (B, ...), flattened.

    Returns:
        (B, B), no unit.

    Source:
        Park et al., CVPR 2019, arXiv 1904.05068.

    Example:
        >>> pair_distances(torch.tensor([[0.0], [5.0]])).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    check_features(x=x)
    x = rescaled(precise(x).flatten(1))
    distances = _Distances.apply(x)
    return distances / (distances.sum() / (len(x) * (len(x) - 1))).clamp_min(
        1e-12
    )  # all in one place


class _Distances(HandMade):
    """d_ij = ||x_i - x_j||: (..., B, D) -> (..., B, B).

    dL/dx_i = sum_j (g_ij + g_ji) (x_i - x_j) / d_ij, 0 where d_ij = 0.

    ``cdist`` alone has no second derivative, and its gradient takes two passes where both arguments
    are the same."""

    @staticmethod
    def forward(x):
        return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx, gradient):
        x, distances = ctx.saved_tensors
        both = gradient + gradient.mT
        if not torch.is_grad_enabled():
            return torch.ops.aten._cdist_backward(both, x, x, 2.0, distances)
        edges = directions(x[..., :, None, :] - x[..., None, :, :])  # B^2 D, only where asked for
        return (both[..., None] * edges).sum(-2)

    @staticmethod
    def vmap(info, in_dims, x):
        return _Distances.apply(x.movedim(in_dims[0], 0)), 0


@explained
def distance_loss(student: Tensor, teacher: Tensor, variant: str = "paper") -> Tensor:
    """RKD-D: how far the student's distances are from the teacher's.

    The mean over the B(B-1) pairs of smooth-L1(psi_s - psi_t), psi from ``pair_distances``. 0 when
    student equals teacher, also up to a motion or a scale. The gradient reaches the student only.

    Args:
        student: (B, ...) embeddings, flattened.
        teacher: (B, ...); the widths may differ.
        variant: "paper", or "code": the mean over all B^2 entries, smaller by (B-1)/B.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: for different batches, a batch of one, which has no pairs, an unknown variant.

    Source:
        Park et al., CVPR 2019, arXiv 1904.05068.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> distance_loss(3 * x + 1, x).item() < 1e-9
        True
    """
    check_relations(student, teacher, 2, "pairs")
    b = len(student)
    total = F.smooth_l1_loss(
        pair_distances(student), pair_distances(teacher.detach()), reduction="sum"
    )
    return total / (b * b if check_variant(variant) == "code" else b * (b - 1))


@explained
def triplet_angles(x: Tensor, vertices: slice | Tensor = slice(None)) -> Tensor:
    """psi_A: cosines of the angles at vertex i between x_j - x_i and x_k - x_i.

    0 where j or k is the vertex itself, or a copy of it.

    Args:
        x: (B, D).
        vertices: which i; by default all.

    Returns:
        (V, B, B) for V vertices.

    Source:
        Park et al., CVPR 2019, arXiv 1904.05068.

    Example:
        >>> triplet_angles(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))[0].tolist()
        [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    check_features(x=x)
    return gram(directions(x[None] - x[vertices][:, None]))


class _AngleError(HandMade):
    """The sum of smooth-L1(cos_s - cos_t) over all triplets: (B, D), (B, E) -> a scalar, a few
    vertices at a time.

    With d the difference of two cosines and c = clamp(d, -1, 1), smooth-L1 is c (d - c/2) and its
    derivative is c. The gradient is made along with the value, block by block, so that no block is
    kept or computed again. Where it shall be differentiated itself (``create_graph``,
    ``torch.func``) backward makes it once more, with a graph that does keep the blocks."""

    @staticmethod
    @full_precision
    def forward(student, teacher, vertices_at_once: int, wanted: bool, distinct: bool):
        total = student.new_zeros(())
        gradient = torch.zeros_like(student) if wanted else student.new_empty(0)
        for at in _blocks(len(student), vertices_at_once):
            difference, clamped, edges, inverse = _at_vertices(student, teacher, at, distinct)
            if wanted:
                back = _by_edges(clamped, edges, inverse)
                gradient += back.sum(0)
                gradient[at] -= back.sum(1)
            total += difference.sub_(clamped, alpha=0.5).mul_(clamped).sum()
        return total, gradient

    @staticmethod
    def setup_context(ctx, inputs, output):
        student, teacher, ctx.vertices_at_once, ctx.wanted, ctx.distinct = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(student, teacher, output[1])

    @staticmethod
    @full_precision
    def backward(ctx, by_total, _):
        student, teacher, gradient = ctx.saved_tensors
        if torch.is_grad_enabled() or not ctx.wanted:
            at_ends, at_vertices = [], []
            for at in _blocks(len(student), ctx.vertices_at_once):
                back = _by_edges(*_at_vertices(student, teacher, at, ctx.distinct)[1:])
                at_ends.append(back.sum(0))
                at_vertices.append(back.sum(1))
            gradient = sum(at_ends) - torch.cat(at_vertices)
        return gradient * by_total, None, None, None, None

    @staticmethod
    def vmap(info, in_dims, student, teacher, *settings):
        # One after the other: the cosines of one batch are as many as memory should hold.
        of = lambda x, dim, i: x if dim is None else x.select(dim, i)
        results = [
            _AngleError.apply(of(student, in_dims[0], i), of(teacher, in_dims[1], i), *settings)
            for i in range(info.batch_size)
        ]
        return tuple(map(torch.stack, zip(*results))), (0, 0)


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, count, size)]


def _at_vertices(student: Tensor, teacher: Tensor, at: slice, distinct: bool) -> tuple[Tensor, ...]:
    """Differences d of the cosines at some vertices, clamp(d), and the student's edges with 1 /
    their lengths. ``distinct``: an edge with itself is no triplet. It differs where one of the two
    has rows that coincide and no direction between them.
    """
    edges, inverse = unit_vectors(student[None] - student[at][:, None])
    targets, _ = unit_vectors(teacher[None] - teacher[at][:, None])
    # In place saves a block; not in a graph, where vmap may have one teacher for many students.
    kept = torch.is_grad_enabled()
    subtract, fill = (torch.sub, torch.masked_fill) if kept else (Tensor.sub_, Tensor.masked_fill_)
    difference = subtract(edges @ edges.mT, targets @ targets.mT)
    if distinct:
        itself = torch.eye(len(student), dtype=torch.bool, device=student.device)
        difference = fill(difference, itself, 0)
    return difference, difference.clamp(-1, 1), edges, inverse


def _by_edges(clamped: Tensor, edges: Tensor, inverse: Tensor) -> Tensor:
    """The gradient by x_j - x_i: that of u u^T is (c + c^T) u, and c is symmetric."""
    return unit_vectors_backward(2 * (clamped @ edges), edges, inverse)


@explained
def angle_loss(student: Tensor, teacher: Tensor, variant: str = "paper") -> Tensor:
    """RKD-A: how far the student's angles are from the teacher's.

    The mean over the B(B-1)(B-2) triplets of distinct examples of smooth-L1(psi_s - psi_t), psi
    from ``triplet_angles``. 0 when student equals teacher, also up to a motion or a scale. The
    gradient reaches the student only. Batches go a few vertices at a time, so that the B^3 cosines
    are never held at once (they are where the gradient shall be differentiated again).

    Args:
        student: (B, ...) embeddings, flattened.
        teacher: (B, ...); the widths may differ.
        variant: "paper", or "code": the mean over all B^3 entries, smaller by (B-1)(B-2)/B^2
            where no rows coincide. (An edge with itself counts there: its cosine is 1, but 0 for
            a row that coincides with the vertex.)

    Returns:
        A scalar in [0, 1.5].

    Raises:
        ValueError: for different batches, fewer than three examples, which have no triplets, an
            unknown variant.

    Source:
        Park et al., CVPR 2019, arXiv 1904.05068.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> angle_loss(3 * x + 1, x).item() < 1e-9
        True
    """
    check_relations(student, teacher, 3, "triplets")
    check_variant(variant)
    b = len(student)
    student, teacher = (
        rescaled(precise(student).flatten(1)),
        rescaled(precise(teacher.detach()).flatten(1)),
    )
    block = (
        BLOCK if student.device.type == "cpu" else 16 * BLOCK
    )  # a GPU wants fewer and larger pieces
    total = _AngleError.apply(
        student,
        teacher,
        max(1, block // (b * max(b, student.shape[1], teacher.shape[1]))),
        student.requires_grad and torch.is_grad_enabled(),
        variant == "paper",
    )[0]
    return total / (b**3 if variant == "code" else b * (b - 1) * (b - 2))


@explained
class RKD(Offline):
    """The student keeps the distances and angles that the teacher sees among a batch's examples.

    L = CE + distance_weight * sum of ``distance_loss`` + angle_weight * sum of ``angle_loss`` over
    the layers. RKD-D: angle_weight=0; RKD-A: distance_weight=0; RKD-DA: both. Embeddings are not
    normalised.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher``.
        distance_weight: >= 0.
        angle_weight: >= 0, one of both > 0. 25 and 50 are those of public code for CIFAR-100
            classification (in no text we found; for metric learning the paper has 1 and 2, and no
            label term).
        layers: pairs of paths; by default what enters the classifier.
        ce_weight: of the label term, >= 0.
        variant: of both losses.
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: for bad numbers, layers that do not exist, an unknown variant.

    Source:
        Park et al., CVPR 2019, arXiv 1904.05068.

    Example:
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import resnet8
        >>> some = Batch(torch.rand(4, 3, 32, 32), torch.arange(4))
        >>> list(RKD(resnet8(10), resnet8(10)).terms(some))
        ['ce', 'distance', 'angle']
    """

    reads_maps = False  # rows of numbers
    relates_examples = True

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        layers: Layers = None,
        ce_weight: float = 1.0,
        variant: str = "paper",
        example: Tensor | None = None,
    ):
        self._example = example
        super().__init__(student, teacher, layers, example)
        # Nets of which no input is known are looked at when the first batch is there.
        self._unseen = layers is None and not self._looked_at_all()
        check_weights(distance_weight=distance_weight, angle_weight=angle_weight)
        self.distance_weight, self.angle_weight = float(distance_weight), float(angle_weight)
        self.ce_weight, self.variant = (
            check_weight("ce_weight", ce_weight, zero=True),
            check_variant(variant),
        )
        self.check_losses(example, distance_loss)

    def default_layers(self, net: nn.Module) -> list[str]:
        return [embedding(net, self._example)]

    def read(self, batch: Batch) -> Outputs:
        if self._unseen:
            self._unseen = False
            for net, (path,) in (
                (self.student, self.student_layers),
                (self.teacher.net, self.teacher_layers),
            ):
                right = embedding(net, tree_map(lambda t: t[:2], batch.x))
                if right != path:
                    raise ValueError(
                        f"{type(net).__name__} defines its layers in another order than it runs "
                        f"them: its classifier reads {right!r}, not {path!r}. Pass "
                        "example=data.normalised(data.train.x[:2]), with which RKD finds it, or "
                        "layers=."
                    )
        return super().read(batch)

    def losses(self, outputs: Outputs):
        terms, pairs = label_term(outputs, self.ce_weight), self.pairs(outputs)
        for name, weight, loss in (
            ("distance", self.distance_weight, distance_loss),
            ("angle", self.angle_weight, angle_loss),
        ):
            if weight:
                each = [loss(s, t, self.variant) for s, t in pairs]
                terms[name] = weight * torch.stack(each).sum()
        return terms
