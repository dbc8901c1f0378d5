"""Values that were wrong without a word, or are in other libraries: calculated here in another
way.
"""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from kdtutor.concepts import concept_metrics
from kdtutor.datasets import Data, Split
from kdtutor.methods import RKD, ActivationBoundary, Hinton
from kdtutor.methods.relation.rkd import angle_loss
from kdtutor.softening import distillation_kl
from kdtutor.tasks import MultiLabel, Segmentation
from tests.field.nets import conv, first, images, kl, mobilenet, resnet, train


def test_01_the_kl_of_maps_and_tokens_sums_over_classes():
    s, t = torch.randn(2, 2, 5, 4, 6).double()
    assert distillation_kl(s, t).item() == pytest.approx(kl(s, t).item(), rel=1e-12)
    s, t = torch.randn(2, 2, 7, 11).double()
    with pytest.raises(ValueError, match=r"pass axis=-1 for tokens"):
        distillation_kl(s, t)
    assert distillation_kl(s, t, axis=-1).item() == pytest.approx(kl(s, t, axis=-1).item())


def segmenter() -> nn.Module:
    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)


def test_16_segmentation_networks_answer_with_a_mapping():
    x = images(8).train.x
    masks = torch.randint(0, 4, (8, 32, 32))
    data = Data("masks", 4, Split(x, masks), Split(x, masks), task=Segmentation())
    method = Hinton(segmenter(), segmenter()).eval()
    train(method, data, batch_size=4)
    some, method = first(data), method.eval()
    s, t = method.student(some.x)["out"], method.teacher.net(some.x)["out"]
    terms = method.terms(some)
    assert s.shape == (8, 4, 32, 32)
    assert terms["kd"].item() == pytest.approx(0.9 * kl(s, t).item(), rel=1e-4)
    assert terms["ce"].item() == pytest.approx(0.1 * F.cross_entropy(s, masks).item(), rel=1e-5)


@pytest.mark.parametrize("y", [torch.rand(24, 1), torch.ones(24, 6).tril()])
def test_02_labels_that_are_no_class_indices_are_refused(y):
    x = images().train.x
    with pytest.raises(ValueError, match=r"train labels are .*task="):
        Data("mine", 6, Split(x, y))


def test_02_independent_labels_have_no_softmax_to_distil():
    x, y = images().train.x, torch.ones(24, 6).tril()
    data = Data("mine", 6, Split(x, y), Split(x, y), task=MultiLabel())
    with pytest.raises(ValueError, match="no softmax whose answers could be distilled"):
        train(Hinton(mobilenet(6), mobilenet(6)), data)
    method = RKD(conv(6), mobilenet(6))
    expected = F.binary_cross_entropy_with_logits(method.student(first(data, 24).x), y)
    row = train(method, data, batch_size=24).rows[0]
    assert row["ce"] == pytest.approx(expected.item(), rel=1e-5)


def test_08_nothing_lies_between_layers_of_equal_width():
    method = ActivationBoundary(resnet(), resnet(), example=torch.rand(2, 3, 64, 64)).eval()
    assert [type(c) for c in method.connectors] == [nn.Identity] * 4
    some, total = first(images(size=64)), 0.0
    for stage, (own, theirs) in enumerate(method.layers):
        read = {}
        for net, path in ((method.student, own), (method.teacher.net, theirs)):
            module, _, side = path.partition(":")
            module, _, run = module.partition("#")
            read[net] = _input_of(net, module, int(run or 1), some.x)
            assert side == "input"
        s, t = read.values()
        missing = torch.where(t > 0, F.relu(1 - s), F.relu(1 + s))
        total += 0.003 / 2 ** (3 - stage) * missing.square().sum().item() / len(s)
    assert method.boundary_terms(some)["ab"].item() == pytest.approx(total, rel=1e-5)


def _input_of(net, path, run, x):
    seen = []
    hook = net.get_submodule(path).register_forward_pre_hook(
        lambda module, args: seen.append(args[0].detach().clone())
    )
    net(x)
    hook.remove()
    return seen[run - 1]


