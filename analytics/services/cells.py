"""The cells of retention: summed anew from the members' months and stats, and what that changed of final ones."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection, transaction

from analytics import rules
from analytics.cell_queries import CELLS, COLUMNS
from analytics.models import DirtyMonth, Restatement, RestatementCause, RetentionState
from core import locks
from core.calendar import day_start, last_begun_day, local_date
from core.models import Program


@dataclass(frozen=True, slots=True)
class CellMismatch:
    """A stored cell that is not the sum of the facts: (n, retained) of both; None where there is none."""

    report: str
    period: date
    step: int
    segment_id: int
    expected: tuple[int, int] | None
    stored: tuple[int, int] | None


@transaction.atomic
def refresh(*, program: Program, through: date | datetime, at: datetime) -> int:
    """Sum every cell anew; return how many changed. The facts are in through the last day that began by `through`.

    A cell that was final and changes leaves a restatement. Call it after `months.refresh` with the same `through`.
    The watermark never moves back.
    Locks: the program row. Idempotency: a second call writes nothing but the instant.
    """
    locks.lock_row(program)
    told = last_begun_day(through, program.time_zone) if isinstance(through, datetime) else through
    before = RetentionState.objects.filter(program=program).first()
    with connection.cursor() as cursor:
        _gather(cursor, program)
        if before is not None:
            cursor.execute(_RESTATE, _restating(program, before, at))
        cursor.execute(_FORGET, {"program": program.pk})
        changed = cursor.rowcount
        cursor.execute(_STORE, {"program": program.pk})
        changed += cursor.rowcount
        cursor.execute("DROP TABLE fresh_cell")
    RetentionState.objects.update_or_create(
        program=program,
        defaults={
            "watermark": max(told, before.watermark) if before else told,
            "definition_version": rules.DEFINITION_VERSION,
            "refreshed_at": at,
        },
    )
    return int(changed)


def end_of_facts(*, program: Program, at: datetime) -> datetime:
    """Return the instant through which the facts are in: the last midnight of the program's, and no day unfinished."""
    return day_start(local_date(at, program.time_zone), program.time_zone)


def find_cell_mismatches(*, program: Program) -> list[CellMismatch]:
    """Compare every stored cell with the sum of the facts.

    While members wait for the next refresh the cells do too, and nothing is compared.
    """
    if DirtyMonth.objects.filter(program=program).exists():
        return []
    with transaction.atomic(), connection.cursor() as cursor:
        _gather(cursor, program)
        cursor.execute(_MISMATCHES, {"program": program.pk})
        rows = cursor.fetchall()
        cursor.execute("DROP TABLE fresh_cell")
    return [CellMismatch(row[0], row[1], row[2], row[3], _pair(row[4:6]), _pair(row[6:8])) for row in rows]


def _gather(cursor: Any, program: Program) -> None:
    """Put the cells of the facts into the temporary table `fresh_cell`."""
    asked = {
        "program": program.pk,
        "follow_up": rules.FOLLOW_UP_DAYS,
        "survival": rules.SURVIVAL_DAYS,
        "repurchase": rules.REPURCHASE_DAYS,
    }
    cursor.execute(_GATHER, asked)
    cursor.execute("ANALYZE fresh_cell")


def _restating(program: Program, before: RetentionState, at: datetime) -> dict[str, Any]:
    is_same = before.definition_version == rules.DEFINITION_VERSION
    return {
        "program": program.pk,
        "watermark": before.watermark,
        "settle": rules.SETTLE_DAYS,
        "cause": RestatementCause.FACTS if is_same else RestatementCause.DEFINITION,
        "version": rules.DEFINITION_VERSION,
        "at": at,
    }


def _pair(columns: tuple[Any, ...]) -> tuple[int, int] | None:
    return (int(columns[0]), int(columns[1])) if columns[0] is not None else None


_GATHER = f"CREATE TEMP TABLE fresh_cell ON COMMIT DROP AS {CELLS}"

# Tiers that are not there compare as 0: a full join wants plain equality.
_BOTH = """
    (SELECT *, coalesce(tier_id, 0) AS tier, coalesce(to_tier_id, 0) AS to_tier FROM analytics_retentioncell
     WHERE program_id = %(program)s) AS stored
    FULL JOIN (SELECT *, coalesce(tier_id, 0) AS tier, coalesce(to_tier_id, 0) AS to_tier FROM fresh_cell) AS fresh
    USING (report, period, step, tier, to_tier, segment_id)
"""

# The whole cell and each of its parts, where they differ. A survival curve's days are histograms: `after` tells of it.
_RESTATE = f"""
INSERT INTO {Restatement._meta.db_table} (program_id, report, period, step, tier_id, to_tier_id, segment_id,
    n_before, retained_before, n_after, retained_after, cause, definition_version, recorded_at)
SELECT %(program)s, report, period, step, nullif(tier, 0), nullif(to_tier, 0), segment_id,
    sum(coalesce(stored.n, 0)), sum(coalesce(stored.retained, 0)),
    sum(coalesce(fresh.n, 0)), sum(coalesce(fresh.retained, 0)), %(cause)s, %(version)s, %(at)s
FROM {_BOTH}
WHERE coalesce(stored.ends_on, fresh.ends_on) + %(settle)s::int <= %(watermark)s::date + 1 AND report <> 'survival'
GROUP BY GROUPING SETS ((report, period, step, tier, to_tier), (report, period, step, tier, to_tier, segment_id))
HAVING bool_or((stored.n, stored.retained) IS DISTINCT FROM (fresh.n, fresh.retained))
ORDER BY report, period, step, tier, to_tier, segment_id NULLS FIRST
"""  # noqa: S608 own texts

_FORGET = """
DELETE FROM analytics_retentioncell AS stored WHERE program_id = %(program)s AND NOT EXISTS (
    SELECT FROM fresh_cell AS fresh WHERE fresh.report = stored.report AND fresh.period = stored.period
      AND fresh.step = stored.step AND fresh.segment_id = stored.segment_id
      AND fresh.tier_id IS NOT DISTINCT FROM stored.tier_id
      AND fresh.to_tier_id IS NOT DISTINCT FROM stored.to_tier_id)
"""

_STORE = f"""
INSERT INTO analytics_retentioncell AS stored (program_id, {COLUMNS})
SELECT %(program)s, {COLUMNS} FROM fresh_cell
ON CONFLICT (program_id, report, period, step, tier_id, to_tier_id, segment_id) DO UPDATE
SET (ends_on, n, retained, span) = ROW(excluded.ends_on, excluded.n, excluded.retained, excluded.span)
WHERE (stored.ends_on, stored.n, stored.retained, stored.span)
    IS DISTINCT FROM (excluded.ends_on, excluded.n, excluded.retained, excluded.span)
"""  # noqa: S608 own texts

_MISMATCHES = f"""
SELECT report, period, step, segment_id, fresh.n, fresh.retained, stored.n, stored.retained
FROM {_BOTH}
WHERE (stored.ends_on, stored.n, stored.retained, stored.span)
    IS DISTINCT FROM (fresh.ends_on, fresh.n, fresh.retained, fresh.span)
ORDER BY report, period, step, segment_id
"""  # noqa: S608 own texts
