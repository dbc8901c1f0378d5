"""Queries, keys, values and maps inside attention: torch's modules and those built like
transformers'.
"""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from kdtutor.taps import Taps, shapes

B, L, S, E, H = 3, 5, 4, 8, 2


class Attends(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        torch.manual_seed(0)
        self.attn = nn.MultiheadAttention(E, H, **settings)
        for p in self.attn.parameters():
            nn.init.normal_(p)

    def forward(self, query, key=None, value=None, **more):
        key = query if key is None else key
        return self.attn(query, key, key if value is None else value, need_weights=False, **more)[0]


def slow(attn, q, k, v, hidden):
    """Head by head, place by place; hidden(b, h, i, j) is what is added to a score."""
    wq, wk, wv = (
        attn.in_proj_weight.chunk(3)
        if attn.in_proj_weight is not None
        else (attn.q_proj_weight, attn.k_proj_weight, attn.v_proj_weight)
    )
    bq, bk, bv = attn.in_proj_bias.chunk(3) if attn.in_proj_bias is not None else (0, 0, 0)
    q, k, v = q @ wq.T + bq, k @ wk.T + bk, v @ wv.T + bv
    d = E // H
    maps = torch.zeros(len(q), H, q.shape[1], k.shape[1])
    for b in range(len(q)):
        for h in range(H):
            part = slice(h * d, (h + 1) * d)
            for i in range(q.shape[1]):
                scores = [
                    (q[b, i, part] @ k[b, j, part]).item() / math.sqrt(d) + hidden(b, h, i, j)
                    for j in range(k.shape[1])
                ]
                maps[b, h, i] = torch.tensor(scores).softmax(0)
    heads = lambda x: torch.stack([x[..., h * d : (h + 1) * d] for h in range(H)], 1)
    return heads(q), heads(k), heads(v), maps


PATHS = ["attn:queries", "attn:keys", "attn:values", "attn:attention"]
CAUSAL = torch.ones(L, L, dtype=torch.bool).triu(1)
PADDING = torch.tensor([[0, 0, 0, 0, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=torch.bool)
torch.manual_seed(3)
ADDED, PER_HEAD = torch.randn(L, L), torch.randn(B * H, L, L)
MASKS = {
    "none": ({}, lambda b, h, i, j: 0),
    "causal": (
        dict(attn_mask=CAUSAL, is_causal=True),
        lambda b, h, i, j: -math.inf if j > i else 0,
    ),
    "added": (dict(attn_mask=ADDED), lambda b, h, i, j: ADDED[i, j].item()),
    "per head": (dict(attn_mask=PER_HEAD), lambda b, h, i, j: PER_HEAD[b * H + h, i, j].item()),
    "padding": (
        dict(key_padding_mask=PADDING),
        lambda b, h, i, j: -math.inf if PADDING[b, j] else 0,
    ),
    "both": (
        dict(attn_mask=CAUSAL, key_padding_mask=PADDING),
        lambda b, h, i, j: -math.inf if PADDING[b, j] or j > i else 0,
    ),
}


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad])
def test_they_equal_the_slow_reference_and_torchs_own_maps(mode, first, mask, context):
    net = Attends(batch_first=first, dropout=0.0).train(mode)
    x = torch.randn(B, L, E)
    masks, hidden = MASKS[mask]
    given = x if first else x.transpose(0, 1)
    with context():
        output, features = Taps(net, PATHS)({"query": given, **masks})
        assert torch.equal(output, net(given, **masks))
        _, own = net.attn(given, given, given, average_attn_weights=False, **masks)
    for path, want in zip(PATHS, slow(net.attn, x, x, x, hidden)):
        torch.testing.assert_close(features[path], want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features["attn:attention"], own, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, dict(kdim=6, vdim=7), dict(bias=False)])
def test_other_keys_values_and_projections(settings):
    net = Attends(batch_first=True, **settings)
    q, k, v = (
        torch.randn(B, n, net.attn.__dict__[w])
        for n, w in ((L, "embed_dim"), (S, "kdim"), (S, "vdim"))
    )
    output, features = Taps(net, PATHS)({"query": q, "key": k, "value": v})
    _, own = net.attn(q, k, v, average_attn_weights=False)
    torch.testing.assert_close(features["attn:attention"], own)
    for path, want in zip(PATHS, slow(net.attn, q, k, v, lambda *_: 0)):
        torch.testing.assert_close(features[path], want, atol=1e-5, rtol=1e-5)
    assert features["attn:attention"].shape == (B, H, L, S)


