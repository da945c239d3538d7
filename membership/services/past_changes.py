"""What is known of the past has changed: where members held other tiers than their facts had earned with.

Whoever supersedes tiers notes it, in the same transaction and under the lock of the member. The close of a day takes
the notes and looks again at what was earned there (`points/services/corrections.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from membership.models import FactKind, PastChange
from membership.services.batch import RecordedFacts
from membership.services.periods import History

# What changed a tier is dated before the change. Of several facts the one that was recorded last is named.
_FACT = f"""
    SELECT kind, id FROM (
        SELECT {FactKind.ORDER} AS kind, id, paid_at AS at, recorded_at FROM membership_order o
        WHERE o.member_id = c.member_id AND o.paid_at < c.since
        UNION ALL SELECT {FactKind.ORDER_EDIT}, id, edited_at, recorded_at FROM membership_orderedit e
        WHERE e.member_id = c.member_id AND e.edited_at < c.since
        UNION ALL SELECT {FactKind.REFUND}, id, refunded_at, recorded_at FROM membership_refund r
        WHERE r.member_id = c.member_id AND r.refunded_at < c.since
        UNION ALL SELECT {FactKind.ACTIVITY}, id, occurred_at, recorded_at FROM membership_activity a
        WHERE a.member_id = c.member_id AND a.occurred_at < c.since AND a.voided_at IS NULL
        UNION ALL SELECT {FactKind.CREDIT}, id, effective_at, recorded_at FROM membership_qualifyingcredit q
        WHERE q.member_id = c.member_id AND q.effective_at < c.since) told
    ORDER BY recorded_at DESC, at DESC, kind, id DESC LIMIT 1"""  # noqa: S608 numbers of our own

_KEEP = """
    INSERT INTO membership_pastchange AS kept (member_id, since, until, fact_kind, fact_id, both_ways)
    {rows}
    ON CONFLICT (member_id) DO UPDATE SET
        since = least(kept.since, excluded.since),
        until = CASE WHEN kept.until IS NULL OR excluded.until IS NULL THEN NULL
            ELSE greatest(kept.until, excluded.until) END,
        fact_kind = CASE WHEN {keeps} THEN kept.fact_kind ELSE excluded.fact_kind END,
        fact_id = CASE WHEN {keeps} THEN kept.fact_id ELSE excluded.fact_id END,
        both_ways = kept.both_ways OR excluded.both_ways"""
# A corrected fact stays the reason that is named for what follows from it.
_KEEPS = "kept.both_ways AND NOT excluded.both_ways"

_NOTE_TIERS = _KEEP.format(
    keeps=_KEEPS,
    rows=f"""
    SELECT c.member_id, c.since, nullif(c.until, 'infinity'), coalesce(fact.kind, {FactKind.NONE}), fact.id, false
    FROM unnest(%(members)s::bigint[], %(since)s::timestamptz[], %(until)s::timestamptz[])
        AS c (member_id, since, until)
    LEFT JOIN LATERAL ({_FACT}) fact ON true
    WHERE EXISTS (SELECT FROM membership_order o WHERE o.member_id = c.member_id
            AND o.paid_at >= c.since AND o.paid_at < c.until AND o.id <> ALL (%(orders)s))
        OR EXISTS (SELECT FROM membership_orderedit e WHERE e.member_id = c.member_id
            AND e.edited_at >= c.since AND e.edited_at < c.until AND e.id <> ALL (%(edits)s))
        OR EXISTS (SELECT FROM membership_activity a WHERE a.member_id = c.member_id
            AND a.occurred_at >= c.since AND a.occurred_at < c.until AND a.id <> ALL (%(activities)s)
            AND a.voided_at IS NULL)
    ORDER BY c.member_id""",  # noqa: S608 numbers of our own
)

_NOTE_FACTS = _KEEP.format(
    keeps=_KEEPS,
    rows="""
    SELECT member_id, since, NULL::timestamptz, %(kind)s, %(fact)s, true
    FROM unnest(%(members)s::bigint[], %(since)s::timestamptz[]) AS c (member_id, since) ORDER BY member_id""",
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time, `until` exclusive; None: without end."""

    since: datetime
    until: datetime | None


def find_difference(before: History, after: History) -> Stretch | None:
    """Return the stretch outside of which two histories hold the same tiers, None if they do everywhere."""
    tiers = [{row.valid_from: row.tier_id for row in rows} for rows in (before, after)]
    starts = sorted({start for rows in tiers for start in rows})
    held: list[int | None] = [None, None]
    differing = []
    for number, start in enumerate(starts):
        held = [rows.get(start, tier) for rows, tier in zip(tiers, held, strict=True)]
        if held[0] != held[1]:
            differing.append(number)
    if not differing:
        return None
    end = differing[-1] + 1
    return Stretch(starts[differing[0]], starts[end] if end < len(starts) else None)


def note_tiers(changed: Mapping[int, Stretch], *, unearned: RecordedFacts | None) -> None:
    """Note whose tiers have changed where facts had earned already; the caller has locked the members.

    unearned: new facts of the caller's, which earn after this, with the tiers as they are now.
    """
    if not changed:
        return
    new = unearned or RecordedFacts()
    values: dict[str, Any] = {
        "members": list(changed),
        "since": [stretch.since for stretch in changed.values()],
        "until": ["infinity" if stretch.until is None else stretch.until.isoformat() for stretch in changed.values()],
        "orders": new.order_ids,
        "edits": new.edit_ids,
        "activities": new.activity_ids,
    }
    with connection.cursor() as cursor:
        cursor.execute(_NOTE_TIERS, values)


def note_facts(since: Mapping[int, datetime], *, fact_kind: FactKind, fact_id: int) -> None:
    """Note that a fact of members was corrected: what they earned from an instant on is corrected both ways.

    since: by member, from when on, no later than the fact's instants before and after the correction.
    Locks: none; the caller has locked the members.
    """
    values: dict[str, Any] = {"members": list(since), "since": list(since.values()), "kind": fact_kind, "fact": fact_id}
    with connection.cursor() as cursor:
        cursor.execute(_NOTE_FACTS, values)


def list_noted(*, program_id: int, after: int, limit: int) -> list[int]:
    """Return the ids of members of a program with a note, ascending, those after an id."""
    noted = PastChange.objects.filter(member__program=program_id, member_id__gt=after).order_by("member_id")
    return list(noted.values_list("member_id", flat=True)[:limit])


def take(member_ids: Iterable[int]) -> list[PastChange]:
    """Return the notes of members whom the caller has locked, and remove them in the caller's transaction."""
    notes = list(PastChange.objects.filter(member_id__in=list(member_ids)).order_by("member_id"))
    PastChange.objects.filter(pk__in=[note.pk for note in notes]).delete()
    return notes
