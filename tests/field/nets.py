"""Small networks of other people's libraries, with random weights, and small data for them."""

import timm
import torch
import transformers
from torch import nn
from torchvision.models import VGG, GoogLeNet, ResNet, SwinTransformer, mobilenet_v2
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import make_layers

from kdtutor import fit
from kdtutor.datasets import Data, Split


def resnet(classes: int = 10) -> nn.Module:
    """torchvision's, with one block per stage."""
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes)


def mobilenet(classes: int = 10, bias: bool = True) -> nn.Module:
    net = mobilenet_v2(num_classes=classes, width_mult=0.25, dropout=0.0)
    if not bias:
        net.classifier[1] = nn.Linear(1280, classes, bias=False)
    return net


def vgg(classes: int = 10) -> nn.Module:
    """torchvision's convolutions, with a smaller head than its 120 million weights."""
    net = VGG(make_layers([16, "M", 32, "M"]), num_classes=classes, init_weights=False)
    net.classifier = nn.Sequential(nn.Linear(32 * 49, 32), nn.ReLU(), nn.Linear(32, classes))
    return net


def googlenet(classes: int = 10) -> nn.Module:
    """In training it answers with three heads; without dropout, so that its answer repeats."""
    return GoogLeNet(classes, init_weights=False, dropout=0.0, dropout_aux=0.0)


def swin(classes: int = 10) -> nn.Module:
    """torchvision's for images of any size: its maps are (B, H, W, C)."""
    return SwinTransformer(
        [4, 4], 12, [1, 1], [1, 2], [4, 4], num_classes=classes, stochastic_depth_prob=0.0
    )


def timm_swin(classes: int = 10) -> nn.Module:
    """timm's takes no other size than its own."""
    return timm.create_model(
        "swin_tiny_patch4_window7_224",
        num_classes=classes,
        img_size=32,
        window_size=4,
        embed_dim=12,
        depths=(1, 1),
        num_heads=(1, 2),
        drop_path_rate=0.0,
    )


def vit(classes: int = 10, name: str = "vit_tiny_patch16_224", size: int = 32) -> nn.Module:
    """timm's: (size/16)^2 patches and a class token (DeiT's distilled ones have a second)."""
    return timm.create_model(
        name, num_classes=classes, img_size=size, depth=2, embed_dim=24, num_heads=2
    )


def hf_vit(classes: int = 10, kind=transformers.ViTForImageClassification) -> nn.Module:
    """transformers': it answers with an ``ImageClassifierOutput``."""
    settings = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2)
    return kind(
        transformers.ViTConfig(
            **settings, intermediate_size=48, image_size=32, patch_size=8, num_labels=classes
        )
    )


def bert(classes: int = 3, kind=transformers.BertForSequenceClassification) -> nn.Module:
    """transformers': it is called with names, and answers with a mapping. Without dropout."""
    settings = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    return kind(
        transformers.BertConfig(
            **settings,
            vocab_size=50,
            intermediate_size=32,
            max_position_embeddings=16,
            num_labels=classes,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def loud(net: nn.Module) -> nn.Module:
    """With a last layer a hundred times as large: at random weights the answers of a deep network
    hardly depend on the image, and which image it was would not be seen in a loss.
    """
    head = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    head.weight.data.mul_(100)
    return net


def conv(classes: int = 10, inputs: int = 3, dimensions: int = 2, width: int = 8) -> nn.Module:
    """Two convolutions over signals (1), images (2) or volumes (3); "2" and "5" are its ReLUs."""
    kinds = {
        1: (nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d),
        2: (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d),
        3: (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d),
    }
    convolution, norm, pool = kinds[dimensions]
    return nn.Sequential(
        *(convolution(inputs, width, 3, 2, 1), norm(width), nn.ReLU()),
        *(convolution(width, width, 3, 2, 1), norm(width), nn.ReLU()),
        *(pool(1), nn.Flatten(), nn.Linear(width, classes)),
    )


def images(n: int = 24, size: int = 32, classes: int = 10, **settings) -> Data:
    """Random bytes with every class in turn."""
    x = torch.randint(0, 256, (n, 3, size, size), generator=_drawn(), dtype=torch.uint8)
    y = torch.arange(n) % classes
    return Data("images", classes, Split(x, y), Split(x[:8], y[:8]), **settings)


def floats(shape: tuple[int, ...], n: int = 24, classes: int = 4) -> Data:
    """Inputs of any shape that are no images: they pass as they are."""
    x, y = torch.randn(n, *shape, generator=_drawn()), torch.arange(n) % classes
    return Data("floats", classes, Split(x, y), Split(x[:8], y[:8]))


def words(n: int = 24, length: int = 12, classes: int = 3) -> Data:
    """Sentences as a mapping of what BERT is called with."""
    ids = torch.randint(0, 50, (n, length), generator=_drawn())
    x = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    y = torch.arange(n) % classes
    return Data("words", classes, Split(x, y), Split({k: v[:6] for k, v in x.items()}, y[:6]))


def first(data: Data, n: int = 8):
    """The first batch, as training sees it."""
    return next(data.batches(data.train, n))


def train(method, data: Data, epochs: int = 1, **settings):
    """A short ``fit``; nothing is held out unless it is asked for."""
    usual = dict(batch_size=8, lr=1e-3, validation=0, progress=False)
    return fit(method, data, epochs, **(usual | settings))


def kl(student, teacher, temperature: float = 4.0, axis: int = 1):
    """T^2 KL(teacher || student), the mean over places, written out in float64."""
    s, t = student.double() / temperature, teacher.double() / temperature
    p = t.softmax(axis)
    return temperature**2 * (p * (t.log_softmax(axis) - s.log_softmax(axis))).sum(axis).mean()


def _drawn() -> torch.Generator:
    return torch.Generator().manual_seed(0)
