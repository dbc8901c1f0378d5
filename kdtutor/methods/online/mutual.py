"""Zhang, Xiang, Hospedales, Lu: Deep Mutual Learning (DML, CVPR 2018, arXiv 1706.00384).

No teacher: several untrained networks learn together, each from the labels and from what its peers
answer at that moment."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ...datasets import Batch
from ...distiller import Distiller, Player, Stage, check_batch, check_classes
from ...distiller.trial import check_answers
from ...errors import check_variant, check_weights, explained
from ...softening import distillation_kl
from ...taps import Example
from ...taps.written_down import check_learns


@explained
def mutual_loss(
    logits: Tensor,
    peers: Sequence[Tensor],
    variant: str = "paper",
    axis: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """What a network has to learn from its peers.

    1/(K-1) * sum over peers l of KL(p_l || p_k) at T = 1, the mean over the batch; 0 when all
    agree.

    Args:
        logits: (B, C) of network k.
        peers: the other networks' (B, C); no gradient reaches them.
        variant: "paper", or "code": the sum over peers, larger by K-1 (the same for two networks).
        axis: of the classes, as in ``distillation_kl``.
        mask: the places that count, as there.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: without peers, for shapes that differ and for an unknown variant.

    Source:
        Zhang et al., CVPR 2018, arXiv 1706.00384.

    Example:
        >>> z = torch.tensor([[1.0, 2.0, 3.0]])
        >>> mutual_loss(z, [z, z]).item()
        0.0
    """
    if not len(peers):
        raise ValueError("mutual_loss needs at least one peer: nobody can learn together alone.")
    kl = partial(distillation_kl, mask=mask)
    kl = kl if axis is None else partial(kl, axis=axis)
    total = torch.stack([kl(logits, peer, 1.0) for peer in peers]).sum()
    return total if check_variant(variant) == "code" else total / len(peers)


@explained
class DML(Distiller):
    """Several untrained networks learn together, each from the labels and from its peers.

    Each network k is a player: L_k = CE_k + kd_weight * ``mutual_loss``. They step in order, and
    each sees its peers' newest answers: as in the paper's Algorithm 1, a network's answers are
    computed again after its step, before the next network learns from them.

    Args:
        students: two or more networks for the same classes, each with its own random weights; they
            may differ in architecture. The first is deployed (``peers`` has all).
        kd_weight: >= 0; 1 in the paper; 0 trains them side by side without listening.
        variant: of ``mutual_loss``.
        example: a small batch of inputs, a tensor or a mapping: all are tried on it at once.

    Raises:
        ValueError: for fewer than two networks, shared parameters, a bad weight, an unknown
            variant.

    Source:
        Zhang et al., CVPR 2018, arXiv 1706.00384, Algorithm 1.

    Example:
        >>> from kdtutor.models import mlp
        >>> distiller = DML([mlp((8,), inputs=4), mlp((16,), inputs=4)])
        >>> [player.name for player in distiller.stages()[0].players]
        ['net1', 'net2']
    """

    def __init__(
        self,
        students: Sequence[nn.Module],
        kd_weight: float = 1.0,
        variant: str = "paper",
        example: Example = None,
    ):
        if isinstance(kd_weight, nn.Module):
            raise ValueError("DML takes its networks as one list: DML([net_a, net_b]).")
        students = (
            [students]
            if isinstance(students, nn.Module) and not isinstance(students, nn.ModuleList)
            else list(students)
        )
        if len(students) < 2:
            raise ValueError(
                f"DML needs at least two networks, got {len(students)}: DML([net_a, net_b])."
            )
        if len({id(p) for net in students for p in net.parameters()}) < sum(
            len(list(net.parameters())) for net in students
        ):
            raise ValueError(
                "two of the networks given to DML share parameters: each needs weights of its own."
            )
        super().__init__(students[0])
        for k, net in enumerate(students):
            check_learns(net, f"network {k + 1}")
        check_weights(ce_weight=1.0, kd_weight=kd_weight)
        self.peers, self.kd_weight, self.variant = (
            nn.ModuleList(students),
            float(kd_weight),
            check_variant(variant),
        )
        self.students = len(students)
        self._seen: dict[int, tuple] = {}  # by network: the batch, the state and the logits
        if example is not None:
            check_answers(self._named(), example)

    def _named(self) -> list[tuple[str, nn.Module]]:
        return [(f"network {k + 1}", net) for k, net in enumerate(self.peers)]

    def check_first(self, batch: Batch) -> None:
        check_answers(self._named(), batch.x, self.task)

    def stages(self):
        return [
            Stage(
                "together",
                1.0,
                [
                    Player(f"net{k + 1}", partial(self.network_terms, k), list(net.parameters()))
                    for k, net in enumerate(self.peers)
                ],
            )
        ]

    def networks(self):
        """All of them: net1, the deployed one, net2, ..."""
        return {f"net{k + 1}": net for k, net in enumerate(self.peers)}

    def terms(self, batch: Batch):
        """The first network's terms."""
        return self.network_terms(0, batch)

    def network_terms(self, k: int, batch: Batch):
        """What network k minimises, given its peers as they are now."""
        for j, net in enumerate(self.peers):
            check_batch(net, batch, f"network {j + 1}")
        logits = self._logits(k, batch)
        peers = [
            self._logits(j, batch, graph=j > k).detach() for j in range(self.students) if j != k
        ]
        for peer in peers:
            check_classes(logits, peer)
        self._seen.pop(k)  # network k steps now: later peers must ask it again
        return {
            "ce": self.task.loss(logits, batch.y),
            "kd": self.kd_weight
            * mutual_loss(
                logits, peers, self.variant, self.task.softmax_axis(), self.task.counted(batch.y)
            ),
        }

    def _logits(self, k: int, batch: Batch, graph: bool = True) -> Tensor:
        """Network k's logits for this batch as it is now. What was computed for an earlier player
        serves again, with its graph: three forward passes for two networks instead of four.

        graph: keep it; not for a network that has had its turn.
        """
        now = (
            self.training,
            torch.is_grad_enabled(),
            [p._version for p in self.peers[k].parameters()],
        )
        x, then, logits = self._seen.get(k, (None, None, None))
        if (
            x is batch.x
            and then == now
            and (logits.requires_grad or not graph or not torch.is_grad_enabled())
        ):
            return logits
        with torch.set_grad_enabled(torch.is_grad_enabled() and graph):
            logits = self.logits(self.peers[k], batch.x)
        self._seen[k] = (batch.x, now, logits)
        return logits
