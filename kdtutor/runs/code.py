"""What functions and classes are: what they compute and what they reach, without their name, file
or line.

A function is its bytecode, its defaults, what it closes over, and the user's own functions, classes
and constants that it reaches by name, each in turn as what it is. What Python, torch, kdtutor or
another installed package defines is known by its name."""

import dis
import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

FOREIGN = {"torch", "torchvision", "numpy", "kdtutor", "builtins", *sys.stdlib_module_names}
# Kinds of constants that compare equal though code that holds one computes otherwise: 1, 1.0, True.
EXACT = (bool, int, float, complex)
# What a list, set or dict that serves as a log is called with.
WRITES = {"add", "append", "clear", "extend", "insert", "pop", "remove", "setdefault", "update"}
BOOKKEEPING = {"__annotate__", "__annotate_func__", "__class_getitem__", "__init_subclass__"}


def is_own(module: str | None) -> bool:
    """Whether a module of this name is the user's own.

    None of Python's, torch's, torchvision's, numpy's or kdtutor's is, and none in site-packages.

    Args:
        module: a module's full name; None stands for code without a module, which is the user's.

    Returns:
        True for the user's own.

    Example:
        >>> is_own("__main__"), is_own("torch.nn"), is_own(None)
        (True, False, True)
    """
    top = (module or "__main__").split(".")[0]
    if top == "__main__":
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return top not in FOREIGN and not {"site-packages", "dist-packages"} & set(_folders(file))


def _folders(file: str) -> list[str]:
    return file.replace("\\", "/").split("/")


def function_parts(function: FunctionType) -> tuple[str, Any]:
    """A Python function as a kind and plain parts that hold further values to be told."""
    code, home = function.__code__, function.__globals__.get("__name__")
    cells = dict(zip(code.co_freevars, function.__closure__ or ()))
    state = written(code)
    closed = {name: _content(cell) for name, cell in cells.items() if name not in state}
    given = [function.__defaults__, function.__kwdefaults__]
    if not is_own(home):
        # A lambda's name says nothing, and a function made by another, such as kdtutor's
        # sgd(lr=0.1), is also what it was made with.
        made = [code_parts(code), closed, given] if closed or "<" in code.co_qualname else []
        return ("function", [f"{home}.{code.co_qualname}", *made])
    # A docstring computes nothing; compilers keep it as the first constant.
    documented = function.__doc__ is not None and code.co_consts[:1] == (function.__doc__,)
    return (
        "function",
        [
            code_parts(code, documented),
            closed,
            given,
            {k: v for k, v in reached(code, function.__globals__) if k not in state},
        ],
    )


def code_parts(code: CodeType, documented: bool = False) -> list:
    """Bytecode without where it was written: its instructions, names, constants and parameters."""
    consts = (None, *code.co_consts[1:]) if documented else code.co_consts
    parameters = code.co_argcount + code.co_kwonlyargcount
    stars = [bool(code.co_flags & flag) for flag in (inspect.CO_VARARGS, inspect.CO_VARKEYWORDS)]
    return [
        code.co_code,  # as compiled: instructions that Python has specialised since are not in it
        code.co_exceptiontable,
        code.co_names,
        [_constant(c) for c in consts],
        [code.co_argcount, code.co_posonlyargcount, stars, code.co_varnames[:parameters]],
    ]


def _constant(value):
    if isinstance(value, CodeType):
        return code_parts(value)
    if isinstance(value, tuple):
        return [_constant(v) for v in value]
    if isinstance(value, frozenset):  # of "x in {...}"
        return {_constant(v) for v in value}
    return f"{type(value).__name__}:{value!r}" if isinstance(value, EXACT) else value


def written(code: CodeType) -> set[str]:
    """The names outside of it that code assigns, or calls to be written: counters and logs.

    What a function notes for itself changes while it runs: it is state, and no part of what the
    function is. A run that goes on after an interruption is the same run.
    """
    found, name = set(), ""
    for step in dis.get_instructions(code):
        if step.opname in ("STORE_GLOBAL", "STORE_DEREF") and step.argval not in code.co_cellvars:
            found.add(step.argval)
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and name and step.argval in WRITES:
            found.add(name)
        name = step.argval if step.opname in ("LOAD_GLOBAL", "LOAD_DEREF") else ""
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return found.union(*map(written, inner)) - set(code.co_cellvars)


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # a name that is closed over before it is given a value
        return None


def reached(code: CodeType, names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of what code reads from its module, or from the user's modules that it
    names or imports.

    Attributes of other things are no such names: ``batch.data`` does not read a global ``data``.
    """
    where, module = "", None
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            where, module = step.argval, None
            if where.startswith("__") or where not in names:
                continue
            value = names[where]
        elif step.opname == "IMPORT_NAME":
            where, module, value = step.argval, None, sys.modules.get(step.argval)
            if isinstance(value, ModuleType) and is_own(value.__name__):
                # import helpers: what is read of it stands among the names of the code.
                for name in sorted(set(code.co_names) & set(vars(value))):
                    yield f"{where}.{name}", vars(value)[name]
            continue
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and module is not None:
            where, value = f"{where}.{step.argval}", vars(module).get(step.argval)
        else:
            module = None
            continue
        own = isinstance(value, ModuleType) and is_own(value.__name__)
        module = value if own else None
        if not own:
            yield where, value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from reached(constant, names)


def class_parts(kind: type) -> tuple[str, Any]:
    """A class as a kind and parts: name, bases and members if it is the user's, else its name."""
    if not is_own(kind.__module__):
        return "class", [f"{kind.__module__}.{kind.__qualname__}"]
    members = {
        name: value
        for name, value in vars(kind).items()
        if name not in BOOKKEEPING
        and (not _dunder(name) or callable(value) or isinstance(value, (classmethod, staticmethod)))
        and name != "_abc_impl"
    }
    return "class", [kind.__name__, list(kind.__bases__), members]


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