def test_maps_are_before_dropout_and_one_example_may_lack_a_batch():
    net, x = Attends(batch_first=True, dropout=0.9), torch.randn(B, L, E)
    maps = Taps(net.train(), PATHS)(x)[1]["attn:attention"]
    torch.testing.assert_close(maps.sum(-1), torch.ones(B, H, L))
    one = Taps(net, PATHS)(x[0])[1]["attn:attention"]
    torch.testing.assert_close(one, maps[:1])


def test_the_students_gradient_is_that_of_torchs_own_map():
    net, x = Attends(batch_first=True), torch.randn(B, L, E)
    target = torch.rand(B, H, L, L)
    (Taps(net, PATHS[3:], stop=True)(x)[1]["attn:attention"] * target).sum().backward()
    got = net.attn.in_proj_weight.grad.clone()
    net.zero_grad()
    (net.attn(x, x, x, average_attn_weights=False)[1] * target).sum().backward()
    assert got.abs().sum() > 0
    torch.testing.assert_close(got, net.attn.in_proj_weight.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("mode", [True, False])
def test_inside_torchs_encoder_with_padding_where_its_fast_path_would_hide_them(mode):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(E, H, 16, dropout=0.0, batch_first=True)
    net, x = nn.TransformerEncoder(layer, 2).train(mode), torch.randn(B, L, E)
    before = torch.backends.mha.get_fastpath_enabled()
    paths = [f"layers.{i}.self_attn:attention" for i in (0, 1)]
    with torch.no_grad():
        output, features = Taps(net, paths)({"src": x, "src_key_padding_mask": PADDING})
        want = net(x, src_key_padding_mask=PADDING)
    real = ~PADDING[:, : want.shape[1]]
    torch.testing.assert_close(output[:, : want.shape[1]][real], want[real], atol=1e-5, rtol=1e-4)
    own = net.layers[0].self_attn(x, x, x, PADDING, average_attn_weights=False)[1]
    torch.testing.assert_close(features[paths[0]], own)
    assert torch.backends.mha.get_fastpath_enabled() == before is True


def test_inside_torchvisions_vit():
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3).eval()
    base = "encoder.layers.encoder_layer_1.self_attention"
    paths = [f"{base}:{side}" for side in ("queries", "keys", "values", "attention")]
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        output, features = Taps(net, [*paths, f"{base}:input"])(x)
        assert torch.equal(output, net(x))
        entered = features[f"{base}:input"]
        attn = net.get_submodule(base)
        own = attn(entered, entered, entered, average_attn_weights=False)[1]
    torch.testing.assert_close(features[paths[3]], own)
    assert shapes(net, paths, x) == dict(zip(paths, [(2, 17, 8)] * 3 + [(2, 17, 17)]))


