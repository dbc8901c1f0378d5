"""Maps that hold their channels last, as Swin transformers' do, and tokens, as ViTs' are: seen,
said, and read on request.
"""

import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer, resnet18

from kdtutor.datasets import Batch
from kdtutor.methods import (
    CRD,
    FSP,
    RKD,
    ActivationBoundary,
    AttentionTransfer,
    FitNet,
    FullActivationTransfer,
    JacobianMatching,
    SimilarityPreserving,
)
from kdtutor.models import resnet8
from kdtutor.taps import Taps
from kdtutor.taps.layout import channels_last, check_feature, check_layout
from kdtutor.taps.turns import turned

X = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def swin():
    torch.manual_seed(0)
    return SwinTransformer(
        [4, 4], 8, depths=[1, 1], num_heads=[1, 2], window_size=[4, 4], num_classes=3
    )


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (64, 32)])
def test_a_swin_s_maps_are_seen_and_others_are_not(size):
    x = torch.rand(2, 3, *size)
    maps = ["features.1", "features.2", "features.3", "norm"]
    assert channels_last(swin(), [*maps, "permute"], x) == maps
    net = resnet18(num_classes=3)
    assert channels_last(net, ["layer1", "layer2.0.relu#2", "layer4", "fc"], x) == []
    assert channels_last(swin(), [f"{m}:channels_last" for m in maps], x) == []


class OneSize(nn.Module):
    """Takes images of one size, and has maps of as many rows as channels."""

    def __init__(self, last):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.mix, self.head, self.last = nn.Linear(8, 8), nn.Linear(8 * 64, 3), last

    def forward(self, x):
        if x.shape[2:] != (32, 32):
            raise AssertionError("one size only")
        x = self.conv(x)
        if self.last:
            return self.head(self.mix(self.norm(x.permute(0, 2, 3, 1))).flatten(1))
        return self.head(x.flatten(1))


def test_a_network_of_one_size_says_it_by_the_kind_of_its_layers():
    assert channels_last(OneSize(True), ["conv", "norm", "mix", "head"], X) == ["norm", "mix"]
    assert channels_last(OneSize(False), ["conv", "head"], X) == []
    assert channels_last(resnet8(3), ["layer1"], X) == []
    assert channels_last(nn.Sequential(nn.Linear(5, 8)), ["0"], torch.rand(2, 5)) == []  # rows


