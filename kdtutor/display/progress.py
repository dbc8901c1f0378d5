"""One progress bar for everything that takes long: tqdm.auto, silenced by ``KDTUTOR_PROGRESS=0`` or
where tqdm is absent.
"""

import os
from contextlib import nullcontext


class _Silent(nullcontext):
    def __enter__(self):
        return self

    def update(self, n=1): ...
    def set_postfix_str(self, text, refresh=True): ...
    def set_description_str(self, text, refresh=True): ...


def bar(show: bool = True, **kwargs):
    """A ``tqdm`` bar as a context manager; a silent stand-in if ``show`` is false, the variable is
    0 or tqdm is missing.
    """
    if not show or os.environ.get("KDTUTOR_PROGRESS") == "0":
        return _Silent()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Silent()
    return tqdm(**kwargs)
