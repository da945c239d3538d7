"""pg_dump and pg_restore: those of the embedded server's wheel, which reads every version, else those on the PATH."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from django.core.management import CommandError
from django.db import connection
from django.db.backends.postgresql.client import DatabaseClient

from config import environment
from config.embedded.binaries import find_postgres_tool


def run_tool(name: str, arguments: Sequence[str | Path]) -> None:
    """Run a tool on the database of the settings, its messages on this terminal. No password shows in its arguments.

    Raises: CommandError if there is no such tool, or if it fails.
    """
    tool = find_postgres_tool(name) or shutil.which(name)
    if tool is None:
        raise CommandError(f"{name} is not installed: install PostgreSQL's client programs.")
    (_, *place, database), variables = DatabaseClient.settings_to_cmd_args_env(connection.settings_dict, [])
    command = [str(tool), *place, "--dbname", database, *map(str, arguments)]
    outcome = subprocess.run(command, env=environment.variables() | (variables or {}), check=False)
    if outcome.returncode != 0:
        raise CommandError(f"{name} failed with code {outcome.returncode}.")
