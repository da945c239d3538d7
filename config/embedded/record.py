"""Children noted in a file, for the systems on which they outlive a killed supervisor."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path


def record_child(children: Path, pid: int, stop_signal: signal.Signals) -> None:
    """Note a child by process id and start time, for the systems that have no parent-death signal."""
    with children.open("a") as file:
        file.write(f"{pid} {int(stop_signal)} {_started_at(pid)}\n")


def stop_recorded(children: Path) -> None:
    """Ask the noted children to end that still run, the last one started first."""
    if not children.exists():
        return
    for line in reversed(children.read_text().splitlines()):
        pid, stop_signal, started_at = line.split(" ", 2)
        # A process id is used again after a while; with another start time it is somebody else's.
        if started_at and _started_at(int(pid)) == started_at:
            with suppress(ProcessLookupError):
                os.kill(int(pid), int(stop_signal))


def _started_at(pid: int) -> str:
    answer = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip()
