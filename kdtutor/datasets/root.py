"""Where the data lies: one ``data`` folder for the whole checkout, whichever folder a notebook or a
command runs in.
"""

from pathlib import Path

DEFAULT = "data"


def checkout() -> Path | None:
    """The root of the source checkout that this package is imported from.

    Returns:
        The folder; None for an installed copy.
    """
    parent = Path(__file__).resolve().parents[2]
    return parent if (parent / "notebooks").is_dir() else None


def resolve(root: str | Path = DEFAULT) -> Path:
    """The data directory that ``root`` means.

    The default, ``"data"``, is ``data`` in the current directory if there is one, else the
    checkout's (so that a notebook, which runs in ``notebooks/``, finds and fetches into the same
    folder as a command typed at the root), else ``data`` in the current directory.

    Args:
        root: Any other root means what it says: absolute, ``~``, or relative to the current
            directory.

    Returns:
        The path, whether or not it exists.

    Example:
        >>> resolve("elsewhere").as_posix()
        'elsewhere'
    """
    path = Path(root).expanduser()
    base = checkout()
    if path == Path(DEFAULT) and not path.exists() and base:
        return base / path
    return path
