"""A teacher in another floating-point type than its student gets its inputs in that type, and its
answers, features and gradients are those of its weights.
"""

import pytest
import torch
from losses import images

from kdtutor import Teacher, fit
from kdtutor.datasets import Batch, Split
from kdtutor.distiller import Offline
from kdtutor.methods import Hinton, catalog, method
from kdtutor.models import adapt, resnet8
from kdtutor.taps import input_gradient
from kdtutor.taps.examples import for_network

ROWS = catalog()
OFFLINE = [row["name"] for _, row in ROWS.iterrows() if issubclass(row.distiller, Offline)]
KINDS = [torch.float16, torch.bfloat16, torch.float64]


def network(seed=0):
    torch.manual_seed(seed)
    net = resnet8(3, channels=1)
    net.input_shape = (1, 8, 8)
    return net


def batch(n=6):
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    return Batch(x, torch.arange(n) % 3, torch.arange(n))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OFFLINE)
def test_every_method_learns_from_it(name, kind):
    row, some, found = method(name), batch(), []
    for dtype in (torch.float32, kind):
        torch.manual_seed(5)
        distiller = row.distiller(network(1), network(2).to(dtype), **row.settings).train()
        distiller.prepare(Split(some.x, some.y))
        torch.manual_seed(6)
        terms = {}
        for stage in distiller.stages():
            for player in stage.players:
                terms |= player.terms(some)
        sum(terms.values()).backward()
        found.append({k: v.item() for k, v in terms.items() if k != "bss"})  # walks part early
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert found[1][key] == pytest.approx(value, rel=0.1, abs=0.02), key


@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_features_are_float32_at_least(kind):
    net, x = network().eval().to(kind), batch().x
    teacher, wide = Teacher(net), torch.promote_types(kind, torch.float32)
    right = net(x.to(kind)).to(wide)
    assert torch.equal(teacher(x), right) and teacher(x).dtype == wide
    logits, features = teacher.features(x, ["layer2"])
    assert features["layer2"].dtype == wide and torch.equal(logits.to(wide), right)
    gradient = teacher.input_gradient(x, lambda z, _: z[:, 0])[0]
    assert gradient.dtype == x.dtype and gradient.abs().sum() > 0


def test_inputs_by_name_and_whole_numbers():
    net = network().half()
    given = {"ids": torch.ones(2, dtype=torch.int64), "pixels": torch.rand(2, 1)}
    cast = for_network(net, given)
    assert cast["ids"] is given["ids"] and cast["pixels"].dtype == torch.float16
    assert for_network(torch.nn.Identity(), given["pixels"]) is given["pixels"]
    assert for_network(network(), given["pixels"]) is given["pixels"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapted_one(kind):
    net = adapt(network(2).to(kind), size=12, mean=0.3, std=0.2, data=((), ()))
    history = fit(Hinton(network(1), net), images(), 1, batch_size=60, progress=False)
    assert history.status == "finished"
    x = batch().x.double()
    right = adapt(network(2).double().eval(), size=12, mean=0.3, std=0.2, data=((), ()))
    torch.testing.assert_close(Teacher(net)(x).double(), right(x), atol=0.05, rtol=0.05)


def test_a_students_inputs_stay_as_they_are():
    """Its own type is the data's matter, and said before training."""
    with pytest.raises(ValueError, match=r"weights torch.float64.*x.float\(\)"):
        fit(Hinton(network(1).double(), network(2)), images(), 1, progress=False)
    x = batch().x.double()
    assert input_gradient(network(), x, lambda z, _: z[:, 0])[0].dtype == torch.float64
