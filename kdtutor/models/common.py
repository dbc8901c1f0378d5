"""What the networks share: checks of their arguments, initial weights, the pooling before the
classifier.
"""

from numbers import Integral, Real

import torch.nn.functional as F
from torch import nn

SIZE = 32  # CIFAR's images; global pooling lets every convolutional network run at other sizes too


def check_counts(**counts) -> None:
    """Raises ``ValueError`` unless every value is a whole number of at least 1 (for ``classes``:
    2).
    """
    for name, value in counts.items():
        least = 2 if name == "classes" else 1
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def check_rates(**rates) -> None:
    """Raises ``ValueError`` unless every value is a probability in [0, 1)."""
    for name, value in rates.items():
        if not isinstance(value, Real) or not 0 <= value < 1:
            raise ValueError(
                f"{name} is the probability of dropping a unit and must be in [0, 1), got "
                f"{value!r}."
            )


def blocks_per_stage(network: str, depth: int, extra: int) -> int:
    """n of depth = 6n + extra: three stages of n blocks of two convolutions. Raises ``ValueError``
    with the nearest depths.
    """
    check_counts(depth=depth)
    n, rest = divmod(depth - extra, 6)
    if rest or n < 1:
        nearest = sorted({6 * max(m, 1) + extra for m in (n, n + 1)})
        raise ValueError(
            f"{network} has depth 6n+{extra} with n of at least 1, so {depth} is not possible: "
            f"take {' or '.join(map(str, nearest))}."
        )
    return n


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """The 3x3 convolution of every block here. No bias: the batch normalisation that follows would
    cancel it.
    """
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias: changes the number of channels only."""
    return nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)


class GlobalAveragePool(nn.Module):
    """(B, C, H, W) -> (B, C), whatever the image size."""

    def forward(self, x):
        # AdaptiveAvgPool2d(1) and mean((2, 3)) give the same values, but their gradient is an
        # expanded view, over which the ReLU
        # below takes 2.5 times as long on a CPU in channels_last.
        return F.avg_pool2d(x, x.shape[2:]).flatten(1)


def initialise(net: nn.Module) -> None:
    """He normal (fan-out) for convolutions, zero biases for linear layers; batch normalisations
    already start at 1 and 0.

    He et al. 2015; what the official code of all three convolutional papers does. The classifier
    keeps torch's own small uniform weights, which are Torch7's too, so that the first logits are
    small."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
