"""Teacher: frozen, ensembles, and the exact cache."""

import importlib
from types import SimpleNamespace

import pytest
import torch
from small import blobs, net
from torch import nn

from kdtutor import Teacher, fit
from kdtutor.datasets import Batch, CropFlip, Flip, Jitter
from kdtutor.methods import Hinton
from kdtutor.softening import ensemble_targets, soften
from kdtutor.teacher.cache import LogitCache


def test_a_teacher_is_frozen_and_in_eval_and_no_submodule():
    inner = net(1, dropout=0.5).train()
    teacher = Teacher(inner)
    student = net(2)
    distiller = Hinton(student, teacher)
    distiller.train()
    assert not inner.training and not any(p.requires_grad for p in inner.parameters())
    assert {id(p) for p in distiller.parameters()} == {id(p) for p in student.parameters()}
    inner.train()  # someone flips it: the teacher flips it back before it answers
    x = torch.rand(4, 1, 4, 4)
    assert torch.equal(teacher(x), teacher(x)) and not inner.training


def test_answers_are_ordinary_tensors_that_any_loss_may_use():
    teacher, w = Teacher(net(1)), torch.randn(4, 3, requires_grad=True)
    z = teacher(torch.rand(4, 1, 4, 4))
    assert not z.requires_grad and not z.is_inference()
    (w * z).sum().backward()
    assert torch.equal(w.grad, z)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
@pytest.mark.parametrize("T", [1.0, 5.0])
def test_an_ensemble_answers_with_the_mean(mean, T):
    nets, x = [net(i) for i in range(3)], torch.rand(4, 1, 4, 4)
    want = ensemble_targets(torch.stack([n(x) for n in nets]).detach(), T, mean)
    torch.testing.assert_close(soften(Teacher(nets, mean=mean)(x, T), T), want)


def test_teacher_errors():
    with pytest.raises(ValueError, match="at least one"):
        Teacher([])
    with pytest.raises(ValueError, match="geometric"):
        Teacher(net(), mean="geometrical")
    with pytest.raises(ValueError, match="different numbers of classes"):
        Teacher([net(classes=3), net(classes=4)])(torch.rand(2, 1, 4, 4))
    with pytest.raises(ValueError, match="ensemble"):
        Teacher([net(), net()]).features(torch.rand(2, 1, 4, 4), ["0"])


@pytest.mark.parametrize("augment", [None, Jitter(1), Flip(), CropFlip(1)], ids=repr)
@pytest.mark.parametrize("fill", [False, True])
def test_losses_with_the_cache_equal_those_without(augment, fill):
    data = blobs(augment=augment)
    losses = []
    for cached in (False, True):
        teacher = Teacher([net(7), net(8)], mean="arithmetic")
        if cached:
            teacher.cached(data, fill=fill)
        history = fit(Hinton(net(1), teacher), data, 4, lr=0.05, progress=False)
        losses.append([r["loss"] for r in history.rows])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_cache_computes_each_view_once():
    data, calls = blobs(augment=Flip()), []
    inner = net(7)
    inner.register_forward_hook(lambda m, args, out: calls.append(len(args[0])))
    teacher = Teacher(inner).cached(data)
    calls.clear()
    fit(Hinton(net(1), teacher), data, 12, progress=False)
    assert sum(calls) <= len(data.train) * 2
    first = sum(calls)
    fit(
        Hinton(net(2), teacher), data, 2, seed=3, progress=False
    )  # another student and seed reuse it
    assert sum(calls) - first < len(data.train) // 4


def test_of_a_mapping_only_the_missing_images_are_computed():
    """Images and masks, or tokens and their masks: every tensor of the mapping is narrowed."""
    cache = LogitCache(torch.arange(6), 1, torch.zeros(6, 1, 2), "tokens")
    seen = []

    def compute(x):
        seen.append({k: v.flatten().tolist() for k, v in x.items()})
        return torch.stack([x["a"] + x["b"], x["a"]], -1)[None]

    def ask(*index):
        rows = torch.tensor(index)
        x = {"a": rows.float(), "b": 10 * rows.float()}
        return cache(Batch(x, None, rows, torch.zeros_like(rows), source="tokens"), compute)

    ask(1, 4)
    assert ask(4, 5, 1, 0)[0].tolist() == [[44, 4], [55, 5], [11, 1], [0, 0]]
    assert seen == [{"a": [1, 4], "b": [10, 40]}, {"a": [5, 0], "b": [50, 0]}]


