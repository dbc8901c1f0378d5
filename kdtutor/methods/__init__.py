"""Every distillation method, exported flat; the folders are the field's taxonomy.

``catalog()`` is the one table of what exists: notebooks' dropdowns and the ablation's names read it.
"""

from dataclasses import dataclass

from .baseline import CrossEntropy
from .distiller import Batch, Distiller, Player, Stage
from .response import Hinton
from .self_distillation import CWTM, DKPP


@dataclass(frozen=True)
class Method:
    """A row of the catalog. knowledge: response, feature, relation or none; scheme: offline, online, self or none."""

    name: str
    distiller: type[Distiller]
    paper: str
    year: int
    knowledge: str
    scheme: str
    stages: int = 1


_BORN_AGAIN = "Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born-Again Neural Networks"

_METHODS = (
    Method("CrossEntropy", CrossEntropy, "the baseline: labels alone", 0, "none", "none"),
    Method("Hinton", Hinton, "Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network", 2015, "response", "offline"),
    Method("CWTM", CWTM, _BORN_AGAIN, 2018, "response", "self"),
    Method("DKPP", DKPP, _BORN_AGAIN, 2018, "response", "self"),
)


def catalog():
    """All methods as a tidy pandas table: name, distiller (the class), paper, year, knowledge, scheme, stages."""
    import pandas as pd
    return pd.DataFrame([vars(m) for m in _METHODS])


def find(name: str) -> type[Distiller]:
    """The class of a method by its name, upper or lower case. Raises ``ValueError`` with the near matches."""
    from ..errors import unknown
    for m in _METHODS:
        if m.name.lower() == str(name).lower():
            return m.distiller
    raise unknown("method", name, [m.name for m in _METHODS], "kdtutor.methods.catalog() lists all.")


__all__ = ["Batch", "CWTM", "CrossEntropy", "DKPP", "Distiller", "Hinton", "Method", "Player", "Stage", "catalog", "find"]
