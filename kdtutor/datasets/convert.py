"""Other libraries' arrays and tables as the tensors of a ``Split``, each type said or refused."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Number
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..tasks import Classification, MultiLabel, NoLabels, Task
from ..tasks.classification import is_soft
from ..tasks.task import described, is_integer


class Labels(NamedTuple):
    """What labels turned out to be."""

    parts: list  # the labels of each part, tensors or None
    classes: Any  # names or a number
    task: Task


def class_names(classes, name: str) -> tuple:
    """The names of the classes, from names or their number.

    Args:
        classes: A list of names, or a whole number.
        name: The dataset's name, for the message.

    Returns:
        A tuple.

    Raises:
        ValueError: For anything else.

    Example:
        >>> class_names(2, "d"), class_names(["cat", "dog"], "d")
        (('0', '1'), ('cat', 'dog'))
    """
    whole = isinstance(classes, Integral) and not isinstance(classes, bool)
    if whole and int(classes) >= 0:
        return tuple(map(str, range(int(classes))))
    classes = classes.tolist() if isinstance(classes, np.ndarray) else classes
    other = isinstance(classes, (str, bytes, Mapping, Iterator, Tensor))
    listed = isinstance(classes, Iterable) and not other
    names = tuple(classes) if listed else (None,)
    if not all(isinstance(name, (str, Number)) for name in names):
        raise ValueError(
            f"{name}: classes={classes!r}: expected the names of the classes, as ('cat', 'dog'), "
            "or their number."
        )
    return names


def check_task(task, name: str) -> None:
    """Raises ``TypeError`` for what is no task.

    Args:
        task: Should be one of ``kdtutor.tasks``.
        name: The dataset's name, for the message.

    Example:
        >>> check_task(Classification(), "d")
    """
    if not isinstance(task, Task):
        raise TypeError(
            f"{name}: task is a {type(task).__name__}; expected one of kdtutor.tasks, such as "
            "Classification() or Regression()."
        )


def as_inputs(name: str, value, dtype: torch.dtype | None = None):
    """Inputs as a tensor, or as a mapping of tensors.

    Args:
        name: What they are called, for messages.
        value: A tensor, an array, a table of numbers, a list of arrays or numbers of one shape, or
            a mapping of these.
        dtype: The type of all of them; None: floats become float32, the others stay.

    Returns:
        The tensors.

    Raises:
        ValueError: For text, objects, shapes that differ, and bytes that look like images (N, H, W,
            C).

    Example:
        >>> as_inputs("x", [[1.0, 2.0], [3.0, 4.0]]).dtype
        torch.float32
    """
    if isinstance(value, Mapping):
        return {k: as_inputs(f"{name}[{k!r}]", v, dtype) for k, v in value.items()}
    t = _rows(name, value)
    if t.dtype == torch.uint8 and t.ndim == 4 and t.shape[-1] in (1, 3, 4) and t.shape[1] > 4:
        raise ValueError(
            f"{name} has the shape {tuple(t.shape)} of images (N, H, W, C); expected (N, C, H, W): "
            "x.transpose(0, 3, 1, 2) of numpy, x.permute(0, 3, 1, 2) of torch."
        )
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype={dtype!r}: expected a type of torch, such as torch.float64.")
    if dtype is None:
        dtype = torch.float32 if t.is_floating_point() else t.dtype
    return t.to(dtype)


def as_tensor(name: str, value) -> Tensor:
    """A tensor of numbers from whatever holds them.

    Args:
        name: What it is called, for messages.
        value: A tensor, an array, a table, or a list of these or of numbers.

    Returns:
        The tensor, of the type that the numbers have.

    Raises:
        ValueError: For what holds no numbers, or rows of different shapes.

    Example:
        >>> as_tensor("x", [torch.zeros(2), torch.ones(2)]).shape
        torch.Size([2, 2])
    """
    if isinstance(value, Tensor):
        if value.is_meta or value.layout != torch.strided:
            kind = "on the device meta, without values" if value.is_meta else "sparse"
            raise ValueError(
                f"{name} is {kind}: expected a dense tensor, x.to_dense() of a sparse."
            )
        return value.detach()
    if isinstance(value, Sequence) and len(value) and isinstance(value[0], Tensor):
        try:
            return torch.stack([v.detach() for v in value])
        except (RuntimeError, AttributeError) as error:
            shapes = sorted({tuple(v.shape) for v in value if isinstance(v, Tensor)})
            raise ValueError(
                f"{name} is a list of tensors of the shapes {shapes[:3]}: one shape is expected, "
                "so resize or pad them."
            ) from error
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} is a {type(value).__name__} of rows of different shapes: one shape is "
            "expected, so resize or pad them."
        ) from error
    check_none_missing(name, value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} {_what(value, array)}; expected numbers.")
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def check_none_missing(name: str, value) -> None:
    """Checks that an array or a list holds a value everywhere.

    Args:
        name: What it is called, for the message.
        value: Anything that numpy reads.

    Raises:
        ValueError: For what numpy masks out, and for None and pandas' NA among objects, with the
            first position.

    Example:
        >>> check_none_missing("x", np.ones(2))
    """
    masked = np.ma.getmaskarray(value) if isinstance(value, np.ma.MaskedArray) else None
    if masked is None:
        array = np.asarray(value)
        if array.dtype.kind != "O":
            return
        absent = lambda v: v is None or type(v).__name__ in ("NAType", "NaTType")
        masked = np.asarray(np.frompyfunc(absent, 1, 1)(array), dtype=bool)
    if masked.any():
        first = int(np.argwhere(np.atleast_1d(masked))[0][0])
        raise ValueError(
            f"{name} lacks {int(masked.sum())} values, the first at position {first}: fill them, "
            "or leave these examples out."
        )


def _rows(name: str, value) -> Tensor:
    """``as_tensor`` of what has a row per example."""
    t = as_tensor(name, value)
    if not t.ndim:
        raise ValueError(f"{name} is a single number; expected a row for each example.")
    return t


def _what(value, array) -> str:
    """What a value holds instead of numbers."""
    columns: Any = getattr(value, "dtypes", None)
    if hasattr(columns, "items"):  # a table of pandas
        odd = [str(k) for k, kind in columns.items() if kind.kind not in "biuf"]
        if odd:
            return (
                f"has columns that are no numbers: {', '.join(odd[:5])} (pandas.get_dummies makes "
                "numbers of categories)"
            )
        return "has columns of different types (x.astype('float32') makes them one)"
    return f"is a {type(value).__name__} of {array.dtype}"


def as_labels(parts: dict[str, Any], classes, task: Task | None) -> Labels:
    """The labels of all parts in the form that the task reads, with the classes that they name.

    Args:
        parts: {"y": ..., "y_test": ...}; None for a part without labels.
        classes: Names, a number, or None: names are the sorted distinct texts among the labels, a
            number is found where all of 0..C-1 occur.
        task: None: ``Classification``, or ``NoLabels`` where the first part has none.

    Returns:
        ``Labels``.

    Raises:
        ValueError: For floats that are classes or numbers to be predicted, nobody knows; text that
            no class is called; labels from which the classes cannot be told.

    Example:
        >>> as_labels({"y": ["dog", "cat", "dog"]}, None, None)
        Labels(parts=[tensor([1, 0, 1])], classes=('cat', 'dog'), task=Classification())
    """
    if task is not None:
        check_task(task, "from_tensors")
    else:
        task = NoLabels() if next(iter(parts.values())) is None else Classification()
    texts = {name: found for name, y in parts.items() if (found := _texts(name, y)) is not None}
    if texts:
        if not isinstance(task, Classification):
            raise ValueError(
                f"{next(iter(texts))} holds text, which names the classes of Classification; the "
                f"task {task!r} needs numbers."
            )
        if classes is None or isinstance(classes, Integral):
            names = tuple(sorted({t for found in texts.values() for t in found}))
            if classes is not None and classes != len(names):
                raise ValueError(
                    f"classes={classes}, but the labels name {len(names)}: {', '.join(names[:10])}."
                    " Pass the names of all classes, in order."
                )
            classes = names
        classes = class_names(classes, "from_tensors")
        place = {name: i for i, name in enumerate(classes)}
        if len(place) < len(classes):
            twice = next(name for i, name in enumerate(classes) if place[name] != i)
            raise ValueError(
                f"classes= names {twice!r} twice, and the labels are these names: each class needs "
                "a name of its own."
            )
        for name, found in texts.items():
            unknown = sorted(set(found) - set(place))
            if unknown:
                raise ValueError(
                    f"{name} holds {', '.join(map(repr, unknown[:5]))}, which classes= does not "
                    f"name: {', '.join(map(repr, tuple(classes)[:10]))}."
                )
        parts = parts | {n: torch.tensor([place[t] for t in f]) for n, f in texts.items()}
    made = [_form(name, y, task) for name, y in parts.items()]
    if classes is None:
        classes = _counted([y for y in made if y is not None], task)
    return Labels(made, classes, task)


def _texts(name: str, y) -> list[str] | None:
    """Labels that are text, one for each example; None for all others."""
    kind = getattr(getattr(y, "dtype", None), "kind", "O")
    numbers = isinstance(y, (list, tuple)) and not (len(y) and isinstance(y[0], str))
    if y is None or isinstance(y, (Tensor, Mapping)) or numbers or kind not in "OU":
        return None
    array = np.asarray(y, dtype=object)
    if not array.ndim:
        return None
    flat = array.ravel().tolist()
    if not any(isinstance(v, str) for v in flat):
        return None
    odd = [v for v in flat if not isinstance(v, str)]
    if odd or len(flat) != len(array):
        raise ValueError(
            f"{name} holds text{f' and {odd[0]!r}' if odd else ''}, of shape {array.shape}: "
            "expected one class name per example, none missing."
        )
    return flat


def _form(name: str, y, task: Task):
    """The labels of one part as tensors; floats are float32."""
    if y is None:
        return None
    if isinstance(y, Mapping):
        return {k: _form(f"{name}[{k!r}]", v, task) for k, v in y.items()}
    t = _rows(name, y)
    if t.is_complex():
        raise ValueError(f"{name} is {described(t)}; expected real numbers.")
    if not isinstance(task, Classification):
        return t.float() if t.is_floating_point() else t if t.dtype == torch.bool else t.long()
    t = task.as_labels(t)
    if t.is_floating_point() and not is_soft(t):
        lacking = t.isnan().flatten().nonzero().flatten()
        if len(lacking):
            raise ValueError(
                f"{name} is {described(t)} in which {len(lacking)} labels are missing (NaN), the "
                f"first at position {int(lacking[0])}: leave these examples out, and the others "
                "are whole numbers, y.astype('int64')."
            )
        whole = bool((t == t.round()).all())
        raise ValueError(
            f"{name} is {described(t)}{', whole numbers' if whole else ''}: classes are whole "
            "numbers of an integer type, y.astype('int64') or y.long(); for numbers to be "
            "predicted pass task=Regression()."
        )
    return t.long() if is_integer(t) else t.float()


def _counted(parts: list, task: Task) -> Any:
    """The number of classes that labels speak of; () where they speak of none."""
    parts = [p for p in parts if isinstance(p, Tensor) and p.ndim in (1, 2)]
    if not parts or not isinstance(task, (Classification, MultiLabel)):
        return ()
    if parts[0].ndim == 2:  # a column per class
        return parts[0].shape[1]
    found = torch.cat([p.flatten() for p in parts]).unique().tolist()
    if not isinstance(task, Classification) or found != list(range(len(found))):
        shown = ", ".join(map(str, found[:8])) + (" ..." if len(found) > 8 else "")
        raise ValueError(
            f"the labels hold {shown}: pass classes=, the number of classes C or their names; "
            "labels are whole numbers 0..C-1."
        )
    return len(found)
