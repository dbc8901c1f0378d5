"""The networks of the papers, as plain modules whose layers can be tapped by path. torchvision has
the rest: any module works.

Each has ``input_shape`` (C, H, W) and ``classes``. Weights come from torch's random generator:
``torch.manual_seed(s)`` first. ``adapt`` gives a network of anyone's the student's eyes: another
size, normalisation or number of channels, other classes."""

from .adapt import adapt
from .build import FORMS, NAMES, build
from .cifar_resnet import (
    cifar_resnet,
    resnet8,
    resnet14,
    resnet20,
    resnet26,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)
from .densenet import densenet
from .mlp import constrain_, mlp
from .plain import alexnet, vgg
from .wide_resnet import wrn

__all__ = [
    "FORMS",
    "NAMES",
    "adapt",
    "alexnet",
    "build",
    "cifar_resnet",
    "constrain_",
    "densenet",
    "mlp",
    "resnet8",
    "resnet14",
    "resnet20",
    "resnet26",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "vgg",
    "wrn",
]
