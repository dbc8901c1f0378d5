"""Which columns of a store's frame are measures on the test set, and how they are read."""

from collections.abc import Iterable, Mapping

ACCURACY = "test_accuracy_last"


def measured(columns: Iterable[str]) -> list[str]:
    """The last epoch's test metrics of the deployed network among some names, accuracy first.

    Args:
        columns: Names of a frame's columns, or of a record's entries.

    Returns:
        Those like "test_accuracy_last", "test_mean_iou_last"; other networks' ("net2.test_...") are
        left out.

    Example:
        >>> measured(["seconds", "test_mse_last", "net2.test_mse_last", "test_accuracy_last"])
        ['test_accuracy_last', 'test_mse_last']
    """
    found = [c for c in columns if c.startswith("test_") and c.endswith("_last")]
    return sorted(found, key=lambda c: c != ACCURACY)


def word(column: str) -> str:
    """A metric's name for readers.

    Args:
        column: The name of a frame's column.

    Example:
        >>> word("test_mean_iou_last")
        'mean iou'
    """
    return column.removeprefix("test_").removesuffix("_last").replace("_", " ")


def lower_is_better(record: Mapping) -> bool:
    """Is less better in this run's metric? Runs say so where it is."""
    return record.get("better") == "lower"


def is_share(column: str, record: Mapping) -> bool:
    """Is the metric a share in [0, 1], shown in percent?

    Of the task's own metrics, those of which more is better are.

    Args:
        column: The metric's name.
        record: A run's record, which holds it.
    """
    return not lower_is_better(record) and 0 <= record[column] <= 1
