"""What others reported in public of other libraries, with the networks that they had."""

import copy

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from kdtutor import Teacher
from kdtutor.datasets import CropFlip, Data, Split
from kdtutor.methods import CRD, RKD, AttentionTransfer, FitNet, Hinton
from kdtutor.taps import Taps
from kdtutor.tasks import Tokens
from tests.field.nets import conv, first, hf_vit, images, kl, loud, mobilenet, resnet, train, vit

PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_33_the_teacher_is_evaluated_and_its_statistics_stay():
    teacher = mobilenet().train()
    teacher.classifier[0].p = 0.5
    before = copy.deepcopy(teacher.state_dict())
    method = Hinton(conv(), teacher)
    some = first(images())
    train(method, images(), 2)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert torch.equal(method.teacher(some), method.teacher(some))
    # Whoever calls train() on all there is does not reach it.
    method.train()
    teacher.train()
    with torch.no_grad():
        expected = copy.deepcopy(teacher).eval()(some.x)
    assert torch.equal(method.teacher(some), expected)


def test_34_no_gradient_reaches_the_teacher():
    method = AttentionTransfer(resnet(), resnet(), example=PIXELS)
    sum(method.terms(first(images())).values()).backward()
    teacher = method.teacher.net
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(p.grad is not None for p in method.student.parameters())
    ids = {id(p) for p in teacher.parameters()}
    assert not ids & {id(p) for p in method.parameters()}


def test_35_a_teacher_of_a_thousand_classes_is_one_clear_error():
    with pytest.raises(ValueError, match=r"different numbers of classes: .*2\) against .*1000\)"):
        train(Hinton(mobilenet(2), resnet(1000)), images(classes=2))


def test_35_and_it_comes_before_anything_was_trained():
    student = mobilenet(2)
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(ValueError, match=r"different numbers of classes"):
        train(Hinton(student, resnet(1000)), images(classes=2))
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())


def test_36_a_student_of_some_of_the_teachers_classes():
    from kdtutor.models import adapt

    teacher, order, data = loud(resnet(1000)).eval(), [281, 207], images(classes=2)
    method, some = Hinton(mobilenet(2), adapt(teacher, classes=order)).eval(), first(data)
    with torch.no_grad():
        t = teacher(some.x)[:, order]
    s = method.student(some.x)
    assert method.terms(some)["kd"].item() == pytest.approx(0.9 * kl(s, t).item(), rel=1e-3)
    assert train(method, data).status == "finished"


def test_37_the_class_token_is_no_place_of_the_image():
    """ViT of 2 x 2 patches and a class token beside a convolution's 2 x 2 map."""
    student = conv()
    student[3] = nn.Conv2d(8, 8, 3, 8, 1)
    pairs = [("5", "blocks.1:patches=2x2+1")]
    method = AttentionTransfer(student, vit(), layers=pairs, example=PIXELS).eval()
    some = first(images(), 2)._replace(x=PIXELS)
    seen = []
    hook = method.teacher.net.blocks[1].register_forward_hook(lambda m, a, out: seen.append(out))
    method.teacher(some)
    hook.remove()
    t = seen[0][:, 1:].square().sum(2)
    s = student[:6](PIXELS).square().sum(1).flatten(1)
    distance = (F.normalize(s) - F.normalize(t)).norm(dim=1).mean()
    assert method.terms(some)["at"].item() == pytest.approx(6.4 * distance.item(), rel=1e-4)
    with pytest.raises(ValueError, match=r"5 tokens"):
        wrong = [("5", "blocks.1:patches=2x2")]
        AttentionTransfer(student, vit(), layers=wrong, example=PIXELS)


@pytest.mark.parametrize("path", ["vit.encoder.layers.1", "module.vit.layers.1"])
def test_38_a_path_that_is_not_there_comes_with_those_that_are(path):
    with pytest.raises(ValueError, match=r"unknown layer path in ViT.*vit\.layers\.1"):
        FitNet(hf_vit(), hf_vit(), layers=path, example=PIXELS)


def test_41_maps_of_other_sizes_are_pooled_to_the_smaller():
    """64 px against 65 px, as with and without ceil_mode."""
    x = torch.rand(2, 3, 64, 64)
    student, teacher = (
        nn.Sequential(
            *(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(3, 2, ceil_mode=ceil)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)),
        )
        for ceil in (False, True)
    )
    method = AttentionTransfer(student, teacher, layers="1", example=x)
    s, t = (net[:2](x).double() for net in (student, teacher))
    assert s.shape[2:] == (31, 31) and t.shape[2:] == (32, 32)
    q_s = s.square().sum(1).flatten(1)
    q_t = F.adaptive_avg_pool2d(t, 31).square().sum(1).flatten(1)
    distance = (F.normalize(q_s) - F.normalize(q_t)).norm(dim=1).mean().item()
    some = first(images(size=64), 2)._replace(x=x)
    assert method.terms(some)["at"].item() == pytest.approx(6.4 * distance, rel=1e-4)
    fit_net = FitNet(student, teacher, layers="1", example=x)
    assert torch.isfinite(sum(fit_net.hint_terms(some).values()))


def test_42_crds_memory_has_two_rows_per_image_and_no_more():
    method = CRD(conv(), conv(), negatives=16, dimensions=16, example=PIXELS)
    data = images(240)
    method.prepare(data.train)
    held = sum(b.numel() * b.element_size() for b in method.buffers() if b.ndim == 2)
    assert held == 2 * 240 * 16 * 4
    assert train(method, data).status == "finished"


def test_43_a_students_data_need_not_be_the_teachers():
    """A teacher that knew other data and has no head for these classes teaches its embedding."""
    method = RKD(mobilenet(3), resnet(1000), example=PIXELS)
    assert train(method, images(classes=3)).status == "finished"


