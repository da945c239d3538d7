"""`manage.py backup FILE`: the whole database in one file, proven afterwards."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.postgres_tools import run_tool
from core.models import Program
from storefront.services.proof import prove


class Command(BaseCommand):
    help = "Writes the database to a file that manage.py restore reads, and verifies the ledger. The server goes on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="The file to write; one that exists is refused")

    def handle(self, *_args: Any, file: Path, **_options: Any) -> None:
        if file.exists():
            raise CommandError(f"{file} exists; name another file.")
        partial = file.with_name(f"{file.name}.partial")
        partial.unlink(missing_ok=True)
        # Whoever can read it can read every member.
        os.close(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
        try:
            run_tool("pg_dump", ["--format=custom", "--no-owner", "--no-privileges", "--file", partial])
            partial.rename(file)
        finally:
            partial.unlink(missing_ok=True)
        self.stdout.write(f"{file}: {file.stat().st_size:,} bytes.")
        report(self)


def report(command: BaseCommand) -> None:
    """Prove every program and say so.

    Raises: CommandError on findings.
    """
    wrong = 0
    for program in Program.objects.order_by("pk"):
        for finding in prove(program=program):
            wrong += 1
            command.stdout.write(f"{program.code}: {finding}")
    if wrong:
        raise CommandError(f"{wrong} finding(s): the file is what the database is, and the database is not sound.")
    command.stdout.write(command.style.SUCCESS(f"Verified: {Program.objects.count()} program(s), no finding."))
