"""What the loop watches for: a stage that ends worse than it began."""

import warnings

import pytest
import torch
from torch import nn

from kdtutor.distiller import Player, Stage
from kdtutor.training.watch import _answers_finitely, warn_if_worse

STAGE = Stage("hint", 1, [Player("student", lambda batch: {}, list(nn.Linear(1, 1).parameters()))])


def warned(*losses: float) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warn_if_worse(STAGE, [{"loss": loss} for loss in losses])
    return [str(w.message) for w in seen]


@pytest.mark.parametrize(
    "first, last, worse",
    [
        (2.0, 2.019, False),
        (2.0, 2.021, True),  # more than 1 %, which is noise
        (2.0, 1.0, False),
        (-2.0, -1.981, False),
        (-2.0, -1.979, True),
        (0.0, 0.0, False),
        (0.0, 0.1, True),
    ],
)
def test_a_stage_that_ends_more_than_a_percent_above_its_start_is_named(first, last, worse):
    found = warned(first, 9.0, last)  # what lies between does not matter
    assert len(found) == worse
    if worse:
        assert f"'hint' ended worse than it began: loss {first:.4g}" in found[0]
        assert f"{last:.4g} in its last" in found[0]


def test_one_epoch_is_no_course():
    assert warned(3.0) == warned() == []


def test_what_holds_no_logits_tells_nothing_about_where_a_nan_came_from():
    nan = torch.tensor([float("nan")])
    assert _answers_finitely(lambda: {"a": nan, "b": nan})  # which of them is the answer?
    assert _answers_finitely(lambda: torch.ones(2)) and not _answers_finitely(lambda: nan)
