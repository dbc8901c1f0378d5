"""Relation distillation: how examples lie to each other is the knowledge."""


def __getattr__(name: str):
    from ..rows import in_folder

    return in_folder(__name__, name)
