"""Queries, keys, values and attention maps inside torch's and transformers' attention modules.

A fused kernel keeps them to itself, so they are computed once more beside it from the same inputs
and weights; the module's own answer stays what it is."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDES = ("queries", "keys", "values", "attention")
_PROJECTIONS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"))  # as transformers' name
_HEADS = ("num_attention_heads", "num_heads", "n_heads")
# What changes a map between the projections and the softmax, or after it, in ways of its own.
_ARGUMENTS = (
    *("position_embeddings", "position_bias", "rotary_pos_emb", "head_mask"),
    *("past_key_value", "past_key_values", "layer_past"),
)
_PARTS = (
    *("rotary_emb", "q_norm", "k_norm", "distance_embedding", "attn_logit_softcapping", "sinks"),
    *("relative_position_bias_table", "relative_position_bias"),
)


def watch(module: nn.Module, layer: str, side: str, keep: Callable[[Tensor], None]) -> list:
    """Hooks that hand queries, keys, values (B, heads, L, head_dim) or attention maps (B, heads, L,
    S) to ``keep`` whenever the module runs.

    Maps are the probabilities before dropout, masks included. Queries, keys and values are those
    that the projections give: before rotary embeddings, where there are any. Keys and values that
    several heads share are repeated for each of them.

    Args:
        module: an ``nn.MultiheadAttention``, or a module with submodules query, key, value or
            q_proj, k_proj, v_proj, as transformers builds them.
        layer: its path, for the errors.
        side: "queries", "keys", "values" or "attention".
        keep: called with the tensor.

    Returns:
        The hooks' handles.

    Raises:
        ValueError: for other modules; and, when the module runs, where the map depends on more than
            projections and masks (rotary or relative positions, a cache of keys).
    """
    if isinstance(module, nn.MultiheadAttention):

        def ran(m, args, kwargs, output):
            keep(_of_torch(m, layer, side, _bound(m, args, kwargs)))

        return [module.register_forward_hook(ran, with_kwargs=True)]
    names = _projections(module, layer)
    seen: dict[str, Tensor] = {}

    def done(m, args, kwargs, output):
        three = [seen.pop(name) for name in names]
        keep(_of_transformers(m, layer, side, three, _bound(m, args, kwargs)))

    hooks: list = [
        module.get_submodule(n).register_forward_hook(
            lambda m, args, output, n=n: seen.__setitem__(n, output)
        )
        for n in names
    ]
    return [*hooks, module.register_forward_hook(done, with_kwargs=True)]


def check_attention(module: nn.Module, layer: str) -> None:
    """Raises ``ValueError`` unless the module is one that ``watch`` can look into."""
    if not isinstance(module, nn.MultiheadAttention):
        _projections(module, layer)
    elif module.bias_k is not None or module.add_zero_attn:
        raise ValueError(
            f"layer {layer!r}: a MultiheadAttention with bias_k or add_zero_attn attends to a "
            "place that is not in its input. Build it without."
        )


def _projections(module: nn.Module, layer: str) -> tuple[str, ...]:
    for names in _PROJECTIONS:
        if all(isinstance(getattr(module, n, None), nn.Module) for n in names):
            return names
    raise ValueError(
        f"layer {layer!r} is a {type(module).__name__}, in which no queries, keys and values are "
        "known: take the path of an nn.MultiheadAttention, or of a module whose submodules are "
        "query, key, value or q_proj, k_proj, v_proj."
    )


def _bound(module: nn.Module, args: tuple, kwargs: dict) -> dict[str, Any]:
    return {**inspect.signature(module.forward).bind(*args, **kwargs).arguments, **kwargs}


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, L, heads * d) -> (B, heads, L, d)"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _chosen(side: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float):
    if side != "attention":
        return {"queries": q, "keys": k, "values": v}[side]
    scores = (q * scale) @ k.mT
    return (scores if mask is None else scores + mask).softmax(-1)


def _additive(mask: Tensor, out: Tensor) -> Tensor:
    """A mask of bools, True where a key is hidden, as what is added to the scores."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=out.dtype).masked_fill_(mask, -torch.inf)


