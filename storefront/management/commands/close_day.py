"""`manage.py close_day`: close the local days that are due, now."""

import sys
from argparse import ArgumentParser
from contextlib import closing
from datetime import UTC, date, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core.management.arguments import argument
from core.models import Program
from core.schema import require_schema
from core.timestamps import parse_day
from storefront.management.console import Console
from storefront.models import DayClose
from storefront.services import day_close

ACTOR = "manage.py close_day"


class Command(BaseCommand):
    """Do at once what the clock does with its next tick."""

    help = "Closes every local day that has ended: late facts, vests, expiries, tiers, months, reminders."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the program and the day."""
        parser.add_argument("--program", metavar="CODE", help="Only this program (default: all)")
        parser.add_argument("--day", type=argument(parse_day), metavar="DAY", help="Only up to this day, YYYY-MM-DD")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Close day after day, and say what each close did."""
        require_schema()
        programs = Program.objects.filter(**({"code": options["program"]} if options["program"] else {}))
        if options["program"] and not programs:
            raise CommandError(f"There is no program {options['program']}.")
        with closing(Console(sys.stderr)) as console:
            for program in programs:
                self._close(program, options["day"], console)

    def _close(self, program: Program, until: date | None, console: Console) -> None:
        due = day_close.list_due_days(program=program, at=datetime.now(UTC))
        chosen = [day for day in due if until is None or day <= until]
        if until is not None and not chosen:
            next_one = f"the next to close is {due[0]}" if due else "every day that has ended is closed"
            raise CommandError(f"{until} of {program.code} is not due: {next_one}.")
        for day in chosen:
            self._close_one(program, day, console)

    def _close_one(self, program: Program, day: date, console: Console) -> None:
        def show(step: str, counts: dict[str, int]) -> None:
            console(f"{program.code} {day} {step}", sum(counts.values()), 0)

        try:
            close = day_close.close_day(
                program=program, day=day, at=datetime.now(UTC), requested_by=ACTOR, progress=show
            )
        except (day_close.DayNotDue, day_close.CloseUnderWay, day_close.LeaseLost) as error:
            raise CommandError(f"{error}.") from error
        console.close()
        self.stdout.write("\n".join(_describe(program, close)))


def _describe(program: Program, close: DayClose) -> list[str]:
    lines = [f"{program.code} {close.day}: closed."]
    for step in close.steps.all():
        done = [f"{name.replace('_', ' ')} {count:,}" for name, count in step.counts.items() if count]
        lines += [f"  {day_close.StepName(step.name).label}: {', '.join(done)}"] if done else []
    return lines
