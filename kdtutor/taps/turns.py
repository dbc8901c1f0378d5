"""The word at the end of a path that says which axis of an output holds the channels.

":channels_last" gives (B, H, W, C) or (B, D, H, W, C) with the channels at axis 1, where all
methods have them. Tokens (B, N, D) are given by ":tokens" as (B, D, N), all of them, class tokens
included, one behind the other as in a signal; by ":patches=14x14+1" as the map (B, D, 14, 14) of
the patches of an image, without the one token (a class token) that stands in front of them.
":channels_first" says that axis 1 does hold the channels, where the network looks otherwise."""

import re

from torch import Tensor

FIRST, LAST, TOKENS = "channels_first", "channels_last", "tokens"
_PATCHES = re.compile(r"patches=([1-9]\d*)x([1-9]\d*)(?:\+(\d+))?")


def turn_of(layer: str) -> str:
    """The word about axes at the end of a path.

    Args:
        layer: a path, as ``Taps`` takes it.

    Returns:
        The word, or "".

    Example:
        >>> turn_of("encoder.ln:tokens"), turn_of("encoder.ln:input:tokens"), turn_of("fc:input")
        ('tokens', 'tokens', '')
    """
    word = layer.rpartition(":")[2] if ":" in layer else ""
    return word if word in (FIRST, LAST, TOKENS) or _PATCHES.fullmatch(word) else ""


def turned(layer: str, value: Tensor) -> Tensor:
    """What a layer gave, with the channels at axis 1 as its path says; unchanged without a word.

    Args:
        layer: the path.
        value: (B, ..., C), or as it is where the path says nothing.

    Returns:
        (B, C, ...), a view.

    Raises:
        ValueError: for a word that does not fit the shape.

    Example:
        >>> import torch
        >>> tokens = torch.zeros(2, 17, 8)
        >>> turned("ln:tokens", tokens).shape, turned("ln:patches=4x4+1", tokens).shape
        (torch.Size([2, 8, 17]), torch.Size([2, 8, 4, 4]))
    """
    word, shape = turn_of(layer), tuple(value.shape)
    if word in ("", FIRST):
        return value
    if word == LAST:
        if value.ndim not in (4, 5):
            raise ValueError(
                f"layer {layer!r} gives {shape}: only maps (B, H, W, C) and volumes "
                "(B, D, H, W, C) are channels last. Tokens (B, N, D) are read as ':tokens'."
            )
        return value.movedim(-1, 1)
    if value.ndim != 3:
        raise ValueError(
            f"layer {layer!r} gives {shape}, and tokens are (B, N, D). Leave the last word out, or "
            "choose a layer that gives tokens."
        )
    if word == TOKENS:
        return value.movedim(-1, 1)
    patches = _PATCHES.fullmatch(word)
    assert patches is not None  # ``turn_of`` knows no other words
    h, w, front = (int(number or 0) for number in patches.groups())
    if value.shape[1] != h * w + front:
        raise ValueError(
            f"layer {layer!r} gives {shape}, {value.shape[1]} tokens, but {h} x {w} patches behind "
            f"{front} other tokens are {h * w + front}. Say the rows and columns of patches and "
            "how many tokens stand in front of them: ':patches=14x14+1' for 197."
        )
    return value[:, front:].unflatten(1, (h, w)).movedim(-1, 1)


__all__ = ["FIRST", "LAST", "TOKENS", "turn_of", "turned"]
