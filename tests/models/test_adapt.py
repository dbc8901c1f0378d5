"""A teacher with other eyes: what it sees and answers is what one would compute by hand, and it
works wherever a network does.
"""

import copy
from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
from small import blobs
from torch import nn

from kdtutor import Teacher, fit
from kdtutor.datasets import Batch, Data, Flip, Split
from kdtutor.methods import BSS, CRD, FitNet, GradientAttentionTransfer, Hinton, find
from kdtutor.models import adapt, resnet8
from kdtutor.runs import describe
from kdtutor.taps import Taps, cut, input_gradient, layers
from kdtutor.taps.default_layers import before_relu, embedding, levels

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


class Seen(nn.Module):
    """Answers with what it was shown."""

    def forward(self, x):
        return x


def images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def network(classes=5, channels=3, seed=0):
    torch.manual_seed(seed)
    return resnet8(classes, channels=channels)


# --- what it sees


def test_without_anything_it_is_the_network():
    net, x = network().eval(), images(2, 3, 16, 16)
    assert torch.equal(adapt(net)(x), net(x))


@pytest.mark.parametrize("size, want", [(8, (8, 8)), ((24, 20), (24, 20)), (16, (16, 16))])
def test_sizes(size, want):
    x = images(2, 3, 16, 16)
    seen = adapt(Seen(), size=size)(x)
    shrinks = want[0] < 16
    right = F.interpolate(x, want, mode="bilinear", align_corners=False, antialias=shrinks)
    assert tuple(seen.shape[2:]) == want and torch.equal(seen, right if want != (16, 16) else x)


def test_shrinking_does_not_alias():
    """Stripes one pixel wide are grey from afar."""
    x = (torch.arange(16) % 2).float().expand(1, 1, 16, 16)
    seen = adapt(Seen(), size=4)(x)
    torch.testing.assert_close(seen[..., 1:3], torch.full((1, 1, 4, 2), 0.5), atol=0.05, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_normalisation_is_the_networks_own(dtype):
    pixels = images(2, 3, 8, 8).to(dtype)
    theirs = torch.tensor(MEAN, dtype=dtype).view(3, 1, 1), torch.tensor(STD, dtype=dtype)
    arrives = (pixels - theirs[0]) / theirs[1].view(3, 1, 1)
    own = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    eyes = adapt(Seen(), mean=own[0], std=own[1], data=(MEAN, STD)).to(dtype)
    if dtype == torch.float64:  # of a network in float64 the numbers have all digits
        eyes = adapt(nn.Sequential(Seen(), Bias(dtype)), mean=own[0], std=own[1], data=(MEAN, STD))
    m, s = (torch.tensor(v, dtype=dtype).view(3, 1, 1) for v in own)
    close = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(eyes(arrives), (pixels - m) / s, atol=close, rtol=close)


class Bias(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, dtype=dtype))

    def forward(self, x):
        return x + self.bias


def test_numbers_keep_their_digits_through_half_precision():
    eyes = adapt(nn.Sequential(Seen(), Bias(torch.float32)), mean=0.1, std=0.3, data=((), ()))
    eyes.half().double()
    assert eyes.mean.item() == 0.1 and eyes.std.item() == 0.3


def test_data_say_how_their_batches_were_normalised():
    bytes_ = (255 * images(4, 3, 8, 8)).to(torch.uint8)
    data = Data("mine", 2, Split(bytes_, torch.arange(4) % 2), mean=MEAN, std=STD)
    eyes = adapt(Seen(), mean=0, std=1, data=data)
    torch.testing.assert_close(eyes(data.normalised(bytes_)), bytes_ / 255)
    plain = Data("plain", 2, Split(bytes_, torch.arange(4) % 2))
    eyes = adapt(Seen(), mean=0, std=1, data=plain)
    torch.testing.assert_close(eyes(plain.normalised(bytes_)), bytes_ / 255)
    assert eyes.input_shape == (3, 8, 8)


def test_channels():
    grey, coloured = images(2, 1, 4, 4), images(2, 3, 4, 4)
    assert torch.equal(adapt(Seen(), channels=3)(grey), grey.repeat(1, 3, 1, 1))
    luminance = 0.299 * coloured[:, 0] + 0.587 * coloured[:, 1] + 0.114 * coloured[:, 2]
    torch.testing.assert_close(adapt(Seen(), channels=1)(coloured)[:, 0], luminance)
    assert torch.equal(adapt(Seen(), channels=3)(coloured), coloured)