def test_44_layers_of_a_wrapped_network_keep_their_paths():
    wrapped = [nn.DataParallel(resnet()) for _ in range(2)]
    plain = AttentionTransfer(*(net.module for net in wrapped), example=PIXELS).eval()
    method = AttentionTransfer(*wrapped, example=PIXELS).eval()
    assert method.student_layers == ["layer1", "layer2", "layer3", "layer4"]
    some = first(images())
    assert method.terms(some)["at"].item() == pytest.approx(plain.terms(some)["at"].item())


def gpt(vocabulary: int) -> nn.Module:
    settings = dict(n_positions=8, n_embd=16, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=vocabulary,
            **settings,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


def texts(n: int = 16) -> Data:
    ids = torch.randint(0, 20, (n, 8), generator=torch.Generator().manual_seed(0))
    x = {"input_ids": ids}
    return Data("texts", 20, Split(x, ids), Split(x, ids), task=Tokens())


def test_45_vocabularies_of_other_sizes_are_one_clear_error():
    with pytest.raises(ValueError, match=r"different numbers of classes: .*20\) against .*24\)"):
        train(Hinton(gpt(20), gpt(24)), texts())


def test_45_tokens_are_distilled_over_the_vocabulary():
    method, data = Hinton(gpt(20), gpt(20)), texts()
    assert train(method, data).status == "finished"
    some, method = first(data), method.eval()
    s, t = (net(**some.x).logits for net in (method.student, method.teacher.net))
    assert method.terms(some)["kd"].item() == pytest.approx(0.9 * kl(s, t, axis=2).item(), rel=1e-3)
    # Tied weights: one tensor under two names.
    assert method.student.lm_head.weight is method.student.transformer.wte.weight


def test_46_stored_answers_go_with_their_image_and_view():
    """Whatever the order of an epoch, and however the image was cropped and mirrored."""
    data, student, teacher = images(16, augment=CropFlip(pad=1)), conv(), loud(hf_vit())
    stored = Teacher(copy.deepcopy(teacher)).cached(data, fill=True)
    rows = [
        train(Hinton(copy.deepcopy(student), who), data, 2, seed=3).rows
        for who in (teacher, stored)
    ]
    for plain, cached in zip(*rows):
        assert cached["kd"] == pytest.approx(plain["kd"], rel=1e-5)


def test_47_tokens_without_a_label_are_not_distilled():
    data, method = texts(), Hinton(gpt(20), gpt(20)).eval()
    method.task = data.task
    some = first(data)
    y = some.y.clone()
    y[:, 5:] = -100
    s, t = (net(**some.x).logits[:, :5] for net in (method.student, method.teacher.net))
    terms = method.terms(some._replace(y=y))
    assert terms["ce"].item() == pytest.approx(
        0.1 * F.cross_entropy(s.flatten(0, 1), y[:, :5].flatten()).item(), rel=1e-4
    )
    assert terms["kd"].item() == pytest.approx(0.9 * kl(s, t, axis=2).item(), rel=1e-3)


def test_48_what_a_later_layer_overwrites_is_read_before():
    """torchvision's ReLUs write into what they are given."""
    net = mobilenet().eval()
    convolution, norm, rectifier = net.features[0]
    assert rectifier.inplace
    expected = norm(convolution(PIXELS))
    _, features = Taps(net, ["features.0.1"])(PIXELS)
    assert torch.equal(features["features.0.1"], expected) and expected.min() < 0


def test_49_a_teacher_in_half_precision_teaches_a_student_in_single():
    teacher = loud(resnet()).eval()
    method, some = Hinton(conv(), copy.deepcopy(teacher).bfloat16()).eval(), first(images())
    with torch.no_grad():
        t = teacher(some.x)
    s = method.student(some.x)
    found = method.terms(some)["kd"]
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(0.9 * kl(s, t).item(), rel=0.1)
    assert train(method, images()).status == "finished"


def test_49_connectors_train_in_mixed_precision():
    method = FitNet(conv(), resnet(), layers=[("5", "layer1")], example=PIXELS)
    rows = train(method, images(), 2, precision="bf16").rows
    assert len(rows) == 2 and all(p.dtype == torch.float32 for p in method.parameters())


def checkpointed(reentrant: bool) -> nn.Module:
    """Computes its blocks again on the way back; the old way of torch runs them without a graph."""
    student = hf_vit()
    student.gradient_checkpointing_enable({"use_reentrant": reentrant})
    return student.train()


def test_50_features_of_blocks_that_are_computed_again_have_their_gradient():
    teacher, found = hf_vit(), []
    for again in (False, True):
        torch.manual_seed(1)
        student = checkpointed(reentrant=False) if again else hf_vit()
        layers = [("vit.layers.0.attention.o_proj:input", "vit.layers.0.attention.o_proj:input")]
        method = RKD(student, copy.deepcopy(teacher), layers=layers, example=PIXELS).train()
        terms = method.terms(first(images()))
        (terms["distance"] + terms["angle"]).backward()
        found.append([p.grad for p in student.parameters()])
    pairs = [(a, b) for a, b in zip(*found) if a is not None or b is not None]
    assert pairs and all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)
    assert max(float(a.abs().max()) for a, _ in pairs) > 0


def test_50_a_feature_without_a_gradient_is_one_clear_error():
    path = "vit.layers.0.attention.o_proj:input"
    method = RKD(checkpointed(reentrant=True), hf_vit(), layers=path, example=PIXELS)
    with pytest.raises(ValueError, match=r"gradient"):
        train(method, images())
