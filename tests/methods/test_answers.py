"""Whatever form a network's answer has, as student or teacher, every method computes what it
computes of the plain tensor: tuples, named tuples, mappings, transformers' outputs, and those that
come in training only.
"""

import warnings
from collections import OrderedDict, namedtuple

import pytest
import torch
from losses import images
from torch import nn

from kdtutor import Teacher, evaluate, fit
from kdtutor.datasets import Batch, Split
from kdtutor.methods import DML, ONE, Composition, CrossEntropy, catalog, method
from kdtutor.models import resnet8
from kdtutor.training import NonFiniteError

NAMES = catalog()["name"].tolist()
GoogLeNetOutputs = namedtuple("GoogLeNetOutputs", "logits aux_logits2 aux_logits1")


class ModelOutput(OrderedDict):
    """As transformers has them: a mapping whose entries are attributes, and positions."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, key):
        return dict(self.items())[key] if isinstance(key, str) else list(self.values())[key]


FORMS = {
    "tensor": lambda z: z,
    "tuple": lambda z: (z, -z),
    "list": lambda z: [z, z.sum(1)],
    "googlenet": lambda z: GoogLeNetOutputs(z, -z, -2 * z),
    "segmentation": lambda z: OrderedDict(aux=-z, out=z),
    "mapping": lambda z: {"features": z.sum(1), "logits": z},
    "one entry": lambda z: {"answer": z},
    "transformers": lambda z: ModelOutput(loss=z.sum(), logits=z, hidden_states=(-z,)),
}
IN_TRAINING = ("googlenet", "tuple")


def network(seed, form="tensor", only_in_training=False):
    """A network that answers in this form."""
    torch.manual_seed(seed)

    class Answers(type(resnet8())):
        def forward(self, x):
            z = super().forward(x)
            return FORMS[form](z) if self.training or not only_in_training else z

    net = resnet8(classes=3, channels=1)
    net.__class__ = Answers
    net.input_shape = (1, 8, 8)
    return net


def make(name, student, teacher, **kwargs):
    row = method(name)
    kwargs = {**row.settings, **kwargs}
    if row.distiller is DML:
        return DML([student, teacher], **kwargs)
    if row.distiller in (CrossEntropy, ONE):
        return row.distiller(student, **kwargs)
    return row.distiller(student, teacher, **kwargs)


def batch(n=6):
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    return Batch(x, torch.arange(n) % 3, torch.arange(n))


def values(name, student, teacher):
    """All terms of a method's first batch in training mode, and the student's gradient."""
    some = batch()
    torch.manual_seed(5)
    distiller = make(name, student, teacher).train()
    distiller.prepare(Split(some.x, some.y))
    found = []
    for stage in distiller.stages():
        for player in stage.players:
            torch.manual_seed(6)
            terms = player.terms(some)
            found.append({k: v.item() for k, v in terms.items()})
            sum(terms.values()).backward()
    return found, torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])


def quiet(distiller, data, epochs=1, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a stage as short as this may end worse than it began
        return fit(distiller, data, epochs, batch_size=30, progress=False, **kwargs)


@pytest.fixture(scope="module")
def plain():
    return {name: values(name, network(1), network(2)) for name in NAMES}


@pytest.mark.parametrize("form", [f for f in FORMS if f != "tensor"])
@pytest.mark.parametrize("name", NAMES)
def test_a_students_and_a_teachers_answer_of_any_form(name, form, plain):
    if name == "ONE" and form == "transformers":
        with pytest.raises(ValueError, match="Answers cannot be cut after 'layer2'"):
            values(name, network(1, form), None)
        return  # the steps of such an answer cannot be written down
    for nets in ((network(1, form), network(2)), (network(1), network(2, form))):
        found, gradient = values(name, *nets)
        assert found == plain[name][0]
        assert torch.equal(gradient, plain[name][1])


@pytest.mark.parametrize("form", IN_TRAINING)
@pytest.mark.parametrize("name", [n for n in NAMES if n != "ONE"])
def test_forms_that_come_in_training_only(name, form):
    distiller = make(name, network(1, form, True), network(2, form, True))
    usual = make(name, network(1), network(2))
    found, right = (quiet(d, images(), 2).rows for d in (distiller, usual))
    assert all(a[k] == b[k] for a, b in zip(found, right) for k in b if "loss" in k or "acc" in k)


def test_a_network_that_does_something_else_in_training_cannot_be_cut():
    with pytest.raises(ValueError, match="cannot be cut.*something else in training"):
        ONE(network(1, "tuple", True))


@pytest.mark.parametrize("form", FORMS)
def test_caches_ensembles_and_measures(form):
    data, nets = images(), [network(1, form), network(2, form)]
    plain = [network(1), network(2)]
    some = next(iter(data.batches(data.train, 8)))
    for given, right in ((nets[0], plain[0]), (nets, plain)):
        cached = Teacher(given).cached(data, fill=True)
        torch.testing.assert_close(cached(some), Teacher(right)(some), atol=1e-5, rtol=1e-5)
        assert evaluate(Teacher(given), data) == evaluate(Teacher(right), data)
    assert evaluate(nets[0], data) == evaluate(plain[0], data)


def test_methods_added_to_each_other():
    found = []
    for form in ("tensor", "transformers"):
        student, teacher = network(1, form), network(2, form)
        both = {"KD": make("Hinton", student, teacher), "AT": make("AT", student, teacher)}
        found.append({k: v.item() for k, v in Composition(both).terms(batch()).items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("name", [n for n in NAMES if n != "ONE"])
def test_an_answer_without_logits_is_one_sentence_before_training(name, monkeypatch):
    monkeypatch.setitem(FORMS, "none", lambda z: {"a": z, "b": z})
    student = network(1, "none")
    del student.input_shape
    example = {} if name in ("CrossEntropy", "DML") else {"example": batch().x}
    with pytest.raises(ValueError, match="network returned a mapping.*no logits to be found"):
        quiet(make(name, student, network(2), **example), images())


@pytest.mark.parametrize("form", FORMS)
def test_a_nan_is_diagnosed_whatever_the_teacher_returns(form):
    teacher = network(2, form)
    torch.nn.init.constant_(teacher.fc.bias, float("nan"))
    distiller = make("Hinton", network(1, form), teacher)
    with pytest.raises(NonFiniteError, match="the teacher's logits hold NaN"):
        quiet(distiller, images())


# --- two heads in training, their mean afterwards


class Distilled(nn.Module):
    """As DeiT: two heads of equal size."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.head, self.head_dist = nn.Linear(64, 3), nn.Linear(64, 3)

    def forward(self, x):
        a, b = self.head(x.flatten(1)), self.head_dist(x.flatten(1))
        return (a, b) if self.training else (a + b) / 2


