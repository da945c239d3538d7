"""Who may move up at all: most facts move nobody, and one small read tells."""

from collections.abc import Mapping
from datetime import datetime

from django.db import connection

from core.calendar import local_date
from membership.composed_sql import array_text
from membership.definitions import AnyOf, Metric
from membership.qualification import LadderPlan

# No moment sees more than whole days give without their refunds. Credits have no bound: they can be negative.
_BOUNDED: tuple[Metric, ...] = ("net_spend", "order_count", "active_days")
_BOUNDS = """
    SELECT s.member_id, coalesce(sum(d.spend_minor), 0)::bigint, coalesce(sum(d.orders), 0), count(d.day)
      FROM unnest(%s::bigint[], %s::date[]) AS s(member_id, first)
      LEFT JOIN membership_memberday d ON d.member_id = s.member_id AND d.day >= s.first
     GROUP BY s.member_id"""


def list_who_may_rise(plan: LadderPlan, since: Mapping[int, datetime], ranks: Mapping[int, int]) -> set[int]:
    """Return the members whom facts from their own instant on may have moved up from their rank.

    All others cannot reach a higher tier's entry, whatever part of their days is looked at.
    """
    firsts = [min(plan.window_starts(local_date(at, plan.zone)), default=None) for at in since.values()]
    with connection.cursor() as cursor:
        cursor.execute(_BOUNDS, [array_text(since), array_text(firsts)])
        rows = cursor.fetchall()
    return {
        member_id
        for member_id, *sums in rows
        if any(
            _may_hold(plan.entry(rank), dict(zip(_BOUNDED, sums, strict=True)))
            for rank in range(ranks[member_id] + 1, len(plan.tier_ids))
        )
    }


def _may_hold(entry: AnyOf | None, most: Mapping[Metric, int]) -> bool:
    return entry is None or any(
        all(most.get(need.metric, need.at_least) >= need.at_least for need in branch.all_of) for branch in entry.any_of
    )
