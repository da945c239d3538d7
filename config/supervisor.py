"""One process that owns everything: it starts the servers and the application, watches them and stops them in order."""

import http.client
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config import environment
from config.embedded.child import Child, Program, Spawner
from config.embedded.servers import Request, ignore_signals, own_servers
from config.failure import StartError

HOST = "127.0.0.1"
OPERATOR = "operator"
PASSWORD_FILE = "operator-password"  # noqa: S105 a file's name
KEY_FILE = "api-key"
WEB_START_SECONDS = 60.0
STOP_SECONDS = 20.0
WATCH_SECONDS = 0.25
# A task's own time limit ends it sooner; the limit for web requests would cut nightly work off.
TASK_STATEMENT_TIMEOUT_MS = 600_000

WEB = "gunicorn config.wsgi --worker-class gthread --workers 2 --threads 4 --graceful-timeout 10 --no-control-socket"
WORKER = "celery -A config worker --concurrency 2 --without-gossip --without-mingle --loglevel WARNING"
BEAT = "celery -A config beat --pidfile= --loglevel WARNING"


def supervise(*, demo: bool) -> None:
    """Run until Ctrl-C or a child's death.

    Raises: StartError.
    """
    port = environment.integer("PERENNIAL_PORT", 8000)
    _check_port(port)
    request = Request(
        data=environment.data_directory(),
        command="manage.py run",
        database_url=environment.text("DATABASE_URL"),
        redis_url=environment.text("REDIS_URL"),
    )
    try:
        with own_servers(request) as urls:
            variables = os.environ | {"DATABASE_URL": urls.database, "REDIS_URL": urls.redis}
            _Application(urls.spawner, variables, list(urls.children)).run(port=port, demo=demo)
    except KeyboardInterrupt:
        _say("Stopped.")


@dataclass(frozen=True)
class _Application:
    """What runs beside the servers, under the same watch."""

    spawner: Spawner
    variables: dict[str, str]
    watched: list[Child]
    children: list[Child] = field(default_factory=list)

    def run(self, *, port: int, demo: bool) -> None:
        """Prepare, then serve until something ends; whatever was started is stopped, the last one first."""
        try:
            self._finish("prepare")
            if demo:
                self._finish("demo")
            metrics = {"PROMETHEUS_MULTIPROC_DIR": str(_make_metrics_directory())}
            web = self._start("web", [*WEB.split(), "--bind", f"{HOST}:{port}"], metrics)
            timeout = {"PERENNIAL_STATEMENT_TIMEOUT_MS": str(TASK_STATEMENT_TIMEOUT_MS)}
            self._start("worker", WORKER.split(), metrics | timeout)
            schedule = environment.data_directory() / "beat-schedule"
            self._start("beat", [*BEAT.split(), "--schedule", str(schedule)])
            self._wait_for_web(web, port)
            _announce(port)
            while True:
                self._watch()
        finally:
            ignore_signals()
            for child in reversed(self.children):
                child.stop(patience_seconds=STOP_SECONDS)

    def _start(
        self, name: str, arguments: Sequence[str], defaults: Mapping[str, str] | None = None, *, terminal: bool = False
    ) -> Child:
        child = self.spawner.start(
            Program(
                name,
                [sys.executable, *(() if terminal else ("-m",)), *arguments],
                signal.SIGTERM,
                environment.PROJECT,
                variables={**(defaults or {}), **self.variables},
                terminal=terminal,
            )
        )
        self.children.append(child)
        return child

    def _finish(self, command: str) -> None:
        """Run one management command to its end, on the terminal.

        Raises: StartError when it fails, or when a server ends meanwhile.
        """
        child = self._start(f"manage.py {command}", ["manage.py", command], terminal=True)
        while child.process.poll() is None:
            self._watch(except_for=child)
        self.children.remove(child)
        if child.process.returncode != 0:
            raise child.failure()

    def _watch(self, *, except_for: Child | None = None) -> None:
        """Let a moment pass, and bring everything down if a child has ended."""
        time.sleep(WATCH_SECONDS)
        for child in (*self.watched, *self.children):
            if child is not except_for and child.process.poll() is not None:
                raise child.failure()

    def _wait_for_web(self, web: Child, port: int) -> None:
        deadline = time.monotonic() + WEB_START_SECONDS
        while not _answers(port):
            if time.monotonic() > deadline:
                raise StartError(f"The web server does not answer; see {web.log}.")
            self._watch()


def _check_port(port: int) -> None:
    """Refuse a port that cannot be had, before anything starts: gunicorn would retry for seconds and end vaguely."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "there are 65,535 ports"
            raise StartError(
                f"Port {port} on {HOST} cannot be used ({reason}): free it, or set PERENNIAL_PORT to another."
            ) from None


def _make_metrics_directory() -> Path:
    """Make the directory in which the processes add up their histograms, empty."""
    directory = environment.data_directory() / "metrics"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=WEB_START_SECONDS)
    try:
        connection.request("GET", "/admin/login/")
        return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _announce(port: int) -> None:
    password_file = environment.data_directory() / PASSWORD_FILE
    password = password_file.read_text().strip() if password_file.exists() else "the one that you chose"
    _say(f"\nPerennial is at http://{HOST}:{port}/admin/\n  user:     {OPERATOR}\n  password: {password}")
    key_file = environment.data_directory() / KEY_FILE
    if key_file.exists():
        _say(f"The API is at http://{HOST}:{port}/api/v1/, described at http://{HOST}:{port}/api/docs/")
        _say(f"  key of the demo program: {key_file.read_text().strip()}")
    _say(f"Logs are in {environment.data_directory() / 'logs'}. Ctrl-C stops everything.")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
