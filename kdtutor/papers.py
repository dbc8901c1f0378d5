"""The tables that the papers published, as data: ``data/papers/*.csv``, for putting one's own results beside them."""

from .datasets.root import resolve
from .errors import unknown


def published(name: str):
    """A published table as a pandas frame, by the beginning of its file's name: ``published("ban2018")``.

    Accuracies and errors are in percent, as printed. Raises ``ValueError`` with the names there are.
    """
    import pandas as pd
    folder = resolve() / "papers"
    found = sorted(folder.glob("*.csv"))
    matches = [f for f in found if f.stem.lower().startswith(str(name).lower())]
    if len(matches) != 1:
        raise unknown("published table" if not matches else "published table (several begin so)", name, [f.stem for f in found],
                      f"They lie in {folder}.")
    return pd.read_csv(matches[0], comment="#")
