"""Instant checks for the exercises: ``check_…(your_function)`` returns a verdict with a hint. One
module per lesson or assignment.

All are importable from here, ``from kdtutor.checks import check_soften``; a module loads when one
of its checks is first used."""

import re
from functools import cache
from importlib import import_module
from pathlib import Path

from .marks import expect, require
from .verdict import Verdict

__all__ = ["Verdict", "expect", "require"]


# Where checks are defined: a module per lesson, a module per assignment. They are looked up by
# name, never imported before they are
# used, because they stand above this room: lessons and assignments import ``checks.verdict``.
HOMES = ("lessons/*/checks.py", "course/assignments/*.py")


@cache
def homes() -> dict[str, list[str]]:
    """Where every check is defined.

    Returns:
        {name of a check: the modules that define it}, exactly one each.
    """
    found: dict[str, list[str]] = {}
    package = Path(__file__).parents[1]
    for path in sorted(p for pattern in HOMES for p in package.glob(pattern)):
        module = ".".join((package.name, *path.relative_to(package).with_suffix("").parts))
        for name in re.findall(r"^def (check_\w+)\(", path.read_text(encoding="utf-8"), re.M):
            found.setdefault(name, []).append(module)
    return found


def __getattr__(name: str):
    if name in homes():
        return getattr(import_module(homes()[name][0]), name)
    raise AttributeError(f"module 'kdtutor.checks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *homes()])
