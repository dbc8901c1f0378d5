"""Files that appear complete or not at all: a temporary file, then ``os.replace``."""

import os
import secrets
from pathlib import Path


class CannotWrite(OSError):
    """A file of a run cannot be written: the disk is full or the folder read-only. Nothing that was
    saved before is lost.
    """


def replace_file(path: Path, write) -> None:
    """Calls write(temporary path), then moves the finished file into place in one step."""
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