PAIRS = [("layer1", "features.1"), ("layer2", "features.3")]
METHODS = {
    "AT": AttentionTransfer,
    "FitNet": lambda s, t, layers, **kw: FitNet(s, t, layers[-1], **kw),
    "F-ActT": FullActivationTransfer,
    "AB": ActivationBoundary,
    "Jacobian": lambda s, t, layers, **kw: JacobianMatching(s, t, layers=layers, **kw),
    "FSP": lambda s, t, layers, **kw: FSP(s, t, layers, **kw),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_height_is_never_taken_for_channels(method):
    with pytest.raises(ValueError, match=r"the teacher's layer 'features.*:channels_last'"):
        METHODS[method](resnet8(3), swin(), PAIRS, example=X)


@pytest.mark.parametrize("method", ["AT", "FitNet", "F-ActT", "AB"])
def test_read_as_they_are_they_teach(method):
    pairs = [(s, f"{t}:channels_last") for s, t in PAIRS]
    teacher, student = swin(), resnet8(3)
    distiller = METHODS[method](student, teacher, pairs, example=X)
    batch = Batch(X, torch.arange(4) % 3)
    stage = distiller.stages()[0]
    terms = stage.players[0].terms(batch)
    sum(terms.values()).backward()
    assert all(torch.isfinite(v) for v in terms.values())
    assert student.conv1.weight.grad.abs().sum() > 0


class Turned(nn.Module):
    """A Swin whose first maps pass a module as (B, C, H, W), too."""

    def __init__(self):
        super().__init__()
        self.net, self.turned = swin(), nn.Identity()
        self.net.features[1].register_forward_hook(
            lambda module, args, out: (self.turned(out.permute(0, 3, 1, 2)), None)[1]
        )

    def forward(self, x):
        return self.net(x)


def test_the_value_is_that_of_the_permuted_maps():
    batch, values = Batch(X, torch.arange(4) % 3), []
    for path in ("net.features.1:channels_last", "turned"):
        student = resnet8(3, channels=3)
        torch.manual_seed(1)
        for p in student.parameters():
            nn.init.normal_(p, std=0.1)
        at = AttentionTransfer(student, Turned().eval(), [("layer1", path)], example=X).eval()
        values.append(at.terms(batch)["at"].item())
    assert values[0] == values[1] > 0


def test_relations_of_rows_do_not_mind():
    pairs = [("layer1", "features.1")]
    for make in (SimilarityPreserving, RKD):
        assert make(resnet8(3), swin(), layers=pairs, example=X).layers
    assert CRD(resnet8(3), swin(), layers=pairs, example=X).layers


def test_only_maps_can_be_channels_last():
    with pytest.raises(ValueError, match=r"'fc:channels_last' gives \(4, 3\): only maps"):
        Taps(resnet8(3), ["fc:channels_last"])(X)
    with pytest.raises(ValueError, match="after the colon comes 'input'.*'channels_last'"):
        Taps(resnet8(3), ["fc:nhwc"])


def vit():
    torch.manual_seed(0)
    return VisionTransformer(32, 8, 2, 2, 8, 16, num_classes=3)


class Encoder(nn.Module):
    """Words to tokens, and what torch's own modules make of them."""

    def __init__(self, batch_first=True):
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.layer1 = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=batch_first)
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.turn, self.conv, self.fc = nn.Identity(), nn.Conv1d(8, 8, 3), nn.Linear(8, 3)

    def forward(self, ids, mask=None):
        x = self.rnn(self.layer1(self.words(ids)))[0]
        return self.fc(self.conv(self.turn(x.mT)).mean(2))


BLOCKS = ["encoder.layers.encoder_layer_0", "encoder.ln"]


def test_a_vit_s_tokens_are_seen_by_the_kind_of_its_layers():
    net = vit()  # takes images of one size
    paths = ["conv_proj", *BLOCKS, "encoder.ln:input", "heads:input"]
    assert channels_last(net, paths, X) == [*BLOCKS, "encoder.ln:input"]
    assert channels_last(net, [f"{p}:tokens" for p in BLOCKS], X) == []
    assert channels_last(net, [f"{p}:channels_first" for p in BLOCKS], X) == []


@pytest.mark.parametrize("mapping", [False, True])
def test_words_signals_and_sequences(mapping):
    ids = torch.arange(10).reshape(2, 5)
    x = {"ids": ids, "mask": ids} if mapping else ids
    seen = channels_last(Encoder(), ["words", "layer1", "rnn", "turn", "conv", "fc"], x)
    assert seen == ["words", "layer1", "rnn"]


class Signals(nn.Module):
    """Signals (B, C, L) through modules that do not say what they are."""

    def __init__(self):
        super().__init__()
        self.same, self.turned, self.conv = nn.Identity(), nn.Identity(), nn.Conv1d(3, 4, 3)

    def forward(self, x):
        return self.conv(self.turned(self.same(x).mT).mT).mean(2)


def test_the_axis_that_grows_with_a_signal_is_one_of_places():
    assert channels_last(Signals(), ["same", "turned", "conv"], torch.rand(2, 3, 9)) == ["turned"]
    over_time = nn.Sequential(nn.Linear(9, 5))  # a linear layer over the length of a signal
    assert channels_last(over_time, ["0"], torch.rand(2, 3, 9)) == ["0"]
    assert channels_last(over_time, ["0:channels_first"], torch.rand(2, 3, 9)) == []


