"""Networks by name: "resnet20", "resnet8x4", "wrn16_2", "densenet112_33", "alexnet", "vgg",
"mlp800x800".
"""

import re
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from torch import nn

from ..errors import explained, unknown
from .cifar_resnet import CifarResNet, cifar_resnet
from .common import SIZE, check_counts
from .densenet import DenseNet, densenet
from .mlp import mlp
from .plain import alexnet, vgg
from .wide_resnet import WideResNet, wrn

# The networks of the papers in this workbook. build() takes every name of the same forms.
NAMES = (
    "mlp800x800",
    "mlp1200x1200",
    "resnet8",
    "resnet14",
    "resnet20",
    "resnet26",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet8x4",
    "resnet32x4",
    "wrn16_1",
    "wrn16_2",
    "wrn28_1",
    "wrn28_2",
    "wrn28_5",
    "wrn28_10",
    "wrn40_1",
    "wrn40_2",
    "densenet100_12",
    "densenet112_33",
    "densenet90_60",
    "densenet80_80",
    "densenet80_120",
    "alexnet",
    "vgg",
)
# Under these names tables have ImageNet's networks; CIFAR's family has others as deep.
IMAGENET = ("resnet50", "resnet152")
FORMS = (
    "Forms: resnet<depth>, resnet<depth>x<width>, wrn<depth>_<width>, densenet<depth>_<growth>, "
    "alexnet, vgg, mlp<units>x<units>..."
)


@explained
def build(
    name: str,
    classes: int = 10,
    channels: int = 3,
    image_size: int | Sequence[int] = SIZE,
    **kwargs: Any,
) -> nn.Module:
    """The network of that name.

    "resnet8x4" and the like have RepDistiller's stem of at most 32 channels: stem=64 for the other.

    Args:
        name: One of ``NAMES``, or any of the same ``FORMS``.
        classes: How many, at least 2.
        channels: Of the images.
        image_size: H and W in pixels, or one number for both. It decides the inputs of an mlp,
            alexnet or vgg; for the others it only sets ``input_shape``.
        **kwargs: Passed on to ``cifar_resnet`` (stem), ``wrn`` (dropout), ``densenet`` (dropout,
            compress_last), ``alexnet`` and ``vgg`` (width, hidden, dropout, blocks) or ``mlp``
            (dropout, input_dropout, max_norm).

    Returns:
        Images (B, channels, H, W) -> logits (B, classes), with ``input_shape`` and ``classes``.

    Raises:
        ValueError: For an unknown name (with the near matches and the forms), and for what the
            network itself refuses.

    Example:
        >>> net = build("wrn10_1", classes=5, image_size=8)
        >>> net.input_shape, net.classes
        ((3, 8, 8), 5)
    """
    name = str(name)
    # Integral is numpy's whole numbers too, of which type checkers do not know that int is one.
    sides: Any = (image_size,) * 2 if isinstance(image_size, (int, Integral)) else tuple(image_size)
    if len(sides) != 2:
        raise ValueError(f"image_size must be one number or (height, width), got {image_size!r}.")
    height, width = sides
    check_counts(channels=channels, height=height, width=width)
    shape = (channels, height, width)

    def numbers(form: str) -> list[int]:
        return [int(n) for n in re.findall(r"\d+", name)] if re.fullmatch(form, name) else []

    if found := numbers(r"mlp\d+(x\d+)*"):
        return mlp(found, classes, inputs=shape, **kwargs)
    if name in ("alexnet", "vgg"):
        return (alexnet if name == "alexnet" else vgg)(
            classes=classes, channels=channels, image_size=(height, width), **kwargs
        )
    if name in IMAGENET:
        raise ValueError(
            f"{name} is ImageNet's network in the field's tables: torchvision.models.{name}. That "
            f"of CIFAR's family with as many layers is cifar_resnet({name[6:]})."
        )
    net: CifarResNet | WideResNet | DenseNet
    if found := numbers(r"resnet\d+"):
        net = cifar_resnet(found[0], classes, channels=channels, **kwargs)
    elif found := numbers(r"resnet\d+x\d+"):
        depth, times = found
        net = cifar_resnet(
            depth, classes, times, channels, **{"stem": min(16 * times, 32), **kwargs}
        )
    elif found := numbers(r"wrn\d+_\d+"):
        depth, times = found
        net = wrn(depth, times, classes, channels=channels, **kwargs)
    elif found := numbers(r"densenet\d+_\d+"):
        depth, growth = found
        net = densenet(depth, growth, classes, channels=channels, **kwargs)
    else:
        raise unknown("network", name, NAMES, FORMS)
    net.input_shape = shape
    return net