class Like(nn.Module):
    """A self-attention as transformers builds it: BERT's names, or Llama's with grouped keys."""

    def __init__(self, names=("query", "key", "value"), groups=1, **more):
        super().__init__()
        torch.manual_seed(0)
        self.names, self.groups = names, groups
        for name, width in zip(names, (E, E // groups, E // groups)):
            setattr(self, name, nn.Linear(E, width))
        for name, value in more.items():
            setattr(self, name, value)

    def forward(self, hidden_states, attention_mask=None, causal_attention_mask=None, **kwargs):
        q, k, v = (getattr(self, name)(hidden_states) for name in self.names)
        cut = lambda x: x.view(*x.shape[:2], -1, E // H).transpose(1, 2)
        q, k, v = cut(q), cut(k).repeat_interleave(self.groups, 1), cut(v)
        scores = q @ k.mT * getattr(self, "scaling", (E // H) ** -0.5)
        for mask in (attention_mask, causal_attention_mask):
            if mask is not None and mask.dtype == torch.bool:
                mask = torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
            scores = scores if mask is None else scores + mask
        if attention_mask is None and getattr(self, "is_causal", False):
            scores = scores + torch.full(scores.shape[-2:], -math.inf).triu(1)
        maps = scores.softmax(-1)
        v = v.repeat_interleave(self.groups, 1)
        return (F.dropout(maps, 0.1, self.training) @ v).transpose(1, 2).flatten(2), (q, k, v, maps)


class Around(nn.Module):
    def __init__(self, attn):
        super().__init__()
        self.attn = attn

    def forward(self, x, **more):
        _, self.own = self.attn(x, **more)
        return x


KINDS = {
    "bert": lambda **kw: Like(num_attention_heads=H, **kw),
    "clip": lambda **kw: Like(("q_proj", "k_proj", "v_proj"), num_heads=H, **kw),
    "llama": lambda **kw: Like(
        ("q_proj", "k_proj", "v_proj"), 2, config=SimpleNamespace(num_attention_heads=H), **kw
    ),
}
FOUR = {
    "none": {},
    "added": dict(attention_mask=torch.randn(B, 1, 1, L)),
    "bools": dict(attention_mask=~CAUSAL.expand(B, 1, L, L)),
    "both": dict(
        attention_mask=torch.randn(B, 1, 1, L), causal_attention_mask=torch.randn(1, 1, L, L)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask", FOUR)
@pytest.mark.parametrize("more", [{}, dict(is_causal=True), dict(scaling=0.3)])
@pytest.mark.parametrize("mode", [True, False])
def test_modules_like_transformers(kind, mask, more, mode):
    net = Around(KINDS[kind](**more)).train(mode)
    _, features = Taps(net, PATHS)({"x": torch.randn(B, L, E), **FOUR[mask]})
    for path, want in zip(PATHS, net.own):
        torch.testing.assert_close(features[path], want)
    features["attn:attention"].square().sum().backward()
    assert getattr(net.attn, net.attn.names[0]).weight.grad.abs().sum() > 0
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize(
    "more, given",
    [
        ({}, dict(position_embeddings=(torch.ones(1), torch.ones(1)))),
        ({}, dict(past_key_values=object())),
        (dict(q_norm=nn.LayerNorm(4)), {}),
    ],
)
def test_maps_that_need_more_are_refused_and_projections_are_not(more, given):
    net, x = Around(KINDS["llama"](**more)), torch.randn(B, L, E)
    with pytest.raises(ValueError, match=f"'attn:attention'.*{[*more, *given][0]}.*':queries'"):
        Taps(net, PATHS)({"x": x, **given})
    features = Taps(net, PATHS[:3])({"x": x, **given})[1]
    torch.testing.assert_close(features["attn:keys"], net.own[1])


def test_wrong_places_are_named():
    net, x = Around(Like()), torch.randn(B, L, E)
    with pytest.raises(ValueError, match="'attn:queries'.*number of heads"):
        Taps(net, PATHS)(x)
    with pytest.raises(ValueError, match="'attn.query:keys' is a Linear.*MultiheadAttention"):
        Taps(net, ["attn.query:keys"])
    with pytest.raises(ValueError, match="bias_k"):
        Taps(Attends(add_bias_kv=True), PATHS)
    with pytest.raises(ValueError, match="bias_k or add_zero_attn"):
        Taps(Attends(add_zero_attn=True), PATHS)
    with pytest.raises(ValueError, match="queries.*not 'maps'"):
        Taps(net, ["attn:maps"])
    net = Around(KINDS["bert"]())
    with pytest.raises(ValueError, match=r"attention_mask has shape \(5, 5\)"):
        Taps(net, PATHS)({"x": torch.randn(L, L, E), "attention_mask": torch.ones(L, L)})


def test_a_module_that_runs_twice_has_two_maps():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = KINDS["bert"]()

        def forward(self, x):
            return self.attn(self.attn(x)[0])[0]

    net, x = Twice().eval(), torch.randn(B, L, E)
    with pytest.raises(ValueError, match="twice"):
        Taps(net, PATHS)(x)
    features = Taps(net, ["attn#1:attention", "attn#2:attention"])(x)[1]
    first, own = net.attn(x)
    torch.testing.assert_close(features["attn#1:attention"], own[3])
    torch.testing.assert_close(features["attn#2:attention"], net.attn(first)[1][3])