def test_the_cache_of_a_single_image_and_the_count_of_what_is_missing(tmp_path):
    cache = LogitCache(torch.arange(1), 3, torch.zeros(3, 1, 2), "one")
    zero = torch.zeros(1, dtype=torch.long)
    batch = Batch(torch.ones(1, 2), None, zero, zero, source="one")
    assert cache(batch, lambda x: x[None]).tolist() == [[[1, 1]]]
    with pytest.raises(ValueError, match="2 of 3 answers are missing"):
        cache.save(tmp_path / "a", "weights")


def test_the_bar_of_the_cache_counts_every_view(monkeypatch):
    totals, progress = [], importlib.import_module("kdtutor.display.progress")
    usual = progress.bar
    monkeypatch.setattr(
        progress, "bar", lambda *args, **kw: totals.append(kw["total"]) or usual(*args, **kw)
    )
    data = blobs(augment=Flip())
    Teacher(net(7)).cached(data, fill=True)
    assert totals == [2 * len(data.train)]


def test_the_cache_refuses_what_would_not_be_exact():
    data = blobs()
    with pytest.raises(ValueError, match="no id"):
        Teacher(net()).cached(data.augmented(lambda images: images.flip(-1)))
    with pytest.raises(ValueError, match=r"GiB.*max_bytes"):
        Teacher(net()).cached(data.augmented(CropFlip(1)), max_bytes=1000)
    teacher = Teacher(net()).cached(data)
    batch = next(data.batches(data.train, 4))
    with pytest.raises(ValueError, match="no id"):
        teacher(batch._replace(view=None))
    for other in (blobs(seed=5), data.augmented(Flip())):
        with pytest.raises(ValueError, match="holds answers for"):
            teacher(next(other.batches(other.train, 4, augment=True, shuffle=torch.Generator())))
    with pytest.raises(ValueError, match="holds answers for"):
        teacher(Batch(batch.x, batch.y, batch.index, batch.view))


def test_the_cache_serves_subsets_and_noisy_labels_of_the_same_images():
    data = blobs()
    teacher = Teacher(net(7)).cached(data, fill=True)
    half = data.subset(60)
    batch = next(half.batches(half.train, 8))
    torch.testing.assert_close(teacher(batch), Teacher(net(7))(batch.x), atol=1e-6, rtol=0)


def test_the_cache_of_a_subset_refuses_other_images():
    data = blobs()
    some = data.subset(60)
    teacher = Teacher(net(7)).cached(some, fill=True)
    batch = next(some.batches(some.train, 60))
    torch.testing.assert_close(teacher(batch), Teacher(net(7))(batch.x), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="60 images.*more images of the same source"):
        list(map(teacher, data.batches(data.train, 8)))


