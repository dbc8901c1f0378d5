"""A grid as a TOML file, for the command line and for keeping beside the results."""

import dataclasses
import re
import tomllib
from pathlib import Path

from ..errors import unknown
from .grid import Grid


def read_grid(path: str | Path) -> Grid:
    """The grid that a TOML file describes: its keys are ``Grid``'s fields, ``fit`` is a table.

        dataset = "cifar10"
        teacher = "resnet20"
        students = ["resnet8"]
        methods = ["CrossEntropy", "Hinton(temperature=8)", "SP"]
        seeds = [0, 1, 2]
        epochs = 30
        [fit]
        lr = 0.1

    Raises ``ValueError`` that names the file, the line and the key for a wrong key, a value of the wrong kind or broken TOML.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: no valid TOML: {error}.") from None
    fields = {f.name: f for f in dataclasses.fields(Grid)}
    for key, value in values.items():
        where = f"{path}, line {_line(text, key)}"
        if key not in fields:
            raise ValueError(f"{where}: {unknown('key', key, fields)}")
        if key == "imbalance" and isinstance(value, list):
            values[key] = [None if v in ("none", 0) else v for v in value]  # TOML has no null
    try:
        return Grid(**values)
    except (ValueError, TypeError) as error:
        named = next((k for k in values if re.match(rf"\W*{k}\b", str(error))), None)
        raise ValueError(f"{path}{f', line {_line(text, named)}' if named else ''}: {error}") from error


def _line(text: str, key: str) -> int:
    """Where a top-level key or its table stands, counted from 1."""
    pattern = re.compile(rf"""^\s*\[?\s*["']?{re.escape(key)}["']?\s*(=|\])""")
    return next((i for i, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)
