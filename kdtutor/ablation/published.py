"""Tables as data: what the papers published (``data/papers``) and what was measured with this
package (``data/results``).
"""

from ..datasets.root import resolve
from ..errors import unknown


def published(name: str):
    """A published table, by the beginning of its file's name: ``published("ban2018")``.

    Args:
        name: The beginning of the name, in any case.

    Returns:
        A pandas table. Accuracies and errors are in percent, as printed.

    Raises:
        ValueError: With the names there are.
    """
    return _table("papers", "published table", name)


def measured(name: str):
    """A table that a benchmark of this package wrote: ``measured("label_noise")``.

    How it was made stands in the file's first lines.

    Args:
        name: The beginning of the name, in any case.

    Returns:
        A pandas table. Accuracies are shares, 0 to 1.

    Raises:
        ValueError: With the names there are.
    """
    return _table("results", "measured table", name)


def _table(folder: str, kind: str, name: str):
    import pandas as pd

    where = resolve() / folder
    found = sorted(where.glob("*.csv"))
    matches = [f for f in found if f.stem.lower().startswith(str(name).lower())]
    if len(matches) != 1:
        raise unknown(
            kind if not matches else f"{kind} (several begin so)",
            name,
            [f.stem for f in found],
            f"They lie in {where}.",
        )
    return pd.read_csv(matches[0], comment="#")
