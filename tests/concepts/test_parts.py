"""Found cells against known parts: precision, recall, average precision, by hand and against
loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdtutor.concepts import average_precision, part_cells, precision_recall, top_cells
from kdtutor.datasets import load


def test_cells_of_the_parts_that_decide():
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[0, :2, :2], mask[0, 2:4, :2], mask[0, 6:, 6:] = 1, 3, 4  # the body does not decide
    mask[0, 0, 4], mask[0, 2:4, 4] = 2, 2  # a quarter of a cell, half of a cell
    cells = part_cells(mask, grid=4).cells[0]
    assert cells.nonzero().tolist() == [[1, 0], [1, 2], [3, 3]]
    assert part_cells(mask, grid=4, parts=[1]).cells[0].nonzero().tolist() == [[0, 0]]
    split = load("scenes", n_train=8, n_test=8).test
    robot = part_cells(split.extra["part_mask"], parts=[1, 2, 3, 4], share=0.01).cells
    assert (part_cells(split.extra["part_mask"]).cells <= robot).all()


def test_precision_and_recall_by_hand():
    found = torch.tensor([[[1, 1], [1, 0]], [[0, 0], [0, 0]], [[1, 0], [0, 0]]]).bool()
    wanted = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [0, 0]], [[0, 0], [0, 0]]]).bool()
    precision, recall = precision_recall(found, wanted)
    assert precision[0] == pytest.approx(1 / 3) and precision[1].isnan() and precision[2] == 0
    assert recall[0] == 1 and recall[1] == 0 and recall[2].isnan()


def test_top_cells_takes_as_many_as_asked_and_the_first_of_a_tie():
    score = torch.tensor(
        [[[0.1, 0.9], [0.5, 0.9]], [[1.0, 1.0], [1.0, 1.0]], [[3.0, 2.0], [1.0, 0.0]]]
    )
    found = top_cells(score, torch.tensor([1, 3, 0]))
    assert found.int().tolist() == [[[0, 1], [0, 0]], [[1, 1], [1, 0]], [[0, 0], [0, 0]]]


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=9, max_size=9))
def test_average_precision_is_the_mean_precision_at_each_wanted_cell(cells):
    score, wanted = (torch.tensor([c[i] for c in cells]).view(1, 3, 3) for i in (0, 1))
    found = average_precision(score.float(), wanted.bool())[0].item()
    levels = sorted({c[0] for c in cells}, reverse=True)
    total = sum(w for _, w in cells)
    if not total:
        assert math.isnan(found)
        return
    value, seen = 0.0, 0
    for level in levels:  # cells of one score come together
        hits = sum(w for s, w in cells if s >= level)
        value += (hits - seen) / total * hits / sum(s >= level for s, _ in cells)
        seen = hits
    assert found == pytest.approx(value)


def test_average_precision_of_perfect_and_constant_scores():
    wanted = torch.tensor([[[1, 0], [0, 1]]]).bool()
    assert (
        average_precision(wanted.float(), wanted)[0] == 1
        and average_precision(torch.ones(1, 2, 2), wanted)[0] == 0.5
    )
