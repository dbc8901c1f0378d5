"""What the catalog says of one method."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..distiller import Distiller


@dataclass(frozen=True)
class Method:
    """A row of the catalog.

    Args:
        name: As the papers call it.
        distiller: The class.
        paper: Authors and title.
        year: Of the paper; 0 for the baseline.
        knowledge: "response", "feature", "relation" or "none".
        scheme: "offline", "online", "self" or "none".
        lesson: Where it is taught, as "05".
        stages: How many stages its default training has.
        task: What its labels are: "classification".
        settings: The arguments that make this method of its class.
    """

    name: str
    distiller: type[Distiller]
    paper: str
    year: int
    knowledge: str
    scheme: str
    lesson: str
    stages: int = 1
    task: str = "classification"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
