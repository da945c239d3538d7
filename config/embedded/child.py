"""A child process that cannot outlive its supervisor unnoticed."""

import ctypes
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from config.embedded.directory import DataDirectory
from config.embedded.platform import LINUX
from config.embedded.record import record_child
from config.failure import StartError

PR_SET_PDEATHSIG = 1
ROTATE_BYTES = 10_000_000
LAST_LINES = 8
_libc = ctypes.CDLL(None) if LINUX else None


@dataclass(frozen=True)
class Child:
    """A started program, its log and the signal that asks it to end."""

    name: str
    process: subprocess.Popen[bytes]
    # None: it writes to the terminal.
    log: Path | None
    stop_signal: signal.Signals

    def stop(self, *, patience_seconds: float) -> None:
        """Ask the program to end, wait, and kill its whole session if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def failure(self) -> StartError:
        """Describe an unwanted end, with the log's last lines if there is a log."""
        if self.log is None:
            return StartError(f"{self.name} ended with code {self.process.wait()}; see above.")
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return StartError(
            f"{self.name} ended with code {self.process.wait()}; the end of {self.log}:\n  " + "\n  ".join(lines)
        )


@dataclass(frozen=True)
class Program:
    """What to start, where and as whom."""

    name: str
    arguments: Sequence[str | Path]
    stop_signal: signal.Signals
    cwd: Path
    # None: as this process's own user.
    account: pwd.struct_passwd | None = None
    variables: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    terminal: bool = False


@dataclass(frozen=True)
class Spawner:
    """What all children of one supervisor share."""

    directory: DataDirectory
    # Children inherit this descriptor with its lock, so that the next supervisor can see that one still lives.
    alive_fd: int

    def start(self, program: Program) -> Child:
        """Start a program in a session of its own, so that Ctrl-C reaches the supervisor alone.

        Raises: StartError when the program or its log cannot be opened.
        """
        log = None if program.terminal else self.directory.logs / f"{program.name}.log"
        try:
            if log is not None and log.exists() and log.stat().st_size > ROTATE_BYTES:
                log.replace(log.with_suffix(".log.1"))
            with nullcontext() if log is None else log.open("ab") as output:
                process = self._popen(program, output)
        except OSError as error:
            raise StartError(f"{program.name} cannot be started ({error}).") from None
        if not LINUX:
            record_child(self.directory.children, process.pid, program.stop_signal)
        return Child(program.name, process, log, program.stop_signal)

    def _popen(self, program: Program, output: IO[bytes] | None) -> subprocess.Popen[bytes]:
        dropped = program.account if program.account and program.account.pw_uid != os.geteuid() else None
        return subprocess.Popen(
            program.arguments,
            cwd=program.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_variables(program.variables, dropped),
            start_new_session=True,
            pass_fds=(self.alive_fd,),
            # Popen changes the user before it calls preexec_fn; a change of user would clear the death signal.
            user=dropped.pw_uid if dropped else None,
            group=dropped.pw_gid if dropped else None,
            extra_groups=[] if dropped else None,
            preexec_fn=_die_with(os.getpid(), program.stop_signal) if LINUX else None,  # noqa: PLW1509 calls libc alone
        )


def _variables(given: Mapping[str, str], dropped: pwd.struct_passwd | None) -> dict[str, str]:
    variables = dict(given)
    if dropped:
        variables["HOME"] = dropped.pw_dir
        variables["USER"] = variables["LOGNAME"] = dropped.pw_name
    return variables


def _die_with(parent: int, stop_signal: signal.Signals) -> Callable[[], None]:
    def arrange() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(stop_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arrange
