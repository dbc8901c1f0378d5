"""What ``fit`` makes of ``optimizer``, ``lr`` and ``weight_decay``: nothing that was stated is left
unused.
"""

import functools

import pytest
import torch
from small import blobs, net

from kdtutor import fit
from kdtutor.methods import CrossEntropy
from kdtutor.training import constant


def used(monkeypatch, kind=torch.optim.AdamW, **settings):
    """The settings of the optimiser that trained."""
    seen, step = [], kind.step

    def watched(self, *args, **kwargs):
        seen.append({k: self.defaults[k] for k in ("lr", "weight_decay")})
        return step(self, *args, **kwargs)

    monkeypatch.setattr(kind, "step", watched)
    fit(CrossEntropy(net()), blobs(), 1, schedule=constant, progress=False, **settings)
    return seen[-1]


def test_a_class_takes_the_stated_rate_and_decay(monkeypatch):
    adam = torch.optim.AdamW
    assert used(monkeypatch, optimizer=adam, lr=1e-5) == {"lr": 1e-5, "weight_decay": 1e-2}
    both = used(monkeypatch, optimizer=adam, lr=0.05, weight_decay=5e-4)
    assert both == {"lr": 0.05, "weight_decay": 5e-4}  # stated, though they are fit's defaults
    assert used(monkeypatch, optimizer=adam) == {"lr": 1e-3, "weight_decay": 1e-2}


def test_the_default_is_sgd(monkeypatch):
    sgd = torch.optim.SGD
    assert used(monkeypatch, sgd) == {"lr": 0.05, "weight_decay": 5e-4}
    assert used(monkeypatch, sgd, lr=0.1, weight_decay=0) == {"lr": 0.1, "weight_decay": 0}


@pytest.mark.parametrize("settings", [{"lr": 0.1}, {"weight_decay": 0.0}, {"lr": 0.05}])
@pytest.mark.parametrize(
    "make", [lambda p: torch.optim.AdamW(p), functools.partial(torch.optim.AdamW, lr=1e-3)]
)
def test_a_rate_that_a_function_would_not_use_is_an_error(make, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}=.* would not be used"):
        fit(CrossEntropy(net()), blobs(), 1, optimizer=make, progress=False, **settings)


def test_an_optimiser_instead_of_what_makes_one_is_an_error():
    student = net()
    with pytest.raises(ValueError, match=r"optimizer is a Adam object.*lambda parameters"):
        adam = torch.optim.Adam(student.parameters())
        fit(CrossEntropy(student), blobs(), 1, optimizer=adam, progress=False)


def test_another_rate_of_a_class_is_another_run(tmp_path):
    run = lambda **settings: fit(
        CrossEntropy(net()),
        blobs(),
        1,
        optimizer=torch.optim.AdamW,
        run_dir=tmp_path,
        progress=False,
        **settings,
    )
    run(lr=1e-3)
    assert run(lr=1e-3).status == "finished"
    with pytest.raises(ValueError, match="optimizer"):
        run(lr=1e-4)
