"""A grid in a process of its own, which goes on when the one that started it ends: a notebook's
kernel may restart at any time.

The store is all that the two share: grid.toml (what runs), background.lock (held while it runs),
grid.log (what it printed), and STOP."""

import os
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from .grid import Grid
from .grid_file import read_grid, write_grid
from .runner import run
from .store import Store

# The lock first, because everything else takes seconds to import.
WORK = """
import sys
from filelock import FileLock
store, workers, retry, began = sys.argv[1:]
with FileLock(store + "/background.lock", timeout=10):  # others only look whether it is free
    from kdtutor.ablation.background import work
    work(store, int(workers), retry == "True", float(began))
"""
# A kernel that shuts down kills its process group and, on Windows, all of its children: so the grid
# has a session of its own, and the process in between, which ends at once, leaves it an orphan.
ORPHAN = """
import subprocess, sys
windows = {"creationflags": 0x00000008 | 0x00000200}  # detached, in a process group of its own
flags = windows if sys.platform == "win32" else {"start_new_session": True}
with open(sys.argv[1], "wb") as log:
    streams = dict(stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    subprocess.Popen(sys.argv[2:], **streams, **flags)
"""


def start(grid: Grid, store: str | Path, workers: int = 0, retry: bool = False) -> None:
    """Starts ``run(grid, store, workers=workers)`` in the background.

    Returns as soon as the process holds its lock.

    Args:
        grid: Of names only.
        store: The store's folder.
        workers, retry: As in ``run``.

    Raises:
        ValueError: For a grid with objects in it (a file cannot hold them) or one that cannot work.
        RuntimeError: Where a grid runs in this store already or the process did not come up.
    """
    if running(store):
        raise RuntimeError(
            f"a grid runs in {store} already: stop it first, or choose another store."
        )
    grid.cells()  # raises here, not in a log
    home, began = Store(store), time.time()
    write_grid(grid, home.path / "grid.toml")
    path = home.path.absolute()
    work = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        WORK,
        str(path),
        str(workers),
        str(retry),
        str(began),
    ]
    package = str(Path(__file__).parents[2])
    env = os.environ | {
        "KDTUTOR_PROGRESS": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }
    subprocess.run(
        [sys.executable, "-c", ORPHAN, str(path / "grid.log"), *work], env=env, check=True
    )
    deadline = time.monotonic() + 60
    while not running(store):
        if time.monotonic() > deadline or last_words(store):
            raise RuntimeError(
                f"the grid did not start: {last_words(store) or 'its process says nothing'} (see "
                f"{path / 'grid.log'})."
            )
        time.sleep(0.05)


def work(store: str, workers: int, retry: bool, began: float) -> None:
    """What the process does: runs the grid of the store, and prints the table.

    Args:
        store: The store's folder.
        workers, retry: As in ``run``.
        began: When it was started: nothing runs if it was asked to stop since.
    """
    print(
        run(read_grid(Path(store) / "grid.toml"), store, workers=workers, retry=retry, since=began)
        .table()
        .to_string()
    )


def running(store: str | Path) -> bool:
    """Does a grid that ``start`` began run in this store now?"""
    lock = Path(store) / "background.lock"
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def last_words(store: str | Path) -> str:
    """The last line that the background process printed, or nothing."""
    try:
        lines = (Path(store) / "grid.log").read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1].strip() if lines else ""
