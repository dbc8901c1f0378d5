"""Self-distillation: the network is its own teacher."""


def __getattr__(name: str):
    from ..rows import in_folder

    return in_folder(__name__, name)
