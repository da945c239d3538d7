"""Prove a program: that its balances follow from its ledger, and its members' days and order lines from its facts."""

from collections.abc import Iterator

from core.models import Program
from membership.services.rebuild import find_day_mismatches, find_line_mismatches
from points.services.verify import verify


def prove(*, program: Program) -> Iterator[str]:
    """Yield in words whatever is not as the append-only rows say. Reads only; nothing may be written meanwhile."""
    for finding in verify(program=program):
        place = "" if finding.seq is None else f" seq {finding.seq}"
        yield f"account {finding.account_id}{place}: {finding.problem}: {finding.detail}"
    for day in find_day_mismatches(program):
        yield f"day: {day}"
    for line in find_line_mismatches(program):
        yield f"order line: {line}"
