"""The runtime directory: sockets, access rules and (as root) the servers' programs, for one run."""

import fcntl
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.failure import StartError

PREFIX = "perennial-"
# A socket address holds 104 bytes on macOS and 108 on Linux; the longest name below is PREFIX + 8 + "/.s.PGSQL.5432".
LONGEST_BASE = 65


@contextmanager
def runtime_directory(account: pwd.struct_passwd) -> Iterator[Path]:
    """Make a directory that only the given user (and root) may enter, under a short path that this user can reach."""
    base = next((base for base in _candidates() if _is_usable(base, account)), None)
    if base is None:
        raise StartError("No temporary directory with a short path can be written: set TMPDIR to one.")
    runtime = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    if account.pw_uid != os.geteuid():
        os.chown(runtime, account.pw_uid, account.pw_gid)
    held = os.open(runtime, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Cleaners of temporary directories leave alone what somebody holds a lock on.
        fcntl.flock(held, fcntl.LOCK_SH)
        yield runtime
    finally:
        os.close(held)
        remove_runtime(runtime)


def remove_runtime(runtime: Path) -> None:
    """Remove a runtime directory, this run's or one that a killed run left; touch nothing else."""
    if runtime.name.startswith(PREFIX) and runtime.is_dir() and not runtime.is_symlink():
        shutil.rmtree(runtime, ignore_errors=True)


def _candidates() -> list[Path]:
    return [Path(tempfile.gettempdir()).resolve(), Path("/tmp").resolve(), Path("/var/tmp").resolve()]  # noqa: S108 only mkdtemp writes there


def _is_usable(base: Path, account: pwd.struct_passwd) -> bool:
    if not base.is_dir() or not os.access(base, os.W_OK | os.X_OK) or len(os.fsencode(base)) > LONGEST_BASE:
        return False
    if account.pw_uid == os.geteuid():
        return True
    return all(step.stat().st_mode & stat.S_IXOTH for step in (base, *base.parents))
