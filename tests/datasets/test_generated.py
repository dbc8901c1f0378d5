"""Batches that a function makes train like any others, and repeat under a seed."""

import pytest
import torch
from small import blobs, net, weights

from kdtutor import fit
from kdtutor.datasets import GeneratedData
from kdtutor.methods import CrossEntropy
from kdtutor.tasks import Classification


def make(g, n, device):
    y = torch.randint(3, (n,), generator=g)
    x = torch.zeros(n, 1, 4, 4).index_fill_(0, torch.empty(0).long(), 0)
    x[torch.arange(n), 0, y, y] = 1
    return (x + 0.1 * torch.randn(n, 1, 4, 4, generator=g)).to(device), y.to(device)


def data(steps=5, **kwargs):
    return GeneratedData("made", make, steps, ("a", "b", "c"), Classification(), **kwargs)


def test_an_epoch_has_as_many_batches_as_were_said_whatever_their_size():
    made = data(5)
    for size in (3, 64):
        batches = list(made.batches(made.train, size))
        assert [len(b.y) for b in batches] == [size] * 5 and made.steps(made.train, size) == 5
    train, held = made.holdout(0.1)
    assert train == made.train and held is None
    with pytest.raises(ValueError, match="steps_per_epoch=0"):
        data(0)


def test_the_generator_decides_everything():
    draw = lambda seed: list(
        data().batches(data().train, 8, shuffle=torch.Generator().manual_seed(seed))
    )
    one, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(one, again))
    assert not torch.equal(one[0].x, other[0].x) and not torch.equal(one[0].x, one[1].x)


def test_fit_trains_on_them_and_measures_on_fixed_examples():
    student = net(1)
    seen = blobs(n=60)
    # The templates are others than what is made: only that it is measured matters here.
    history = fit(CrossEntropy(student), data(validation=seen.train, test=seen.test), 6,
                  batch_size=32, lr=0.2, progress=False)  # fmt: skip
    assert history.rows[-1]["ce"] < 0.5 * history.rows[0]["ce"]
    assert 0 <= history.rows[-1]["val_accuracy"] <= 1 and "test_accuracy_last" in history.result


def test_a_run_on_made_batches_repeats_and_resumes(tmp_path):
    def trained(epochs, folder=None, stop=None):
        student = net(1)
        fit(
            CrossEntropy(student),
            data(),
            epochs,
            batch_size=16,
            progress=False,
            run_dir=folder,
            stop=stop,
        )
        return weights(student)

    whole = trained(4)
    asked = iter([False, True])
    trained(4, tmp_path, lambda: next(asked))
    assert torch.equal(trained(4, tmp_path), whole)