@pytest.mark.parametrize("augment", [None, Flip()], ids=repr)
def test_answers_are_saved_and_read_by_another_process_as_they_are(tmp_path, augment):
    data = blobs(augment=augment).subset(50)
    first = Teacher([net(7), net(8)], mean="geometric")
    with pytest.raises(ValueError, match="no answers to save"):
        first.save_cache(tmp_path / "a")
    first.cached(data)
    with pytest.raises(ValueError, match="answers are missing"):
        first.save_cache(tmp_path / "a")
    first.cached(data, fill=True).save_cache(tmp_path / "a")
    again, calls = Teacher([net(7), net(8)], mean="geometric").load_cache(tmp_path / "a"), []
    again.nets[0].register_forward_hook(lambda *_: calls.append(1))
    for batch in data.batches(
        data.train, 16, augment=True, shuffle=torch.Generator().manual_seed(1)
    ):
        assert torch.equal(again(batch), first(batch)) and not calls
    with pytest.raises(ValueError, match="another teacher"):
        Teacher([net(7), net(8)]).load_cache(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_fingerprint_names_the_weights():
    a, b = net(1), net(1)
    assert Teacher(a).fingerprint() == Teacher(b).fingerprint()
    with torch.no_grad():
        next(b.parameters()).add_(1e-6)
    assert Teacher(a).fingerprint() != Teacher(b).fingerprint()
    assert Teacher([a, b], "arithmetic").fingerprint() != Teacher([a, b], "geometric").fingerprint()


def test_batchnorm_statistics_of_the_teacher_stay():
    inner = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    before = inner[2].running_mean.clone()
    data = blobs()
    fit(Hinton(net(1), Teacher(inner)), data, 1, progress=False)
    assert torch.equal(before, inner[2].running_mean)


class Wrapped(nn.Module):
    """A network that returns more than its logits."""

    def __init__(self, inner, wrap):
        super().__init__()
        self.inner, self.wrap = inner, wrap

    def forward(self, x):
        return self.wrap(self.inner(x))


WRAPS = [
    lambda z: (z, z + 1),
    lambda z: {"logits": z, "aux": z + 1},
    lambda z: {"aux": z + 1, "out": z},
    lambda z: SimpleNamespace(logits=z),
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_whatever_the_networks_return_the_teacher_answers_with_logits(wrap):
    x, score = torch.rand(4, 1, 4, 4), lambda z, _: z[:, 0]
    plain, teacher = Teacher(net(7)), Teacher(Wrapped(net(7), wrap))
    assert torch.equal(teacher(x), plain(x))
    assert torch.equal(Teacher([teacher.net, net(8)])(x, 2.0), Teacher([net(7), net(8)])(x, 2.0))
    logits, features = teacher.features(x, ["inner"])
    assert torch.equal(logits, plain(x)) and torch.equal(features["inner"], logits)
    assert teacher.features(x, ["inner"], stop=True)[0] is None
    for got, want in zip(teacher.input_gradient(x, score)[:2], plain.input_gradient(x, score)):
        assert torch.equal(got, want)
    data = blobs(augment=Flip())
    teacher.cached(data, fill=True)
    for batch in data.batches(data.train, 60, augment=True, view=1):
        torch.testing.assert_close(teacher(batch), plain(batch.x), atol=1e-6, rtol=0)


def test_a_teacher_that_returns_no_logits_says_what_it_returns():
    teacher = Teacher(Wrapped(net(), lambda z: {"a": z, "b": z}))
    x = torch.rand(2, 1, 4, 4)
    with pytest.raises(ValueError, match="'a': Tensor, 'b': Tensor"):
        teacher(x)
    output, features = teacher.features(x, ["inner"])  # its layers can be read all the same
    assert set(output) == {"a", "b"} and features["inner"].shape == (2, 3)


def test_half_precision_becomes_float32_and_float64_stays():
    x = torch.rand(4, 1, 4, 4)
    half, double = Teacher(net(7).bfloat16()), Teacher(net(7).double())
    assert half(x.bfloat16()).dtype == torch.float32
    assert torch.equal(double(x.double()), net(7).double()(x.double()))
    double = Teacher([net(7).double(), net(8).double()])
    assert double(x.double()).dtype == torch.float64


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net(7).double()

    def forward(self, x):
        return self.inner(x.double())


def test_a_float64_teachers_cache_keeps_float64(tmp_path):
    data, teacher = blobs(), Teacher(Double())
    with pytest.raises(ValueError, match="8 bytes"):
        teacher.cached(data, max_bytes=100)
    teacher.cached(data, fill=True).save_cache(tmp_path / "a")
    batch = next(data.batches(data.train, 180))
    assert teacher(batch).dtype == torch.float64
    torch.testing.assert_close(teacher(batch), Double()(batch.x), atol=1e-14, rtol=0)
    assert torch.equal(Teacher(Double()).load_cache(tmp_path / "a")(batch), teacher(batch))


def test_the_cache_holds_answers_of_any_shape():
    """A segmenter's (B, C, H, W)."""
    torch.manual_seed(0)
    segmenter, data = nn.Conv2d(1, 3, 1), blobs(augment=Flip())
    teacher = Teacher(segmenter).cached(data, fill=True)
    batch = next(data.batches(data.train, 60, augment=True, view=1))
    assert teacher(batch).shape == (60, 3, 4, 4)
    torch.testing.assert_close(teacher(batch), segmenter(batch.x), atol=1e-6, rtol=0)


def test_a_stored_answer_with_a_flipped_bit_is_not_taught(tmp_path):
    data, path = blobs().subset(50), tmp_path / "a"
    Teacher(net(7)).cached(data, fill=True).save_cache(path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: its answers do not match their checksum"):
        Teacher(net(7)).load_cache(path)
