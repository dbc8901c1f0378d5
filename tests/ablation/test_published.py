"""The published tables, as printed, each with its source on top."""

from kdtutor import published


def test_each_table_names_its_paper_and_is_read_without_that_line(repo):
    paths = sorted((repo / "data" / "papers").glob("*.csv"))
    assert len(paths) >= 9
    for path in paths:
        first, second = path.read_text().splitlines()[:2]
        assert first.startswith("# ") and "arXiv" in first, path.name
        assert [*published(path.stem)] == second.split(",")
