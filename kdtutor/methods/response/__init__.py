"""Response distillation: the teacher's answers are the knowledge."""


def __getattr__(name: str):
    from ..rows import in_folder

    return in_folder(__name__, name)
