"""Which axis of a feature holds the channels: a shape alone does not say it.

All methods have the channels at axis 1 and the places behind: signals (B, C, L), maps (B, C, H, W),
volumes (B, C, D, H, W), or no places at all, rows (B, D). What a network has in another order is
not guessed: where it shows that its channels are last, or shows nothing of a layer (B, N, M), the
method refuses, and the path says how the layer is read (``turns``). What the methods take:

    layer read as           AT, F-ActT, FSP, Jacobian  FitNet, AB     SP, RKD, CRD  ONE's split
    rows (B, D)             refused: no places         yes            yes           yes
    signals, maps, volumes  yes                        yes            yes           yes
    tokens, bare            refused                    refused        yes           yes
      ":tokens"             yes, a signal              yes, a signal  yes           -
      ":patches=14x14+1"    yes, a map                 yes, a map     yes           -
    channels last, bare     refused                    refused        yes           yes
      ":channels_last"      yes                        yes            yes           -

AT, F-ActT, FitNet, AB and Jacobian compare place by place, so both layers need as many axes. FSP
averages over places, so only its two layers of one network do. SP, RKD and CRD take all numbers of
an example as one row, in any order. ONE finds the channels itself. What a layer norm has passed is
equally strong at all tokens, so that AT and Jacobian see nothing there: read in front of it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .attention import SIDES
from .examples import for_network
from .modes import eval_mode
from .read import Taps
from .turns import turn_of
from .wrapped import module_at

# Modules that have their channels last, or at axis 1, whatever the network is.
_LAST = (
    *(nn.Linear, nn.Embedding, nn.MultiheadAttention, nn.RNNBase, nn.TransformerEncoder),
    *(nn.TransformerDecoder, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer),
)
_FIRST = (
    *(nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm),
    *(nn.modules.instancenorm._InstanceNorm, nn.modules.pooling._MaxPoolNd),
    *(nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd),
    nn.modules.pooling._AdaptiveMaxPoolNd,
)


def channels_last(net: nn.Module, layers: Sequence[str], x: Tensor | Mapping) -> list[str]:
    """The layers whose channels are last: maps (B, H, W, C), as those of Swin transformers are,
    volumes (B, D, H, W, C), and tokens (B, N, D).

    An image twice as wide has maps twice as wide, and more tokens: the axis that grows is one of
    places. Of a network that takes no other size, a layer that ends in a linear layer, a layer norm
    or attention has its channels where these have them, last; one that ends in a convolution or
    batch norm, at axis 1.

    Args:
        net: any torch module.
        layers: paths, as ``Taps`` takes them; those that say it themselves are left out.
        x: a small batch of its inputs, a tensor or a mapping.

    Returns:
        Those of ``layers`` that are known to be channels last.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2))
        >>> channels_last(net, ["0", "1"], torch.rand(1, 3, 8, 8))
        []
        >>> channels_last(nn.Sequential(nn.LayerNorm(8)), ["0"], torch.rand(1, 5, 8))
        ['0']
    """
    return [k for k, (_, last) in _axes(net, layers, x).items() if last]


def _axes(net: nn.Module, layers: Sequence[str], x) -> dict[str, tuple[tuple, bool | None]]:
    """{path: (shape, are its channels last?)}; None: the network does not say."""
    bare = [k for k in layers if not turn_of(k) and k.rpartition(":")[2] not in SIDES]
    if not bare:
        return {}
    x = for_network(net, x)
    with torch.no_grad(), eval_mode(net):
        features = Taps(net, bare, stop=True)(x)[1]
        shapes = {k: tuple(features[k].shape) for k in bare if features[k].ndim in (3, 4, 5)}
        grown = _grown(net, shapes, x) if shapes else {}
        said = lambda k: grown[k] if grown.get(k) is not None else _by_kind(net, k, shapes[k], x)
        return {k: (shape, said(k)) for k, shape in shapes.items()}


def check_layout(who: str, net: nn.Module, layers: Sequence[str], x: Tensor, method: str) -> None:
    """Checks that no layer's places would be taken for its channels.

    Args:
        who: "student" or "teacher", for the error.
        net: any torch module.
        layers: paths.
        x: a small batch of its inputs.
        method: who would read them so.

    Raises:
        ValueError: for the first layer with its channels last, and for a layer (B, N, M) of which
            the network does not say it; it says how the path is written.

    Example:
        >>> net = nn.Sequential(nn.Conv1d(2, 4, 3))
        >>> check_layout("student", net, ["0"], torch.rand(1, 2, 8), "AttentionTransfer")
    """
    for path, (shape, last) in _axes(net, layers, x).items():
        if last is False or (last is None and len(shape) != 3):
            continue
        own = path.removesuffix(":output")
        if last is None:
            raise ValueError(
                f"the {who}'s layer {path!r} gives {shape}, and {method} cannot tell whether these "
                "are tokens (batch, tokens, channels) or a signal (batch, channels, places): pass "
                f"it in layers= as '{own}:tokens' or as '{own}:channels_first'."
            )
        if len(shape) == 3:
            raise ValueError(
                f"the {who}'s layer {path!r} gives tokens (batch, tokens, channels), {shape}, and "
                f"{method} would take the tokens for channels: pass it in layers= as "
                f"'{own}:tokens' (all tokens, as a signal) or, for the patches of an image, like "
                f"'{own}:patches=14x14+1' (a map of 14 x 14, without one class token in front). If "
                f"axis 1 holds the channels: '{own}:channels_first'."
            )
        names = "height, width" if len(shape) == 4 else "depth, height, width"
        what = "height" if len(shape) == 4 else "depth"
        raise ValueError(
            f"the {who}'s layer {path!r} gives {'maps' if len(shape) == 4 else 'volumes'} (batch, "
            f"{names}, channels), {shape}, and {method} would take the {what} for channels: pass "
            f"it in layers= as '{own}:channels_last', or, if axis 1 holds the channels, as "
            f"'{own}:channels_first'."
        )


def check_feature(who: str, layer: str, feature: Tensor, examples: int) -> None:
    """Checks that a feature holds numbers that can be learned, example by example.

    Args:
        who: "student" or "teacher", for the error.
        layer: its path.
        feature: what was read there.
        examples: how many the batch has.

    Raises:
        ValueError: unless it is (B, ...) floating point with at least two axes and no empty one.

    Example:
        >>> check_feature("student", "fc:input", torch.zeros(4, 8), 4)
    """
    shape, name = tuple(feature.shape), f"the {who}'s layer {layer!r}"
    if not feature.is_floating_point():
        raise ValueError(
            f"{name} gives {feature.dtype}; expected floating-point numbers, which have gradients. "
            "Choose a layer behind it."
        )
    if feature.ndim < 2 or not feature.numel():
        raise ValueError(
            f"{name} gives {shape}; expected (batch, channels) or (batch, channels, places), none "
            "of them empty. Choose an earlier layer, or larger inputs."
        )
    if len(feature) != examples:
        raise ValueError(
            f"{name} gives {shape} for a batch of {examples}: its first axis must be the batch. "
            "Build a sequence model with batch_first=True, or choose a layer that keeps examples "
            "apart."
        )


def _grown(net: nn.Module, shapes: dict[str, tuple[int, ...]], x) -> dict[str, bool | None]:
    """Does the last axis but one grow with the inputs, and not the last? None: neither does."""
    for axis in (-1, 1):
        wider = _twice(x, axis)
        if wider is None:
            continue
        try:
            large = Taps(net, list(shapes), stop=True)(wider)[1]
        except Exception:  # any network may refuse any size in its own way
            continue
        more = lambda k, i: large[k].ndim == len(shapes[k]) and large[k].shape[i] > shapes[k][i]
        return {k: False if more(k, -1) else True if more(k, -2) else None for k in shapes}
    return {}


def _twice(x: Tensor | Mapping, axis: int) -> Tensor | Mapping | None:
    """Inputs beside themselves, of a mapping the images; None where there are none such."""
    if isinstance(x, Mapping):
        if axis != -1:
            return None
        images = {k: torch.cat([v, v], 3) for k, v in x.items() if v.ndim == 4}
        return {**x, **images} if images else None
    # Only floats: more tokens than a table of embeddings has rows would end a GPU's work for good.
    if not x.is_floating_point() or x.ndim < 3 or (axis == 1 and x.ndim != 3):
        return None
    return torch.cat([x, x], axis)  # (B, C, L) or, along axis 1, (B, N, D)


def _by_kind(net: nn.Module, layer: str, shape: tuple[int, ...], x) -> bool | None:
    """What the last module says that gives this very shape: the layer, one inside it, or, where the
    shape can tell, one before it. None: none says anything.
    """
    path, _, side = layer.partition(":")
    top = module_at(net, path.partition("#")[0])
    assert top is not None  # Taps has read it
    if side == "input" and (own := _says_last(top, shape)) is not None:
        return own
    inside = set() if side == "input" else set(top.modules())
    tells = shape[1] != shape[-1]
    said: list[bool] = []

    def ran(module, args, out):
        out = out[0] if isinstance(out, (tuple, list)) and out else out
        found = _says_last(module, shape)
        if isinstance(out, Tensor) and out.shape == shape and found is not None:
            said.extend([found] if tells or module in inside else [])

    hooks = [module.register_forward_hook(ran) for module in net.modules()]
    try:
        Taps(net, [layer], stop=True)(x)
    finally:
        for hook in hooks:
            hook.remove()
    return said[-1] if said else None


def _says_last(module: nn.Module, shape: tuple[int, ...]) -> bool | None:
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return True if module.normalized_shape == (shape[-1],) else None
    return True if isinstance(module, _LAST) else False if isinstance(module, _FIRST) else None
