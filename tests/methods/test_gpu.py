"""On a GPU every method of the catalog computes what it computes on the CPU, and waits for nothing
within a step.
"""

import copy
import warnings

import pytest
import torch
from losses import images
from small import weights
from stand_in import free_steps

from kdtutor import Teacher, fit
from kdtutor.methods import CRD
from tests.methods.test_catalog import NAMES, goes_through_fit, make, network

# Its first question decides how many images are walked to the boundary.
READS = {"BSS"}


@pytest.fixture(autouse=True)
def exact():
    """No TF32: what a GPU computes may differ from a CPU by rounding alone."""
    convolutions, products = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = convolutions.fp32_precision, products.fp32_precision
    convolutions.fp32_precision = products.fp32_precision = "ieee"
    yield
    convolutions.fp32_precision, products.fp32_precision = before


def first_batch(data, device):
    order = torch.Generator().manual_seed(0)
    return next(data.batches(data.train, 30, shuffle=order, augment=True, device=device))


@pytest.mark.parametrize("name", NAMES)
def test_the_terms_are_those_of_the_cpu(name, gpu):
    found = []
    for device in ("cpu", gpu):
        torch.manual_seed(0)
        teacher = Teacher(network(9))
        distiller, data = make(name, teacher), images()
        if isinstance(distiller, CRD):
            distiller.negatives = len(data.train)  # all of them: what is drawn does not matter
        distiller.prepare(data.train)
        for net in (distiller, *teacher.nets):
            net.to(device)
        distiller.train()
        batch = first_batch(data, device)
        found.append(
            {
                (stage.name, player.name, term): value.detach().cpu()
                for stage in distiller.stages()
                for player in stage.players
                for term, value in player.terms(batch).items()
            }
        )
    here, there = found
    # Which images BSS walks towards which class is drawn from the device's own numbers.
    drawn = {key for key in here if key[2] == "bss"}
    assert here.keys() == there.keys()
    for key in here.keys() - drawn:
        assert torch.allclose(here[key], there[key], rtol=1e-3, atol=1e-5), key
    assert all(torch.isfinite(there[key]) for key in drawn)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_goes_through_fit_and_no_step_waits(name, gpu, monkeypatch):
    if name in READS:
        return goes_through_fit(name, gpu)
    with free_steps(monkeypatch, gpu, per_epoch=3) as steps:
        goes_through_fit(name, gpu)
    assert len(steps) == 9


@pytest.mark.parametrize("name", NAMES)
def test_bf16_trains(name, gpu):
    if not torch.amp.is_autocast_available(gpu.type):
        pytest.skip("the stand-in has no mixed precision")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distiller = make(name, Teacher(network(9)))
        before = weights(copy.deepcopy(distiller.deploy()))
        history = fit(
            distiller, images(), 3, batch_size=30, progress=False, device=gpu, precision="bf16"
        )
    assert history.status == "finished"
    assert not torch.equal(before, weights(distiller.deploy()).cpu())
