"""One Redis in the data directory, with `redis-server` as a direct child."""

import os
import pwd
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import redis

from config.embedded.child import Child, Program, Spawner
from config.failure import StartError
from config.server_urls import redis_socket_url

START_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Store:
    """Where the append-only file lives, whose it is and how its server is run."""

    directory: Path
    program: Path
    runtime: Path
    account: pwd.struct_passwd

    @property
    def socket(self) -> Path:
        return self.runtime / "redis.sock"

    @property
    def url(self) -> str:
        return redis_socket_url(str(self.socket))

    def start(self, spawner: Spawner) -> Child:
        """Start the server on a socket alone, with an append-only file in its working directory."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        if self.account.pw_uid != os.geteuid():
            os.chown(self.directory, self.account.pw_uid, self.account.pw_gid)
        arguments: list[str | Path] = [
            *(self.program, "--port", "0", "--unixsocket", self.socket, "--unixsocketperm", "700"),
            *("--dir", "./", "--appendonly", "yes", "--save", "", "--daemonize", "no"),
        ]
        return spawner.start(Program("redis", arguments, signal.SIGTERM, self.directory, self.account))

    def wait_until_ready(self, child: Child) -> None:
        """Wait until the append-only file is read and the server answers.

        Raises: StartError with the log's last lines when the server ends, or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with redis.Redis.from_url(self.url) as client:
                    client.ping()
                return
            except redis.RedisError as error:
                if child.process.poll() is not None:
                    raise child.failure() from None
                if time.monotonic() > deadline:
                    raise StartError(f"Redis does not answer; see {child.log} ({error}).") from None
                time.sleep(0.02)
