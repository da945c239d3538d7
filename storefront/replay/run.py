"""Replay a data set of orders and refunds through the services, from files to report."""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from django.db import connection

from analytics.services import cells, wallet_days
from analytics.services.months import refresh
from core.models import OutboxReceipt, Program
from core.services import outbox
from membership.models import Order
from storefront.replay import loading, report, staging
from storefront.replay.staging import Progress, Staged
from storefront.services import program_file
from storefront.services.program_file import ProgramFile

AsOf = Sequence[tuple[str, datetime]]


class BadRows(Exception):
    """Rows of the data set are malformed; nothing was loaded."""

    def __init__(self, staged: Staged) -> None:
        super().__init__(f"{len(staged.rejected)} malformed row(s)")
        self.problems = staged.rejected


class DeliveryFailed(Exception):
    """A subscriber refused an event, so that the report would be wrong."""


def replay(
    *,
    directory: Path,
    file: ProgramFile,
    as_of: AsOf,
    rejects: Path | None,
    at: datetime,
    progress: Progress,
    ends_on: date | None = None,
) -> dict[str, Any]:
    """Stage, check, load, evaluate, settle and report.

    `rejects`: where malformed rows go; without it, and where a whole file is malformed, they stop the replay before
    anything is written.
    ends_on: all events are moved by whole days, so that the last one is on this day (of UTC).
    Raises: UnreadableFile; BadRows; ProgramFileError; BadFact, FactConflict if the program holds other facts.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")  # a whole data set is checked by one statement
    staging.drop()
    staged = staging.stage(directory, currency=file.program.currency, progress=progress, ends_on=ends_on)
    if staged.rejected:
        if rejects is None or any(problem.is_of_whole_file for problem in staged.rejected):
            raise BadRows(staged)
        staging.write_rejects(staged, rejects)
    program = program_file.apply(file, at=at, actor="manage.py replay")
    last = loading.find_last_event()
    as_of = as_of or report.default_as_of(last, program.time_zone)
    through = max((instant for _, instant in as_of), default=None)
    loading.load(program=program, at=at, settle_through=through, progress=progress)
    _refresh_facts(program, last, at, progress)
    progress("verifying the ledger", 0, 0)
    found = report.build(program, as_of)
    staging.drop()
    return found | {"program": program.code, "rejected": len(staged.rejected)}


def _refresh_facts(program: Program, last: datetime | None, at: datetime, progress: Progress) -> None:
    progress("computing retention", 0, 0)
    outbox.drain(at=at)
    # Also those that failed in an earlier run and wait for their next attempt.
    failed = OutboxReceipt.objects.filter(event__program=program, done_at=None).count()
    if failed:
        raise DeliveryFailed(f"{failed} event(s) could not be delivered; see the outbox receipts")
    if last is not None and Order.objects.filter(program=program).exists():
        refresh(program=program, through=last)
        cells.refresh(program=program, through=last, at=at)
        wallet_days.refresh(program=program, at=at)