@pytest.mark.parametrize("name", ["CrossEntropy", "Hinton", "BAN", "DML"])
def test_a_head_that_would_stay_untrained_is_told_of(name):
    said = r"Distilled answers with a tuple of 2 .*only the first.*adapt\(student, output="
    distiller = make(name, Distilled(1), Distilled(2))
    with pytest.warns(UserWarning, match=said) as heard:
        fit(distiller, images(), 1, batch_size=30, progress=False)
    assert sum("only the first" in str(w.message) for w in heard) <= 2  # of DML's two networks


def test_the_mean_of_both_heads_trains_both():
    from kdtutor.models import adapt

    mean = lambda z: (z[0] + z[1]) / 2 if isinstance(z, tuple) else z
    student = adapt(Distilled(1), output=mean)
    before = student.net.head_dist.weight.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(CrossEntropy(student), images(), 1, batch_size=30, progress=False)
    assert not torch.equal(before, student.net.head_dist.weight)


@pytest.mark.parametrize("form", ["googlenet", "tuple", "transformers"])
def test_other_tuples_are_not_told_of(form):
    """Auxiliary answers that eval mode does not use, and forms that are the same in both."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fit(make("CrossEntropy", network(1, form), None), images(), 1, progress=False)
    assert not [w for w in heard if "only the first" in str(w.message)]
