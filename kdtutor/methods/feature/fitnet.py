"""Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets (ICLR 2015,
arXiv 1412.6550).

Two stages: first the student's lower half learns to predict the teacher's middle layer (the hint)
through a regressor that is thrown away; then the whole student learns from labels and from the
teacher's answers."""

from typing import Any

from torch import Tensor, nn
from torch.optim import RMSprop

from ...datasets import Batch
from ...distiller import Layers, Offline, Outputs, Player, Stage, check_weight, label_term
from ...distiller.autograd import squared_distance
from ...distiller.tensors import CONVOLUTIONS, NORMS, check_features, same_size
from ...errors import check_same_shape, check_temperature, check_variant, explained
from ...taps.default_layers import levels, nonlinearity
from ...teacher import Teacher


@explained
def hint_loss(guided: Tensor, hint: Tensor, variant: str = "paper") -> Tensor:
    """How far the regressed student features are from the teacher's.

    1/2 * (1/B) sum_b ||u_h - r(v_g)||^2, the squares summed over all entries of an example. The
    gradient reaches the student only.

    Args:
        guided: (B, ...) the regressor's output r(v_g).
        hint: the same shape, the teacher's features u_h.
        variant: "paper", or "code": the mean over all entries, smaller by 2 / (entries per
            example).

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: for shapes that differ and an unknown variant.

    Source:
        Romero et al., ICLR 2015. The factor 1/2 is recalled: we could not read the paper's
        equations.

    Example:
        >>> import torch
        >>> hint_loss(torch.ones(2, 3), torch.zeros(2, 3)).item()
        1.5
    """
    check_features(guided=guided, hint=hint)
    check_same_shape("guided", guided, "hint", hint)
    return squared_distance(guided, hint) * (
        1 / guided.numel() if check_variant(variant) == "code" else 0.5 / len(guided)
    )


_TRANSPOSED: Any = None, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d


class Regressor(nn.Sequential):
    """A convolution without padding whose kernel shrinks the guided map to the hint's size.

    k = N_guided - N_hint + 1. A guided map smaller than the hint keeps its size: then the hint is
    average-pooled to it, which the paper does not cover.

    Args:
        guided: shape (C, L), (C, H, W) or (C, D, H, W), or (D,) for a linear map.
        hint: shape, of as many dimensions.
        activation: the hint's own non-linearity, or None.
        variant: "paper", or "code": 3x3 with stride 2 to half the size, transposed 4x4 to the
            double, else as above; batch norm and ReLU.

    Raises:
        ValueError: unless both shapes have as many dimensions, one to four.

    Example:
        >>> Regressor((16, 8, 8), (32, 4, 4), nn.ReLU())[0].kernel_size
        (5, 5)
    """

    def __init__(
        self,
        guided: tuple[int, ...],
        hint: tuple[int, ...],
        activation: nn.Module | None,
        variant: str = "paper",
    ):
        if len(guided) != len(hint) or not 1 <= len(guided) <= 4:
            raise ValueError(
                f"no regressor from {guided} to {hint}: choose two layers of one layout, vectors "
                "(D,), signals (C, L), maps (C, H, W) or volumes (C, D, H, W). Tokens of an "
                "image's patches are a map as 'path:patches=14x14+1'."
            )
        (a, *size), (b, *target) = guided, hint
        code = variant == "code"
        convolution: Any = CONVOLUTIONS[len(size)]
        first: nn.Module
        if code and size and size == [2 * t for t in target]:
            first = convolution(a, b, 3, stride=2, padding=1)
        elif code and size and target == [2 * g for g in size]:
            first = _TRANSPOSED[len(size)](a, b, 4, stride=2, padding=1)
        else:
            kernel = tuple(max(g - h, 0) + 1 for g, h in zip(size, target))
            first = convolution(a, b, kernel) if size else convolution(a, b)
        norm = NORMS[len(size)](b) if code else None
        super().__init__(
            *[step for step in (first, norm, nn.ReLU() if code else activation) if step is not None]
        )


