"""What the loop watches for: a stage that ends worse than it began."""

import warnings

import pytest
from torch import nn

from kdtutor.distiller import Player, Stage
from kdtutor.training.watch import warn_if_worse

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
