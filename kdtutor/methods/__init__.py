"""Every distillation method, exported flat; the folders are the field's taxonomy.

``catalog()`` is the one table of what exists: notebooks' dropdowns and the ablation's names read
it. Its rows, and with them the classes that are exported here, stand in ``rows.py``."""

from ..datasets import Batch
from ..distiller import Composition, Distiller, Offline, Outputs, Player, Stage
from ..errors import unknown
from .row import Method
from .rows import *  # noqa: F403  every class of the catalog, in sight of static analysers too
from .rows import ROWS
from .self_distillation.born_again import generations

_SEAM = (Batch, Composition, Distiller, Method, Offline, Outputs, Player, Stage)
__all__ = sorted({c.__name__ for c in (*_SEAM, *(row.distiller for row in ROWS))})
__all__ += ["catalog", "find", "generations", "method"]


def catalog():
    """All methods as a tidy pandas table, a row each.

    Returns:
        The columns name, distiller (the class), paper, year, knowledge, scheme, lesson, stages,
        task, settings (a dict).

    Example:
        >>> catalog().set_index("name").loc["SP", ["knowledge", "task"]].tolist()
        ['relation', 'classification']
    """
    import pandas as pd

    return pd.DataFrame([{**vars(row), "settings": dict(row.settings)} for row in ROWS])


def method(name: str) -> Method:
    """The row of a method by its name.

    Args:
        name: The papers' short name or the class's name, in any case ("SP",
            "SimilarityPreserving"). A class with several rows (RKD) is found as the one with its
            default settings.

    Raises:
        ValueError: No such method; with the near matches.

    Example:
        >>> method("similaritypreserving").name, method("rkd").name
        ('SP', 'RKD-DA')
    """
    wanted = str(name).lower()
    rows = [m for m in ROWS if m.name.lower() == wanted] or [
        m for m in ROWS if m.distiller.__name__.lower() == wanted
    ]
    if not rows:
        hint = "kdtutor.methods.catalog() lists all."
        raise unknown("method", name, [m.name for m in ROWS], hint)
    return min(rows, key=lambda m: len(m.settings))


def find(name: str) -> type[Distiller]:
    """The class of a method by its name.

    Args:
        name: As for ``method``.

    Raises:
        ValueError: No such method; with the near matches.

    Example:
        >>> find("hinton").__name__
        'Hinton'
    """
    return method(name).distiller