def test_grey_digits_for_a_network_of_coloured_photographs():
    """All at once, in the right order: the normalisation is undone before the channels change."""
    pixels = images(2, 1, 8, 8)
    eyes = adapt(Seen(), size=16, channels=3, mean=MEAN, std=STD, data=((0.1,), (0.3,)))
    large = F.interpolate(pixels.repeat(1, 3, 1, 1), 16, mode="bilinear", align_corners=False)
    right = (large - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(eyes((pixels - 0.1) / 0.3), right, atol=1e-5, rtol=1e-5)


def test_of_a_mapping_the_images_are_seen_anew():
    class Named(nn.Module):
        def forward(self, pixel_values, mask, ids):
            return pixel_values, mask, ids

    given = {"pixel_values": images(1, 3, 4, 4), "mask": images(1, 1, 4, 4), "ids": torch.ones(1)}
    seen, mask, ids = adapt(Named(), size=8)(**given)
    assert seen.shape[2:] == (8, 8) and mask is given["mask"] and ids is given["ids"]
    other = adapt(Second(), size=8)(**{"ids": torch.ones(1), "x": images(1, 3, 4, 4)})
    assert other.shape[2:] == (8, 8), "whatever the names are"


class Second(nn.Module):
    def forward(self, ids, x):
        return x


# --- what it answers


def test_classes_in_the_students_order():
    net, x = network().eval(), images(2, 3, 16, 16)
    assert torch.equal(adapt(net, classes=[3, 1, 4])(x), net(x)[:, [3, 1, 4]])
    assert adapt(net, classes=torch.tensor([3, 1])).classes == 2 and adapt(net).classes == 5


def test_classes_of_maps_and_tokens():
    maps, tokens = images(2, 5, 4, 4), images(2, 4, 5)
    assert torch.equal(adapt(Seen(), classes=[2, 0])(maps), maps[:, [2, 0]])
    assert torch.equal(adapt(Seen(), classes=[2, 0], axis=2)(tokens), tokens[:, :, [2, 0]])
    with pytest.raises(ValueError, match=r"\(2, 4, 5\).*axis="):
        adapt(Seen(), classes=[2, 0])(tokens)


Pair = namedtuple("Pair", "main aux")


class Answers(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form, self.fc = form, nn.Linear(4, 6)

    def forward(self, x):
        z = self.fc(x.flatten(1)[:, :4])
        return self.form(z, -z)


FORMS = {
    "mapping": (lambda z, other: {"a": z, "aux": other}, "aux", "'a', 'aux'"),
    "position": (lambda z, other: (z, other), 1, "positions 0 to 1"),
    "attribute": (Pair, "aux", "attributes main, aux"),
    "function": (lambda z, other: [z, {"deep": other}], lambda o: o[1]["deep"], None),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_output_that_is_meant(form):
    make, output, there = FORMS[form]
    net, x = Answers(make), images(2, 1, 2, 2)
    right = -net.fc(x.flatten(1))
    assert torch.equal(adapt(net, output=output)(x), right)
    assert torch.equal(adapt(net, output=output, classes=[5, 0])(x), right[:, [5, 0]])
    if there:
        for missing in ("nothing", 7):
            with pytest.raises(ValueError, match=f"output={missing!r} is not in.*Answers.*{there}"):
                adapt(net, output=missing)(x)


def test_a_tensor_is_no_tuple():
    with pytest.raises(ValueError, match="one tensor only"):
        adapt(Seen(), output=0)(images(2, 3))


# --- what cannot be


@pytest.mark.parametrize(
    "given, said",
    [
        ({"size": 0}, "size=0.*at least 1"),
        ({"size": (8, -1)}, "size="),
        ({"size": 8.5}, "size="),
        ({"size": (1, 2, 3)}, "size="),
        ({"mean": MEAN}, "mean= and std= together"),
        ({"mean": MEAN, "std": STD}, "how the batches.*data="),
        ({"mean": MEAN, "std": STD[:2], "data": ((), ())}, "3 means and .* as many"),
        ({"mean": MEAN, "std": (1, 1, 0), "data": ((), ())}, "deviations > 0"),
        ({"mean": MEAN, "std": STD, "data": torch.ones(3)}, "data is a Tensor"),
        ({"mean": MEAN, "std": STD, "data": "cifar10"}, "data is a str"),
        ({"mean": "abc", "std": STD, "data": ((), ())}, "mean='abc'.*numbers"),
        ({"mean": MEAN, "std": STD, "data": ((), ()), "channels": 1}, "3 values .* 1 channels"),
        ({"channels": 2}, "channels=2"),
        ({"classes": []}, "classes="),
        ({"classes": ["cat"]}, "classes=.*positions"),
        ({"classes": [1, 1]}, "names a class twice"),
        ({"classes": [1, 5]}, "holds 5, but the network answers for 5 classes, 0 to 4"),
        ({"classes": [-1]}, "holds -1"),
        ({"output": 1.5}, "output=1.5"),
        ({"axis": 3}, "axis=3"),
    ],
)
def test_what_cannot_be(given, said):
    with pytest.raises(ValueError, match=said):
        adapt(network(), **given)


def test_what_is_no_network():
    with pytest.raises(TypeError, match="net is a str"):
        adapt("resnet50")


@pytest.mark.parametrize(
    "given, x, said",
    [
        ({"classes": [9]}, images(2, 4), "holds 9, but the network answers for 4 classes"),
        ({"size": 8}, images(2, 4), r"\(2, 4\)"),
        ({"size": 8}, torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "floating-point.*uint8"),
        ({"channels": 3}, images(2, 2, 4, 4), "2 channels and the network takes 3"),
        ({"mean": MEAN, "std": STD, "data": ((), ())}, images(1, 1, 4, 4), "mean has 3.*channels="),
        ({"mean": 0, "std": 1, "data": (MEAN, STD)}, images(1, 1, 4, 4), "data=.* has 3 values"),
    ],
)
def test_what_does_not_fit_at_the_call(given, x, said):
    with pytest.raises(ValueError, match=said):
        adapt(Seen(), **given)(x)


# --- where it works


def eyes(**kwargs):
    return adapt(network(), size=16, channels=3, classes=[3, 1, 4], **kwargs)


def data(**kwargs):
    return blobs(side=8, mean=(0.5,), std=(0.25,), **kwargs)


def test_its_layers_keep_their_paths():
    net, x = eyes(mean=MEAN, std=STD, data=((0.5,), (0.25,))), images(2, 1, 8, 8)
    assert layers(net) == layers(net.net) and levels(net) == ["layer1", "layer2", "layer3"]
    for path in ("layer2", "net.layer2"):
        output, features = Taps(net, [path])(x)
        assert torch.equal(features[path], Taps(net.net, ["layer2"])(net._seen(x))[1]["layer2"])
        assert output.shape == (2, 3)
    assert before_relu(net, "layer2", x) == before_relu(net.net, "layer2", net._seen(x))
    assert embedding(adapt(network(), size=16)) == "fc:input"
    with pytest.raises(ValueError, match="unknown layer path.*'layer3'"):
        Taps(net, ["layer9"])


def test_it_can_be_cut():
    net, x = adapt(network(), size=16, channels=3).eval(), images(2, 1, 8, 8)
    lower, upper = cut(net, "layer2", x)
    assert torch.equal(upper(lower(x)), net(x))
    with pytest.raises(ValueError, match="cannot be cut"):
        cut(eyes(), "layer2", x)  # which classes are meant is a step that cannot be followed


def test_pixels_have_gradients_and_these_gradients_too():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 4), nn.Tanh()).double()
    for size in (6, 12):  # shrunk and enlarged
        net[1] = nn.Linear(3 * size**2, 4).double()
        seeing = adapt(net, size=size, channels=3, mean=0.5, std=0.2, data=((0.3,), (0.5,)))
        x = images(1, 1, 8, 8).double().requires_grad_()
        assert torch.autograd.gradcheck(seeing, x) and torch.autograd.gradgradcheck(seeing, x)


@pytest.mark.parametrize("name", ["Hinton", "BSS", "FitNet", "AT", "AT-gradient", "RKD", "CRD"])
def test_it_teaches(name):
    torch.manual_seed(1)
    student = resnet8(3, channels=1)
    student.input_shape = (1, 8, 8)
    seeing = eyes(mean=MEAN, std=STD, data=data())
    teacher, method = Teacher(seeing), find(name)
    history = fit(method(student, teacher), data(), 2, batch_size=60, progress=False)
    assert history.status == "finished"


@pytest.mark.parametrize("method", [BSS, FitNet, CRD, GradientAttentionTransfer, Hinton])
def test_with_nothing_to_adapt_every_loss_is_the_networks_own(method):
    some, found = Batch(images(6, 3, 16, 16), torch.arange(6) % 3, torch.arange(6)), []
    for teacher in (network(3, seed=1), adapt(network(3, seed=1), size=16, channels=3)):
        torch.manual_seed(5)
        distiller = method(network(3, seed=2), teacher)
        distiller.prepare(Split(some.x, some.y))
        found.append({k: v.item() for k, v in distiller.terms(some).items()})
    assert found[0] == found[1]


def test_input_gradients_are_those_of_the_whole():
    net, x = eyes().eval(), images(2, 1, 8, 8)
    gradient, logits, _ = input_gradient(net, x, lambda z, _: z[:, 0])
    leaf = x.clone().requires_grad_()
    assert torch.equal(gradient, torch.autograd.grad(net(leaf)[:, 0].sum(), leaf)[0])
    assert torch.equal(logits, net(x))


def test_its_cached_answers_are_its_own(tmp_path):
    some = data(augment=Flip())
    teacher, plain = (Teacher(eyes(mean=MEAN, std=STD, data=some)) for _ in range(2))
    teacher.cached(some, fill=True)
    shuffle = torch.Generator().manual_seed(0)
    batch = next(iter(some.batches(some.train, 16, augment=True, shuffle=shuffle)))
    torch.testing.assert_close(teacher(batch), plain(batch), atol=1e-5, rtol=1e-5)
    teacher.save_cache(tmp_path / "answers")
    plain.load_cache(tmp_path / "answers")
    for other in ({"size": 12}, {"classes": [1, 3, 4]}, {"mean": 0.1, "std": 1.0}, {"output": len}):
        given = {"size": 16, "channels": 3, "classes": [3, 1, 4], "mean": MEAN, "std": STD}
        stranger = Teacher(adapt(network(), **{**given, **other}, data=some))
        with pytest.raises(ValueError, match="another teacher"):
            stranger.load_cache(tmp_path / "answers")


def test_another_way_of_seeing_is_another_network():
    told = [
        str(describe(net))
        for net in (
            adapt(network(), size=16),
            adapt(network(), size=17),
            adapt(network(), size=16, mean=0, std=1, data=((), ())),
            adapt(network(), size=16, mean=0, std=2, data=((), ())),
            adapt(network(), size=16, output=lambda o: o),
        )
    ]
    assert len(set(told)) == len(told)
    assert str(describe(adapt(network(), size=16))) == told[0]


def test_it_is_saved_and_copied_as_the_network():
    net = eyes(mean=MEAN, std=STD, data=((), ()))
    assert set(net.state_dict()) == {f"net.{k}" for k in net.net.state_dict()}
    twin, x = copy.deepcopy(net).eval(), images(2, 1, 8, 8)
    assert torch.equal(twin(x), net.eval()(x)) and twin.net is not net.net
    other = adapt(network(seed=9), size=16, channels=3, mean=MEAN, std=STD, data=((), ()))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(x)[:, [3, 1, 4]], net(x))
    assert "size=(16, 16)" in repr(net)


