"""Members, facts and reminders as the world is told of them: external ids, no personal data. See docs/events.md.

Every announcement runs in the transaction of its outbox receipt and begins with the lock on the feed, so what is read
to tell what is new is read by one at a time.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Q
from django.db.models.expressions import CombinedExpression

from core.event_types import EventType
from core.services import feed
from core.services.feed import News, utc_text
from membership.models import Activity, Member, Order, OrderEdit, Refund
from points.models import ExpiryReminder

# What is dated longer than this before it was recorded is history: kept, counted, and not announced.
HISTORY_AGE = timedelta(days=30)


def announce_members(*, program_id: int, kind: EventType, member_ids: Sequence[int], at: datetime) -> None:
    """Tell of members who have enrolled or whose profile has changed.

    Locks: the feed.
    """
    if kind is EventType.MEMBER_UPDATED:
        rows = Member.objects.filter(pk__in=member_ids).order_by("pk").values_list("external_id", flat=True)
        news = [News(kind, name, {"member": name}, at) for name in rows]
    else:
        members = Member.objects.filter(is_news("joined_at"), pk__in=member_ids).order_by("joined_at", "pk")
        news = [
            News(kind, name, {"member": name, "kind": sort, "joined_at": utc_text(joined_at)}, joined_at)
            for name, sort, joined_at in members.values_list("external_id", "kind", "joined_at")
        ]
    feed.announce(program_id=program_id, news=news, at=at)


def announce_facts(
    *,
    program_id: int,
    order_ids: Sequence[int],
    edit_ids: Sequence[int],
    refund_ids: Sequence[int],
    activity_ids: Sequence[int],
    at: datetime,
) -> None:
    """Tell of new facts: by kind in the order in which they depend on each other, each kind by its instants.

    Locks: the feed.
    """
    news = [*_orders(order_ids), *_edits(edit_ids), *_refunds(refund_ids), *_activities(activity_ids)]
    feed.announce(program_id=program_id, news=news, at=at)


def announce_expiring(*, program_id: int, reminder_ids: Sequence[int], at: datetime) -> None:
    """Tell whose points expire soon.

    Locks: the feed.
    """
    reminders = ExpiryReminder.objects.filter(pk__in=reminder_ids).order_by("expires_at", "pk")
    columns = ("member__external_id", "wallet__code", "points", "expires_at", "reminded_at")
    news = [
        News(
            EventType.POINTS_EXPIRING,
            member,
            {"member": member, "wallet": wallet, "points": points, "expires_at": utc_text(expires_at)},
            reminded_at,
        )
        for member, wallet, points, expires_at, reminded_at in reminders.values_list(*columns)
    ]
    feed.announce(program_id=program_id, news=news, at=at)


def is_news(dated: str) -> Q:
    """Return the condition that a row was not yet history when it was recorded."""
    age: CombinedExpression = F("recorded_at") - HISTORY_AGE
    return Q(**{f"{dated}__gte": age})


def _orders(ids: Sequence[int]) -> list[News]:
    if not ids:
        return []
    orders = Order.objects.filter(is_news("paid_at"), pk__in=ids).order_by("paid_at", "pk")
    columns = ("external_id", "member__external_id", "paid_at", "amount_minor", "currency", "program_amount_minor")
    return [
        News(
            EventType.ORDER_PAID,
            member or "",
            {"order": order, "member": member, "paid_at": utc_text(paid_at)} | _money(*money),
            paid_at,
        )
        for order, member, paid_at, *money in orders.values_list(*columns)
    ]


def _edits(ids: Sequence[int]) -> list[News]:
    if not ids:
        return []
    edits = OrderEdit.objects.filter(is_news("edited_at"), pk__in=ids).order_by("edited_at", "pk")
    columns = (
        *("external_id", "order__external_id", "member__external_id", "edited_at"),
        *("amount_minor", "order__currency", "program_amount_minor"),
    )
    return [
        News(
            EventType.ORDER_EDITED,
            member or "",
            {"edit": edit, "order": order, "member": member, "edited_at": utc_text(edited_at)} | _money(*money),
            edited_at,
        )
        for edit, order, member, edited_at, *money in edits.values_list(*columns)
    ]


def _refunds(ids: Sequence[int]) -> list[News]:
    if not ids:
        return []
    refunds = Refund.objects.filter(is_news("refunded_at"), pk__in=ids).order_by("refunded_at", "pk")
    columns = (
        *("external_id", "order__external_id", "member__external_id", "refunded_at"),
        *("amount_minor", "currency", "counted_minor"),
    )
    return [
        News(
            EventType.REFUND_RECORDED,
            member or "",
            {"refund": refund, "order": order, "member": member, "refunded_at": utc_text(refunded_at)} | _money(*money),
            refunded_at,
        )
        for refund, order, member, refunded_at, *money in refunds.values_list(*columns)
    ]


def _activities(ids: Sequence[int]) -> list[News]:
    if not ids:
        return []
    activities = Activity.objects.filter(is_news("occurred_at"), pk__in=ids).order_by("occurred_at", "pk")
    columns = ("external_id", "source", "member__external_id", "kind", "occurred_at")
    return [
        News(
            EventType.ACTIVITY_RECORDED,
            member,
            {"activity": name, "source": source, "member": member, "kind": kind, "occurred_at": utc_text(occurred_at)},
            occurred_at,
        )
        for name, source, member, kind, occurred_at in activities.values_list(*columns)
    ]


def _money(amount_minor: int, currency: str, program_amount_minor: int) -> dict[str, Any]:
    """Return an amount as told, and in the program's currency."""
    return {"amount_minor": amount_minor, "currency": currency, "program_amount_minor": program_amount_minor}
