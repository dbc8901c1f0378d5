"""Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets (ICLR 2015, arXiv 1412.6550).

Two stages: first the student's lower half learns to predict the teacher's middle layer (the hint) through a regressor that is thrown
away; then the whole student learns from labels and from the teacher's answers.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import RMSprop

from ...errors import check_same_shape, check_temperature, check_variant
from ...landmarks import parameters_before, stages
from ...softening import distillation_kl
from ...taps import Taps
from ...teacher import Teacher
from ..distiller import Batch, Player, Stage
from ..offline import Layers, Offline, Reading, label_term, weight
from ..tensors import precise, same_size


def hint_loss(guided: Tensor, hint: Tensor, variant: str = "paper") -> Tensor:
    """The hint loss, a scalar >= 0: 1/2 * (1/B) sum_b ||u_h - r(v_g)||^2, the squares summed over all entries of an example.

    guided: (B, ...) the regressor's output r(v_g).   hint: (B, ...) the teacher's features u_h, the same shape. The gradient
    reaches the student only.   variant "code": the mean over all entries, smaller by 2 / (entries per example).
    Raises ``ValueError`` for shapes that differ.
    """
    check_same_shape("guided", guided, "hint", hint)
    guided, hint = precise(guided), precise(hint.detach())
    if check_variant(variant) == "code":
        return F.mse_loss(guided, hint)
    return 0.5 * F.mse_loss(guided, hint, reduction="sum") / len(guided)


class Regressor(nn.Sequential):
    """A convolution without padding whose kernel shrinks the guided map to the hint's size: k = N_guided - N_hint + 1.

    guided, hint: shapes (C, H, W), or (D,) for a linear map. It ends in the hint's own non-linearity (rectified: ReLU).
    norm: batch normalisation before it (public code; the paper has none). A guided map smaller than the hint keeps its size: then
    the hint is average-pooled to it, which the paper does not cover.
    """

    def __init__(self, guided: tuple[int, ...], hint: tuple[int, ...], rectified: bool, norm: bool = False):
        if len(guided) != len(hint):
            raise ValueError(f"no regressor from {guided} to {hint}: choose two maps (C, H, W) or two vectors (D,).")
        kernel = tuple(max(g - h, 0) + 1 for g, h in zip(guided[1:], hint[1:]))
        maps = len(guided) == 3
        first = nn.Conv2d(guided[0], hint[0], kernel) if maps else nn.Linear(guided[0], hint[0])
        steps = [first, *([nn.BatchNorm2d(hint[0]) if maps else nn.BatchNorm1d(hint[0])] if norm else []),
                 *([nn.ReLU()] if rectified else [])]
        super().__init__(*steps)


class FitNet(Offline):
    """Stage "hint": ``hint_loss`` trains the student up to its guided layer, and the regressor. Stage "distil": the whole student,
    L = CE + kd_weight(e) * KL(p_t^T || p_s^T), kd_weight annealed linearly from 4 to 1, without the factor T^2.

    layers: (guided, hint), by default the middle stage of both.   hint_share: of the epochs (the paper: both stages up to 500).
    temperature: 3 in the paper.   The first stage has the paper's own optimiser, RMSProp at ``hint_lr`` 0.005; its sum over the map
    sends students to dead ReLUs at the second stage's rate. The second stage uses the optimiser of ``fit`` (the paper: RMSProp too).
    variant "code": the public benchmarks' single stage, L = CE + 100 * mean squared error, the regressor with batch norm and ReLU
    (the paper's authors tried one stage on thin deep nets, and it failed to learn).
    """

    def __init__(self, student: nn.Module, teacher: Teacher | nn.Module, layers: Layers = None, temperature: float = 3.0,
                 hint_share: float = 0.5, hint_lr: float = 0.005, hint_weight: float | None = None, ce_weight: float = 1.0,
                 variant: str = "paper", example: Tensor | None = None):
        super().__init__(student, teacher, layers, example)
        if len(self.layers) != 1:
            raise ValueError(f"FitNet has one guided layer and one hint, but layers has {len(self.layers)} pairs: {self.layers}.")
        if not 0 < hint_share < 1:
            raise ValueError(f"hint_share={hint_share}: expected a fraction of the epochs between 0 and 1.")
        self.variant, self.temperature, self.hint_share = check_variant(variant), check_temperature(temperature), float(hint_share)
        default = 100.0 if variant == "code" else 1.0
        self.hint_weight = weight("hint_weight", default if hint_weight is None else hint_weight)
        self.hint_lr, self.ce_weight, self._example = weight("hint_lr", hint_lr), float(ce_weight), example
        code = variant == "code"
        self.regressor, = self.try_pairs(self.dry_features(example), lambda guided, hint: Regressor(
            tuple(guided.shape[1:]), tuple(hint.shape[1:]), code or bool((hint >= 0).all()), norm=code).to(guided.device))

    def default_layers(self, net: nn.Module) -> list[str]:
        own = stages(net)
        return [own[len(own) // 2]]

    def stages(self):
        if self.variant == "code":
            return super().stages()
        guided = parameters_before(self.student, self.student_layers, self._example)
        first = Player("guided", self.hint_terms, [*guided, *self.regressor.parameters()], lambda p: RMSprop(p, self.hint_lr))
        return [Stage("hint", self.hint_share, [first]),
                Stage("distil", 1 - self.hint_share, [Player("student", self.terms, list(self.student.parameters()))])]

    def _hint(self, guided: Tensor, hint: Tensor) -> dict[str, Tensor]:
        guided, hint = same_size("guided", self.regressor(guided), "hint", hint)
        return {"hint": self.hint_weight * hint_loss(guided, hint, self.variant)}

    def hint_terms(self, batch: Batch):
        """The first stage: neither network runs further than its layer."""
        (own, theirs), = self.layers
        _, student = Taps(self.student, [own], stop=True)(batch.x)
        _, teacher = self.teacher.features(batch, [theirs], stop=True)
        return self._hint(student[own], teacher[theirs])

    @property
    def kd_weight(self) -> float:
        return 4 - 3 * self.progress

    def reads(self):
        return super().reads() if self.variant == "code" else ([], [])

    def losses(self, reading: Reading):
        terms = label_term(reading, self.ce_weight)
        if self.variant == "code":
            return terms | self._hint(*self.pairs(reading)[0])
        t = self.temperature
        kd = distillation_kl(reading.student_logits, reading.teacher_logits(t), t) / t**2
        return terms | {"kd": self.kd_weight * kd}
