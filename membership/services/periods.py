"""Reading and writing live tier periods for a set of members."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from django.db import connection
from psycopg2 import sql

from core.calendar import local_date
from core.services import outbox
from membership.composed_sql import SQL, array
from membership.ladder_plans import LadderPlans
from membership.models import TierCause, TierPeriod


@dataclass(frozen=True, slots=True)
class Period:
    """A row of TierPeriod, stored (`pk`) or to be."""

    valid_from: datetime
    tier_id: int
    version_id: int
    cause: str
    guaranteed_until: datetime | None
    evidence: dict[str, int] = field(default_factory=dict)
    pk: int | None = None

    @property
    def in_grace(self) -> bool:
        """Tell whether the row stands for a grace that was given and not ended."""
        return self.cause == TierCause.STAYED and self.guaranteed_until is not None

    @property
    def outcome(self) -> tuple[object, ...]:
        """What makes two rows the same; the evidence of a row that stays is left as it was written."""
        return (self.valid_from, self.tier_id, self.cause, self.guaranteed_until)


_LIVE = """
    SELECT member_id, valid_from, tier_id, version_id, cause, guaranteed_until, id FROM membership_tierperiod
    WHERE ladder_id = %s AND member_id = ANY(%s) AND superseded_at IS NULL ORDER BY member_id, valid_from"""

History = list[Period]
T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items in parts of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def load_histories(ladder_id: int, member_ids: Iterable[int]) -> dict[int, History]:
    """Return the live rows of each member that has any, oldest first."""
    histories: dict[int, History] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, [ladder_id, list(member_ids)])
        for member_id, valid_from, tier_id, version_id, cause, until, pk in cursor.fetchall():
            histories[member_id].append(Period(valid_from, tier_id, version_id, cause, until, pk=pk))
    return dict(histories)


def held_arrays(held: Mapping[int, Period]) -> SQL:
    """Return a query of (member_id, tier_id, in_grace, guaranteed_until) from rows in memory."""
    return sql.SQL("SELECT * FROM unnest({}, {}, {}, {}) AS t(member_id, tier_id, in_grace, guaranteed_until)").format(
        array(held, "bigint"),
        array((row.tier_id for row in held.values()), "bigint"),
        array((row.in_grace for row in held.values()), "boolean"),
        array((row.guaranteed_until for row in held.values()), "timestamptz"),
    )


def supersede(periods: Sequence[Period], *, at: datetime) -> None:
    """End the life of stored rows at a recording instant."""
    if periods:
        TierPeriod.objects.filter(pk__in=[p.pk for p in periods], superseded_at=None).update(superseded_at=at)


def insert(plans: LadderPlans, rows: Sequence[tuple[int, Period]], *, at: datetime) -> None:
    """Write rows in ascending (member, valid_from); one that is live already stays as it is."""
    TierPeriod.objects.bulk_create(
        [
            TierPeriod(
                member_id=member_id,
                ladder_id=plans.ladder.pk,
                tier_id=row.tier_id,
                version_id=row.version_id,
                valid_from=row.valid_from,
                recorded_at=at,
                cause=row.cause,
                guaranteed_until=row.guaranteed_until,
                evidence=row.evidence,
            )
            for member_id, row in sorted(rows, key=lambda item: (item[0], item[1].valid_from))
        ],
        ignore_conflicts=True,
    )


def publish_moves(plans: LadderPlans, moves: Iterable[tuple[int, datetime]], *, at: datetime) -> None:
    """Tell the apps above whose tiers moved: member ids by the local month of each move. Nothing moved, no news."""
    months: dict[str, set[int]] = defaultdict(set)
    for member_id, valid_from in moves:
        months[local_date(valid_from, plans.zone).replace(day=1).isoformat()].add(member_id)
    if months:
        outbox.publish(
            program_id=plans.ladder.program_id,
            topic="membership.tiers_moved",
            payload={
                "ladder_id": plans.ladder.pk,
                "at": at.isoformat(),
                "members": {month: sorted(ids) for month, ids in sorted(months.items())},
            },
            at=at,
        )
