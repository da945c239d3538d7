"""The row locks of membership, and the order in which one transaction takes them.

An intake of facts takes, each kind in ascending key order: the program row (only while it has no fact), the keys
of its orders (a unique insert, which waits for another transaction's insert of the same key), the orders its
refunds or its edit touch, the keys of its refunds, activities and credits, and last the days of its members (upsert).
An order's lock covers its lines: nobody else changes what came back of them. A correction takes the order or the
activity that it corrects, then the days, then the member.

Tiers come after the facts: the member rows, ascending, then tier periods in ascending (member, valid_from). So of two
intakes of one member the second sees the facts and the tiers of the first. An evaluation begins with the ladder's row
and then the whole table of days, in a transaction of its own; a chunk takes its own row, locks those of its members
who had an override or are marked to be worked out again, and inserts periods in ascending member. An override takes
the ladder's row, then its member. A program file that adds a ladder takes the whole table of members, after the rows
of core.
"""

from collections.abc import Iterable, Sequence

from django.db import connection
from django.db.models import QuerySet

from membership.models import Activity, EvaluationChunk, Order

_LOCK_MEMBERS = "SELECT id FROM membership_member WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"


def lock_orders(order_ids: Sequence[int]) -> QuerySet[Order]:
    """Lock orders in ascending id until the transaction ends, so that refunds of one order come one by one."""
    return Order.objects.select_for_update(no_key=True).filter(pk__in=order_ids).order_by("pk")


def lock_activity(activity_id: int) -> Activity:
    """Lock an activity until the transaction ends, so that corrections of it come one by one."""
    return Activity.objects.select_for_update(no_key=True).get(pk=activity_id)


def lock_members(member_ids: Iterable[int]) -> list[int]:
    """Lock members in ascending id until the transaction ends, and return them: who decides their tiers waits."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_MEMBERS, [list(member_ids)])
        return [member_id for (member_id,) in cursor.fetchall()]


def lock_member_days() -> None:
    """Wait until every intake that has written a day is over, and hold back new ones until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE membership_memberday IN SHARE MODE")


def lock_enrollment() -> None:
    """Wait until every enrollment under way is over, and hold back new ones until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE membership_member IN SHARE MODE")


def lock_open_chunk(evaluation_id: int, *, wait: bool) -> EvaluationChunk | None:
    """Lock the first chunk that is not done, leaving out those of another worker unless told to wait."""
    chunks = EvaluationChunk.objects.filter(evaluation_id=evaluation_id, done_at=None).order_by("first_member_id")
    return chunks.select_for_update(no_key=True, skip_locked=not wait).first()
