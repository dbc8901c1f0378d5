"""Networks in float64 stay what they are: every method computes its terms with all their digits."""

import copy
import warnings

import pytest
import torch
from losses import images

from kdtutor import Teacher, fit
from kdtutor.datasets import Data, Split
from kdtutor.methods import CRD, DML, ONE, CrossEntropy, method
from tests.methods.test_catalog import NAMES, network


def double(data):
    """The same images, as float64 in [0, 1]."""
    parts = [Split(s.x.double() / 255, s.y) for s in (data.train, data.test)]
    return Data(data.name, data.classes, *parts)


def make(name, dtype):
    """The method around networks of this type."""
    row, student, teacher = method(name), network(1).to(dtype), Teacher(network(9).to(dtype))
    if row.distiller is DML:
        return DML([student, network(2).to(dtype)])
    if row.distiller is CrossEntropy:
        return row.distiller(student)
    if row.distiller is ONE:  # its branches are drawn anew, in either type from other numbers
        return ONE(network(1)).to(dtype)
    return row.distiller(student, teacher, **row.settings)


@pytest.mark.parametrize("name", NAMES)
def test_terms_have_all_digits(name):
    found = {}
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        data, distiller = double(images()), make(name, dtype).train()
        if isinstance(distiller, CRD):
            distiller.negatives = len(data.train)  # all: what is drawn does not matter
        distiller.prepare(data.train)
        batch = next(data.batches(data.train, 30))
        batch = batch._replace(x=batch.x.to(dtype))
        torch.manual_seed(1)
        for stage in distiller.stages():
            for player in stage.players:
                for term, value in player.terms(batch).items():
                    assert value.dtype == dtype, (term, value.dtype)
                    found.setdefault((stage.name, player.name, term), []).append(value.item())
    for key, (single, full) in found.items():
        # Which images BSS walks towards which class is drawn, in either type from other numbers.
        assert key[2] == "bss" or single == pytest.approx(full, rel=2e-3, abs=1e-5), key


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_through_fit(name):
    torch.manual_seed(0)
    distiller = make(name, torch.float64)
    before = copy.deepcopy(distiller.deploy().state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so short a stage may end worse than it began
        history = fit(distiller, double(images()), 3, batch_size=30, progress=False)
    after = distiller.deploy().state_dict()
    assert history.status == "finished"
    assert all(p.dtype == torch.float64 for p in distiller.parameters())
    assert any(not torch.equal(before[k], after[k]) for k in after)
