"""A grid as a TOML file, for the command line and for keeping beside the results."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

from ..errors import unknown
from ..runs import replace_file
from .choice import MethodChoice
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

    Args:
        path: The file. TOML has no null: imbalance may hold "none" or 0, teacher may be "none".

    Returns:
        A ``Grid``.

    Raises:
        ValueError: That names the file, the line and the key for a wrong key, a value of the wrong
            kind or broken TOML.
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
        if key == "teacher" and value == "none":
            values[key] = None
    try:
        return Grid(**values)
    except (ValueError, TypeError) as error:
        named = next((k for k in values if re.match(rf"\W*{k}\b", str(error))), None)
        raise ValueError(
            f"{path}{f', line {_line(text, named)}' if named else ''}: {error}"
        ) from error


def write_grid(grid: Grid, path: str | Path) -> Path:
    """Writes a grid as the file that ``read_grid`` reads.

    Args:
        grid: Of names only.
        path: The file; it is replaced.

    Returns:
        The path.

    Raises:
        ValueError: For a grid that holds objects: a file holds names only.

    Example:
        >>> import tempfile
        >>> grid = Grid(seeds=[0, 1], fit={"lr": 0.05})
        >>> read_grid(write_grid(grid, Path(tempfile.mkdtemp()) / "grid.toml")) == grid
        True
    """
    values = {f.name: getattr(grid, f.name) for f in dataclasses.fields(grid)}
    values |= {
        "methods": [m.label for m in grid.methods],
        "root": str(grid.root),
        "teacher": grid.teacher or "none",
        "imbalance": ["none" if gamma is None else gamma for gamma in grid.imbalance],
    }
    named = [values["dataset"], values["teacher"], *values["students"]]
    odd = [repr(v) for v in named if not isinstance(v, str)] + [
        m.label for m in grid.methods if not _readable(m)
    ]
    if odd:
        raise ValueError(
            f"{', '.join(odd)}: only names can stand in a file. Run a grid with objects by "
            "run(grid, store)."
        )
    fit = values.pop("fit")
    lines = [f"{k} = {json.dumps(v)}" for k, v in values.items() if v is not None]
    lines += [
        "[fit]",
        *(f"{k} = {json.dumps(v)}" for k, v in fit.items()),
    ]  # JSON's strings, numbers and lists are TOML's
    path = Path(path)
    replace_file(
        path, lambda temporary: temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    )
    return path


def _readable(method: MethodChoice) -> bool:
    try:
        return MethodChoice.of(method.label).plain() == method.plain()
    except ValueError:
        return False


def _line(text: str, key: str) -> int:
    """Where a top-level key or its table stands, counted from 1."""
    pattern = re.compile(rf"""^\s*\[?\s*["']?{re.escape(key)}["']?\s*(=|\])""")
    return next((i for i, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)
