"""TorchScript and exported programs: what they answer may be used, what they hide is said."""

import functools
import warnings

import pytest
import torch
from losses import images
from torch import nn

from kdtutor import Teacher, evaluate, fit
from kdtutor.methods import DML, ONE, CrossEntropy, FitNet, Hinton, catalog, method
from kdtutor.models import adapt, resnet8
from kdtutor.runs import describe
from kdtutor.taps import Taps, cut
from kdtutor.taps.default_layers import embedding, levels
from kdtutor.taps.written_down import fixed_modes

X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
NAMES = catalog()["name"].tolist()
ANSWERS = ("Hinton", "BSS", "AT-gradient", "BAN", "BAN+L", "CWTM", "DKPP")


def network(seed=0):
    torch.manual_seed(seed)
    net = resnet8(3, channels=1)
    net.input_shape = (1, 8, 8)
    return net


def exported(net, x=X):
    shapes = ({0: torch.export.Dim.AUTO},)
    return torch.export.export(net, (x,), dynamic_shapes=shapes).module()


def quiet(make):
    def made(net):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
            return make(net)

    return made


scripted, traced = quiet(torch.jit.script), quiet(lambda net: torch.jit.trace(net, X))
PROGRAMS = {"scripted": scripted, "traced": traced, "exported": exported}
each = pytest.mark.parametrize("write", PROGRAMS.values(), ids=PROGRAMS)


def make(name, student, teacher):
    row = method(name)
    if row.distiller is DML:
        return DML([student, teacher])
    if row.distiller in (CrossEntropy, ONE):
        return row.distiller(student)
    return row.distiller(student, teacher, **row.settings)


def rows(distiller, **kwargs):
    history = fit(distiller, images(), 1, batch_size=60, progress=False, **kwargs)
    told = ("seconds", "stage")
    return [{k: v for k, v in row.items() if k not in told} for row in history.rows]


@functools.cache
def right_rows(name):
    return rows(make(name, network(1), network(2)))


@each
@pytest.mark.parametrize("name", ANSWERS)
def test_as_a_teacher_it_answers_as_its_network(name, write):
    found = rows(make(name, network(1), Teacher(write(network(2).eval()))))
    right = right_rows(name)
    assert found[0].keys() == right[0].keys()
    assert all(found[0][k] == pytest.approx(v, rel=1e-4, abs=1e-6) for k, v in right[0].items())


@each
def test_ensembles_caches_adapters_and_measures(write):
    data, program = images(), write(network(2).eval())
    some = next(iter(data.batches(data.train, 8)))
    right = Teacher(network(2))(some)
    for teacher in (Teacher(program), Teacher(adapt(program, size=8))):
        torch.testing.assert_close(teacher(some), right, atol=1e-5, rtol=1e-5)
        assert not any(p.requires_grad for p in program.parameters())
        cached = teacher.cached(data, fill=True)
        torch.testing.assert_close(cached(some), right, atol=1e-5, rtol=1e-5)
    both = Teacher([program, network(3)])(some)
    torch.testing.assert_close(both, Teacher([network(2), network(3)])(some), atol=1e-5, rtol=1e-5)
    assert evaluate(Teacher(program), data) == evaluate(Teacher(network(2)), data)


@each
@pytest.mark.parametrize("name", [n for n in NAMES if n not in (*ANSWERS, "CrossEntropy", "DML")])
def test_its_layers_cannot_be_read(name, write):
    said = "a TorchScript module|an exported program"
    with pytest.raises(ValueError, match=f"is ({said}), whose layers .*cannot be read.*Hinton"):
        make(name, network(1), Teacher(write(network(2).eval())))
        make(name, scripted(network(1)), None)  # ONE has no teacher


