"""Queries, keys, values and maps inside attention: what the modules themselves would compute."""

import math

import pytest
import torch
import torchvision
from torch import nn

from kdtutor.taps import Taps

B, L, E, H = 3, 5, 8, 2


def inputs(seed=0, length=L):
    return torch.randn(B, length, E, generator=torch.Generator().manual_seed(seed))


class Wraps(nn.Module):
    """One attention module with whatever it is called with."""

    def __init__(self, attention, **given):
        super().__init__()
        self.attention, self.given = attention, given

    def forward(self, x):
        return self.attention(x, x, x, **self.given)[0]


MASKS = {
    "none": {},
    "causal": {"attn_mask": torch.ones(L, L).triu(1).bool()},
    "added": {"attn_mask": torch.linspace(-1, 1, L * L).view(L, L)},
    "each head": {"attn_mask": torch.arange(B * H * L * L).view(-1, L, L) % 7 < 2},
    "padding": {"key_padding_mask": torch.arange(L) >= torch.tensor([[4], [3], [5]])},
}  # fmt: skip


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", ["plain", "no bias", "sequence first", "own sizes"])
def test_maps_are_those_of_torch(kind, mask, train):
    torch.manual_seed(0)
    make = {"no bias": {"bias": False}, "own sizes": {"kdim": E, "vdim": E}}.get(kind, {})
    module = nn.MultiheadAttention(E, H, dropout=0.3, batch_first=kind != "sequence first", **make)
    if kind == "own sizes":  # the same widths would be packed: pretend they are not
        module._qkv_same_embed_dim = False
        for name, w in zip("qkv", module.in_proj_weight.detach().chunk(3)):
            module.register_parameter(f"{name}_proj_weight", nn.Parameter(w.clone()))
        module.register_parameter("in_proj_weight", None)
    given = dict(MASKS[mask])
    if mask == "each head":
        given["attn_mask"] = given["attn_mask"].clone()
        given["attn_mask"][:, :, 0] = False  # a row without any key has no map
    x = inputs() if kind != "sequence first" else inputs().transpose(0, 1)
    net = Wraps(module, **given).train(train)
    want = module.eval()(x, x, x, average_attn_weights=False, **given)[1]
    net.train(train)
    with torch.no_grad():
        _, found = Taps(net, ["attention:attention", "attention:values"])(x)
    assert torch.allclose(found["attention:attention"], want, atol=1e-6)
    assert found["attention:values"].shape == (B, H, L, E // H)


def test_by_hand_and_the_output_stays_what_it_is():
    torch.manual_seed(0)
    net = Wraps(nn.MultiheadAttention(E, H, batch_first=True)).eval()
    x, sides = inputs(), ["queries", "keys", "values", "attention"]
    output, found = Taps(net, [f"attention:{s}" for s in sides])(x)
    q, k, v, maps = (found[f"attention:{s}"] for s in sides)
    for b in range(B):
        for h in range(H):
            rows = slice(h * E // H, (h + 1) * E // H)
            w = net.attention.in_proj_weight
            assert torch.allclose(q[b, h], x[b] @ w[:E][rows].T, atol=1e-6)
            assert torch.allclose(k[b, h], x[b] @ w[E : 2 * E][rows].T, atol=1e-6)
            scores = q[b, h] @ k[b, h].T / math.sqrt(E // H)
            assert torch.allclose(maps[b, h], scores.softmax(-1), atol=1e-6)
    mixed = (maps @ v).transpose(1, 2).reshape(B, L, E)
    assert torch.allclose(net.attention.out_proj(mixed), output, atol=1e-5)
    assert torch.equal(net(x), output)


def test_the_gradient_reaches_the_weights_and_the_input():
    net = Wraps(nn.MultiheadAttention(E, H, batch_first=True))
    x = inputs().requires_grad_()
    _, found = Taps(net, ["attention:attention"])(x)
    found["attention:attention"][..., 0].sum().backward()
    assert x.grad.abs().sum() > 0
    assert net.attention.in_proj_weight.grad[: 2 * E].abs().sum() > 0
    assert net.attention.in_proj_weight.grad[2 * E :].abs().sum() == 0, "values play no part"


@pytest.mark.parametrize("train", [True, False])
def test_torchs_own_layers_and_vision_transformers_are_read_inside(train):
    torch.manual_seed(0)
    layer = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, H, 16, batch_first=True), 2)
    with torch.no_grad():  # where torch would take its fused path
        _, found = Taps(layer.train(train), ["layers.1.self_attn:attention"])(inputs())
    maps = found["layers.1.self_attn:attention"]
    assert maps.shape == (B, H, L, L) and torch.allclose(maps.sum(-1), torch.ones(B, H, L))
    vit = torchvision.models.VisionTransformer(16, 8, 1, 2, 16, 32, num_classes=3).train(train)
    path = "encoder.layers.encoder_layer_0.self_attention:queries"
    assert Taps(vit, [path])(torch.rand(2, 3, 16, 16))[1][path].shape == (2, 2, 5, 8)


class Like(nn.Module):
    """An attention of the shape that transformers' have; kv heads may be fewer."""

    def __init__(self, heads=H, groups=H, names=("query", "key", "value")):
        super().__init__()
        self.num_attention_heads, self.names, d = heads, names, E // heads
        if groups != heads:
            self.num_key_value_heads = groups
        for name, n in zip(names, (heads, groups, groups)):
            setattr(self, name, nn.Linear(E, n * d))

    def forward(self, hidden_states, attention_mask=None, position_embeddings=None):
        q, k, v = (getattr(self, n)(hidden_states) for n in self.names)
        split = lambda t: t.unflatten(-1, (-1, E // self.num_attention_heads)).transpose(1, 2)
        k, v = (
            split(t).repeat_interleave(split(q).shape[1] // split(t).shape[1], 1) for t in (k, v)
        )
        scores = split(q) @ k.mT / math.sqrt(k.shape[-1])
        if attention_mask is not None:
            scores = scores + attention_mask
        self.maps = scores.softmax(-1)
        return (self.maps @ v).transpose(1, 2).flatten(2), None


class Model(nn.Module):
    def __init__(self, attention, **given):
        super().__init__()
        self.self, self.given = attention, given

    def forward(self, x):
        return self.self(x, **self.given)[0]


@pytest.mark.parametrize(
    "groups, names", [(4, ("query", "key", "value")), (2, ("q_proj", "k_proj", "v_proj"))]
)
def test_modules_of_transformers_are_read_by_their_projections(groups, names):
    torch.manual_seed(0)
    mask = torch.zeros(B, 1, 1, L)
    mask[..., -1] = -torch.inf
    for given in ({}, {"attention_mask": mask}):
        net = Model(Like(4, groups, names), **given)
        _, found = Taps(net, ["self:attention", "self:keys"])(inputs())
        assert torch.allclose(found["self:attention"], net.self.maps, atol=1e-6)
        assert found["self:keys"].shape == (B, groups, L, 2)


def test_what_cannot_be_read_is_refused_with_words():
    with pytest.raises(ValueError, match="'0:attention': Linear is no attention"):
        Taps(nn.Sequential(nn.Linear(4, 4)), ["0:attention"])
    turned = Model(Like(), position_embeddings=torch.ones(1))
    with pytest.raises(ValueError, match="rotary"):
        Taps(turned, ["self:attention"])(inputs())
    assert Taps(turned, ["self:queries"])(inputs())[1]["self:queries"].shape == (B, H, L, E // H)
    extra = Wraps(nn.MultiheadAttention(E, H, add_bias_kv=True, batch_first=True))
    with pytest.raises(ValueError, match="add_bias_kv"):
        Taps(extra, ["attention:keys"])(inputs())
    with pytest.raises(ValueError, match="'input' or 'output', not 'maps'"):
        Taps(extra, ["attention:maps"])
