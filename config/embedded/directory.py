"""The data directory: who owns its servers now, and the URLs that others may use meanwhile."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from config.failure import StartError


@dataclass(frozen=True)
class Owner:
    """The process that runs the servers of a data directory, as it wrote itself down."""

    pid: int
    command: str
    runtime: str
    database_url: str = ""
    redis_url: str = ""


@dataclass(frozen=True)
class DataDirectory:
    """A directory with the files of one installation. Only what lies inside is ever created or changed."""

    path: Path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def cluster(self, major: int) -> Path:
        """Return where the cluster of a PostgreSQL major version lives."""
        return self.path / f"postgres{major}"

    @property
    def children(self) -> Path:
        return self.path / "children.txt"

    def prepare(self) -> None:
        """Make the directory.

        Raises: StartError when it cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            self.open_lock("owner").close()
        except OSError as error:
            raise StartError(
                f"The data directory {self.path} cannot be written ({error.strerror}): "
                "change its owner, or set PERENNIAL_DATA_DIR to another."
            ) from None

    def open_lock(self, name: str) -> IO[str]:
        """Open a lock file; flock belongs to the open file, and ends with the last process that holds it."""
        return (self.path / f"{name}.lock").open("a+")

    def write_owner(self, owner: Owner) -> None:
        """Publish atomically, for this user's eyes alone: a URL may hold a password."""
        draft = self.path / "owner.json.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(owner), file)
        draft.rename(self.path / "owner.json")

    def read_owner(self) -> Owner | None:
        """Return what the last owner wrote, if anything; it may be gone, or have been of another release."""
        try:
            return Owner(**json.loads((self.path / "owner.json").read_text()))
        except (FileNotFoundError, TypeError, ValueError):
            return None

    def forget_owner(self) -> None:
        """Withdraw the published URLs."""
        (self.path / "owner.json").unlink(missing_ok=True)


def try_lock(file: IO[str], *, shared: bool = False) -> bool:
    """Take a lock if it is free."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
