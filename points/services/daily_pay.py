"""Rules that pay once a day: of the activities of one member, kind, subject and local day the first one is paid.

The first to come in, that is. The unique key of `PaidActivity` decides, also between two at the same moment.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import NamedTuple

from django.db import connection

_TAKE = """
    INSERT INTO points_paidactivity (member_id, rule_id, kind, "order", product, day, activity_id)
    SELECT * FROM unnest(
        %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::date[], %s::bigint[])
    ON CONFLICT (member_id, rule_id, kind, "order", product, day) DO NOTHING"""

_TAKEN = """
    SELECT rule_id, activity_id FROM points_paidactivity
    JOIN unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS told (member_id, rule_id, activity_id)
    USING (member_id, rule_id, activity_id)"""

# What is void, or has another kind or day by now, is none that is paid there.
_GIVE_BACK = """
    DELETE FROM points_paidactivity p USING membership_activity a
    WHERE p.member_id = ANY(%s) AND a.id = p.activity_id AND a.member_id = p.member_id
        AND (a.voided_at IS NOT NULL OR a.kind <> p.kind OR a.local_date <> p.day)"""


class Payable(NamedTuple):
    """An activity that a rule would pay for, by its day's key."""

    member_id: int
    rule_id: int
    kind: str
    order: str
    product: str
    day: date
    occurred_at: datetime
    activity_id: int


def take_days(payable: Iterable[Payable]) -> set[tuple[int, int]]:
    """Take the days that are free, and return what is paid for, as (rule, activity), whenever its day was taken.

    Locks: waits for another transaction that is taking one of these days; takes them in the order of their keys.
    """
    rows = sorted(payable)
    if not rows:
        return set()
    keys = [(*row[:6], row.activity_id) for row in rows]
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, [list(column) for column in zip(*keys, strict=True)])
        named = ([row.member_id for row in rows], [row.rule_id for row in rows], [row.activity_id for row in rows])
        cursor.execute(_TAKEN, named)
        return set(cursor.fetchall())


def free_days(member_ids: Iterable[int]) -> None:
    """Give back the days that corrected activities had taken, so that others can be paid for them.

    Locks: the rows of these days; the caller has locked the members.
    """
    with connection.cursor() as cursor:
        cursor.execute(_GIVE_BACK, [list(member_ids)])
