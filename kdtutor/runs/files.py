"""Files that appear complete or not at all: a temporary file, then ``os.replace``."""

import os
import secrets
from pathlib import Path


class CannotWrite(OSError):
    """A file of a run cannot be written: the disk is full or the folder read-only. Nothing that was
    saved before is lost.
    """


def replace_file(path: Path, write) -> None:
    """Writes a file that appears complete or not at all, whenever the process may be killed.

    Args:
        path: the file.
        write: called with a temporary path beside it; what it wrote is moved into place in one
            step.

    Raises:
        CannotWrite: where the disk is full or the folder read-only.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     replace_file(Path(folder) / "a", lambda there: there.write_text("complete"))
        ...     (Path(folder) / "a").read_text()
        'complete'
    """
    if not path.parent.is_dir():
        raise CannotWrite(f"cannot write {path}: there is no folder {path.parent}. Make it first.")
    temporary = path.with_name(
        f".{path.name}.{secrets.token_hex(4)}.tmp"
    )  # not the process number: machines may share a folder
    try:
        write(temporary)
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CannotWrite(
            f"cannot write {path} ({error.strerror or error}). Is the disk full or the folder "
            "read-only? What was saved "
            "before is intact; free space or choose another folder, then run again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
