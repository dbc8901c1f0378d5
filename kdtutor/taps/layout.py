"""Which axis of a map holds the channels: a shape alone does not say it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .examples import for_network
from .modes import eval_mode
from .read import LAST, Taps
from .wrapped import module_at


def channels_last(net: nn.Module, layers: Sequence[str], x: Tensor | Mapping) -> list[str]:
    """The layers whose maps are (B, H, W, C), as those of Swin transformers are.

    An image twice as wide has maps twice as wide: the axis that grows is the width. Of a network
    that takes no other size, a layer that ends in a linear layer or a layer norm has its channels
    where these have them, last.

    Args:
        net: any torch module.
        layers: paths, as ``Taps`` takes them.
        x: a small batch of images (B, C, H, W), or a mapping that holds some.

    Returns:
        Those of ``layers`` that are channels last; all others are taken to be (B, C, H, W).

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2))
        >>> channels_last(net, ["0"], torch.rand(1, 3, 8, 8))
        []
    """
    x = for_network(net, x)
    wider = _twice_as_wide(x)
    if wider is None:
        return []
    with torch.no_grad(), eval_mode(net):
        read = Taps(net, layers)
        shapes = {k: f.shape for k, f in read(x)[1].items() if f.ndim == 4}
        if not shapes:
            return []
        try:
            wide = {k: f.shape for k, f in read(wider)[1].items()}
        except Exception:  # any network may refuse any size in its own way
            return [k for k, shape in shapes.items() if _by_kind(net, k, shape)]
    return [
        k
        for k, shape in shapes.items()
        if len(wide[k]) == 4 and wide[k][2] > shape[2] and wide[k][3] == shape[3]
    ]


def _twice_as_wide(x: Tensor | Mapping) -> Tensor | Mapping | None:
    """Images beside themselves; None where there are no images."""
    if isinstance(x, Mapping):
        images = {k: torch.cat([v, v], 3) for k, v in x.items() if v.ndim == 4}
        return {**x, **images} if images else None
    return torch.cat([x, x], 3) if x.ndim == 4 else None


def _by_kind(net: nn.Module, layer: str, shape: torch.Size) -> bool:
    """Does the layer itself say that its last axis holds the channels?"""
    path, _, side = layer.partition(":")
    if side == LAST:  # turned already
        return False
    module = module_at(net, path.partition("#")[0])
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape == (shape[-1],)
    return isinstance(module, nn.Linear)
