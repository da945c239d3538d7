"""Checks of the ledger that are kept: what the clock and operators see of `verify`."""

from collections.abc import Callable
from datetime import datetime

from core.models import Program
from points.models import LedgerCheck
from points.services.verify import verify

# Enough to begin with; `manage.py verify` names them all.
EXAMPLES = 20


def check_ledger(*, program: Program, now: Callable[[], datetime]) -> LedgerCheck:
    """Verify a program's ledger and keep the outcome, with the instants at which it began and ended.

    A check that is killed stays unfinished; the next one is a row of its own.
    """
    check = LedgerCheck.objects.create(program=program, started_at=now())
    count = 0
    examples: list[str] = []
    for finding in verify(program=program):
        count += 1
        if len(examples) < EXAMPLES:
            place = "" if finding.seq is None else f"/{finding.seq}"
            examples.append(f"account {finding.account_id}{place}: {finding.problem}: {finding.detail}")
    check.findings, check.examples, check.finished_at = count, examples, now()
    check.save(update_fields=["findings", "examples", "finished_at"])
    return check
