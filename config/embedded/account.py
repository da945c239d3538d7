"""Which system user the servers run as: PostgreSQL refuses to run as root."""

import os
import pwd
from pathlib import Path

from config.failure import StartError

# Existing users only: nothing is added to the machine. The first is there where a PostgreSQL package is installed.
UNPRIVILEGED = ("postgres", "nobody")


def service_account(cluster: Path) -> pwd.struct_passwd:
    """Return the user that runs the servers: this one, or an unprivileged one when this one is root.

    An existing cluster is kept by whoever owns it.

    Raises: StartError when initdb could not find the user in the passwd file.
    """
    uid = os.geteuid()
    if uid != 0:
        return _by_id(uid)
    if cluster.exists() and cluster.stat().st_uid != 0:
        return _by_id(cluster.stat().st_uid)
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StartError("PostgreSQL does not run as root and there is no user named nobody: start as an ordinary user.")


def _by_id(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise StartError(
            f"The user id {uid} is not in the passwd file, which PostgreSQL needs: add it, or set DATABASE_URL."
        ) from None
