"""Plain convolutional networks: AlexNet's and VGG's layouts at the size of small images, without
shortcuts or normalisation.

Both end in three fully connected layers, ``fc1``, ``fc2`` (each followed by ``relu1``, ``relu2``)
and ``fc3``, the logits: the layers that "Explaining Knowledge Distillation by Quantifying the
Knowledge" (Cheng et al. 2020) analyses. Krizhevsky et al. 2012, Simonyan and Zisserman 2015; the
widths are ours, for a laptop."""

from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from torch import nn

from ..errors import explained
from .common import SIZE, check_counts, check_rates, initialise

POOLED = 8  # three poolings halve each side


@explained
def alexnet(
    classes: int = 10,
    channels: int = 3,
    image_size: int | Sequence[int] = SIZE,
    width: int = 24,
    hidden: int = 256,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Five convolutions in AlexNet's proportions and three fully connected layers.

    5x5 (width), pool, 5x5 (2 width), pool, three 3x3 (3, 2, 2 width), pool; fc1 to fc3. Layers to
    tap: "features.conv0" and so on, fc1, relu1, fc2, relu2, fc3 (the logits).

    Args:
        classes: How many, at least 2.
        channels: Of the images.
        image_size: H and W in pixels, or one number for both; at least 8.
        width: Channels of the first convolution.
        hidden: Units of fc1 and fc2.
        dropout: Probability in [0, 1) before fc1 and fc2, as in the paper (there 0.5).

    Returns:
        (B, channels, H, W) -> logits (B, classes).

    Raises:
        ValueError: For counts below 1, fewer than 2 classes, a dropout outside [0, 1), and images
            smaller than 8 pixels.

    Source:
        Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural
        Networks" (NeurIPS 2012); the widths are ours.

    Example:
        >>> import torch
        >>> alexnet(image_size=8, width=2, hidden=4)(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 10])
    """
    w = width
    return _network(
        [(5, w), None, (5, 2 * w), None, (3, 3 * w), (3, 2 * w), (3, 2 * w), None],
        classes,
        channels,
        image_size,
        hidden,
        dropout,
        width=width,
    )


@explained
def vgg(
    blocks: Sequence[int] = (1, 1, 2),
    classes: int = 10,
    channels: int = 3,
    image_size: int | Sequence[int] = SIZE,
    width: int = 24,
    hidden: int = 256,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Blocks of 3x3 convolutions and three fully connected layers.

    Each block has twice the channels of the one before and a pooling at its end; then fc1 to fc3.
    Layers to tap as in ``alexnet``.

    Args:
        blocks: Three numbers of convolutions; (1, 1, 2) begins like VGG-11.
        classes: How many, at least 2.
        channels: Of the images.
        image_size: H and W in pixels, or one number for both; at least 8.
        width: Channels of the first block.
        hidden: Units of fc1 and fc2.
        dropout: Probability in [0, 1) before fc1 and fc2.

    Returns:
        (B, channels, H, W) -> logits (B, classes).

    Raises:
        ValueError: Unless ``blocks`` has three numbers of at least 1, and as ``alexnet`` does.

    Source:
        Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
        (ICLR 2015); the widths are ours.

    Example:
        >>> import torch
        >>> vgg(image_size=8, width=2, hidden=4)(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 10])
    """
    if len(blocks) != 3:
        raise ValueError(
            f"blocks={tuple(blocks)}: expected the number of convolutions of each of three "
            "blocks, such as (1, 1, 2)."
        )
    check_counts(**{f"blocks[{i}]": n for i, n in enumerate(blocks)})
    plan: list[tuple[int, int] | None] = [
        layer for i, n in enumerate(blocks) for layer in [(3, width * 2**i)] * n + [None]
    ]
    return _network(plan, classes, channels, image_size, hidden, dropout, width=width)


def _network(
    plan: Sequence[tuple[int, int] | None],
    classes: int,
    channels: int,
    size: Any,
    hidden: int,
    dropout: float,
    **counts: int,
) -> nn.Sequential:
    """plan: (kernel, channels) of each convolution, None for a pooling."""
    height, width = (int(size), int(size)) if isinstance(size, Integral) else size
    check_counts(classes=classes, channels=channels, hidden=hidden, **counts)
    check_rates(dropout=dropout)
    check_counts(height=height, width=width)
    if min(height, width) < POOLED:
        raise ValueError(
            f"image_size={size!r}: three poolings need images of at least {POOLED} x {POOLED} "
            "pixels."
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    now = channels
    for i, step in enumerate(plan):
        if step is None:
            layers[f"pool{i}"] = nn.MaxPool2d(2)
        else:
            kernel, out = step
            layers[f"conv{i}"] = nn.Conv2d(now, out, kernel, padding=kernel // 2)
            layers[f"relu{i}"], now = nn.ReLU(), out
    features = nn.Sequential(layers)
    fc1 = nn.Linear(now * (height // POOLED) * (width // POOLED), hidden)
    fc2 = nn.Linear(hidden, hidden)
    net = nn.Sequential(
        OrderedDict(
            features=features,
            flatten=nn.Flatten(),
            **({"dropout1": nn.Dropout(dropout)} if dropout else {}),
            fc1=fc1,
            relu1=nn.ReLU(),
            **({"dropout2": nn.Dropout(dropout)} if dropout else {}),
            fc2=fc2,
            relu2=nn.ReLU(),
            fc3=nn.Linear(hidden, classes),
        )
    )
    initialise(net)
    for module in features:
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for layer in (fc1, fc2):  # no normalisation keeps the signal's size here: He's weights do
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    facts: Any = net  # torch declares every attribute of a module as a tensor or a module
    facts.classes, facts.input_shape = classes, (channels, height, width)
    return net
