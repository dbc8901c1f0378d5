"""Networks whose answers, inputs or layouts are not those of a plain classifier of images."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from kdtutor import Teacher
from kdtutor.methods import (
    BSS,
    CRD,
    ONE,
    RKD,
    AttentionTransfer,
    FitNet,
    FullActivationTransfer,
    GradientAttentionTransfer,
    Hinton,
    JacobianMatching,
    SimilarityPreserving,
)
from kdtutor.models import build
from kdtutor.taps import logits_of
from kdtutor.taps.default_layers import embedding
from kdtutor.training import NonFiniteError
from tests.field.nets import (
    bert,
    conv,
    first,
    floats,
    googlenet,
    hf_vit,
    images,
    kl,
    loud,
    mobilenet,
    resnet,
    swin,
    timm_swin,
    train,
    vgg,
    vit,
    words,
)

PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def attention(student, teacher) -> float:
    """12.8 / 2 times the paper's distance of attention maps; channels at axis 1."""
    q_s, q_t = (F.normalize(f.double().square().sum(1).flatten(1)) for f in (student, teacher))
    return 6.4 * (q_s - q_t).norm(dim=1).mean().item()


def outputs_of(net, path, x):
    """What a layer gives, read by hand."""
    seen = []
    hook = net.get_submodule(path).register_forward_hook(lambda m, a, out: seen.append(out))
    with torch.no_grad():
        net.eval()(x)
    hook.remove()
    return seen[-1]


# Swin's maps, ViT's tokens, signals and volumes


@pytest.mark.parametrize("make, layer", [(swin, "features.1"), (timm_swin, "layers.0")])
@pytest.mark.parametrize("method", [AttentionTransfer, FitNet, FullActivationTransfer])
def test_06_height_is_not_taken_for_channels(make, layer, method):
    with pytest.raises(ValueError, match=f"as '{layer}:channels_last'"):
        method(make(), make(), layers=layer, example=PIXELS)


@pytest.mark.parametrize("make, layer", [(swin, "features.1"), (timm_swin, "layers.0")])
def test_06_maps_with_their_channels_last_have_their_value(make, layer):
    method = AttentionTransfer(
        make(), make(), layers=f"{layer}:channels_last", example=PIXELS
    ).eval()
    s, t = (
        outputs_of(net, layer, PIXELS).movedim(-1, 1)
        for net in (method.student, method.teacher.net)
    )
    some = first(images(), 2)._replace(x=PIXELS)
    assert method.terms(some)["at"].item() == pytest.approx(attention(s, t), rel=1e-4)


def test_06_a_cnn_teaches_a_swin():
    method = AttentionTransfer(
        swin(), resnet(), layers=[("features.1:channels_last", "layer1")], example=PIXELS
    )
    assert train(method, images()).status == "finished"


def test_22_bare_tokens_have_no_places():
    with pytest.raises(ValueError, match=r"blocks\.0"):
        AttentionTransfer(vit(), vit(), layers="blocks.0", example=PIXELS)


def test_22_tokens_of_a_vit_are_read_as_a_signal():
    method = AttentionTransfer(vit(), vit(), layers="blocks.0:tokens", example=PIXELS).eval()
    s, t = (
        outputs_of(net, "blocks.0", PIXELS).movedim(-1, 1)
        for net in (method.student, method.teacher.net)
    )
    some = first(images(), 2)._replace(x=PIXELS)
    assert s.shape == (2, 24, 5)  # four patches behind a class token
    assert method.terms(some)["at"].item() == pytest.approx(attention(s, t), rel=1e-4)


@pytest.mark.parametrize("dimensions, places", [(1, (16,)), (3, (8, 8, 8))])
def test_20_and_21_signals_and_volumes_have_places_too(dimensions, places):
    x = torch.randn(2, 3, *places)
    nets = [conv(4, dimensions=dimensions, width=w) for w in (8, 6)]
    method = AttentionTransfer(*nets, layers="2", example=x).eval()
    some = first(floats((3, *places)), 2)._replace(x=x)
    s, t = (outputs_of(net, "2", x) for net in nets)
    assert method.terms(some)["at"].item() == pytest.approx(attention(s, t), rel=1e-4)


@pytest.mark.parametrize("dimensions, places", [(1, (16,)), (3, (8, 8, 8))])
@pytest.mark.parametrize("kind", [Hinton, RKD])
def test_20_and_21_signals_and_volumes_go_through_fit(dimensions, places, kind):
    student, teacher = (conv(4, dimensions=dimensions) for _ in range(2))
    assert train(kind(student, teacher), floats((3, *places))).status == "finished"


# Answers


def test_14_googlenet_answers_with_three_heads_in_training():
    method = Hinton(loud(googlenet()), mobilenet()).train()
    some = first(images(size=64))
    terms = method.terms(some)
    z = method.student(some.x).logits
    assert terms["ce"].item() == pytest.approx(0.1 * F.cross_entropy(z, some.y).item(), rel=1e-4)
    teacher = Teacher(loud(googlenet()).train())
    assert torch.equal(teacher(some), teacher.net.eval()(some.x))


