"""`manage.py restore FILE`: a backup into an empty database, proven afterwards."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from config.management.commands.backup import report
from config.postgres_tools import run_tool
from core.schema import find_missing_migrations


class Command(BaseCommand):
    help = "Reads a file of manage.py backup into an empty database and verifies the ledger: all of it or nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="A file that manage.py backup wrote")

    def handle(self, *_args: Any, file: Path, **_options: Any) -> None:
        if not file.is_file():
            raise CommandError(f"{file} is not a file.")
        if connection.introspection.table_names():
            raise CommandError("The database has tables: restore into an empty one (another DATABASE_URL or data dir).")
        connection.close()
        run_tool("pg_restore", ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", file])
        missing = find_missing_migrations()
        if missing:
            self.stdout.write(f"The backup is of an older release: run manage.py migrate ({len(missing)} to apply).")
            return
        report(self)
