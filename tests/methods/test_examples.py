"""One rule for inputs before there are any data: an example counts, a stated shape is a suggestion;
what no network can take is one sentence before training.
"""

import inspect
import warnings

import pytest
import torch
from small import blobs
from torch import nn

from kdtutor import Teacher, fit
from kdtutor.datasets import Batch, Data, Split
from kdtutor.distiller import Offline
from kdtutor.methods import DML, ONE, Composition, CrossEntropy, catalog, method
from kdtutor.models import adapt, resnet8
from kdtutor.taps import example_input, shapes

ROWS = catalog()
NAMES = ROWS["name"].tolist()
OFFLINE = [row["name"] for _, row in ROWS.iterrows() if issubclass(row.distiller, Offline)]
BUILT = ("FSP", "AB", "Jacobian", "AT", "F-ActT", "RKD-DA", "CRD", "ONE")
ANSWERS = ["Hinton", "BSS", "AT-gradient", "BAN", "BAN+L", "CWTM", "DKPP", "FitNet"]


class Only(nn.Module):
    """A network like a ViT: it takes one size."""

    def __init__(self, size=64, classes=3, width=4, named=False):
        super().__init__()
        self.size = size
        self.layer1 = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(width, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.fc = nn.Linear(8, classes)

    def forward(self, pixels):
        if pixels.shape[-1] != self.size:
            raise AssertionError(f"Input height ({pixels.shape[-1]}) does not match {self.size}")
        return self.fc(self.layer2(self.layer1(pixels)).mean((2, 3)))


def only(seed=0, **kwargs):
    torch.manual_seed(seed)
    return Only(**kwargs)


def stated(shape=(1, 32, 32), seed=1, **kwargs):
    net = only(seed, **kwargs)
    net.input_shape = shape
    return net


def photos(size=64, classes=3, n=24, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(n, 1, size, size, generator=g), torch.arange(n) % classes
    return Data("photos", classes, Split(x, y), Split(x[:4], y[:4]))


def make(name, student, teacher, **kwargs):
    row = method(name)
    kwargs = {**row.settings, **kwargs}
    if row.distiller is DML:
        return DML([student, teacher], **kwargs)
    if row.distiller in (CrossEntropy, ONE):
        return row.distiller(student, **kwargs)
    return row.distiller(student, teacher, **kwargs)


def train(distiller, data, epochs=2):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a stage as short as this may end worse than it began
        return fit(distiller, data, epochs, batch_size=8, lr=1e-3, progress=False, validation=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_takes_an_example(name):
    assert "example" in inspect.signature(method(name).distiller.__init__).parameters
    distiller = make(name, only(1), only(2), example=torch.rand(2, 1, 64, 64))
    assert train(distiller, photos()).status == "finished"


@pytest.mark.parametrize("name", NAMES)
def test_an_example_that_does_not_fit_is_one_sentence(name):
    with pytest.raises(ValueError, match=r"\(Only\) cannot run on .*\(2, 1, 32, 32\).*height"):
        make(name, only(1), only(2), example=torch.rand(2, 1, 32, 32))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_of_another_kind(name):
    for given, said in (([1, 2], "example= is a list"), ({"x": 3}, "example= holds a int")):
        with pytest.raises((TypeError, ValueError), match=f"{said}|differentiates"):
            make(name, only(1), only(2), example=given)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "ONE"])
def test_no_network_is_refused_for_its_stated_shape(name):
    """A kdtutor student states 32 px; student, teacher and data are of 64."""
    student, some = resnet8(3, channels=1), photos()
    teacher = stated((1, 64, 64)) if name not in ANSWERS or name == "FitNet" else only(2)
    layers = {}
    if name in ("AB", "FSP", "F-ActT", "AT", "SP", "Jacobian", "FitNet"):
        layers = {"layers": [("layer2", "layer1"), ("layer3", "layer2")]}
        layers = {"layers": [("layer3", "layer2")]} if name in ("FitNet", "Jacobian") else layers
    if name == "FSP":
        student, layers = stated((1, 32, 32), 3), {"layers": ["layer1", "layer2"]}
    if name == "DML":
        teacher = only(2)
    assert train(make(name, student, teacher, **layers), some).status == "finished"


@pytest.mark.parametrize("name", [n for n in NAMES if n in BUILT])
def test_what_must_be_built_asks_for_an_example(name):
    """Both say 32 and take 64 only: nothing can be built from that."""
    student, teacher = stated(), stated(seed=2)
    said = r"cannot run on inputs of float32 of shape \(2, 1, 32, 32\).*"
    with pytest.raises((ValueError, AssertionError), match=f"{said}example=|height"):
        make(name, student, teacher)
    distiller = make(name, student, teacher, example=torch.rand(2, 1, 64, 64))
    assert train(distiller, photos()).status == "finished"


@pytest.mark.parametrize("name", [n for n in ANSWERS if n != "FitNet"])
def test_other_classes_are_found_in_the_first_batch(name):
    """Nothing could be known before, and no step is made."""
    student, teacher = resnet8(3, channels=1), only(2, classes=5)
    distiller = make(name, student, teacher)
    before = {k: v.clone() for k, v in student.state_dict().items()}
    with pytest.raises(ValueError, match=r"different numbers of classes.*\(2, 3\).*\(2, 5\)"):
        train(distiller, photos())
    assert all(torch.equal(before[k], v) for k, v in student.state_dict().items())


@pytest.mark.parametrize("name", OFFLINE)
def test_a_teacher_that_cannot_take_the_data_is_one_sentence_before_training(name):
    example = torch.rand(2, 1, 32, 32)
    layers = {"layers": ["layer1", "layer2"]} if name == "FSP" else {}
    distiller = make(name, only(1, size=32), only(2, size=32), example=example, **layers)
    distiller.teacher = Teacher(only(2, size=64))
    with pytest.raises(ValueError, match=r"the teacher \(Only\) cannot run.*models.adapt\(teacher"):
        train(distiller, photos(32))


def test_a_student_that_cannot_take_the_data_is_one_sentence():
    with pytest.raises(ValueError, match=r"the student \(Only\) cannot run on .*Input height"):
        train(CrossEntropy(only()), photos(32))


def test_peers_that_cannot_take_the_data_or_differ():
    with pytest.raises(ValueError, match=r"network 2 \(Only\) cannot run"):
        train(DML([resnet8(3, channels=1), only()]), photos(32))
    with pytest.raises(ValueError, match="different numbers of classes"):
        train(DML([only(0), only(1, classes=5)]), photos())
    with pytest.raises(ValueError, match="different numbers of classes"):
        DML([only(0), only(1, classes=5)], example=torch.rand(2, 1, 64, 64))


def test_an_adapter_is_what_the_sentence_asks_for():
    student, teacher = resnet8(3, channels=1), only()
    assert train(make("Hinton", student, adapt(teacher, size=64)), photos(32)).rows


# --- inputs by name


class Named(Only):
    """As transformers' networks: its inputs are named, and there are more than one."""

    def forward(self, pixels, shift):
        return super().forward(pixels + shift)


def named(seed=0, **kwargs):
    torch.manual_seed(seed)
    return Named(size=16, **kwargs)


def by_name(n=24):
    g = torch.Generator().manual_seed(0)
    x = {
        "pixels": torch.rand(n, 1, 16, 16, generator=g),
        "shift": torch.randn(n, 1, 1, 1, generator=g),
    }
    y = torch.arange(n) % 3
    return Data("named", 3, Split(x, y), Split({k: v[:4] for k, v in x.items()}, y[:4]))


PIXELS = ("BSS", "AT-gradient", "Jacobian")
BY_NAME = [n for n in NAMES if n not in PIXELS]


@pytest.mark.parametrize("name", BY_NAME)
def test_inputs_may_be_mappings(name):
    data = by_name()
    example = {k: v[:2] for k, v in data.train.x.items()}
    distiller = make(name, named(1), named(2), example=example)
    assert train(distiller, data).status == "finished"


@pytest.mark.parametrize("name", [n for n in BY_NAME if n not in ("DML", "CrossEntropy", "ONE")])
def test_a_mapping_gives_the_terms_of_the_tensor_alone(name):
    """With no shift the named network is the plain one."""
    found, x = [], torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    for kind, given in ((Only, x), (Named, {"pixels": x, "shift": torch.zeros(6, 1, 1, 1)})):
        nets = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            nets.append(kind(size=16))
        torch.manual_seed(5)
        example = {k: v[:2] for k, v in given.items()} if isinstance(given, dict) else given[:2]
        distiller = make(name, *nets, example=example)
        distiller.prepare(Split(given, torch.arange(6) % 3))
        torch.manual_seed(6)
        batch = Batch(given, torch.arange(6) % 3, torch.arange(6))
        terms = [p.terms(batch) for s in distiller.stages() for p in s.players]
        found.append([{k: v.item() for k, v in t.items()} for t in terms])
    assert found[0] == found[1]


@pytest.mark.parametrize("name", PIXELS)
def test_what_needs_pixels_refuses_a_mapping(name):
    data, settings = by_name(), {}
    example = {k: v[:2] for k, v in data.train.x.items()}
    said = "differentiates by the pixels.*one tensor.*'pixels', 'shift'"
    with pytest.raises(ValueError, match=f"{method(name).distiller.__name__} {said}"):
        make(name, named(1), named(2), example=example)
    if name == "Jacobian":
        settings = {"variant": "code"}  # which builds nothing
    distiller = make(name, named(1), named(2), **settings)
    with pytest.raises(ValueError, match=f"{method(name).distiller.__name__} {said}"):
        train(distiller, data)
    both = Composition(
        {name.replace("-", ""): make(name, student := named(1), named(2), **settings)}
    )
    assert both.student is student
    with pytest.raises(ValueError, match=said):
        train(both, data)


@pytest.mark.parametrize("name", PIXELS)
def test_what_needs_pixels_refuses_whole_numbers(name):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.fc = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(self.embed(x).mean(1))

    x, y = torch.randint(0, 9, (24, 5)), torch.arange(24) % 3
    data = Data("words", 3, Split(x, y))
    settings = {"variant": "code"} if name == "Jacobian" else {}
    with pytest.raises(ValueError, match="differentiates by the pixels.*torch.int64"):
        train(make(name, Words(), Words(), **settings), data)


@pytest.mark.parametrize("name", PIXELS)
def test_a_teacher_without_gradients(name):
    class Closed(Only):
        @torch.no_grad()
        def forward(self, pixels):
            return super().forward(pixels)

    settings = {"variant": "code"} if name == "Jacobian" else {}
    distiller = make(name, only(1, size=16), Closed(size=16), **settings)
    with pytest.raises(ValueError, match=r"answer of Closed has no gradient.*torch.no_grad\(\)"):
        train(distiller, photos(16))


def test_a_dry_run_takes_mappings():
    x = {"pixels": torch.rand(2, 1, 16, 16), "shift": torch.zeros(2, 1, 1, 1)}
    assert shapes(named(), ["layer1", "fc"], x) == {"layer1": (4, 8, 8), "fc": (3,)}
    moved = example_input(named().to("meta"), x)
    assert {t.device.type for t in moved.values()} == {"meta"}
    with pytest.raises(ValueError, match="uint8.*normalised"):
        example_input(named(), {"pixels": torch.zeros(2, 1, 16, 16, dtype=torch.uint8)})
    ids = {"input_ids": torch.zeros(2, 5, dtype=torch.uint8)}
    assert example_input(named(), ids)["input_ids"].dtype == torch.uint8


def test_the_first_batch_is_looked_at_with_the_methods_of_a_composition_too():
    student = resnet8(3, channels=1)
    both = Composition({"KD": make("Hinton", student, only(2, classes=5))})
    with pytest.raises(ValueError, match="different numbers of classes"):
        train(both, photos())


def test_a_cached_teacher_is_not_asked_again():
    calls = []
    data = blobs()
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    teacher.register_forward_hook(lambda *a: calls.append(1))
    student = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    kept = Teacher(teacher).cached(data, fill=True)
    before = len(calls)
    fit(make("Hinton", student, kept), data, 1, progress=False)
    assert len(calls) == before


# --- frozen students


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_student_is_refused_whatever_learns_beside_it(name):
    student, teacher = stated((1, 16, 16), 1, size=16), stated((1, 16, 16), 2, size=16, width=6)
    student.requires_grad_(False)
    layers = {"layers": ["layer2"]} if name in ("F-ActT", "AT", "Jacobian") else {}
    if name == "FSP":
        teacher, layers = stated((1, 16, 16), 2, size=16), {"layers": ["layer1", "layer2"]}
    with pytest.raises(ValueError, match="no trainable parameter.*A Teacher freezes its network"):
        train(make(name, student, teacher, **layers), photos(16))


# --- default layers of networks that state no shape


class HeadFirst(nn.Module):
    """Its classifier is defined before the layer that it reads."""

    def __init__(self, size=16):
        super().__init__()
        self.head, self.body = nn.Linear(8, 3), nn.Linear(size**2, 8)

    def forward(self, pixels):
        return self.head(self.body(pixels.flatten(1)).relu())


@pytest.mark.parametrize("name", ["RKD-DA", "CRD"])
@pytest.mark.parametrize("first", [True, False])
def test_one_stated_shape_serves_both_networks(name, first):
    nets = [stated((1, 16, 16), size=16), HeadFirst()]
    distiller = make(name, *(nets if first else nets[::-1]))
    assert set(distiller.layers[0]) == {"fc:input", "head:input"}
    assert train(distiller, photos(16)).status == "finished"


def test_a_guess_from_a_shape_that_does_not_fit_is_looked_at_in_the_first_batch():
    distiller = make("RKD-DA", resnet8(3, channels=1), HeadFirst())
    with pytest.raises(ValueError, match="reads 'head:input', not 'body:input'"):
        train(distiller, photos(16))


def test_of_mappings_too():
    class Named(HeadFirst):
        def forward(self, pixels, shift):
            return super().forward(pixels + shift)

    distiller = make("RKD-DA", named(), Named())
    with pytest.raises(ValueError, match="reads 'head:input', not 'body:input'"):
        train(distiller, by_name())
