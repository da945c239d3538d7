"""Give a management command its servers, then hand over to Django."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from django.core.management import execute_from_command_line

from config import environment
from config.embedded.servers import Request, use_servers
from config.failure import StartError

WITHOUT_SERVERS = {
    *("", "help", "version", "--help", "--version", "-h", "check", "makemigrations", "makemessages"),
    # The supervisor starts its own.
    "run",
    *("compilemessages", "collectstatic", "findstatic", "diffsettings", "startapp", "lock"),
}


def launch(argv: list[str]) -> int:
    """Run one management command; a failure to start is one sentence and code 1."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    command = argv[1] if len(argv) > 1 else ""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        if _needs_servers(command, argv):
            with server_variables(f"manage.py {command}"):
                execute_from_command_line(argv)
        else:
            # makemigrations works without a database, and would warn that it has none.
            warnings.filterwarnings("ignore", message="Got an error checking a consistent migration history")
            execute_from_command_line(argv)
    except StartError as error:
        sys.stderr.write(f"perennial: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _needs_servers(command: str, argv: list[str]) -> bool:
    if {"--help", "-h"} & set(argv):
        return False
    return command not in WITHOUT_SERVERS or (
        command == "check" and any(part.startswith("--database") for part in argv)
    )


@contextmanager
def server_variables(command: str) -> Iterator[None]:
    """Put the URLs of running servers into the environment, for the settings to find; start what is missing.

    Raises: StartError.
    """
    request = Request(
        data=environment.data_directory(),
        command=command,
        database_url=environment.text("DATABASE_URL"),
        redis_url=environment.text("REDIS_URL"),
    )
    # A deadline for web requests would cut an operator's command off.
    os.environ.setdefault("PERENNIAL_STATEMENT_TIMEOUT_MS", "0")
    with use_servers(request) as urls:
        os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = urls.database, urls.redis
        yield


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
