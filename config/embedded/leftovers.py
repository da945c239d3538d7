"""What a killed supervisor may leave: children that still end, or (without a parent-death signal) run on."""

import fcntl
import time
from pathlib import Path
from typing import IO

from config.embedded.directory import DataDirectory, try_lock
from config.embedded.platform import LINUX
from config.embedded.record import stop_recorded
from config.embedded.runtime import remove_runtime
from config.failure import StartError

# An old postmaster that is still writing its last checkpoint gets this long.
LEFTOVER_SECONDS = 30.0


def clear_leftovers(directory: DataDirectory, alive: IO[str]) -> None:
    """Wait until no child of an earlier run lives, then remove its runtime directory and its published URLs.

    Leaves `alive` locked (shared), for this run's children to inherit.

    Raises: StartError when a child of an earlier run does not end.
    """
    if not try_lock(alive):
        if not LINUX:
            stop_recorded(directory.children)
        _wait_for(alive, directory.path)
    directory.children.unlink(missing_ok=True)
    owner = directory.read_owner()
    if owner is not None:
        remove_runtime(Path(owner.runtime))
        directory.forget_owner()
    fcntl.flock(alive, fcntl.LOCK_SH)


def _wait_for(alive: IO[str], path: Path) -> None:
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while not try_lock(alive):
        if time.monotonic() > deadline:
            raise StartError(f"A server of an earlier run still uses {path}: end it, then start again.")
        time.sleep(0.05)
