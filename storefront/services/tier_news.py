"""Who holds another tier than the world was last told, and by which kind of move."""

import calendar
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from django.db import transaction

from core.event_types import EventType
from core.locks import lock_feed
from core.services import feed
from core.services.feed import News, utc_text
from membership.models import LadderVersion, Tier, TierCause, TierPeriod
from storefront.models import AnnouncedTier
from storefront.services.announcements import HISTORY_AGE


@dataclass(frozen=True, slots=True)
class _Held:
    """The last live row of a member on a ladder, and the tier that the member began with."""

    member_id: int
    member: str
    tier_id: int
    cause: str
    valid_from: datetime
    version_id: int


@transaction.atomic
def announce_tiers(
    *, program_id: int, ladder_id: int, members: Mapping[str, Sequence[int]], moved_at: datetime, at: datetime
) -> None:
    """Compare the members' tiers with what was last announced, and tell the difference.

    So news that comes twice, late, or after other news says nothing wrong: what is told is the tier held now.

    members: ids by the local month (its first day) of their moves; moved_at: when the moves were recorded.
    Locks: the feed.
    """
    lock_feed(program_id)
    newest = {member_id: date.fromisoformat(month) for month, ids in sorted(members.items()) for member_id in ids}
    announced = AnnouncedTier.objects.filter(ladder_id=ladder_id, member_id__in=newest)
    told = dict(announced.values_list("member_id", "tier_id"))
    first = _first_tiers(ladder_id, newest.keys() - told.keys())
    moves = [
        (held, before)
        for held in _held_now(ladder_id, newest)
        if (before := told.get(held.member_id) or first[held.member_id]) != held.tier_id
    ]
    if not moves:
        return
    ranks = _ranks({held.version_id for held, _ in moves})
    tiers = Tier.objects.filter(ladder_id=ladder_id).select_related("ladder").in_bulk()
    since = moved_at - HISTORY_AGE
    news = []
    for held, before in moves:
        kind = _kind(held, tiers[before], tiers[held.tier_id], ranks[held.version_id])
        is_row = kind is not EventType.TIER_CORRECTED or held.cause == TierCause.CORRECTED
        if (held.valid_from >= since) if is_row else (_month_end(newest[held.member_id]) >= since.date()):
            occurred_at = held.valid_from if is_row else moved_at
            news.append(_news(kind, held, tiers[before], tiers[held.tier_id], occurred_at))
    feed.announce(program_id=program_id, news=news, at=at)
    AnnouncedTier.objects.bulk_create(
        (AnnouncedTier(member_id=held.member_id, ladder_id=ladder_id, tier_id=held.tier_id) for held, _ in moves),
        update_conflicts=True,
        unique_fields=["member", "ladder"],
        update_fields=["tier"],
    )


def _held_now(ladder_id: int, member_ids: Iterable[int]) -> list[_Held]:
    live = TierPeriod.objects.filter(ladder_id=ladder_id, member_id__in=list(member_ids), superseded_at=None)
    last = live.order_by("member_id", "-valid_from").distinct("member_id")
    columns = ("member_id", "member__external_id", "tier_id", "cause", "valid_from", "version_id")
    return [_Held(*row) for row in last.values_list(*columns)]


def _first_tiers(ladder_id: int, member_ids: Iterable[int]) -> dict[int, int]:
    live = TierPeriod.objects.filter(ladder_id=ladder_id, member_id__in=list(member_ids), superseded_at=None)
    first = live.order_by("member_id", "valid_from").distinct("member_id")
    return dict(first.values_list("member_id", "tier_id"))


def _ranks(version_ids: Iterable[int]) -> dict[int, dict[str, int]]:
    """Return the rank of each tier's code by version."""
    versions = LadderVersion.objects.filter(pk__in=list(version_ids)).values_list("pk", "definition")
    return {pk: {tier["code"]: rank for rank, tier in enumerate(told["tiers"])} for pk, told in versions}


def _kind(held: _Held, before: Tier, now: Tier, ranks: Mapping[str, int]) -> EventType:
    """Return how the member came to the tier. A tier lost without a row that says so was never rightly held."""
    if held.cause == TierCause.OVERRIDDEN:
        return EventType.TIER_OVERRIDDEN
    if held.cause == TierCause.CORRECTED:
        return EventType.TIER_CORRECTED
    if ranks.get(now.code, -1) > ranks.get(before.code, -1):
        return EventType.TIER_UPGRADED
    lost = (TierCause.DOWNGRADED, TierCause.RESTORED)  # restored: an override that gave a higher tier has ended
    return EventType.TIER_DOWNGRADED if held.cause in lost else EventType.TIER_CORRECTED


def _news(kind: EventType, held: _Held, before: Tier, now: Tier, occurred_at: datetime) -> News:
    data = {
        "member": held.member,
        "ladder": now.ladder.code,
        "tier": now.code,
        "previous_tier": before.code,
        "valid_from": utc_text(held.valid_from),
    }
    return News(kind, held.member, data, occurred_at)


def _month_end(first: date) -> date:
    return first.replace(day=calendar.monthrange(first.year, first.month)[1])
