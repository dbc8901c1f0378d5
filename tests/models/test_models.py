"""The networks: sizes against published figures, structure against the papers, taps, seeds,
constraints, errors.
"""

import ast
import copy
import math
import pickle
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdtutor import models
from kdtutor.models import alexnet, build, cifar_resnet, constrain_, densenet, mlp, vgg, wrn


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small gain nothing from a second thread and wait for it when the machine is
    busy.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def on_meta(make, *args, **kwargs):
    """Built without memory or arithmetic: sizes of the 50M-parameter networks in milliseconds."""
    with torch.device("meta"):
        return make(*args, **kwargs)


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def macs(net):
    """Multiply-adds of convolutions and linear layers for one image (torch counts two operations
    each).
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.empty(1, *net.input_shape, device="meta"))
    return counter.get_total_flops() / 2


SMALL = {  # one of each family, small enough for real arithmetic
    "mlp": lambda: mlp((12, 7), inputs=(3, 8, 8), dropout=0.5, input_dropout=0.2, max_norm=1.0),
    "resnet": lambda: models.resnet14(width=1),
    "wrn": lambda: wrn(10, 1, dropout=0.3),
    "densenet": lambda: densenet(16, 4, dropout=0.2, compress_last=True),
    "alexnet": lambda: alexnet(image_size=8, width=4, hidden=9, dropout=0.2),
    "vgg": lambda: vgg((1, 2, 1), image_size=10, width=3, hidden=7, dropout=0.2),
}
small = pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
CONVS = {
    "resnet14": lambda **k: models.resnet14(**k),
    "wrn16_1": lambda **k: wrn(16, 1, **k),
    "densenet22_4": lambda **k: densenet(22, 4, **k),
}
convs = pytest.mark.parametrize("make", CONVS.values(), ids=CONVS)


# ---- sizes


@pytest.mark.parametrize(
    "name, classes, exact",
    [
        # the table of trained CIFAR networks in osmr/imgclsmob
        ("resnet20", 100, 278_324),
        ("resnet56", 100, 861_620),
        ("resnet110", 100, 1_736_564),
        ("wrn16_10", 10, 17_116_634),
        ("wrn28_10", 10, 36_479_194),
        ("wrn40_8", 10, 35_748_314),
        ("densenet40_12", 10, 176_122),
        ("densenet100_12", 10, 769_162),
        ("densenet250_24", 10, 15_324_406),
        ("densenet190_40", 10, 25_624_430),
        # the project's reference (272,474) and a public table of WRN counts (2,243,546)
        ("resnet20", 10, 272_474),
        ("wrn40_2", 10, 2_243_546),
        # by hand: weights and biases of 784-800-800-10 and 784-1200-1200-10
        ("mlp800x800", 10, 785 * 800 + 801 * 800 + 801 * 10),
        ("mlp1200x1200", 10, 785 * 1200 + 1201 * 1200 + 1201 * 10),
    ],
)
def test_parameters_exactly(name, classes, exact):
    image = {"channels": 1, "image_size": 28} if name.startswith("mlp") else {}
    assert parameters(on_meta(build, name, classes, **image)) == exact


def linears(inputs, hidden, classes):
    return (inputs + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * classes


@pytest.mark.parametrize(
    "make, exact",
    [
        # weights and biases of each convolution, then of fc1 to fc3, by hand; 32 pixels become 4
        # after three poolings, 20 become 2
        (
            lambda: alexnet(),
            24 * 76 + 48 * 601 + 72 * 433 + 48 * 649 + 48 * 433 + linears(48 * 16, 256, 10),
        ),
        (
            lambda: alexnet(7, 1, 20, width=8, hidden=30),
            8 * 26 + 16 * 201 + 24 * 145 + 16 * 217 + 16 * 145 + linears(16 * 4, 30, 7),
        ),
        (lambda: vgg(), 24 * 28 + 48 * 217 + 96 * 433 + 96 * 865 + linears(96 * 16, 256, 10)),
        (
            lambda: alexnet(4, 2, (16, 31), width=2, hidden=5),
            2 * 51 + 4 * 51 + 6 * 37 + 4 * 55 + 4 * 37 + linears(4 * 2 * 3, 5, 4),
        ),
        (
            lambda: vgg((2, 1, 3), 5, 1, 8, 4, 6),
            4 * 10 + 4 * 37 + 8 * 37 + 16 * 73 + 2 * 16 * 145 + linears(16, 6, 5),
        ),
    ],
)
def test_parameters_of_the_plain_networks_by_hand(make, exact):
    assert parameters(on_meta(make)) == exact


@pytest.mark.parametrize(
    "name, millions",
    [
        ("resnet20", 0.27),
        ("resnet32", 0.46),
        ("resnet44", 0.66),
        ("resnet56", 0.85),
        ("resnet110", 1.7),  # He 2016, Table 6
        ("wrn40_1", 0.6),
        ("wrn16_2", 0.7),
        ("wrn40_2", 2.2),
        ("wrn28_10", 36.5),
        ("wrn22_8", 17.2),  # Zagoruyko 2016, Tables 4, 5
        ("densenet100_12", 0.8),
        ("densenet250_24", 15.3),
        ("densenet190_40", 25.6),  # Huang 2017, Table 2
    ],
)
def test_parameters_as_the_papers_print_them(name, millions):
    """To one unit of the last printed digit: He's shortcuts have no parameters, ours have 1x1
    convolutions.
    """
    decimals = len(str(millions).partition(".")[2])
    assert parameters(on_meta(build, name)) / 1e6 == pytest.approx(millions, abs=10**-decimals)


@pytest.mark.parametrize(
    "name, kwargs, millions",
    [
        ("resnet20", {}, 40.81),
        ("resnet56", {}, 125.75),  # chenyaofo/pytorch-cifar-models' table
        ("resnet8", {}, 12.5),
        ("resnet110", {}, 253),
        ("wrn16_2", {}, 101),
        ("wrn40_2", {}, 328),  # the project's reference
        ("wrn28_10", {}, 5246.98),
        ("wrn16_10", {}, 2414.04),  # osmr/imgclsmob's table (with normalisations, .1 % more)
        # by hand, RepDistiller's channels 32, 64, 128, 256: the stem, then in each stage two 3x3s
        # and the 1x1 of the shortcut
        (
            "resnet8x4",
            {},
            (27 * 32 * 1024 + 3 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64) * 1024 + 2560) / 1e6,
        ),
        ("resnet8x4", {"stem": 16}, 166),
        ("resnet32x4", {"stem": 16}, 1072),  # the project's reference, with stem 16
    ],
)
def test_multiply_adds(name, kwargs, millions):
    assert macs(on_meta(build, name, **kwargs)) / 1e6 == pytest.approx(millions, rel=0.01)


def test_densenet_multiply_adds_and_parameters_from_the_definition():
    growth, n, channels, side, weights, products = 5, 3, 10, 32, 27 * 10, 27 * 10 * 32**2
    for block in range(3):
        for _ in range(n):
            convolutions = channels * 4 * growth + 9 * 4 * growth * growth
            weights, products = (
                weights + convolutions + 2 * channels + 8 * growth,
                products + convolutions * side**2,
            )
            channels += growth
        if block < 2:
            convolution, normalisation = channels * (channels // 2), 2 * channels
            weights, products = (
                weights + convolution + normalisation,
                products + convolution * side**2,
            )
            channels, side = channels // 2, side // 2
    net = on_meta(densenet, 22, growth, classes=7)
    assert parameters(net) == weights + 2 * channels + 7 * channels + 7
    assert macs(net) == products + 7 * channels


@pytest.mark.parametrize(
    "depth, growth, plain, printed",
    [(90, 60, 15.05, 16.1), (80, 80, 20.95, 22.4), (80, 120, 47.05, 50.4)],
)
def test_born_again_densenets_need_a_third_compression_to_have_the_printed_parameters(
    depth, growth, plain, printed
):
    assert parameters(on_meta(densenet, depth, growth)) / 1e6 == pytest.approx(plain, abs=0.005)
    assert parameters(on_meta(densenet, depth, growth, compress_last=True)) / 1e6 == pytest.approx(
        printed, rel=0.005
    )


def test_densenet_depth_is_rounded_down():
    assert [len(on_meta(densenet, d, 4).layer2) for d in (80, 90, 112)] == [12, 14, 18]


# ---- structure


def test_the_third_compression_leaves_the_resolution_alone():
    net, seen = on_meta(densenet, 22, 5, compress_last=True), []
    net.relu.register_forward_hook(lambda m, args, out: seen.append(tuple(out.shape[1:])))
    net(torch.empty(2, 3, 32, 32, device="meta"))
    assert seen == [((((10 + 15) // 2 + 15) // 2 + 15) // 2, 8, 8)]


@convs
@pytest.mark.parametrize(
    "channels, size", [(3, (32, 32)), (1, (28, 28)), (1, (8, 8)), (2, (20, 12))]
)
def test_stages_halve_the_resolution_at_any_size(make, channels, size):
    net = make(channels=channels, classes=4).eval()
    sizes = {}
    for name in ("conv1", "layer1", "layer2", "layer3"):
        getattr(net, name).register_forward_hook(
            lambda m, a, out, n=name: sizes.update({n: tuple(out.shape[2:])})
        )
    with torch.no_grad():
        assert net(torch.randn(2, channels, *size)).shape == (2, 4)
    h, w = size
    assert sizes == {
        "conv1": (h, w),
        "layer1": (h, w),
        "layer2": (h // 2, w // 2),
        "layer3": (h // 4, w // 4),
    }


def names(module):
    return [name for name, _ in module.named_children()]


def test_layers_have_the_names_that_lessons_tap():
    resnet, wide, dense = (on_meta(make) for make in CONVS.values())
    assert names(resnet) == ["conv1", "bn1", "relu", "layer1", "layer2", "layer3", "pool", "fc"]
    assert names(resnet.layer2[1]) == ["conv1", "bn1", "relu1", "conv2", "bn2", "shortcut", "relu2"]
    assert names(wide) == ["conv1", "layer1", "layer2", "layer3", "bn", "relu", "pool", "fc"]
    assert {"relu1", "conv1", "relu2", "conv2", "shortcut"} <= set(names(wide.layer1[0]))
    assert {"layer1", "layer2", "layer3", "pool", "fc"} <= set(names(dense))
    assert names(on_meta(mlp)) == [
        "input_dropout",
        "fc1",
        "relu1",
        "dropout1",
        "fc2",
        "relu2",
        "dropout2",
        "fc",
    ]
    assert [len(resnet.layer1), len(wide.layer3), len(dense.layer2)] == [2, 2, 3]
    ending = ["flatten", "fc1", "relu1", "fc2", "relu2", "fc3"]
    dropped = ["flatten", "dropout1", "fc1", "relu1", "dropout2", "fc2", "relu2", "fc3"]
    for make in (alexnet, vgg):
        assert names(on_meta(make)) == ["features", *ending] and names(
            on_meta(make, dropout=0.5)
        ) == ["features", *dropped]
    plan = lambda net: [
        (m.kernel_size[0], m.out_channels) if isinstance(m, nn.Conv2d) else "pool"
        for m in net.features
        if not isinstance(m, nn.ReLU)
    ]
    assert plan(on_meta(alexnet, width=10)) == [
        (5, 10),
        "pool",
        (5, 20),
        "pool",
        (3, 30),
        (3, 20),
        (3, 20),
        "pool",
    ]
    assert plan(on_meta(vgg, (1, 2, 1), width=5)) == [
        (3, 5),
        "pool",
        (3, 10),
        (3, 10),
        "pool",
        (3, 20),
        "pool",
    ]


@pytest.mark.parametrize("make", [alexnet, vgg])
def test_plain_networks_are_convolutions_with_relus_then_three_linear_layers(make):
    net, seen = make(classes=4, channels=2, image_size=19, width=2, hidden=5), {}
    for name, module in net.features.named_children():
        module.register_forward_hook(
            lambda m, args, out, n=name: seen.update({n: tuple(out.shape[2:])})
        )
    x = torch.randn(3, 2, 19, 19)
    flat = net.features(x).flatten(1)
    logits = net.fc3(net.fc2(net.fc1(flat).relu()).relu())
    torch.testing.assert_close(net(x), logits)
    assert logits.shape == (3, 4) and net.input_shape == (2, 19, 19) and net.classes == 4
    kinds = [type(m) for m in net.features]
    assert (
        all(kinds[i + 1] is nn.ReLU for i, kind in enumerate(kinds) if kind is nn.Conv2d)
        and kinds.count(nn.MaxPool2d) == 3
    )
    assert sorted({side for shape in seen.values() for side in shape}) == [
        2,
        4,
        9,
        19,
    ]  # convolutions keep the size, poolings halve it
    with pytest.raises(RuntimeError):
        net(torch.randn(3, 2, 27, 27))  # its linear layers have one size


def test_plain_networks_keep_the_size_of_the_signal_in_fc1_and_fc2():
    """He normal weights over the fan-in there, over the fan-out in convolutions, zero biases; small
    uniform ones in fc3.
    """
    torch.manual_seed(0)
    for net in (alexnet(width=32, hidden=400), vgg(width=32, hidden=400)):
        for name, module in net.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                assert (module.bias == 0).all(), name
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * math.prod(module.kernel_size)
                assert module.weight.std().item() == pytest.approx(
                    math.sqrt(2 / fan_out), rel=0.05
                ), name
        for layer in (net.fc1, net.fc2):
            assert layer.weight.std().item() == pytest.approx(
                math.sqrt(2 / layer.in_features), rel=0.02
            )
        assert net.fc3.weight.abs().max() <= 1 / math.sqrt(400)
        assert net.fc3.weight.std().item() == pytest.approx(1 / math.sqrt(1200), rel=0.05)
        with torch.no_grad():
            inside, outside = net.features(torch.randn(32, 3, 32, 32)).flatten(1), []
            for layer in (net.fc1, net.fc2):
                inside = layer(inside).relu()
                outside.append(inside.square().mean())
        assert outside[1] / outside[0] == pytest.approx(1, rel=0.5)


@small
def test_every_module_runs_once_and_no_relu_overwrites_its_input(make):
    net, calls = make(), {}
    for name, module in net.named_modules():
        module.register_forward_hook(
            lambda m, a, out, n=name: calls.update({n: calls.get(n, 0) + 1})
        )
    net(torch.randn(2, *net.input_shape))
    assert calls == {name: 1 for name, _ in net.named_modules()}
    assert not any(m.inplace for m in net.modules() if isinstance(m, (nn.ReLU, nn.Dropout)))
    assert sum(isinstance(m, nn.ReLU) for m in net.modules()) >= 2


def activated(bn, x):
    return bn(x).relu()


def test_resnet_block_is_post_activation_with_a_normalised_shortcut():
    net, x = models.resnet14().eval(), torch.randn(2, 16, 8, 8)
    changing, same = net.layer2[0], net.layer1[1]
    for bn in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(bn.weight), nn.init.normal_(bn.bias)
    conv, bn = changing.shortcut
    expected = changing.bn2(changing.conv2(activated(changing.bn1, changing.conv1(x)))) + bn(
        conv(x)
    )
    torch.testing.assert_close(changing(x), expected.relu())
    torch.testing.assert_close(
        same(x), (same.bn2(same.conv2(activated(same.bn1, same.conv1(x)))) + x).relu()
    )


def test_wide_block_is_pre_activation_and_only_a_convolutional_shortcut_reads_the_activated_input():
    net, x = wrn(16, 1).eval(), torch.randn(2, 16, 8, 8)
    changing, same = net.layer2[0], net.layer1[0]
    for bn in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(bn.weight), nn.init.normal_(bn.bias)

    def residual(block):
        return block.conv2(activated(block.bn2, block.conv1(activated(block.bn1, x))))

    torch.testing.assert_close(
        changing(x), residual(changing) + changing.shortcut(activated(changing.bn1, x))
    )
    torch.testing.assert_close(same(x), residual(same) + x)


def test_dense_layer_keeps_its_input_and_adds_growth_channels():
    layer, x = densenet(16, 4).eval().layer1[0], torch.randn(2, 8, 6, 6)
    out = layer(x)
    assert out.shape == (2, 12, 6, 6)
    torch.testing.assert_close(out[:, :8], x, rtol=0, atol=0)
    torch.testing.assert_close(
        out[:, 8:], layer.conv2(activated(layer.bn2, layer.conv1(activated(layer.bn1, x))))
    )


@convs
def test_pool_is_the_mean_over_positions_and_feeds_the_classifier(make):
    net, seen = make().eval(), {}
    net.pool.register_forward_hook(lambda m, args, out: seen.update(x=args[0], out=out))
    with torch.no_grad():
        logits = net(torch.randn(2, 3, 20, 12))
    torch.testing.assert_close(seen["out"], seen["x"].mean((2, 3)))
    torch.testing.assert_close(logits, net.fc(seen["out"]))


@convs
def test_channels_last_gives_the_same_values_and_gradients(make):
    net, x = make(), torch.randn(4, 3, 16, 16)
    other = copy.deepcopy(net).to(memory_format=torch.channels_last)
    for one, batch in ((net, x), (other, x.contiguous(memory_format=torch.channels_last))):
        F.cross_entropy(one(batch), torch.arange(4)).backward()
    torch.testing.assert_close(other.conv1.weight.grad, net.conv1.weight.grad, rtol=1e-3, atol=1e-5)


@small
def test_second_derivatives_exist(make):
    """Gradient attention and Jacobian matching differentiate a gradient."""
    net = make().eval()
    x = torch.randn(2, *net.input_shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all()
        for n, p in net.named_parameters()
        if n not in ("fc.bias", "fc3.bias")
    )


def test_stem_and_width():
    assert [
        on_meta(cifar_resnet, 8, width=4, stem=s).conv1.out_channels for s in (None, 32, 64)
    ] == [64, 32, 64]
    assert on_meta(cifar_resnet, 8, width=4).fc.in_features == 256
    assert [
        on_meta(build, n).conv1.out_channels for n in ("resnet8", "resnet8x2", "resnet8x4")
    ] == [16, 32, 32]
    assert on_meta(wrn, 10, 4).conv1.out_channels == 16


def test_convolutions_start_he_normal_over_their_fan_out():
    torch.manual_seed(0)
    for net in (models.resnet8(width=2), wrn(10, 2), densenet(10, 24)):
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d) and module.weight.numel() > 4000:
                fan_out = module.out_channels * math.prod(module.kernel_size)
                assert module.weight.std().item() == pytest.approx(
                    math.sqrt(2 / fan_out), rel=0.05
                ), name
            if isinstance(module, nn.BatchNorm2d):
                assert (module.weight == 1).all() and (module.bias == 0).all()
        assert (net.fc.bias == 0).all()
    hidden = mlp(800).fc1
    assert (
        hidden.weight.std().item() == pytest.approx(math.sqrt(2 / 784), rel=0.02)
        and (hidden.bias == 0).all()
    )


@small
def test_same_seed_same_weights_and_copies_are_independent(make):
    def made(seed):
        torch.manual_seed(seed)
        return make()

    first, again, other = made(3).state_dict(), made(3).state_dict(), made(4).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    last = list(first)[-2]
    assert last in ("fc.weight", "fc3.weight") and not torch.equal(first[last], other[last])
    net = made(3)
    clone = copy.deepcopy(net)
    with torch.no_grad():
        clone.get_parameter(last).zero_()
    assert torch.equal(net.get_parameter(last), first[last])
    pickle.loads(pickle.dumps(net)).load_state_dict(first)


@pytest.mark.parametrize(
    "make, module",
    [
        (lambda p: wrn(10, 1, dropout=p), "layer2.0.dropout"),
        (lambda p: densenet(10, 4, dropout=p), "layer2.0.dropout1"),
        (lambda p: densenet(10, 4, dropout=p), "transition1.dropout"),
        (lambda p: mlp(64, inputs=(3, 8, 8), dropout=p), "dropout1"),
        (lambda p: mlp(64, inputs=(3, 8, 8), input_dropout=p), "input_dropout"),
        (lambda p: alexnet(image_size=8, hidden=99, dropout=p), "dropout1"),
        (lambda p: vgg(image_size=8, hidden=99, dropout=p), "dropout2"),
    ],
)
def test_dropout_drops_its_share_in_training_only(make, module):
    net, seen = make(0.75), []
    net.get_submodule(module).register_forward_hook(
        lambda m, args, out: seen.append(((args[0] != 0), (out != 0)))
    )
    net.train()(torch.randn(16, 3, 8, 8))
    net.eval()(torch.randn(16, 3, 8, 8))
    kept = [(after.sum() / before.sum()).item() for before, after in seen]
    assert kept[0] == pytest.approx(0.25, abs=0.06) and kept[1] == 1


# ---- the fully connected network and its constraint


@pytest.mark.parametrize("hidden, widths", [(5, [5]), ((6, 4), [6, 4]), ([3], [3]), ((), [])])
def test_mlp_hidden_widths(hidden, widths):
    net = mlp(hidden, classes=3, inputs=12)
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert [m.out_features for m in layers] == [*widths, 3] and layers[0].in_features == 12
    assert net(torch.randn(2, 12)).shape == (2, 3)


def test_mlp_takes_images_of_its_size_whatever_their_memory_format():
    net, x = mlp(5, inputs=(3, 4, 4)).eval(), torch.randn(2, 3, 4, 4)
    expected = net.fc(net.fc1(x.reshape(2, 48)).relu())
    for batch in (x, x.flatten(1), x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(net(batch), expected)


def test_mlp_names_both_sizes_when_the_batch_does_not_fit():
    with pytest.raises(ValueError, match=r"784 values .*\(8, 3, 32, 32\): 3072 values"):
        mlp(5)(torch.randn(8, 3, 32, 32))
    with pytest.raises(ValueError, match="784"):
        mlp(5)(torch.randn(784))


def test_input_shapes():
    assert [mlp(5, inputs=i).input_shape for i in (784, (3, 8, 8), 12)] == [
        (1, 28, 28),
        (3, 8, 8),
        (1, 1, 12),
    ]
    assert (
        models.resnet8(channels=1, classes=5).input_shape == (1, 32, 32)
        and models.resnet8(classes=5).classes == 5
    )
    for make in SMALL.values():
        net = make().eval()
        assert net(torch.zeros(2, *net.input_shape)).shape == (2, net.classes)


def unit_norms(layer):
    return layer.weight.detach().flatten(1).norm(dim=1)


@pytest.mark.parametrize("layer", [nn.Linear(6, 40), nn.Conv2d(2, 40, 3)])
def test_constrain_shortens_long_units_and_touches_nothing_else(layer):
    nn.init.normal_(layer.weight)
    before, bias, weight = layer.weight.detach().clone(), layer.bias.detach().clone(), layer.weight
    norms = unit_norms(layer)
    bound = norms.median().item()
    assert constrain_(layer, bound) is layer and layer.weight is weight
    long = norms > bound
    assert 0 < long.sum() < 40
    torch.testing.assert_close(
        unit_norms(layer)[long], torch.full_like(norms[long], bound), rtol=1e-5, atol=0
    )
    assert torch.equal(layer.weight[~long], before[~long]) and torch.equal(layer.bias, bias)
    cosine = F.cosine_similarity(layer.weight.flatten(1), before.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(40))


def test_constrain_reaches_every_layer_of_a_network():
    net = constrain_(mlp((20, 20), inputs=30), 0.1)
    assert all(unit_norms(m).max() <= 0.1 + 1e-6 for m in net.modules() if isinstance(m, nn.Linear))


def test_max_norm_holds_at_every_training_forward_for_hidden_units_only():
    net = mlp((20, 20), inputs=30, max_norm=0.5)
    optimizer = torch.optim.SGD(net.parameters(), lr=5.0)
    x, y = torch.randn(16, 30), torch.randint(10, (16,))
    for _ in range(3):
        loss = F.cross_entropy(net(x), y)
        assert max(unit_norms(net.fc1).max(), unit_norms(net.fc2).max()) <= 0.5 + 1e-6
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert unit_norms(net.fc1).max() > 0.5 and unit_norms(net.fc).max() > 0.5
    trained = copy.deepcopy(net.state_dict())
    net.eval()(x)
    assert all(torch.equal(trained[k], v) for k, v in net.state_dict().items())


def test_max_norm_allows_two_forward_passes_before_one_backward_pass():
    net, x = mlp((20, 20), inputs=30, max_norm=0.5), torch.randn(4, 30)
    (net(x) + net(2 * x)).sum().backward()
    assert net.fc1.weight.grad.abs().sum() > 0


def test_max_norm_follows_copies_and_pickles():
    net = mlp(20, inputs=30, max_norm=0.5)
    for clone in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        original = net.fc1.weight.detach().clone()
        clone(torch.randn(2, 30))
        assert unit_norms(clone.fc1).max() <= 0.5 + 1e-6
        assert torch.equal(net.fc1.weight, original) and unit_norms(net.fc1).max() > 0.5


# ---- by name, and what is refused


@pytest.mark.parametrize("name", models.NAMES)
def test_every_listed_name_builds(name):
    net = on_meta(build, name, classes=7, channels=1, image_size=(8, 12))
    assert (net.input_shape, net.classes) == ((1, 8, 12), 7)
    assert net.eval()(torch.empty(2, 1, 8, 12, device="meta")).shape == (2, 7)


def test_build_gives_what_the_functions_give():
    pairs = [
        (build("resnet26", 4), models.resnet26(4)),
        (build("resnet8x2", 4), cifar_resnet(8, 4, width=2)),
        (build("resnet8x4", stem=64), models.resnet8(width=4)),
        (build("wrn10_2", channels=1), wrn(10, 2, channels=1)),
        (build("densenet10_4", 3), densenet(10, 4, 3)),
        (build("mlp9x8", 3, 1, 5), mlp((9, 8), 3, 25)),
        (build("alexnet", 4, 1, 16, width=3, hidden=5), alexnet(4, 1, 16, 3, 5)),
        (
            build("vgg", 4, image_size=(8, 16), blocks=(1, 1, 1), hidden=5),
            vgg((1, 1, 1), 4, image_size=(8, 16), hidden=5),
        ),
    ]
    for named, direct in pairs:
        assert {k: v.shape for k, v in named.state_dict().items()} == {
            k: v.shape for k, v in direct.state_dict().items()
        }
    assert build("wrn10_1", dropout=0.3).layer1[0].dropout.p == 0.3
    assert build("mlp9", channels=1, image_size=8, input_dropout=0.2).input_dropout.p == 0.2
    assert (
        build("alexnet", dropout=0.3).dropout2.p == 0.3
        and build("vgg", dropout=0.1).dropout1.p == 0.1
    )


@pytest.mark.parametrize(
    "name",
    [
        "resnet8",
        "resnet14",
        "resnet20",
        "resnet26",
        "resnet32",
        "resnet44",
        "resnet56",
        "resnet110",
    ],
)
def test_named_resnets_have_their_depth(name):
    make = getattr(models, name)
    layers = [m for m in on_meta(make).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert (
        make.__name__
        == name
        == f"resnet{sum(getattr(m, 'kernel_size', 0) != (1, 1) for m in layers)}"
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: cifar_resnet(18), "6n.2.*18.*14 or 20"),
        (lambda: cifar_resnet(2), "take 8"),
        (lambda: cifar_resnet(20.0), "whole number"),
        (lambda: wrn(17, 2), "6n.4.*17.*16 or 22"),
        (lambda: wrn(4, 2), "take 10"),
        (lambda: densenet(9, 4), "take 10"),
        (lambda: models.resnet8(classes=1), "classes.*at least 2"),
        (lambda: models.resnet8(width=0), "width"),
        (lambda: models.resnet8(stem=0), "stem"),
        (lambda: models.resnet8(channels=0), "channels"),
        (lambda: wrn(16, -2), "width"),
        (lambda: wrn(16, 2, classes=1), "classes"),
        (lambda: wrn(16, 2, dropout=1.0), r"dropout.*\[0, 1\)"),
        (lambda: densenet(10, 0), "growth"),
        (lambda: densenet(10, 4, dropout=-0.1), "dropout"),
        (lambda: densenet(10, 4, 1), "classes"),
        (lambda: mlp((5, 0)), r"hidden\[1\]"),
        (lambda: mlp(5, classes=0), "classes"),
        (lambda: mlp(5, inputs=0), "inputs"),
        (lambda: mlp(5, inputs=(3, 0, 4)), r"inputs\[1\]"),
        (lambda: mlp(5, dropout=float("nan")), "dropout"),
        (lambda: mlp(5, input_dropout=1), "input_dropout"),
        (lambda: mlp(5, max_norm=0), "max_norm"),
        (lambda: constrain_(nn.Linear(2, 2), -1.0), "max_norm"),
        (lambda: alexnet(image_size=7), "image_size=7.*at least 8"),
        (lambda: alexnet(image_size=(12, 7)), r"\(12, 7\).*at least 8"),
        (lambda: alexnet(1), "classes.*at least 2"),
        (lambda: alexnet(width=0), "width"),
        (lambda: alexnet(hidden=0), "hidden"),
        (lambda: alexnet(channels=0), "channels"),
        (lambda: alexnet(dropout=1.0), "dropout"),
        (lambda: alexnet(width=1.5), "width"),
        (lambda: vgg((1, 2)), r"blocks=\(1, 2\).*three blocks"),
        (lambda: vgg((1, 0, 1)), r"blocks\[1\]"),
        (lambda: vgg(width=-1), "width"),
        (lambda: vgg(classes=1), "classes"),
        (lambda: build("vgg", image_size=4), r"image_size=\(4, 4\).*at least 8"),
        (lambda: build("vgg11"), "'vgg'"),
        (lambda: build("AlexNet"), "'alexnet'"),
        (lambda: build("resnet18"), "14 or 20"),
        (lambda: build("wrn16-2"), "'wrn16_2'.*Forms: "),
        (lambda: build("ResNet20"), "resnet20"),
        (lambda: build("vit"), "Known: .*densenet112_33"),
        (lambda: build("resnet20", image_size=(1, 2, 3)), "image_size"),
        (lambda: build("resnet20", image_size=0), "height"),
        (lambda: build("mlp"), "mlp800x800"),
        (lambda: build(20), "unknown network"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_models_import_torch_and_the_standard_library_only():
    for file in Path(models.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            roots = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            roots += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert {r.partition(".")[0] for r in roots} <= {"torch", *sys.stdlib_module_names}, file


@pytest.mark.parametrize("name, parameters", [("resnet50", 758_554), ("resnet152", 2_411_226)])
def test_a_name_of_the_tables_never_gives_another_network(name, parameters):
    """resnet50 would be one of 0.76 million parameters here, and is one of 23.7 million there."""
    depth = int(name[6:])
    with pytest.raises(ValueError, match=rf"torchvision\.models\.{name}.*cifar_resnet\({depth}\)"):
        build(name)
    assert sum(p.numel() for p in cifar_resnet(depth).parameters()) == parameters
