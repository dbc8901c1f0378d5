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
    """A ``tqdm`` bar as a context manager.

    Args:
        show: False: a silent stand-in, as also where ``KDTUTOR_PROGRESS`` is 0 or tqdm is missing.
        **kwargs: Of ``tqdm``.

    Returns:
        A bar with ``update``, ``set_postfix_str`` and ``set_description_str``.

    Example:
        >>> with bar(show=False, total=2) as progress:
        ...     progress.update()
    """
    if not show or os.environ.get("KDTUTOR_PROGRESS") == "0":
        return _Silent()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Silent()
    return tqdm(**kwargs)
