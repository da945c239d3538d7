"""`manage.py demo`: the demo program with the shipped sample of real orders."""

import os
import sys
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from core.models import Program, Scope
from core.schema import require_schema
from core.services import api_keys
from storefront.management.console import Console
from storefront.replay.report import iter_lines
from storefront.replay.run import replay
from storefront.services import day_close, program_file

PROJECT = Path(__file__).parents[3]
ACTOR = "manage.py demo"
KEY_FILE = "api-key"


class Command(BaseCommand):
    """Load the demo, or complete it, and report; what is loaded already stays as it is."""

    help = "Replays the shipped sample of real orders into the demo program and reports tiers, points and retention."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Replay the sample into the program of programs/aurora.yaml, close its days, and make a key to it."""
        require_schema()
        at = datetime.now(UTC)
        file = program_file.load(PROJECT / "programs" / "aurora.yaml")
        with closing(Console(sys.stderr)) as console:
            found = replay(
                directory=PROJECT / "samples" / "online_retail",
                file=file,
                as_of=[],
                rejects=None,
                at=at,
                progress=console,
                ends_on=_last_day(file.program.code, at),
            )
            program = Program.objects.get(code=found["program"])
            _close_days(program, console)
            found |= console.usage()
        _make_key(program, settings.DATA_DIR / KEY_FILE, at)
        self.stdout.write("\n".join(iter_lines(found)))
        self.stdout.write(f"Program {found['program']}: {found['seconds']} s.")


def _last_day(code: str, at: datetime) -> date:
    """Return the day before the one on which the demo was loaded first: its last order is of yesterday then.

    The sample's own hours keep clear of midnight, so that the day in UTC is the local one.
    """
    opened_at = Program.objects.filter(code=code).values_list("opened_at", flat=True).first()
    return (opened_at or at).date() - timedelta(days=1)


def _close_days(program: Program, console: Console) -> None:
    def show(step: str, counts: dict[str, int]) -> None:
        console(f"closing days: {step}", sum(counts.values()), 0)

    while due := day_close.list_due_days(program=program, at=(at := datetime.now(UTC))):
        day_close.close_day(program=program, day=due[0], at=at, requested_by=ACTOR, progress=show)


def _make_key(program: Program, file: Path, at: datetime) -> None:
    """Keep a server key of the demo in a file for its owner alone; one that works stays."""
    known = api_keys.find(file.read_text().strip()) if file.exists() else None
    if known is not None and known.program.pk == program.pk and api_keys.is_valid(known, at):
        return
    issued = api_keys.issue(program=program, name="Demo", scopes=Scope.values, actor=ACTOR, at=at)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as output:
        output.write(issued.text + "\n")
    draft.replace(file)
