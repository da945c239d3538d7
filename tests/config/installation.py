"""An installation of its own for a test: a data directory with a space in its path, a free port, no server URLs."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 90.0


class Installation:
    """Run management commands as a user would, on a data directory that nothing else uses."""

    def __init__(self, data: Path) -> None:
        self.data = data
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def variables(self, **changes: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in {"DATABASE_URL", "REDIS_URL"} and not name.startswith("PERENNIAL_")
        }
        return kept | {"PERENNIAL_DATA_DIR": str(self.data), "PERENNIAL_PORT": str(self.port)} | changes

    def manage(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.variables(**changes),
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command and leave its input and output open; it does not outlive the block."""
        with subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return the output up to the line that holds the text; a process that never writes it is killed and fails."""
    assert process.stdout is not None
    timer = threading.Timer(DEADLINE_SECONDS, process.kill)
    timer.start()
    seen = ""
    try:
        for line in process.stdout:
            seen += line
            if text in line:
                return seen
    finally:
        timer.cancel()
    raise AssertionError(f"{text!r} never came; the output was:\n{seen}")


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return every process below a started command."""
    return psutil.Process(process.pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process]) -> None:
    """Wait until the processes have ended."""
    _, alive = psutil.wait_procs(processes, timeout=DEADLINE_SECONDS)
    assert alive == []


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence with which a command refused to start."""
    assert result.returncode == 1, result.stdout + result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]