@each
def test_nothing_else_reads_or_cuts_them(write):
    program = write(network().eval())
    holder = nn.Sequential(program, nn.Flatten())
    reads = [
        lambda: Taps(program, ["layer1"]),
        lambda: levels(program),
        lambda: embedding(program),
        lambda: cut(program, "layer1", X),
        lambda: Taps(adapt(program, size=8), ["layer1"]),
        lambda: Teacher(program).features(X, ["layer1"]),
        lambda: FitNet(network(), program, [("layer2", "layer2")]),
    ]
    for read in reads:
        with pytest.raises(ValueError, match="cannot be read"):
            read()
    with pytest.raises(ValueError, match="cannot be read|never ran"):
        Taps(holder, ["0.layer1"])(X)
    assert torch.equal(Taps(holder, ["1"])(X)[1]["1"], program(X)), "what is around it can be"


def test_a_scripted_student_learns_as_its_network(tmp_path):
    teacher = network(2)
    found = rows(Hinton(scripted(network(1)), teacher), run_dir=tmp_path)
    right = right_rows("Hinton")
    assert all(found[0][k] == pytest.approx(v, rel=1e-4, abs=1e-6) for k, v in right[0].items())
    again = fit(Hinton(scripted(network(1)), teacher), images(), 1, batch_size=60, progress=False,
                run_dir=tmp_path)  # fmt: skip
    assert again.rows[0]["loss"] == found[0]["loss"], "the same run, which is read"


@pytest.mark.parametrize("write", [traced, exported], ids=["traced", "exported"])
@pytest.mark.parametrize("mode", [True, False])
def test_what_has_one_mode_cannot_learn(write, mode):
    program = write(network(1).train(mode))
    said = "a TorchScript module|an exported program"
    for given in (lambda: Hinton(program, network(2)), lambda: CrossEntropy(program)):
        with pytest.raises(ValueError, match=f"the student is ({said}).*one mode.*deploy"):
            given()
    with pytest.raises(ValueError, match=f"network 2 is ({said})"):
        DML([network(2), program])
    with pytest.raises(ValueError, match=f"the student is ({said})"):
        Hinton(adapt(program, size=8), network(2))


@pytest.mark.parametrize("write", [traced, exported], ids=["traced", "exported"])
@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm2d(1), nn.Dropout2d(0.5)])
def test_a_teacher_made_in_training_mode_is_refused(write, layer):
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(ValueError, match="made in training mode.*net.eval()"):
        Teacher(write(net.train()))
    with pytest.raises(ValueError, match="made in training mode"):
        Teacher(adapt(write(net.train()), size=8))
    kept = Teacher(write(net.eval()))
    assert torch.equal(kept(X), kept(X))


def test_a_program_without_modes_may_learn():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    assert fixed_modes(traced(net)) == set() and fixed_modes(scripted(network())) == set()
    assert rows(CrossEntropy(traced(net)))


@each
def test_a_program_is_told_by_what_it_does(write):
    one, same, other = (write(net.eval()) for net in (network(1), network(1), network(2)))
    assert describe(one) == describe(same) != describe(other)
    more = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU())
    less = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Tanh())
    less.load_state_dict(more.state_dict())
    assert describe(write(more.eval())) != describe(write(less.eval()))


def test_an_exported_program_of_another_size_is_one_sentence():
    program = exported(network(2).eval(), torch.rand(2, 1, 16, 16))
    with pytest.raises(ValueError, match=r"the teacher \(.*\) cannot run on .*models.adapt"):
        rows(Hinton(network(1), program))
    assert rows(Hinton(network(1), adapt(program, size=16)))


def test_a_program_for_one_size_of_batches_is_one_sentence_before_training():
    program = torch.export.export(network(2).eval(), (X,)).module()  # torch's default
    torch.testing.assert_close(Teacher(program)(X), network(2).eval()(X))
    for wrapped in (program, adapt(program, classes=[0, 1, 2])):
        with pytest.raises(ValueError, match=r"for batches of exactly 2.*Dim\('batch'\)"):
            rows(Hinton(network(1), wrapped))
        with pytest.raises(ValueError, match="for batches of exactly 2"):
            Teacher(wrapped)(torch.rand(3, 1, 8, 8))


def test_an_exported_program_itself_is_no_network():
    program = torch.export.export(network(2).eval(), (X,))
    for given in (program, [program]):
        with pytest.raises(ValueError, match=r"program.module\(\)"):
            Teacher(given)
    with pytest.raises(ValueError, match=r"program.module\(\)"):
        Hinton(network(1), program)
