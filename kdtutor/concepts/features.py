"""A layer's features of many images at once, from a network that nothing is done to."""

import math
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..taps import Taps


@contextmanager
def still(net: nn.Module):
    """A network that stands still: inside, it is in eval mode and its weights ask for no gradients.

    After it, all is as it was, modules' modes included.

    Args:
        net: Any torch module.

    Yields:
        The same module.
    """
    modes, asked = (
        [(m, m.training) for m in net.modules()],
        [(p, p.requires_grad) for p in net.parameters()],
    )
    try:
        net.eval().requires_grad_(False)
        with torch.inference_mode(
            False
        ):  # gradients of the image are needed, whatever the caller's mode
            yield net
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, wanted in asked:
            parameter.requires_grad_(wanted)


class Layer:
    """``Layer(net, path)(x)``: the layer's features as rows (B, D); the forward pass ends there.

    Args:
        net: Any torch module.
        path: A module path as in ``kdtutor.taps``.
        relu: Negative entries become 0.

    Raises:
        ValueError: For a path that does not exist, with the near matches.

    Example:
        >>> Layer(nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU()), "0")(torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 48])
    """

    def __init__(self, net: nn.Module, path: str, relu: bool = False):
        if not isinstance(path, str):
            raise ValueError(
                f"layer is a {type(path).__name__}, expected a module path such as 'layer2.1': "
                "kdtutor.taps.layers(net) "
                "lists all."
            )
        self.path, self.relu, self._taps = path, relu, Taps(net, [path], stop=True)

    def __call__(self, x: Tensor) -> Tensor:
        rows = self._taps(x)[1][self.path]
        rows = rows.flatten(1) if rows.ndim > 1 else rows[:, None]
        return rows.relu() if self.relu else rows


def ready(net: nn.Module, images: Tensor) -> Tensor:
    """The images on the network's device, in the layout that convolutions like.

    Args:
        net: Any torch module.
        images: (N, C, H, W) float, as the network sees them.

    Returns:
        (N, C, H, W), of the weights' device and dtype.

    Raises:
        ValueError: Unless they are float (N, C, H, W) without NaN or Inf, N at least 1, and the
            weights are not in half precision.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not len(images):
        what = (
            f"shape {tuple(images.shape)}"
            if isinstance(images, Tensor)
            else f"a {type(images).__name__}"
        )
        raise ValueError(
            f"images: got {what}, expected a tensor (N, C, H, W) with at least one image."
        )
    if not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype}; noise is measured in the units that the network sees: "
            "pass "
            "data.normalised(images)."
        )
    bad = (~torch.isfinite(images.flatten(1))).any(1)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(images)} images hold NaN or Inf, the first at position "
            f"{int(bad.nonzero()[0])}."
        )
    weight = next((p for p in net.parameters() if p.is_floating_point()), images.float())
    if weight.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"the network's weights are {weight.dtype}, where small differences drown in "
            "rounding: use net.float()."
        )
    return images.detach().to(weight.device, weight.dtype, memory_format=torch.channels_last)


@torch.no_grad()
def clean_features(layer: Layer, x: Tensor, chunk: int) -> Tensor:
    """The features of the images as they are.

    Args:
        layer: What is read.
        x: (N, C, H, W), as ``ready`` gives them.
        chunk: Images at once.

    Returns:
        (N, D).
    """
    return torch.cat([layer(part) for part in x.split(chunk)])


@torch.no_grad()
def check_features(layer: Layer, x: Tensor, chunk: int) -> int:
    """Looks at the features of all images before any work is done.

    Args:
        layer: What is read.
        x: (N, C, H, W), as ``ready`` gives them.
        chunk: Images at once.

    Returns:
        The number of entries of an image's feature.

    Raises:
        ValueError: That counts images whose feature holds NaN or Inf; and for a layer that mixes
            the images up.
    """
    found = []
    for part in x.split(chunk):
        rows = layer(part)
        if len(rows) != len(part):
            raise ValueError(
                f"layer {layer.path!r} gives {len(rows)} rows for {len(part)} images: choose a "
                "layer that keeps the images "
                "apart."
            )
        found.append((~torch.isfinite(rows)).any(1))
    bad = torch.cat(found)
    if bad.any():
        raise ValueError(
            f"layer {layer.path!r} gives NaN or Inf for {int(bad.sum())} of {len(x)} images, the "
            "first at position "
            f"{int(bad.nonzero()[0])}: the network's weights or the images' normalisation are "
            "broken."
        )
    return rows.shape[1]


def check_settings(bounds, sigma_0: float, **settings) -> None:
    """Checks settings by name: all are finite numbers above 0, counts are whole.

    Args:
        bounds: Of sigma, (lower, upper).
        sigma_0: Lies within them.
        **settings: The others; ``iterations``, ``noise``, ``chunk`` and ``projections`` are counts.

    Raises:
        ValueError: For settings that cannot work.
    """
    for name, value in settings.items():
        whole = name in ("iterations", "noise", "chunk", "projections")
        if not (value > 0 and value < math.inf) or (whole and value != int(value)):
            raise ValueError(
                f"{name}={value!r}: expected a {'whole ' if whole else ''}number above 0."
            )
    if not 0 < bounds[0] <= sigma_0 <= bounds[1]:
        raise ValueError(
            f"bounds={bounds}, sigma_0={sigma_0}: expected 0 < lower <= sigma_0 <= upper."
        )
