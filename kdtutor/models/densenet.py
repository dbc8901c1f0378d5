"""DenseNet-BC for CIFAR: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional
Networks" (CVPR 2017).

The teachers and students of Born-Again Networks (Furlanello et al. 2018): DenseNet-112-33, 90-60,
80-80, 80-120 (depth-growth). Each has three dense blocks of n = (depth - 4) / 6 layers, rounded
down as the loop of the DenseNet authors' Torch code does: 14 for depth 90, which fits the name
DenseNet-7-1-2 that the Born-Again paper gives to half the layers of 90-60, and 12 for depth 80.

What that paper leaves open. Its Table 1 prints 6.3M, 16.1M, 22.4M and 50.4M parameters for
CIFAR-10; the DenseNet-BC of Huang et al. has 6.9M, 15.1M, 20.9M and 47.0M. With a third
compression, after the last block (``compress_last=True``), the last three become 16.2M, 22.4M and
50.4M, so the authors probably had one: an inference from these counts, not checked against their
code. Nothing like it gives 6.3M for 112-33, but a plain DenseNet-106-33 has 6.3M, and the paper's
text once writes 106-33."""

import torch
from torch import nn

from ..errors import explained
from .common import SIZE, GlobalAveragePool, check_counts, check_rates, conv1x1, conv3x3, initialise


class DenseLayer(nn.Module):
    """Adds ``growth`` channels to what it is given.

    Args:
        inputs: Channels that enter.
        growth: Channels that it adds.
        dropout: Probability in [0, 1) after each of its two convolutions.

    Returns:
        (B, inputs, H, W) -> (B, inputs + growth, H, W).

    Example:
        >>> DenseLayer(8, growth=4, dropout=0.0)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 12, 4, 4])
    """

    def __init__(self, inputs: int, growth: int, dropout: float):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = conv1x1(inputs, 4 * growth)
        self.dropout1 = nn.Dropout(dropout)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.relu2 = nn.ReLU()
        self.conv2 = conv3x3(4 * growth, growth)
        self.dropout2 = nn.Dropout(dropout)

    def forward(self, x):
        out = self.dropout1(self.conv1(self.relu1(self.bn1(x))))
        out = self.dropout2(self.conv2(self.relu2(self.bn2(out))))
        return torch.cat((x, out), 1)


class Transition(nn.Module):
    """Halves the channels, then the resolution, rounded down.

    Args:
        inputs: Channels that enter.
        dropout: Probability in [0, 1) after its convolution.
        pool: False keeps the resolution.

    Returns:
        (B, C, H, W) -> (B, C//2, H//2, W//2).

    Example:
        >>> Transition(8, dropout=0.0)(torch.zeros(2, 8, 5, 5)).shape
        torch.Size([2, 4, 2, 2])
    """

    def __init__(self, inputs: int, dropout: float, pool: bool = True):
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.conv = conv1x1(inputs, inputs // 2)
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.AvgPool2d(2) if pool else nn.Identity()

    def forward(self, x):
        return self.pool(self.dropout(self.conv(self.relu(self.bn(x)))))


class DenseNet(nn.Module):
    """See ``densenet``."""

    def __init__(
        self,
        layers: int,
        growth: int,
        classes: int,
        channels: int,
        dropout: float,
        compress_last: bool,
    ):
        super().__init__()
        self.input_shape, self.classes = (channels, SIZE, SIZE), classes
        width, added = 2 * growth, layers * growth
        self.conv1 = conv3x3(channels, width)
        self.layer1 = _block(layers, width, growth, dropout)
        self.transition1 = Transition(width + added, dropout)
        width = (width + added) // 2
        self.layer2 = _block(layers, width, growth, dropout)
        self.transition2 = Transition(width + added, dropout)
        width = (width + added) // 2
        self.layer3 = _block(layers, width, growth, dropout)
        width += added
        self.transition3: nn.Module = nn.Identity()
        if compress_last:
            self.transition3 = Transition(width, dropout, pool=False)
            width //= 2
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.pool = GlobalAveragePool()
        self.fc = nn.Linear(width, classes)
        initialise(self)

    def forward(self, x):
        x = self.transition1(self.layer1(self.conv1(x)))
        x = self.transition2(self.layer2(x))
        x = self.transition3(self.layer3(x))
        return self.fc(self.pool(self.relu(self.bn(x))))


def _block(layers: int, inputs: int, growth: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(*(DenseLayer(inputs + i * growth, growth, dropout) for i in range(layers)))


@explained
def densenet(
    depth: int,
    growth: int,
    classes: int = 10,
    channels: int = 3,
    dropout: float = 0.0,
    compress_last: bool = False,
) -> DenseNet:
    """DenseNet-BC-depth-growth, for example ``densenet(112, 33)``.

    The first convolution has 2 * growth channels; each layer is a 1x1 convolution to 4 * growth and
    a 3x3 one to growth; the transitions keep half of the channels.

    Layers to tap: conv1, layer1 to layer3 (the dense blocks), transition1 to transition3, bn, relu,
    pool, fc; "layer1.0" and so on with bn1, relu1, conv1, dropout1, bn2, relu2, conv2, dropout2
    inside.

    Args:
        depth: At least 10; (depth - 4) / 6 layers per block, rounded down.
        growth: Channels that each layer adds.
        classes: How many, at least 2.
        channels: Of the images, which must be at least 4 x 4.
        dropout: After every convolution but the first (the paper: 0.2 without augmentation;
            Born-Again Networks: none).
        compress_last: A third compression, as Born-Again Networks' printed parameter counts suggest
            (see the top of this file).

    Returns:
        (B, channels, H, W) -> logits (B, classes).

    Raises:
        ValueError: For a depth below 10, fewer than 2 classes, any other count below 1, or a
            dropout outside [0, 1).

    Source:
        Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks"
        (CVPR 2017).

    Example:
        >>> densenet(10, 4)(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 10])
    """
    check_counts(depth=depth, growth=growth, classes=classes, channels=channels)
    check_rates(dropout=dropout)
    if depth < 10:
        raise ValueError(
            f"a DenseNet-BC has depth 6n+4 with n of at least 1, so {depth} is not possible: take "
            "10."
        )
    return DenseNet((depth - 4) // 6, growth, classes, channels, dropout, compress_last)
