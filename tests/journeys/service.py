"""The whole service as processes on a durable cluster of its own: web, worker and beat, each of which can be killed."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil
import psycopg2

from config import supervisor
from config.embedded.servers import Request, own_servers
from config.environment import PROJECT

DEADLINE_SECONDS = 120.0
ANSWER_SECONDS = 20.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Service:
    """Processes by name, and what they are started with."""

    database: str
    port: int
    variables: Mapping[str, str]
    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        commands = {
            "web": f"{supervisor.WEB} --bind 127.0.0.1:{self.port}",
            "worker": supervisor.WORKER,
            "beat": f"{supervisor.BEAT} --schedule {self.folder / 'beat-schedule'}",
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *commands[name].split()],
                cwd=PROJECT, env=self.variables, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str, random: Random) -> None:
        """Kill one process of those that a name stands for; if it was the first of them, kill all and start anew."""
        root = psutil.Process(self.processes[name].pid)
        family = [root, *root.children(recursive=True)]
        victim = random.choice(family)
        for process in family if victim == root else [victim]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if victim == root:
            self.processes[name].wait(DEADLINE_SECONDS)
            self.start(name)

    def call(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any] | None:
        """Return the answer's status and body, None if there was none."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            link.request(method, path, json.dumps(body), {"Content-Type": "application/json", **headers})
            answer = link.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            link.close()

    def wait_for_web(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.call("GET", "/readyz", None, {}) is None:
            assert time.monotonic() < deadline, (self.folder / "web.log").read_text()[-2_000:]
            time.sleep(0.1)

    def manage(self, *arguments: str) -> str:
        outcome = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT, env=self.variables, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
        )  # fmt: skip
        assert outcome.returncode == 0, outcome.stderr[-2_000:]
        return outcome.stdout

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg2.connect(self.database) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        connection.close()
        return rows

    def wait_until(self, sql: str, seconds: float) -> None:
        """Wait until a statement answers true."""
        deadline = time.monotonic() + seconds
        while not self.ask(sql)[0][0]:
            assert time.monotonic() < deadline, sql
            time.sleep(0.25)

    def stop(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE_SECONDS)


@contextmanager
def running_service(folder: Path) -> Iterator[Service]:
    """Run servers that sync every commit, and the service on them, with the demo's program and no data."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    try:
        with own_servers(Request(data=folder / "data", command="pytest", durable=True)) as servers:
            variables = os.environ | {
                "DATABASE_URL": servers.database,
                "REDIS_URL": servers.redis,
                "PERENNIAL_DATA_DIR": str(folder / "data"),
                "PERENNIAL_WEBHOOKS_PRIVATE_HOSTS": "1",
                "DJANGO_SETTINGS_MODULE": "config.settings",
            }
            service = Service(servers.database, port, variables, folder)
            service.manage("migrate", "--verbosity", "0")
            service.manage("program", "apply", "programs/aurora.yaml")
            try:
                for name in ("web", "worker", "beat"):
                    service.start(name)
                service.wait_for_web()
                yield service
            finally:
                service.stop()
    finally:
        # The servers' end makes the process deaf to signals, as it is the process's own end elsewhere.
        for number, handler in handlers.items():
            signal.signal(number, handler)
