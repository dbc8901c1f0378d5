"""A run directory: made with its parents, and plain about a file that cannot be read."""

import pytest

from kdtutor.runs import RunDirectory


def test_the_folders_above_are_made(tmp_path):
    RunDirectory(tmp_path / "a" / "b" / "c")
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["c"]


def test_a_damaged_result_is_named(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.result is None
    run.finish({"test_accuracy_last": 0.5})
    assert run.result == {"test_accuracy_last": 0.5}
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ValueError, match=r"result\.json is corrupted.*Delete the run directory"):
        run.result  # noqa: B018
