"""Wide residual networks: Zagoruyko, Komodakis, "Wide Residual Networks" (BMVC 2016). WRN-d-k:
depth d = 6n+4, width k.

Pre-activation blocks (batch normalisation and ReLU before each convolution), so a stage's output,
what "layer1" to "layer3" tap, is a signed sum that no ReLU has seen. Dropout, if any, sits between
the two convolutions of a block (the paper: 0.3 on CIFAR)."""

from torch import nn

from ..errors import explained
from .common import (
    SIZE,
    GlobalAveragePool,
    blocks_per_stage,
    check_counts,
    check_rates,
    conv1x1,
    conv3x3,
    initialise,
)


class WideBlock(nn.Module):
    """Pre-activation block: (B, inputs, H, W) -> (B, outputs, H/stride, W/stride).

    Args:
        inputs: Channels that enter.
        outputs: Channels that leave.
        stride: 2 halves the resolution.
        dropout: Probability in [0, 1) between the two convolutions.

    Example:
        >>> import torch
        >>> WideBlock(4, 8, stride=2, dropout=0.0)(torch.zeros(1, 4, 8, 8)).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(outputs, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else conv1x1(inputs, outputs, stride)
        self.same = inputs == outputs

    def forward(self, x):
        active = self.relu1(self.bn1(x))
        out = self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(active)))))
        # As in the authors' code: a shortcut that is a convolution reads the activated input, an
        # identity the raw one.
        return out + self.shortcut(x if self.same else active)


class WideResNet(nn.Module):
    """See ``wrn``."""

    def __init__(self, blocks: int, width: int, classes: int, dropout: float, channels: int):
        super().__init__()
        self.input_shape, self.classes = (channels, SIZE, SIZE), classes
        self.conv1 = conv3x3(channels, 16)
        self.layer1 = _stage(blocks, 16, 16 * width, 1, dropout)
        self.layer2 = _stage(blocks, 16 * width, 32 * width, 2, dropout)
        self.layer3 = _stage(blocks, 32 * width, 64 * width, 2, dropout)
        self.bn = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU()
        self.pool = GlobalAveragePool()
        self.fc = nn.Linear(64 * width, classes)
        initialise(self)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(self.pool(self.relu(self.bn(x))))


def _stage(blocks: int, inputs: int, outputs: int, stride: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        WideBlock(inputs, outputs, stride, dropout),
        *(WideBlock(outputs, outputs, 1, dropout) for _ in range(blocks - 1)),
    )


@explained
def wrn(
    depth: int, width: int, classes: int = 10, dropout: float = 0.0, channels: int = 3
) -> WideResNet:
    """WRN-depth-width, for example ``wrn(16, 2)``.

    Stages of 16, 32 and 64 times ``width`` channels at full, half and quarter resolution; the first
    convolution keeps 16.

    Layers to tap: conv1, layer1 to layer3, "layer1.0" and so on with bn1, relu1, conv1, bn2, relu2,
    dropout, conv2, shortcut inside, bn, relu, pool (B, 64 * width), fc.

    Args:
        depth: 6n+4 with n of at least 1.
        width: Multiplies the channels of the stages.
        classes: How many, at least 2.
        dropout: Probability in [0, 1) between the two convolutions of a block (the paper: 0.3).
        channels: Of the images.

    Returns:
        (B, channels, H, W) -> logits (B, classes).

    Raises:
        ValueError: For a depth that is not 6n+4 (with the nearest), fewer than 2 classes, any other
            count below 1, or a dropout outside [0, 1).

    Source:
        Zagoruyko, Komodakis, "Wide Residual Networks" (BMVC 2016).

    Example:
        >>> import torch
        >>> wrn(10, 1)(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 10])
    """
    blocks = blocks_per_stage("a wide ResNet", depth, extra=4)
    check_counts(width=width, classes=classes, channels=channels)
    check_rates(dropout=dropout)
    return WideResNet(blocks, width, classes, dropout, channels)
