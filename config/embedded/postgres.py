"""One PostgreSQL cluster in the data directory, with `postgres` as a direct child."""

import os
import pwd
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from config.embedded.child import Child, Program, Spawner
from config.embedded.platform import LINUX
from config.failure import StartError
from config.server_urls import postgres_socket_url

BUILTIN_LOCALE_SINCE = 17
USER = DATABASE = "perennial"
# Crash recovery replays up to max_wal_size; nothing useful takes longer.
START_SECONDS = 300.0
STOP_SECONDS = 60.0
# Parallel queries keep their tables in /dev/shm, which containers often limit to 64 MB.
SHARED_MEMORY_FOR_PARALLEL = 512 * 1024 * 1024

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    "min_wal_size": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_parallel_workers_per_gather": "1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
# For tests alone: their data are gone when they end.
VOLATILE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum_naptime": "10min"}


@dataclass(frozen=True)
class Cluster:
    """Where a cluster lives, whose it is and how it is run."""

    directory: Path
    programs: Path
    runtime: Path
    account: pwd.struct_passwd
    major: int

    @property
    def url(self) -> str:
        return postgres_socket_url(str(self.runtime), user=USER, database=DATABASE)

    def start(self, spawner: Spawner, *, durable: bool) -> Child:
        """Make the cluster if there is none, and start its server."""
        if not self.directory.exists():
            self._initialize(spawner, durable=durable)
        self._write_access_rules()
        arguments: list[str | Path] = [self.programs / "postgres", "-D", self._path_for_server(self.directory)]
        for key, value in self._settings(durable=durable).items():
            arguments += ["-c", f"{key}={value}"]
        # SIGINT is the fast shutdown; SIGTERM would wait for every client.
        return spawner.start(Program("postgres", arguments, signal.SIGINT, self.directory, self.account))

    def wait_until_ready(self, child: Child) -> None:
        """Wait until the server takes connections, and make the database if there is none.

        Raises: StartError with the log's last lines when the server ends, or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS
        maintenance = postgres_socket_url(str(self.runtime), user=USER, database="postgres")
        while True:
            try:
                connection = psycopg2.connect(maintenance)
                break
            except psycopg2.OperationalError as error:
                if child.process.poll() is not None:
                    raise child.failure() from None
                if time.monotonic() > deadline:
                    raise StartError(f"PostgreSQL takes no connections; see {child.log} ({error}).") from None
                time.sleep(0.02)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE}")
        connection.close()

    def _initialize(self, spawner: Spawner, *, durable: bool) -> None:
        """Run initdb beside the final place and rename, so that an interrupted one is never taken for a cluster."""
        unfinished = self.directory.with_name(self.directory.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self.account.pw_uid != os.geteuid():
            os.chown(unfinished, self.account.pw_uid, self.account.pw_gid)
        arguments: list[str | Path] = [self.programs / "initdb", "-D", self._path_for_server(unfinished), "-U", USER]
        arguments += ["--encoding=UTF8", "--locale=C", "--auth=peer"]
        if self.major >= BUILTIN_LOCALE_SINCE:
            # Sorts by code point like C, and knows the upper and lower case of every script: no library of the
            # operating system takes part, so that an upgrade of it never breaks an index.
            arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not durable:
            arguments.append("--no-sync")
        child = spawner.start(Program("initdb", arguments, signal.SIGINT, unfinished, self.account))
        if child.process.wait() != 0:
            raise child.failure()
        unfinished.rename(self.directory)

    def _path_for_server(self, directory: Path) -> str:
        """Name the directory in a way that the server's user can follow.

        Started as root, the server runs as a user who may be unable to enter a directory above (a closed home).
        The working directory is handed over as it is, and /proc/self/cwd leads there without a walk from the root.
        """
        return "/proc/self/cwd" if LINUX and self.account.pw_uid != os.geteuid() else str(directory)

    def _settings(self, *, durable: bool) -> dict[str, str]:
        settings = SETTINGS | {
            "unix_socket_directories": str(self.runtime),
            "hba_file": str(self.runtime / "pg_hba.conf"),
            "ident_file": str(self.runtime / "pg_ident.conf"),
        }
        if LINUX and not _has_room_for_parallel_queries():
            settings |= {"max_parallel_workers_per_gather": "0", "max_parallel_maintenance_workers": "0"}
        return settings if durable else settings | VOLATILE

    def _write_access_rules(self) -> None:
        """Let in the supervisor's own user alone, by what the kernel says of the socket's other end."""
        name = pwd.getpwuid(os.geteuid()).pw_name
        (self.runtime / "pg_hba.conf").write_text("local all all peer map=supervisor\n")
        (self.runtime / "pg_ident.conf").write_text(f'supervisor "{name}" {USER}\n')


def _has_room_for_parallel_queries() -> bool:
    try:
        shared = os.statvfs("/dev/shm")  # noqa: S108 read only
    except OSError:
        return False
    return shared.f_frsize * shared.f_bavail >= SHARED_MEMORY_FOR_PARALLEL