def test_09_the_papers_d_std_is_a_variance():
    """Two images come to know their objects at distances 1 and 4: mean 2.5, variance 2.25."""
    known, unknown, beside = 0.0, 3.0, 3.0
    course = torch.full((2, 2, 2, 2), beside)
    course[:, :, 0, 0] = torch.tensor([[known, unknown], [unknown, known]])
    fg = torch.tensor([[[True, False], [False, False]]]).expand(2, -1, -1)
    report = concept_metrics(course, fg, epochs=[1, 2], distance=[1.0, 4.0], resamples=10)
    assert (report.d_mean, report.d_std) == (2.5, 2.25)


def test_10_angles_are_a_mean_over_triplets_of_distinct_examples():
    s, t = torch.randn(2, 6, 5).double()
    s[1], s[2], t[3] = s[0], 0.0, t[4]  # a duplicate, a dead embedding, a duplicate

    def angle(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        return (a @ b / max((a.norm() * b.norm()).item(), 1e-300)).item()

    errors = [
        F.smooth_l1_loss(torch.tensor(angle(s, *ijk)), torch.tensor(angle(t, *ijk))).item()
        for ijk in itertools.permutations(range(6), 3)
    ]
    assert angle_loss(s, t).item() == pytest.approx(sum(errors) / len(errors), rel=1e-6)


@pytest.mark.parametrize("temperature", [1e3, 1e4, 1e5])
def test_11_the_kl_keeps_its_digits_at_high_temperatures(temperature):
    s, t = torch.randn(2, 16, 10) * 5
    found = distillation_kl(s, t, temperature).item()
    assert found == pytest.approx(kl(s, t, temperature).item(), rel=1e-3)
    # Its limit is half the squared distance of centred logits over the number of classes.
    centred = (s - s.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    assert found == pytest.approx(centred.square().sum(1).mean().item() / 20, rel=2e-2)


def test_11_the_kl_of_near_logits_is_not_negative():
    t = torch.randn(64, 100)
    for scale in (1e-7, 1e-5, 1e-3):
        s = t + scale * torch.randn(64, 100)
        assert distillation_kl(s, t).item() >= 0


def test_12_networks_in_float64_keep_all_their_digits():
    data = images()
    x = (data.train.x / 255).double()
    data = Data("double", 10, Split(x, data.train.y), Split(x, data.train.y))
    method = Hinton(conv().double(), mobilenet().double()).eval()
    some = first(data)
    terms = method.terms(some)
    s, t = method.student(some.x), method.teacher.net(some.x)
    assert all(value.dtype == torch.float64 for value in terms.values())
    assert terms["kd"].item() == pytest.approx(0.9 * kl(s, t).item(), rel=1e-12)
    assert train(method, data).status == "finished"


def test_31_the_kl_sums_over_classes_and_is_not_averaged_over_them():
    """A box's sides have 17 bins in public detectors: a mean over them is 17 times too small."""
    s, t = torch.randn(2, 40, 17)
    summed = kl(s, t, 10.0).item()
    assert distillation_kl(s, t, 10.0).item() == pytest.approx(summed, rel=1e-4)
    each = F.kl_div((s / 10).log_softmax(1), (t / 10).softmax(1), reduction="none") * 100
    assert summed / each.mean().item() == pytest.approx(17, rel=1e-4)


def test_32_longer_texts_do_not_weigh_more():
    s, t = torch.randn(2, 3, 5, 11)
    once = distillation_kl(s, t, axis=-1).item()
    twice = [torch.cat([z, z], 1) for z in (s, t)]
    assert distillation_kl(*twice, axis=-1).item() == pytest.approx(once, rel=1e-5)
    # Padding is left out by the mask, whatever stands there.
    mask = torch.arange(10).expand(3, -1) < 5
    padded = [torch.cat([z, torch.full_like(z, math.inf)], 1) for z in (s, t)]
    assert distillation_kl(*padded, axis=-1, mask=mask).item() == pytest.approx(once, rel=1e-5)
