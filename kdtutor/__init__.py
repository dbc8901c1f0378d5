"""kdtutor: a workbook that teaches and analyses knowledge distillation.

Names load when they are first used, so that ``kdtutor doctor`` can say what is wrong where torch
itself does not load. Training needs torch, numpy and safetensors only; pandas, matplotlib and the
widgets load with the functions that need them."""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "budget": "workbook.budget",
    "pick": "workbook.budget",
    "History": "training",
    "evaluate": "training",
    "fit": "training",
    "Teacher": "teacher",
    "published": "ablation.published",
    "measured": "ablation.published",
}
_MODULES = (
    "ablation",
    "checks",
    "concepts",
    "course",
    "datasets",
    "display",
    "distiller",
    "lessons",
    "methods",
    "models",
    "runs",
    "softening",
    "taps",
    "tasks",
    "teacher",
    "training",
    "workbook",
)
__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'kdtutor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
