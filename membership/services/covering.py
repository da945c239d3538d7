"""What an override does to a history: it covers the rows that follow from the facts, and changes none of them.

Tiers are always worked out as if nobody had overridden anything. While an override lasts, the member is seen to hold
its tier, and what the facts give stays hidden: upgrades, evaluations, grace. When it ends, a row restores what the
facts have given by then, with its guarantee. So an override leaves nothing behind, and neither when a job runs nor when
a fact arrives makes a difference to what is held afterwards.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from core.calendar import TICK
from membership.ladder_plans import LadderPlans
from membership.models import TierCause, TierOverride
from membership.services.corrections import list_since_floor
from membership.services.periods import History, Period


@dataclass(frozen=True, slots=True)
class Cover:
    """An override that lasts from `valid_from` until `ends_at`; `valid_until` is what was decided at first."""

    valid_from: datetime
    valid_until: datetime
    ends_at: datetime
    tier_id: int


def load_covers(ladder_id: int, member_ids: Iterable[int]) -> dict[int, list[Cover]]:
    """Return each member's overrides, oldest first. They never overlap: a new one ends the one before it."""
    rows = TierOverride.objects.filter(ladder_id=ladder_id, member_id__in=list(member_ids))
    columns = ("member_id", "valid_from", "valid_until", "lifted_at", "tier_id")
    covers: dict[int, list[Cover]] = defaultdict(list)
    for member_id, start, until, lifted_at, tier_id in rows.order_by("member_id", "valid_from").values_list(*columns):
        end = until if lifted_at is None else min(until, lifted_at)
        if end > start:
            covers[member_id].append(Cover(start, until, end, tier_id))
    return dict(covers)


def find_start(rows: History, covers: Sequence[Cover], since: datetime, *, needs_grounds: bool) -> datetime:
    """Return the instant, `since` or earlier, up to which the live rows tell all that the facts gave.

    That is before an override that is in force at it. A review of returned orders looks at all upgrades of the tier
    held, and some may be covered. needs_grounds: whether there may be such a review.
    """
    start = since
    for cover in reversed(covers):
        before = [row for row in rows if row.valid_from <= start]
        is_open = bool(before) and before[-1].valid_from == cover.valid_from
        hides = bool(before) and needs_grounds and cover.ends_at > list_since_floor(before)[0].valid_from
        if cover.valid_from <= start and (is_open or hides):
            start = cover.valid_from - TICK
    return start


def cover_rows(
    plans: LadderPlans, given: History, covers: Sequence[Cover], *, start: datetime, until: datetime
) -> History:
    """Return the rows after `start` that a member has who was given these by the facts, oldest first.

    given: all rows, those up to `start` too. until: an override that ends later has not ended, unless a row follows it.
    """
    covers = [cover for cover in covers if cover.valid_from > start]
    seen = {row.valid_from: row for row in given if row.valid_from > start and not _is_covered(row, covers)}
    last = max(until, given[-1].valid_from)
    for cover in covers:
        if cover.ends_at <= last and cover.ends_at not in seen:
            seen[cover.ends_at] = _restored(given, cover.ends_at)
    seen |= {cover.valid_from: _overridden(plans, cover) for cover in covers}
    return [seen[instant] for instant in sorted(seen)]


def _is_covered(row: Period, covers: Sequence[Cover]) -> bool:
    return any(cover.valid_from <= row.valid_from < cover.ends_at for cover in covers)


def _restored(given: History, at: datetime) -> Period:
    """Return what the facts gave by an instant, as a row from then on. A grace that runs goes on as one."""
    row = next(row for row in reversed(given) if row.valid_from <= at)
    cause = TierCause.STAYED if row.in_grace else TierCause.RESTORED
    return replace(row, valid_from=at, cause=cause.value, pk=None)


def _overridden(plans: LadderPlans, cover: Cover) -> Period:
    plan = plans.at(cover.valid_from)
    if plan is None:
        raise LookupError(f"no version of ladder {plans.ladder.code} was in force at {cover.valid_from.isoformat()}")
    return Period(cover.valid_from, cover.tier_id, plan.version_id, TierCause.OVERRIDDEN.value, cover.valid_until)