def test_15_a_distilled_deit_answers_with_two_heads_in_training():
    net = vit(name="deit_tiny_distilled_patch16_224")
    net.head.weight.data.mul_(100)
    net.head_dist.weight.data.mul_(30)
    net.set_distilled_training(True)
    some = first(images())
    method = Hinton(net, copy.deepcopy(net)).train()
    head, distilled = net.train()(some.x)
    with torch.no_grad():
        theirs = method.teacher.net.eval()(some.x)
    # In evaluation it answers with the mean of both heads.
    assert torch.allclose(theirs, (head + distilled) / 2, atol=1e-6)
    terms = method.terms(some)
    assert terms["ce"].item() == pytest.approx(0.1 * F.cross_entropy(head, some.y).item(), rel=1e-5)
    assert terms["kd"].item() == pytest.approx(0.9 * kl(head, theirs).item(), rel=1e-3)


def test_17_transformers_answer_with_a_model_output():
    method, some = Hinton(loud(hf_vit()), loud(resnet())).eval(), first(images())
    s, t = method.student(some.x).logits, method.teacher.net(some.x)
    assert method.terms(some)["kd"].item() == pytest.approx(0.9 * kl(s, t).item(), rel=1e-3)
    assert train(Hinton(mobilenet(), hf_vit()), images(), validation=0.25).status == "finished"


def test_17_bert_is_called_with_names():
    method, some = Hinton(loud(bert()), loud(bert())).eval(), first(words())
    s, t = (net(**some.x).logits for net in (method.student, method.teacher.net))
    assert method.terms(some)["kd"].item() == pytest.approx(0.9 * kl(s, t).item(), rel=1e-3)
    assert train(method, words(), validation=0.25).status == "finished"


@pytest.mark.parametrize("kind", [RKD, CRD, SimilarityPreserving])
def test_17_relations_between_sentences(kind):
    data, layers = words(), {} if kind in (RKD, CRD) else {"layers": "bert.encoder.layer.1"}
    small = {"negatives": 8} if kind is CRD else {}
    some = first(data, 4)
    method = kind(bert(), bert(), example=some.x, **layers, **small)
    row = train(method, data).rows[0]
    assert all(v == v and abs(v) < 1e4 for v in row.values() if isinstance(v, float))
    if kind is RKD:
        assert method.layers == (("classifier:input", "classifier:input"),)


@pytest.mark.parametrize("kind", [BSS, GradientAttentionTransfer, JacobianMatching])
def test_17_words_have_no_gradient_of_the_input(kind):
    layers = {"layers": "bert.encoder.layer.0:tokens"} if kind is JacobianMatching else {}
    data = words()
    with pytest.raises((ValueError, TypeError), match=r"mapping|dict|integer|int64|floating"):
        train(kind(bert(), bert(), **layers, example=first(data, 2).x), data)


@pytest.mark.parametrize("make, data", [(hf_vit, images), (bert, words)])
def test_17_a_teacher_without_numbers_is_named(make, data):
    teacher = make()
    nn.init.constant_(teacher.classifier.weight, float("nan"))
    with pytest.raises(NonFiniteError, match=r"teacher"):
        train(Hinton(make(), teacher), data())


# Embeddings


@pytest.mark.parametrize(
    "teacher", [lambda: timm.create_model("resnet10t", num_classes=0), lambda: vit(0)]
)
def test_07_a_network_without_its_head_has_no_default_embedding(teacher):
    with pytest.raises(ValueError, match=r"[Pp]ass layers="):
        train(RKD(mobilenet(), teacher(), example=PIXELS), images())


def test_07_a_backbone_of_transformers_says_so_too():
    with pytest.raises(ValueError, match=r"[Pp]ass layers="):
        RKD(mobilenet(), hf_vit(kind=transformers.ViTModel), example=PIXELS)


def test_07_a_backbone_is_read_where_it_is_told_to():
    pairs = [("classifier.1:input", "pooler.dense")]
    method = RKD(mobilenet(), hf_vit(kind=transformers.ViTModel), layers=pairs, example=PIXELS)
    assert train(method, images()).status == "finished"


class HeadFirst(nn.Module):
    """Defines its head before its body."""

    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(16, 10), nn.Linear(3 * 32 * 32, 16)

    def forward(self, x):
        return self.head(self.body(x.flatten(1)).relu())


def test_07_the_head_is_the_layer_that_answers_and_not_the_last_defined():
    assert embedding(HeadFirst(), PIXELS) == "head:input"
    assert embedding(vit(), PIXELS) == "head:input"
    assert embedding(hf_vit(), PIXELS) == "classifier:input"
    assert embedding(mobilenet(), PIXELS) == "classifier.1:input"


# Names, sizes, other eyes


