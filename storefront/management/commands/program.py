"""`manage.py program plan|apply FILE.yaml`: programs as code."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core.schema import require_schema
from core.sections import ProgramFileError
from core.versions import VersionOverlap
from storefront.services import program_file


class Command(BaseCommand):
    """Compare a program file with the database, and bring the database in line with it."""

    help = "Shows what a program file would change (plan), or changes it (apply)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to do, the file and the code."""
        parser.add_argument("action", choices=["plan", "apply"])
        parser.add_argument("file", type=Path, help="The program file, in YAML.")
        parser.add_argument("--code", help="A program code to use in place of the file's own.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print the plan; apply it if so told."""
        require_schema()
        at = datetime.now(UTC)
        try:
            file = program_file.load(options["file"], code=options["code"])
            lines = program_file.plan(file, at=at)
            self.stdout.write("\n".join(lines) or "no changes")
            if options["action"] == "apply" and lines:
                program_file.apply(file, at=at, actor="manage.py program")
                self.stdout.write("applied")
        except ProgramFileError as error:
            raise CommandError(f"{options['file']} cannot be used:\n{error}") from error
        except VersionOverlap as error:
            raise CommandError(str(error)) from error
