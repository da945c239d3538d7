"""Replays of the sample as processes on a durable cluster of their own: they can be killed, and its backends too."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from django.apps import apps

from config import environment
from config.embedded.servers import Request, own_servers
from config.environment import PROJECT
from tests.oracle.replay import GBP_CUTS, compute

SAMPLE = PROJECT / "samples" / "online_retail"
DEADLINE_SECONDS = 120.0
APPLICATION = "replay"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Replay:
    """A running replay. The clock starts with its first progress line: from then on it reads and writes."""

    process: subprocess.Popen[str]
    started: float

    def wait(self, seconds: float) -> bool:
        """Wait for the process to end by itself and tell whether it did."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def finish(self) -> str:
        """Wait for the end and return what the process wrote on its way."""
        return self.process.communicate(timeout=DEADLINE_SECONDS)[1]


class Cluster:
    """A PostgreSQL server with fsync on, with the schema."""

    def __init__(self, url: str, log: Path, folder: Path) -> None:
        self.url, self.log, self.folder = url, log, folder

    @contextmanager
    def replaying(self, code: str) -> Iterator[Replay]:
        """Start a replay of the sample and let it come to its first stage; it does not outlive the block."""
        arguments = ["replay", str(SAMPLE), "--program", "programs/retail_gbp.yaml", "--into", code]
        with self._start(*arguments, "--json", str(self._report(code))) as process:
            timer = threading.Timer(DEADLINE_SECONDS, process.kill)
            timer.start()
            try:
                assert process.stderr is not None
                assert process.stderr.readline().startswith("reading")
                yield Replay(process, time.monotonic())
            finally:
                timer.cancel()
                process.kill()

    def replay(self, code: str) -> dict[str, Any]:
        """Replay to the end and return the report, less what it says of the run."""
        self._report(code).unlink(missing_ok=True)
        with self.replaying(code) as run:
            said = run.finish()
            assert run.process.returncode == 0, said
        report: dict[str, Any] = json.loads(self._report(code).read_text())
        return {name: report[name] for name in report if name not in {"seconds", "peak_rss_mb", "program"}}

    def manage(self, *arguments: str) -> None:
        with self._start(*arguments) as process:
            _, said = process.communicate(timeout=DEADLINE_SECONDS)
            assert process.returncode == 0, said

    def kill_backend(self) -> bool:
        """Kill the server process of the replay that runs, wait for the recovery; False if there is none any more."""
        before, deadline = self._count_killed(), time.monotonic() + DEADLINE_SECONDS
        with self.connected() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND backend_type = 'client backend'",
                [APPLICATION],
            )
            pids = [pid for (pid,) in cursor.fetchall()]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        # The postmaster takes connections until it has noticed.
        while pids and self._count_killed() == before:
            assert time.monotonic() < deadline
        self.wait_until_ready()
        return bool(pids)

    def wait_for_orders(self, run: Replay, code: str, orders: int) -> bool:
        """Wait until the program has so many orders and tell whether the replay is still running then."""
        with self.connected() as cursor:
            cursor.connection.autocommit = True
            while not run.has_ended():
                cursor.execute(
                    "SELECT count(*) FROM membership_order o JOIN core_program p ON p.id = program_id WHERE code = %s",
                    [code],
                )
                if cursor.fetchone()[0] >= orders:
                    return True
        return False

    def _count_killed(self) -> int:
        return self.log.read_text().count("was terminated by signal 9")

    def wait_until_ready(self) -> None:
        """Wait until the server has recovered; it refuses connections meanwhile."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                with self.connected() as cursor:
                    cursor.execute("SELECT pg_is_in_recovery()")
                    return
            except psycopg2.OperationalError:
                assert time.monotonic() < deadline

    @contextmanager
    def connected(self) -> Iterator[Any]:
        connection = psycopg2.connect(self.url, application_name="test")
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def count_rows(self) -> Counter[str]:
        """Count the rows of every table of the project's apps.

        The outbox is left out: a load that goes on cuts its batches elsewhere, so it may tell its news in more parts.
        """
        own = ("core", "membership", "points", "analytics")
        names = [model._meta.db_table for model in apps.get_models() if model._meta.app_label in own]
        tables = [name for name in names if not name.startswith("core_outbox")]
        counts: Counter[str] = Counter()
        with self.connected() as cursor:
            for table in tables:
                cursor.execute(f"SELECT count(*) FROM {table}")
                counts[table] = cursor.fetchone()[0]
        return counts

    def _report(self, code: str) -> Path:
        return self.folder / f"{code}.json"

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=os.environ | {"DATABASE_URL": self.url, "PGAPPNAME": APPLICATION},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def durable_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a cluster of its own beside that of the tests, whose servers run without fsync."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    request = Request(
        data=folder / "data",
        command="pytest",
        redis_url=environment.text("REDIS_URL"),
        durable=True,
        postgres_major=environment.integer("PERENNIAL_TEST_POSTGRES", 18),
    )
    try:
        with own_servers(request) as servers:
            log = servers.children[0].log
            assert log is not None
            cluster = Cluster(servers.database, log, folder)
            cluster.manage("migrate", "--verbosity", "0")
            with cluster.connected() as cursor:
                cursor.execute("SHOW fsync")
                assert cursor.fetchone() == ("on",)
            yield cluster
    finally:
        # The servers' end makes the process deaf to signals, as it is the process's own end elsewhere.
        for number, handler in handlers.items():
            signal.signal(number, handler)


def expected_report() -> dict[str, Any]:
    """Return the oracle's report of the sample, with a clean ledger."""
    return compute(SAMPLE, cuts=GBP_CUTS) | {"verify": {"mismatches": 0, "chain_breaks": 0}, "rejected": 0}
