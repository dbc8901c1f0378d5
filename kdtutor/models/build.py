"""Networks by name: "resnet20", "resnet8x4", "wrn16_2", "densenet112_33", "alexnet", "vgg",
"mlp800x800".
"""

import re
from collections.abc import Sequence
from numbers import Integral

from torch import nn

from ..errors import unknown
from .cifar_resnet import cifar_resnet
from .common import SIZE, check_counts
from .densenet import densenet
from .mlp import mlp
from .plain import alexnet, vgg
from .wide_resnet import wrn

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
FORMS = "Forms: resnet<depth>, resnet<depth>x<width>, wrn<depth>_<width>, densenet<depth>_<growth>, alexnet, vgg, mlp<units>x<units>..."


def build(
    name: str,
    classes: int = 10,
    channels: int = 3,
    image_size: int | Sequence[int] = SIZE,
    **kwargs,
) -> nn.Module:
    """The network of that name for images (B, channels, H, W), with logits (B, classes).

    image_size: H and W, or one number for both. It decides the inputs of an mlp, alexnet or vgg;
    for the others it only sets ``input_shape``. kwargs: passed on to ``cifar_resnet`` (stem),
    ``wrn`` (dropout), ``densenet`` (dropout, compress_last), ``alexnet`` and ``vgg`` (width,
    hidden, dropout, blocks) or ``mlp`` (dropout, input_dropout, max_norm).   "resnet8x4" and the
    like have RepDistiller's stem of at most 32 channels: stem=64 for the other.

    Raises ``ValueError`` for an unknown name (with the near matches and the forms), and for what
    the network itself refuses."""
    name = str(name)
    size = (image_size, image_size) if isinstance(image_size, Integral) else tuple(image_size)
    if len(size) != 2:
        raise ValueError(f"image_size must be one number or (height, width), got {image_size!r}.")
    check_counts(channels=channels, height=size[0], width=size[1])
    shape = (channels, *size)

    def numbers(form: str) -> list[int]:
        return [int(n) for n in re.findall(r"\d+", name)] if re.fullmatch(form, name) else []

    if found := numbers(r"mlp\d+(x\d+)*"):
        return mlp(found, classes, inputs=shape, **kwargs)
    if name in ("alexnet", "vgg"):
        return (alexnet if name == "alexnet" else vgg)(
            classes=classes, channels=channels, image_size=size, **kwargs
        )
    if found := numbers(r"resnet\d+"):
        net = cifar_resnet(*found, classes=classes, channels=channels, **kwargs)
    elif found := numbers(r"resnet\d+x\d+"):
        depth, width = found
        net = cifar_resnet(
            depth, classes, width, channels, **{"stem": min(16 * width, 32), **kwargs}
        )
    elif found := numbers(r"wrn\d+_\d+"):
        net = wrn(*found, classes=classes, channels=channels, **kwargs)
    elif found := numbers(r"densenet\d+_\d+"):
        net = densenet(*found, classes=classes, channels=channels, **kwargs)
    else:
        raise unknown("network", name, NAMES, FORMS)
    net.input_shape = shape
    return net
