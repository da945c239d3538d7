"""Facts that were told wrong and are corrected, as the world is told of them."""

from collections.abc import Sequence
from datetime import datetime

from core.event_types import EventType
from core.services import feed
from core.services.feed import News
from membership.models import Activity, FactCorrection, FactKind, Order


def announce_corrected(*, program_id: int, correction_ids: Sequence[int], at: datetime) -> None:
    """Tell which facts say something else now, or are void.

    Locks: the feed.
    """
    corrections = FactCorrection.objects.filter(pk__in=correction_ids).select_related("member").order_by("pk")
    activities = Activity.objects.in_bulk([row.fact_id for row in corrections if row.fact_kind == FactKind.ACTIVITY])
    orders = Order.objects.in_bulk([row.fact_id for row in corrections if row.fact_kind == FactKind.ORDER])
    news = []
    for row in corrections:
        member = row.member.external_id if row.member else None
        fact = activities[row.fact_id] if row.fact_kind == FactKind.ACTIVITY else orders[row.fact_id]
        data = {
            "member": member,
            "fact_kind": FactKind(row.fact_kind).name.lower(),
            "fact": fact.external_id,
            "source": fact.source if isinstance(fact, Activity) else "",
            "correction": row.external_id,
            "is_void": row.after.get("voided_at") is not None,
        }
        news.append(News(EventType.FACT_CORRECTED, member or "", data, row.recorded_at))
    feed.announce(program_id=program_id, news=news, at=at)