class Mixed(nn.Module):
    """A block of layers of both kinds; which runs last is what counts."""

    def __init__(self, last):
        super().__init__()
        self.linear, self.conv, self.last = nn.Linear(8, 8), nn.Conv1d(8, 8, 1), last

    def forward(self, x):
        return self.linear(self.conv(x.mT).mT) if self.last else self.conv(self.linear(x).mT)


@pytest.mark.parametrize("tokens", [8, 5])  # as many as channels: the shape cannot tell
def test_the_module_that_gives_the_feature_says_what_it_is(tokens):
    ids = torch.arange(2 * tokens).reshape(2, tokens) % 11
    for last in (True, False):
        net = nn.Sequential(nn.Embedding(11, 8), Mixed(last), nn.Flatten())
        assert channels_last(net, ["1"], ids) == (["1"] if last else [])


class Turning(nn.Module):
    """Its linear layer gives another shape than it does itself."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return self.linear(x).mT


def test_what_no_layer_says_is_asked_for():
    net, ids = nn.Sequential(nn.Embedding(11, 8), Turning()), torch.arange(10).reshape(2, 5)
    assert channels_last(net, ["1"], ids) == []
    words = (
        r"student's layer '1' gives \(2, 8, 5\), and AT cannot tell.*'1:tokens'.*'1:channels_first'"
    )
    with pytest.raises(ValueError, match=words):
        check_layout("student", net, ["1"], ids, "AT")
    for said in ("1:tokens", "1:channels_first"):
        check_layout("student", net, [said], ids, "AT")


@pytest.mark.parametrize("square", [False, True])
def test_a_layer_before_it_says_it_where_the_shape_can_tell(square):
    net = nn.Sequential(nn.Embedding(11, 8), nn.Identity(), nn.ReLU())
    ids = torch.arange(16 if square else 10).reshape(2, -1) % 11
    if square:  # eight tokens of eight channels: an Identity could have turned them
        with pytest.raises(ValueError, match="cannot tell"):
            check_layout("student", net, ["1", "2"], ids, "AT")
    else:
        assert channels_last(net, ["1", "2", "2:input"], ids) == ["1", "2", "2:input"]


def test_a_head_of_one_size_does_not_hide_what_grows_below_it():
    signals = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(28, 3))
    check_layout("student", signals, ["0", "1", "1:input"], torch.rand(2, 3, 9), "AT")


def test_tokens_are_turned_as_the_path_says():
    x = torch.arange(2 * 7 * 3.0).reshape(2, 7, 3)
    assert torch.equal(turned("a:tokens", x), x.permute(0, 2, 1))
    grid = turned("a:patches=2x3+1", x)
    assert grid.shape == (2, 3, 2, 3)
    for b, c, i, j in ((0, 0, 0, 0), (1, 2, 1, 0), (0, 1, 0, 2)):
        assert grid[b, c, i, j] == x[b, 1 + 3 * i + j, c]
    assert torch.equal(turned("a:channels_first", x), x) and turned("a:input", x) is x
    volume = torch.rand(1, 2, 3, 4, 5)
    assert torch.equal(turned("a:channels_last", volume), volume.permute(0, 4, 1, 2, 3))
    for path, words in (
        ("a:patches=2x3", r"7 tokens, but 2 x 3 patches behind 0 other tokens are 6.*14x14\+1"),
        ("a:patches=2x2+1", "7 tokens, but 2 x 2 patches behind 1 other tokens are 5"),
        ("a:channels_last", "Tokens .* are read as ':tokens'"),
    ):
        with pytest.raises(ValueError, match=words):
            turned(path, x)
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4, 5\), and tokens are"):
        turned("a:tokens", volume)


def test_paths_with_words_about_axes():
    features = Taps(vit(), ["encoder.ln:tokens", "encoder.ln:input:patches=4x4+1"])(X)[1]
    assert features["encoder.ln:tokens"].shape == (4, 8, 17)
    assert features["encoder.ln:input:patches=4x4+1"].shape == (4, 8, 4, 4)
    for wrong in ("encoder.ln:patches", "encoder.ln:patches=4", "encoder.ln:tokens:input"):
        with pytest.raises(ValueError, match="after the colon comes.*'tokens' or 'patches=14x14"):
            Taps(vit(), [wrong])


@pytest.mark.parametrize("method", METHODS)
def test_tokens_are_never_taken_for_channels(method):
    pairs = [("layer1", BLOCKS[0]), ("layer2", BLOCKS[1])]
    with pytest.raises(ValueError, match=r"teacher's layer '.*gives tokens.*'encoder.*:tokens'"):
        METHODS[method](resnet8(3), vit(), pairs, example=X)


@pytest.mark.parametrize("method", ["AT", "FitNet", "F-ActT", "AB", "Jacobian"])
def test_the_patches_of_a_vit_teach_a_convolutional_network(method):
    pairs = [("layer2", f"{BLOCKS[0]}:patches=4x4+1")]
    student = resnet8(3)
    distiller = METHODS[method](student, vit(), pairs, example=X)
    terms = distiller.stages()[0].players[0].terms(Batch(X, torch.arange(4) % 3))
    sum(terms.values()).backward()
    assert student.conv1.weight.grad.abs().sum() > 0
    words = r"a map.*a signal.*one layout|layout.*signals.*maps"
    with pytest.raises(ValueError, match=f"(?s){words}"):
        METHODS[method](resnet8(3), vit(), [("layer2", f"{BLOCKS[0]}:tokens")], example=X)


def test_features_are_numbers_of_the_batch_s_examples():
    check_feature("student", "a", torch.zeros(4, 1), 4)
    for feature, words in (
        (torch.zeros(4, 2, dtype=torch.int64), "student's layer 'a' gives torch.int64"),
        (torch.zeros(4, 2, dtype=torch.complex64), "complex64; expected floating-point"),
        (torch.zeros(4), r"\(4,\); expected \(batch, channels"),
        (torch.zeros(4, 3, 0), r"\(4, 3, 0\).*larger inputs"),
        (torch.zeros(5, 4, 2), r"\(5, 4, 2\) for a batch of 4.*batch_first"),
    ):
        with pytest.raises(ValueError, match=words):
            check_feature("student", "a", feature, 4)


@pytest.mark.parametrize("make", [SimilarityPreserving, RKD, CRD])
def test_a_sequence_that_comes_first_is_no_batch(make):
    first = Encoder(batch_first=False)
    first.forward = lambda ids: first.fc(first.layer1(first.words(ids).transpose(0, 1)).mean(0))
    with pytest.raises(ValueError, match=r"'layer1' gives \(5, 2, 8\) for a batch of 2"):
        make(first, Encoder(), layers="layer1", example=torch.arange(10).reshape(2, 5))


@pytest.mark.parametrize("make", [SimilarityPreserving, RKD])
@pytest.mark.parametrize(
    "teacher, path, word",
    [(swin, "features.1", "channels_last"), (vit, BLOCKS[0], "tokens"), (vit, BLOCKS[0], "output")],
)
def test_relations_are_the_same_in_every_layout(make, teacher, path, word):
    values = []
    for layer in (path, f"{path}:{word}"):
        distiller = make(resnet8(3), teacher(), layers=[("layer1", layer)], example=X).eval()
        torch.manual_seed(1)
        for p in distiller.student.parameters():
            nn.init.normal_(p, std=0.1)
        terms = distiller.terms(Batch(X, torch.arange(4) % 3))
        values.append(torch.stack([v for k, v in terms.items() if k != "ce"]))
    assert torch.allclose(*values, rtol=1e-4) and (values[0] > 0).all()
