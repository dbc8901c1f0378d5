"""Helpers that make one clear error out of bad input: what was given, what is expected, what to do."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> ValueError:
    """A ``ValueError`` for a name that does not exist, with its near matches (or, where none is near, all known names)."""
    known = [str(k) for k in known]
    near = difflib.get_close_matches(str(name), known, n=5, cutoff=0.5)
    near += [k for k in known if k not in near and str(name).lower() and str(name).lower() in k.lower()][: 5 - len(near)]
    listed = f"Did you mean {', '.join(map(repr, near))}?" if near else f"Known: {', '.join(known[:40])}."
    return ValueError(f"unknown {kind} {name!r}. {listed}{' ' + hint if hint else ''}")


def check_temperature(temperature: float) -> float:
    """The temperature as a float. Raises ``ValueError`` unless it is finite and > 0."""
    value = float(temperature)
    if not 0 < value < float("inf"):
        raise ValueError(f"temperature is {temperature}; it divides the logits, so it must be finite and > 0 (try 1 to 20).")
    return value


def check_same_shape(name_a: str, a, name_b: str, b) -> None:
    """Raises ``ValueError`` with both shapes unless the two tensors have the same shape."""
    if a.shape != b.shape:
        raise ValueError(f"{name_a} has shape {tuple(a.shape)} but {name_b} has shape {tuple(b.shape)}: they must be equal. "
                         "For logits this usually means different numbers of classes.")
