"""Limits of the kernel that runs a submission. nbgrader_config.py starts it in every kernel that
nbgrader executes.

It protects the grading run from accidents: a tensor that is far too large, a file written to the
wrong place. It is no sandbox: whoever wants to get around it can. The README of the assignments
shows the container that isolates submissions."""

import atexit
import os
import shutil
import sys
import tempfile

# Python's audit events that change a file system, and how many of their first arguments are paths.
CHANGES = {
    "os.remove": 1,
    "os.rename": 2,
    "os.rmdir": 1,
    "os.mkdir": 1,
    "os.truncate": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.chmod": 1,
    "shutil.rmtree": 1,
    "sqlite3.connect": 1,
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC


def start(gigabytes: float = 4.0, megabytes_printed: float = 10.0) -> None:
    """Sets the limits of the kernel that runs a submission.

    One thread, the smoke budget, so much memory and printed text, and no writing outside its own
    and a temporary folder.

    Args:
        gigabytes: Of memory, see ``limit_memory``.
        megabytes_printed: Of text, see ``limit_output``.
    """
    os.environ.setdefault("KDTUTOR_BUDGET", "smoke")
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"  # read when torch and numpy load, which is later
    limit_memory(gigabytes)
    limit_output(megabytes_printed)
    protect_files()


def limit_memory(gigabytes: float) -> bool:
    """More memory than this raises an error in the submission.

    ``MemoryError``; in torch ``RuntimeError``. Linux only: macOS and Windows offer no such limit
    for a running process.

    Args:
        gigabytes: 10^9 bytes.

    Returns:
        Whether the limit holds.
    """
    if not sys.platform.startswith("linux"):
        return False
    import resource

    size = int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    return True


def limit_output(megabytes: float) -> None:
    """Printing more than this raises ``RuntimeError`` in the submission.

    The grader's process keeps all that a submission prints.

    Args:
        megabytes: 10^6 characters, of each of stdout and stderr, anew after each error.
    """
    for name in ("stdout", "stderr"):
        setattr(sys, name, Limited(getattr(sys, name), megabytes))


class Limited:
    """A stream that takes a limited amount of text; all else is the stream's own.

    Args:
        stream: What is written to.
        megabytes: 10^6 characters.
    """

    def __init__(self, stream, megabytes: float):
        self._stream, self._megabytes, self._left = stream, megabytes, megabytes * 1e6

    def write(self, text: str) -> int:
        """Writes text.

        Args:
            text: What is printed.

        Returns:
            How many characters were written.

        Raises:
            RuntimeError: Beyond the limit; then the count begins again, so that the next cell may
                print.
        """
        self._left -= len(text)
        if self._left < 0:
            self._left = self._megabytes * 1e6  # the next cell may print again
            raise RuntimeError(
                f"a submission may print {self._megabytes:g} MB at most, and this one printed more"
            )
        return self._stream.write(text)

    def __getattr__(self, name):
        return getattr(self._stream, name)


def protect_files() -> None:
    """From now on this process raises ``PermissionError`` where Python code changes files outside
    its folder. Cannot be undone.

    Programs that the submission starts, and code that is not Python's own, are not held back.
    """
    own = tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="kdtutor-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    roots = tuple(os.path.normcase(os.path.realpath(folder)) for folder in (os.getcwd(), own))

    def allowed(path) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)) or os.fsdecode(path) == ":memory:":
            return True  # a file that is open already
        real = os.path.normcase(os.path.realpath(os.fsdecode(path)))
        return any(
            real == root or real.startswith(root + os.sep) for root in roots
        ) or real.startswith(("/dev/", "/proc/"))

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            paths = arguments[:1] if (arguments[2] or 0) & WRITING else ()
        else:
            paths = arguments[: CHANGES.get(event, 0)]
        for path in paths:
            if not allowed(path):
                raise PermissionError(
                    "a submission may change files in its own folder only, and this one tried "
                    f"{os.fsdecode(path)}"
                )

    sys.addaudithook(hook)