@explained
class FitNet(Offline):
    """Two stages: the lower half learns to predict a teacher's layer, then the whole student.

    Stage "hint": ``hint_loss`` trains the student up to its guided layer, and the regressor. Stage
    "distil": the whole student, L = CE + kd_weight(e) * KL(p_t^T || p_s^T), kd_weight annealed
    linearly from 4 to 1, without the factor T^2 (recalled, not read). Its optimiser is that of
    ``fit`` (the paper: RMSProp in both stages). Only variant "paper" needs a teacher of the same
    classes.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher``.
        layers: (guided, hint), by default the middle stage of both.
        temperature: T of the second stage; 3 in the paper.
        hint_share: the first stage's fraction of the epochs (the paper: both stages up to 500).
        hint_lr: of the first stage's own optimiser, the paper's RMSProp; its sum over the map sends
            students to dead ReLUs at the second stage's rate.
        hint_weight: of the hint loss; None: 1, for the code 100.
        ce_weight: of the label term, >= 0.
        variant: "paper", or "code": the public benchmarks' single stage, L = CE + 100 * mean
            squared error, the regressor with batch norm and ReLU (the paper's authors tried one
            stage on thin deep nets, and it failed to learn).
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: for bad numbers, more than one pair of layers, an unknown variant.

    Source:
        Romero et al., ICLR 2015, arXiv 1412.6550.

    Example:
        >>> from kdtutor.models import resnet8
        >>> distiller = FitNet(resnet8(10), resnet8(10))
        >>> [stage.name for stage in distiller.stages()]
        ['hint', 'distil']
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        layers: Layers = None,
        temperature: float = 3.0,
        hint_share: float = 0.5,
        hint_lr: float = 0.005,
        hint_weight: float | None = None,
        ce_weight: float = 1.0,
        variant: str = "paper",
        example: Tensor | None = None,
    ):
        self.variant = check_variant(variant)
        super().__init__(student, teacher, layers, example)
        if len(self.layers) != 1:
            raise ValueError(
                f"FitNet has one guided layer and one hint, but layers has {len(self.layers)} "
                f"pairs: {self.layers}."
            )
        if not 0 < hint_share < 1:
            raise ValueError(
                f"hint_share={hint_share}: expected a fraction of the epochs between 0 and 1."
            )
        self.temperature, self.hint_share = check_temperature(temperature), float(hint_share)
        default = 100.0 if variant == "code" else 1.0
        self.hint_weight = check_weight(
            "hint_weight", default if hint_weight is None else hint_weight
        )
        self.hint_lr, self.ce_weight = (
            check_weight("hint_lr", hint_lr),
            check_weight("ce_weight", ce_weight, zero=True),
        )
        (self.regressor,) = self.check_pairs(self.example_features(example), self._regressor)

    @property
    def uses_logits(self) -> bool:  # type: ignore[override]  # here the variant decides
        return self.variant == "paper"

    def _regressor(self, guided: Tensor, hint: Tensor) -> Regressor:
        activation = nonlinearity(self.teacher.net, self.teacher_layers[0], self._example)
        if activation is None and bool((hint >= 0).all()):
            activation = nn.ReLU()  # a function, not a module of the network
        return Regressor(
            tuple(guided.shape[1:]), tuple(hint.shape[1:]), activation, self.variant
        ).to(guided)

    def default_layers(self, net: nn.Module) -> list[str]:
        own = levels(net)
        return [own[len(own) // 2]]

    def stages(self):
        if self.variant == "code":
            return super().stages()
        guided = self.lower_parameters()
        first = Player(
            "guided",
            self.hint_terms,
            [*guided, *self.regressor.parameters()],
            lambda p: RMSprop(p, self.hint_lr),
        )
        return [
            Stage("hint", self.hint_share, [first]),
            Stage(
                "distil",
                1 - self.hint_share,
                [Player("student", self.terms, list(self.student.parameters()))],
            ),
        ]

    def _hint(self, guided: Tensor, hint: Tensor) -> dict[str, Tensor]:
        guided, hint = same_size("guided", self.regressor(guided), "hint", hint)
        return {"hint": self.hint_weight * hint_loss(guided, hint, self.variant)}

    def hint_terms(self, batch: Batch):
        """{"hint": the first stage's loss}; neither network runs further than its layer."""
        return self._hint(*self.early_features(batch)[0])

    @property
    def kd_weight(self) -> float:
        """From 4 to 1 along the stage: lambda of the paper, annealed linearly."""
        return 4 - 3 * self.progress

    def reads(self):
        return super().reads() if self.variant == "code" else ([], [])

    def losses(self, outputs: Outputs):
        terms = label_term(outputs, self.ce_weight)
        if self.variant == "code":
            return terms | self._hint(*self.pairs(outputs)[0])
        kd = outputs.divergence(self.temperature) / self.temperature**2
        return terms | {"kd": self.kd_weight * kd}
