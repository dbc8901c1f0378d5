"""Inside attention: queries, keys, values and maps, which no module returns by itself.

``"encoder.layers.0.self_attn:queries"``, ``:keys``, ``:values`` are (B, heads, L, head_dim),
``:attention`` is (B, heads, L, S), the probabilities before dropout. They are computed beside the
module's own forward pass, from its inputs and weights, with gradient; what the module returns stays
as it is, whichever fused kernel it takes.
"""

import inspect
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDES = ("queries", "keys", "values", "attention")
# How the modules of transformers call their three projections, and their numbers of heads.
PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
)
HEADS = ("num_attention_heads", "num_heads", "n_heads", "heads")
GROUPS = ("num_key_value_heads",)


def watch(
    module: nn.Module, path: str, side: str, keep: Callable[[Tensor], None], check: bool = False
) -> list:
    """Hooks that hand ``keep`` what is asked for whenever the module runs.

    Args:
        module: ``nn.MultiheadAttention``, or a module with three linear projections under names
            that transformers uses.
        path: Its path, for messages.
        side: One of ``SIDES``.
        keep: Receives the tensor.
        check: Only say whether that is possible.

    Returns:
        The hooks' handles.

    Raises:
        ValueError: For a module that is no attention of these kinds.
    """
    names = next((n for n in PROJECTIONS if all(hasattr(module, p) for p in n)), None)
    if names is None and not isinstance(module, nn.MultiheadAttention):
        raise ValueError(
            f"layer '{path}:{side}': {type(module).__name__} is no attention that can be read: "
            "expected nn.MultiheadAttention, or a module with query, key and value (or q_proj, "
            "k_proj and v_proj) inside."
        )
    if check:
        return []
    if isinstance(module, nn.MultiheadAttention):
        signature = inspect.signature(nn.MultiheadAttention.forward)

        def before(m, args, kwargs):
            given = signature.bind(m, *args, **kwargs)
            given.apply_defaults()
            keep(_of_multihead(m, path, side, given.arguments))

        return [module.register_forward_pre_hook(before, with_kwargs=True)]
    assert names is not None
    seen: dict[str, Tensor] = {}
    hooks = [
        getattr(module, name).register_forward_hook(
            lambda m, args, out, kind=kind: seen.__setitem__(kind, out)
        )
        for kind, name in zip(SIDES, names)
    ]

    def after(m, args, kwargs, out):
        keep(_of_projections(m, path, side, seen, args, kwargs))

    return [*hooks, module.register_forward_hook(after, with_kwargs=True)]


def _of_multihead(m: nn.MultiheadAttention, path: str, side: str, given: dict) -> Tensor:
    if m.bias_k is not None or m.add_zero_attn:
        raise ValueError(
            f"layer '{path}:{side}': add_bias_kv and add_zero_attn add keys that belong to no "
            "token, so maps of two networks could not be compared."
        )
    inputs = [given[k] for k in ("query", "key", "value")]
    if inputs[0].ndim == 2:
        inputs = [t[None] for t in inputs]
    elif not m.batch_first:
        inputs = [t.transpose(0, 1) for t in inputs]
    if m.in_proj_weight is not None:
        weights = m.in_proj_weight.chunk(3)
    else:
        weights = (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)
    biases = (None,) * 3 if m.in_proj_bias is None else m.in_proj_bias.chunk(3)
    wanted = (0, 1) if side == "attention" else (SIDES.index(side),)
    parts = [_heads(F.linear(inputs[i], weights[i], biases[i]), m.num_heads) for i in wanted]
    if side != "attention":
        return parts[0]
    scores = parts[0] @ parts[1].mT / math.sqrt(m.head_dim)
    mask, padding = given["attn_mask"], given["key_padding_mask"]
    if mask is not None:  # (L, S), or (B * heads, L, S)
        extra = _additive(mask, scores)
        scores = scores + (extra.view(scores.shape) if mask.ndim == 3 else extra)
    if padding is not None:
        scores = scores + _additive(padding, scores)[:, None, None]
    return scores.softmax(-1)


def _of_projections(m, path, side, seen: dict[str, Tensor], args, kwargs) -> Tensor:
    heads = _number(m, HEADS)
    if heads is None:
        raise ValueError(
            f"layer '{path}:{side}': {type(m).__name__} does not say its number of heads."
        )
    groups = _number(m, GROUPS) or heads
    parts = {kind: _heads(t, heads if kind == "queries" else groups) for kind, t in seen.items()}
    if side != "attention":
        return parts[side]
    if kwargs.get("position_embeddings") is not None or hasattr(m, "rotary_emb"):
        raise ValueError(
            f"layer '{path}:attention': {type(m).__name__} turns queries and keys by their place "
            "(rotary embeddings) after they are projected, so its maps cannot be computed from "
            "them. Read ':queries', ':keys' or ':values', or ask the model for output_attentions."
        )
    keys = parts["keys"].repeat_interleave(heads // groups, 1)
    scores = parts["queries"] @ keys.mT / math.sqrt(keys.shape[-1])
    mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    if isinstance(mask, Tensor):
        if mask.ndim == 2:
            mask = mask[:, None, None]
        # Here a bool mask says what counts, the other way round than torch's own modules.
        scores = scores + (_additive(~mask, scores) if mask.dtype == torch.bool else mask)
    return scores.softmax(-1)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, L, heads * d) -> (B, heads, L, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _additive(mask: Tensor, scores: Tensor) -> Tensor:
    """A mask as numbers to add: True (leave out) is -inf."""
    if mask.dtype != torch.bool:
        return mask.to(scores.dtype)
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(mask, -math.inf)


def _number(m: nn.Module, names) -> int | None:
    for holder in (m, getattr(m, "config", None)):
        for name in names:
            if isinstance(getattr(holder, name, None), int):
                return getattr(holder, name)
    return None