def test_it_can_be_a_student_too():
    student, teacher = adapt(network(3, seed=2), size=16, channels=3), network(3, channels=1)
    student.input_shape = (1, 8, 8)
    before = copy.deepcopy(student.state_dict())
    assert fit(Hinton(student, teacher), data(), 1, progress=False).status == "finished"
    assert any(not torch.equal(before[k], v) for k, v in student.state_dict().items())


def test_it_moves_with_its_network():
    net = adapt(network(), mean=MEAN, std=STD, data=((), ()), classes=[1]).to("meta")
    assert {t.device.type for t in (net.mean, net.order, net.net.fc.weight)} == {"meta"}


def test_a_state_shape_is_what_it_can_take():
    assert adapt(network(), size=20, channels=1).input_shape == (1, 20, 20)
    assert adapt(network()).input_shape == (3, 32, 32)
    assert not hasattr(adapt(nn.Linear(2, 2)), "input_shape")


def test_it_is_exported_and_compiled_as_any_network():
    net, x = eyes(mean=MEAN, std=STD, data=((0.5,), (0.25,))).eval(), images(2, 1, 8, 8)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    right, many = net(x), images(5, 1, 8, 8)
    for other in (program, torch.compile(net, backend="eager")):
        torch.testing.assert_close(other(x), right)
        torch.testing.assert_close(other(many), net(many))


@pytest.mark.parametrize(
    "given, said",
    [
        ({"mean": [float("nan")] * 3, "std": STD, "data": ((), ())}, "finite"),
        ({"mean": MEAN, "std": [1.0, float("inf"), 1.0], "data": ((), ())}, "finite"),
        ({"mean": MEAN, "std": STD, "data": ([float("nan")], [1.0])}, "finite"),
        ({"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4], "data": (MEAN, STD)}, "255"),
        ({"mean": [123.7, 116.3, 103.5], "std": [1.0, 1.0, 1.0], "data": ((), ())}, "255"),
        ({"mean": MEAN, "std": STD, "data": ([127.5], [127.5])}, "255"),
        ({"size": True}, "height and width"),
    ],
)
def test_numbers_of_no_such_pixels_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        adapt(Seen(), **given)
