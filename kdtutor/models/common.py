"""What the networks share: checks of their arguments, initial weights, the pooling before the
classifier.
"""

from numbers import Integral, Real
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 32  # CIFAR's images; global pooling lets every convolutional network run at other sizes too


def check_counts(**counts: Any) -> None:
    """Checks whole numbers.

    Args:
        **counts: Name and value; ``classes`` must be at least 2, any other at least 1.

    Raises:
        ValueError: With the name and the value of the first that is not such a number.

    Example:
        >>> check_counts(width=0)
        Traceback (most recent call last):
        ...
        ValueError: width must be a whole number of at least 1, got 0.
    """
    for name, value in counts.items():
        least = 2 if name == "classes" else 1
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def check_rates(**rates: Any) -> None:
    """Checks probabilities of dropping a unit.

    Args:
        **rates: Name and value; each must be in [0, 1).

    Raises:
        ValueError: With the name and the value of the first that is not.

    Example:
        >>> check_rates(dropout=1)
        Traceback (most recent call last):
        ...
        ValueError: dropout is the probability of dropping a unit and must be in [0, 1), got 1.
    """
    for name, value in rates.items():
        if not isinstance(value, Real) or not 0 <= float(value) < 1:
            raise ValueError(
                f"{name} is the probability of dropping a unit and must be in [0, 1), got "
                f"{value!r}."
            )


def blocks_per_stage(network: str, depth: int, extra: int) -> int:
    """n of depth = 6n + extra: three stages of n blocks of two convolutions.

    Args:
        network: What it is called, for the message.
        depth: Layers with weights.
        extra: Layers outside the blocks.

    Returns:
        n, at least 1.

    Raises:
        ValueError: For another depth, with the nearest ones.

    Example:
        >>> blocks_per_stage("a CIFAR ResNet", 20, extra=2)
        3
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
    """The 3x3 convolution of every block here.

    No bias: the batch normalisation that follows would cancel it.

    Args:
        inputs: Channels that enter.
        outputs: Channels that leave.
        stride: 2 halves the resolution.

    Returns:
        (B, inputs, H, W) -> (B, outputs, H/stride, W/stride), rounded up.

    Example:
        >>> conv3x3(3, 16)
        Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias: changes the number of channels only.

    Args:
        inputs: Channels that enter.
        outputs: Channels that leave.
        stride: 2 halves the resolution.

    Returns:
        (B, inputs, H, W) -> (B, outputs, H/stride, W/stride), rounded up.

    Example:
        >>> conv1x1(16, 32)
        Conv2d(16, 32, kernel_size=(1, 1), stride=(1, 1), bias=False)
    """
    return nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)


class GlobalAveragePool(nn.Module):
    """(B, C, H, W) -> (B, C), the mean over all places, whatever the image size.

    Example:
        >>> import torch
        >>> GlobalAveragePool()(torch.ones(2, 5, 8, 8)).shape
        torch.Size([2, 5])
    """

    def forward(self, x: Tensor) -> Tensor:
        # AdaptiveAvgPool2d(1) and mean((2, 3)) give the same values, but their gradient is an
        # expanded view, over which the ReLU below takes 2.5 times as long on a CPU in
        # channels_last.
        return F.avg_pool2d(x, x.shape[2:]).flatten(1)


def initialise(net: nn.Module) -> None:
    """Sets the initial weights in place: He normal (fan-out) for convolutions, zero biases for
    linear layers.

    What the official code of all three convolutional papers does. Batch normalisations already
    start at 1 and 0. The classifier keeps torch's own small uniform weights, which are Torch7's
    too, so that the first logits are small.

    Args:
        net: Any network.

    Source:
        He, Zhang, Ren, Sun, "Delving Deep into Rectifiers" (ICCV 2015).

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> initialise(layer)
        >>> layer.bias.tolist()
        [0.0, 0.0]
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
