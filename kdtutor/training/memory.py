"""Large tensors of one training step go where those of the last step were, instead of into fresh
pages from the system.
"""

import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the names of glibc's <malloc.h>


@functools.cache
def keep_freed_memory() -> bool:
    """Asks glibc to keep freed blocks of up to 128 MiB for the next allocation. True if it agreed;
    elsewhere nothing happens.

    By default every activation of some MiB is new memory that the system must first find and clear,
    in each step again: about a tenth of a training step of a CIFAR network on a CPU. The price: the
    process keeps the peak of its memory until it ends."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc: macOS, Windows, musl
        return False
    # Older versions of glibc allow no more than 32 MiB.
    return bool(
        (mallopt(_MMAP_THRESHOLD, 128 * 2**20) or mallopt(_MMAP_THRESHOLD, 32 * 2**20))
        and mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    )