def _of_torch(m: nn.MultiheadAttention, layer: str, side: str, given: dict[str, Any]) -> Tensor:
    three = [given[name] for name in ("query", "key", "value")]
    if three[0].ndim == 2:  # one example without a batch
        three = [x[None] for x in three]
    elif not m.batch_first:
        three = [x.transpose(0, 1) for x in three]
    if m.in_proj_weight is not None:
        weights = m.in_proj_weight.chunk(3)
    else:
        weights = (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)
    biases = (None,) * 3 if m.in_proj_bias is None else m.in_proj_bias.chunk(3)
    q, k, v = (_heads(F.linear(x, w, b), m.num_heads) for x, w, b in zip(three, weights, biases))
    mask, padding = given.get("attn_mask"), given.get("key_padding_mask")
    if mask is not None:  # (L, S), or (B * heads, L, S)
        mask = _additive(mask, q)
        mask = mask.unflatten(0, (-1, m.num_heads)) if mask.ndim == 3 else mask
    if padding is not None:  # (B, S)
        padding = _additive(padding, q).reshape(len(q), 1, 1, -1)
        mask = padding if mask is None else mask + padding
    return _chosen(side, q, k, v, mask, m.head_dim**-0.5)


def _of_transformers(
    m: nn.Module, layer: str, side: str, three: list[Tensor], given: dict[str, Any]
) -> Tensor:
    config = getattr(m, "config", None)
    counts = [getattr(owner, n, None) for owner in (m, config) for n in _HEADS]
    heads = next((n for n in counts if isinstance(n, int)), None)
    if heads is None or any(x.ndim != 3 for x in three):
        raise ValueError(
            f"layer {layer!r}: expected projections (B, L, heads * head_dim) and the number of "
            f"heads as one of {_HEADS} of the module or its config; got "
            f"{[tuple(x.shape) for x in three]} and {heads} heads."
        )
    q = _heads(three[0], heads)
    k, v = (_heads(x, x.shape[-1] // q.shape[-1]) for x in three[1:])
    k, v = (x.repeat_interleave(heads // x.shape[1], 1) for x in (k, v))  # as grouped heads do
    if side != "attention":
        return _chosen(side, q, k, v, None, 1.0)
    more = [name for name in _ARGUMENTS if given.get(name) is not None]
    more += [name for name in _PARTS if getattr(m, name, None) is not None]
    if more:
        raise ValueError(
            f"layer {layer!r}: {type(m).__name__} makes its map with {more}, too, so that it "
            "cannot be computed exactly from projections and masks. Read ':queries' and ':keys' as "
            "projected, or let the network return its attentions."
        )
    mask = None
    for name in ("attention_mask", "causal_attention_mask"):
        part = given.get(name)
        if part is None:
            continue
        if part.ndim != 4:
            raise ValueError(
                f"layer {layer!r}: {name} has shape {tuple(part.shape)}; expected (B, 1 or heads, "
                "L, S), as transformers' eager and sdpa attention take it."
            )
        # Bools are True where a key takes part: torch's other convention.
        part = _additive(~part, q) if part.dtype == torch.bool else part
        mask = part if mask is None else mask + part
    length = q.shape[2]
    causal = given.get("is_causal")
    causal = getattr(m, "is_causal", False) if causal is None else causal
    if mask is None and causal and length > 1:
        hidden = torch.ones(length, k.shape[2], dtype=torch.bool, device=q.device).triu(1)
        mask = _additive(hidden, q)
    scale = next((s for n in ("scaling", "scale") if isinstance(s := getattr(m, n, 0), float)), 0.0)
    return _chosen(side, q, k, v, mask, scale or q.shape[-1] ** -0.5)


__all__ = ["SIDES", "check_attention", "watch"]
