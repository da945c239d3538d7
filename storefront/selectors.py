"""Reads that span apps: all that happened to a member, in one line of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from django.db.models import F, Q, QuerySet, Value

from core.models import AuditEntry
from membership.models import Activity, Member, Order, OrderEdit, Refund, TierOverride, TierPeriod
from points.models import LedgerTransaction

ENTRIES_PER_PAGE = 50
# What operators did that stands on the line as a row of its own.
ACTIONS_TOLD_ELSEWHERE = ("points.adjusted", "points.goodwill_given", "points.redeemed", "tier.overridden")


class Happening(IntEnum):
    """What an entry is about; at one instant what follows from a fact comes after it, so in this order."""

    ORDER = 1
    EDIT = 2
    REFUND = 3
    ACTIVITY = 4
    NOTE = 5
    OVERRIDE = 6
    TIER = 7
    POSTING = 8


@dataclass(frozen=True, slots=True, order=True)
class TimelineEntry:
    """Something that happened: when, of which kind, and the id of its row. Compares in the order of time."""

    at: datetime
    kind: Happening
    row_id: int

    @property
    def cursor(self) -> str:
        """The text by which the next page is asked for, if this was the last entry shown."""
        return f"{self.at.isoformat()}_{self.kind:d}_{self.row_id}"

    @classmethod
    def parse(cls, cursor: str) -> TimelineEntry:
        """Return the entry that a cursor names.

        Raises: ValueError if it is none.
        """
        at, kind, row_id = cursor.split("_")
        instant = datetime.fromisoformat(at)
        if instant.tzinfo is None:
            raise ValueError(f"{at} has no zone")
        return cls(instant, Happening(int(kind)), int(row_id))


@dataclass(frozen=True, slots=True)
class TimelinePage:
    """Entries, newest first; `next_cursor` asks for those before them, None if there are none."""

    entries: list[TimelineEntry]
    next_cursor: str | None


def member_target(member: Member) -> str:
    """Return how the audit trail names a member of its program."""
    return f"member {member.external_id}"


def list_timeline(
    *, member: Member, before: TimelineEntry | None = None, limit: int = ENTRIES_PER_PAGE
) -> TimelinePage:
    """Return what happened to a member before an entry, newest first, in one statement.

    Each source gives its own latest rows from its own index; they are merged afterwards. Postings are found by their
    member and dated when they count; tier moves are those that stand.
    """
    parts = [
        rows.filter(_is_before(kind, field, before))
        .order_by(f"-{field}", "-pk")
        .annotate(at=F(field), kind_=Value(int(kind)), row_id=F("pk"))
        .values_list("at", "kind_", "row_id")[: limit + 1]
        for kind, (rows, field) in _sources(member).items()
    ]
    merged = parts[0].union(*parts[1:], all=True).order_by("-at", "-kind_", "-row_id")[: limit + 1]
    found = [TimelineEntry(at, Happening(kind), row_id) for at, kind, row_id in merged]
    return TimelinePage(found[:limit], found[limit - 1].cursor if len(found) > limit else None)


def _sources(member: Member) -> dict[Happening, tuple[QuerySet[Any], str]]:
    audited = AuditEntry.objects.filter(target=member_target(member), program_id=member.program_id)
    notes = audited.exclude(action__in=ACTIONS_TOLD_ELSEWHERE)
    return {
        Happening.ORDER: (Order.objects.filter(member=member), "paid_at"),
        Happening.EDIT: (OrderEdit.objects.filter(member=member), "edited_at"),
        Happening.REFUND: (Refund.objects.filter(member=member), "refunded_at"),
        Happening.ACTIVITY: (Activity.objects.filter(member=member), "occurred_at"),
        Happening.NOTE: (notes, "recorded_at"),
        Happening.OVERRIDE: (TierOverride.objects.filter(member=member), "valid_from"),
        Happening.TIER: (TierPeriod.objects.filter(member=member, superseded_at=None), "valid_from"),
        Happening.POSTING: (LedgerTransaction.objects.filter(member=member), "effective_at"),
    }


def _is_before(kind: Happening, field: str, last: TimelineEntry | None) -> Q:
    """Return the condition that a row of this kind comes before an entry on the line."""
    if last is None:
        return Q()
    if kind < last.kind:
        return Q(**{f"{field}__lte": last.at})
    earlier = Q(**{f"{field}__lt": last.at})
    return earlier | Q(**{field: last.at}, pk__lt=last.row_id) if kind == last.kind else earlier