@pytest.mark.parametrize("name", ["resnet50", "resnet152"])
def test_13_names_do_not_lie(name):
    with pytest.raises(ValueError, match=f"torchvision.models.{name}"):
        build(name)


def test_18_a_teacher_with_its_own_size_normalisation_and_classes():
    from kdtutor.models import adapt

    data = images(classes=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    teacher, order = loud(vit(20, size=64)).eval(), [17, 2, 5]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    method = Hinton(
        mobilenet(3), adapt(teacher, size=64, mean=mean, std=std, data=data, classes=order)
    ).eval()
    some = first(data)
    pixels = data.train.x[:8] / 255
    column = lambda values: torch.tensor(values).view(-1, 1, 1)
    large = F.interpolate(pixels, (64, 64), mode="bilinear", antialias=True, align_corners=False)
    with torch.no_grad():
        t = teacher((large - column(mean)) / column(std))[:, order]
    assert torch.allclose(method.teacher(some), t, atol=1e-4)
    s = method.student(some.x)
    assert method.terms(some)["kd"].item() == pytest.approx(0.9 * kl(s, t).item(), rel=1e-3)
    assert train(method, data).status == "finished"


@pytest.mark.parametrize("teacher, size", [(lambda: vit(size=64), 32), (hf_vit, 64)])
def test_18_without_it_the_size_is_one_clear_error(teacher, size):
    with pytest.raises(ValueError, match=r"teacher \(Vi.*cannot run.*adapt"):
        train(Hinton(mobilenet(), teacher()), images(size=size))


def test_19_a_network_runs_at_other_sizes_than_its_stated_one():
    student, teacher = build("resnet8"), build("resnet14")
    assert student.input_shape == (3, 32, 32)
    for method in (
        Hinton(student, teacher),
        AttentionTransfer(student, teacher),
        RKD(student, teacher),
        SimilarityPreserving(student, teacher),
    ):
        assert train(method, images(size=64)).status == "finished"


# ONE


@pytest.mark.parametrize(
    "make, split, channels",
    [
        (mobilenet, "features.16", 40),
        (vgg, "features.5", 32),
        (vit, "blocks.0", 24),
        (hf_vit, "vit.layers.0", 24),
        (swin, "features.1", 12),
        (lambda: mobilenet(bias=False), "features.16", 40),
    ],
)
def test_23_one_parts_any_network(make, split, channels):
    method = ONE(make(), split=split, example=PIXELS).eval()
    logits, gate = method(PIXELS)
    assert logits.shape == (3, 2, 10) and not torch.equal(logits[1], logits[2])
    assert torch.allclose(logits[0], logits_of(method.student(PIXELS)), atol=1e-5)
    # The gate looks at the channels' means, wherever the channels are.
    assert method.gate[0].in_features == channels
    assert torch.allclose(gate.sum(1), torch.ones(2))
    assert train(method, images()).status == "finished"


# Teachers that are not plain modules


@pytest.mark.parametrize("how", ["script", "trace", "export"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_24_a_teacher_that_was_written_down_answers_like_the_network(how):
    net, some = loud(conv()).eval(), first(images())
    written = {
        "script": lambda: torch.jit.script(net),
        "trace": lambda: torch.jit.trace(net, some.x),
        "export": lambda: torch.export.export(
            net, (some.x,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        ).module(),
    }[how]()
    teacher = Teacher(written)
    with torch.no_grad():
        assert torch.allclose(teacher(some), net(some.x), atol=1e-6)
    assert train(Hinton(mobilenet(), teacher), images()).status == "finished"
    with pytest.raises(ValueError, match=r"layer"):
        AttentionTransfer(mobilenet(), teacher, layers=[("features.3", "2")], example=PIXELS)


def test_24_a_teacher_without_parameters_can_be_cached():
    class Means(nn.Module):
        def forward(self, x):
            return x.flatten(2).mean(2)

    data = images(classes=3)
    teacher = Teacher(Means()).cached(data, fill=True)
    some = first(data)
    assert torch.allclose(teacher(some), some.x.flatten(2).mean(2))


def test_25_layers_of_a_compiled_teacher_are_read_whatever_ran_before():
    plain = resnet().eval()
    compiled = torch.compile(plain, backend="eager")
    with torch.no_grad():
        compiled(PIXELS)
    method = AttentionTransfer(resnet(), compiled, example=PIXELS).eval()
    s, t = (
        [outputs_of(net, f"layer{i}", PIXELS) for i in (1, 2, 3, 4)]
        for net in (method.student, plain)
    )
    some = first(images(), 2)._replace(x=PIXELS)
    expected = sum(map(attention, s, t))
    assert method.terms(some)["at"].item() == pytest.approx(expected, rel=1e-4)


def test_25_a_compiled_student_trains():
    student = conv()
    before = copy.deepcopy(student.state_dict())
    method = Hinton(torch.compile(student, backend="eager"), mobilenet())
    assert train(method, images()).status == "finished"
    assert any(not torch.equal(v, before[k]) for k, v in student.state_dict().items())
