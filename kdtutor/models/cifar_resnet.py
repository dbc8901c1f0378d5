"""ResNets for CIFAR: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (CVPR
2016), section 4.2.

Depth 6n+2: one 3x3 convolution, three stages of n blocks with 16, 32, 64 channels at full, half and
quarter resolution, global average pooling, one linear layer. One thing is not the paper's: where a
shape changes, the shortcut is a 1x1 convolution with batch normalisation (the paper's option B) as
in most public distillation code; the paper's own CIFAR nets pad with zeros."""

from torch import nn

from ..errors import explained
from .common import (
    SIZE,
    GlobalAveragePool,
    blocks_per_stage,
    check_counts,
    conv1x1,
    conv3x3,
    initialise,
)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    (B, inputs, H, W) -> (B, outputs, H/stride, W/stride), rounded up.

    Args:
        inputs: Channels that enter.
        outputs: Channels that leave.
        stride: 2 halves the resolution.

    Example:
        >>> import torch
        >>> BasicBlock(4, 8, stride=2)(torch.zeros(1, 4, 8, 8)).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
        # Each ReLU is a module of its own, used once and not in place, so that one may tap what
        # enters and what leaves it.
        self.relu2 = nn.ReLU()

    def forward(self, x):
        out = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """See ``cifar_resnet``."""

    def __init__(self, blocks: int, classes: int, width: int, channels: int, stem: int):
        super().__init__()
        self.input_shape, self.classes = (channels, SIZE, SIZE), classes
        self.conv1 = conv3x3(channels, stem)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.layer1 = _stage(blocks, stem, 16 * width, stride=1)
        self.layer2 = _stage(blocks, 16 * width, 32 * width, stride=2)
        self.layer3 = _stage(blocks, 32 * width, 64 * width, stride=2)
        self.pool = GlobalAveragePool()
        self.fc = nn.Linear(64 * width, classes)
        initialise(self)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.pool(x))


def _stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(inputs, outputs, stride),
        *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)),
    )


@explained
def cifar_resnet(
    depth: int, classes: int = 10, width: int = 1, channels: int = 3, stem: int | None = None
) -> CifarResNet:
    """A CIFAR ResNet of any depth 6n+2.

    Two nets are called "resnet8x4" in the literature: width=4, stem=64 (code of "KD Beyond Model
    Compression", Sarfraz et al. 2020) and width=4, stem=32 (RepDistiller, Tian et al. 2020; what
    ``build("resnet8x4")`` gives).

    Layers to tap: conv1, bn1, relu, layer1 to layer3, "layer1.0" and so on with conv1, bn1, relu1,
    conv2, bn2, shortcut, relu2 inside, pool (B, 64 * width), fc.

    Args:
        depth: 6n+2 with n of at least 1.
        classes: How many, at least 2.
        width: Multiplies the 16, 32, 64 channels of the stages.
        channels: Of the images.
        stem: Channels of the first convolution. Default: the first stage's 16 * width.

    Returns:
        (B, channels, H, W) -> logits (B, classes).

    Raises:
        ValueError: For a depth that is not 6n+2 (with the nearest), fewer than 2 classes, or any
            other count below 1.

    Source:
        He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016),
        section 4.2.

    Example:
        >>> import torch
        >>> cifar_resnet(8)(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 10])
    """
    blocks = blocks_per_stage("a CIFAR ResNet", depth, extra=2)
    check_counts(classes=classes, width=width, channels=channels)
    stem = 16 * width if stem is None else stem
    check_counts(stem=stem)
    return CifarResNet(blocks, classes, width, channels, stem)


def _named(depth: int):
    def make(
        classes: int = 10, width: int = 1, channels: int = 3, stem: int | None = None
    ) -> CifarResNet:
        return cifar_resnet(depth, classes, width, channels, stem)

    make.__name__ = make.__qualname__ = f"resnet{depth}"
    make.__doc__ = (
        f"ResNet-{depth} for CIFAR: see ``cifar_resnet``, whose arguments it takes but for the "
        "depth."
    )
    return make


resnet8, resnet14, resnet20, resnet26, resnet32, resnet44, resnet56, resnet110 = map(
    _named, (8, 14, 20, 26, 32, 44, 56, 110)
)
