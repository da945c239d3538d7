"""Verify the ledger of one program or of all."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core.models import Program
from core.schema import require_schema
from points.services.verify import verify


class Command(BaseCommand):
    help = "Rebuild every balance, lot and hash chain from the ledger and report what differs. Exit code 1 on findings."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--program", help="Code of one program (default: all)")

    def handle(self, *_args: Any, program: str | None, **_options: Any) -> None:
        require_schema()
        programs = Program.objects.filter(code=program) if program else Program.objects.all()
        if program and not programs:
            raise CommandError(f"There is no program {program}.")
        wrong = 0
        for one in programs:
            for finding in verify(program=one):
                wrong += 1
                place = "" if finding.seq is None else f" seq {finding.seq}"
                self.stdout.write(
                    f"{one.code}: account {finding.account_id}{place}: {finding.problem}: {finding.detail}"
                )
        if wrong:
            raise CommandError(f"{wrong} finding(s)")
        self.stdout.write(self.style.SUCCESS(f"The ledger is sound ({programs.count()} program(s))."))
