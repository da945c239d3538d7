"""The metrics that a ladder version reads, as SQL.

Each distinct (metric, window) pair is a column m0, m1, ... Only numbers, days and instants become literals.
What an evaluation makes of the columns: `membership/decisions.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property, lru_cache

from psycopg2 import sql

from core.calendar import day_start
from membership.composed_sql import SQL, array, flat, joined
from membership.definitions import AnyOf, LadderDefinition, Metric, Requirement
from membership.engagement import NO_ENGAGEMENT
from membership.rules import ONE_DAY, days_later, requirement_name, window_start

_DAY_VALUE: dict[Metric, str] = {
    "net_spend": "spend_minor - refunds_minor",
    "order_count": "orders",
    "credits": "credits",
    "active_days": "(orders + activities > 0)::int",
}


# Compared by identity: a version is compiled once, and what is composed of it is kept by its plan.
@dataclass(frozen=True, eq=False)
class LadderPlan:
    """A version ready to run: its tiers' ids by rank, lowest first, and the zone of its days."""

    ladder_id: int
    version_id: int
    definition: LadderDefinition
    tier_ids: tuple[int, ...]
    zone: str

    @property
    def is_immediate(self) -> bool:
        return self.definition.upgrade == "immediate"

    @cached_property
    def ranks(self) -> dict[int, int]:
        return {tier_id: rank for rank, tier_id in enumerate(self.tier_ids)}

    @cached_property
    def columns(self) -> tuple[Requirement, ...]:
        """One requirement for each distinct metric and window, in order of first use."""
        found: dict[str, Requirement] = {}
        for tier in self.definition.tiers:
            for branch in (*_branches(tier.entry), *_branches(tier.stay)):
                for requirement in branch:
                    found.setdefault(requirement_name(requirement), requirement)
        return tuple(found.values())

    def entry(self, rank: int) -> AnyOf | None:
        return self.definition.tiers[rank].entry

    def stay(self, rank: int) -> AnyOf | None:
        return self.definition.tiers[rank].stay or self.definition.tiers[rank].entry

    def minimum_stay(self, moved_at: datetime) -> datetime | None:
        """Return until when a tier moved to at an instant is guaranteed."""
        days = self.definition.minimum_stay_days
        return days_later(moved_at, days, self.zone) if days else None

    def window_starts(self, last_day: date) -> list[date]:
        """Return the first day of each column's window, where the windows end with `last_day`."""
        return [window_start(column.window, last_day) for column in self.columns]


def _branches(any_of: AnyOf | None) -> list[tuple[Requirement, ...]]:
    return [branch.all_of for branch in any_of.any_of] if any_of else []


def column_name(index: int) -> SQL:
    """Return the name of a plan's column."""
    return sql.SQL(f"m{index}")


# --- metrics -------------------------------------------------------------------------------------------------


def member_day_metrics(plan: LadderPlan, members: SQL, last_day: date) -> SQL:
    """Return a query of (member_id, m0, ...) over whole days up to `last_day`.

    members: a condition on member_id.
    """
    starts = plan.window_starts(last_day)
    first = min(starts, default=last_day)
    sums = (_day_sum(column.metric, start, first) for column, start in zip(plan.columns, starts, strict=True))
    days = sql.SQL(
        "SELECT member_id{sums} FROM membership_memberday"
        " WHERE {members} AND day BETWEEN {first} AND {last} GROUP BY member_id"
    ).format(
        sums=joined((sql.SQL(", {} AS {}").format(value, column_name(i)) for i, value in enumerate(sums)), ""),
        members=members,
        first=sql.Literal(first),
        last=sql.Literal(last_day),
    )
    counts = {i: start for i, start in enumerate(starts) if plan.columns[i].metric == "order_count"}
    return _without_returned(plan, days, counts, members, last_day) if counts else days


def _without_returned(plan: LadderPlan, days: SQL, counts: Mapping[int, date], members: SQL, last_day: date) -> SQL:
    """Take from the order counts the orders of each window that came back by the end of its last day.

    counts: the first day of each column that counts orders.
    """
    values = (
        sql.SQL(", d.{name} - coalesce(r.{name}, 0) AS {name}" if i in counts else ", d.{name}").format(
            name=column_name(i)
        )
        for i in range(len(plan.columns))
    )
    returned = (
        sql.SQL(", count(*) FILTER (WHERE local_date >= {}) AS {}").format(sql.Literal(start), column_name(i))
        for i, start in counts.items()
    )
    return sql.SQL("""
        SELECT d.member_id{values}
          FROM ({days}) d
          LEFT JOIN (SELECT member_id{returned} FROM membership_order
                      WHERE {members} AND returned_at < {end} AND local_date BETWEEN {first} AND {last}
                      GROUP BY member_id) r ON r.member_id = d.member_id
    """).format(
        values=joined(values, ""),
        days=days,
        returned=joined(returned, ""),
        members=members,
        end=sql.Literal(day_start(last_day + ONE_DAY, plan.zone)),
        first=sql.Literal(min(counts.values())),
        last=sql.Literal(last_day),
    )


def _day_sum(metric: Metric, start: date, first: date) -> SQL:
    """Return a column's sum over the days of one group; the widest window needs no filter of its own."""
    inside = sql.SQL("") if start == first else sql.SQL(" FILTER (WHERE day >= {})").format(sql.Literal(start))
    return sql.SQL("coalesce(sum({}){}, 0)::bigint").format(sql.SQL(_DAY_VALUE[metric]), inside)


@dataclass(frozen=True, slots=True)
class Moment:
    """A member just after a fact: everything of that instant has happened, and its local day has begun."""

    member_id: int
    fact_at: datetime
    day: date


# What happened of the moment's own day, up to and including the moment. An order of the window that has come back by
# then does not count, whichever day of the window it was paid on.
_PARTIAL: dict[Metric, str] = {
    "net_spend": """
        (SELECT coalesce(sum(program_amount_minor), 0) FROM membership_order f
          WHERE f.member_id = c.member_id AND f.paid_at BETWEEN c.day_at AND c.fact_at)
      + (SELECT coalesce(sum(program_amount_minor), 0) FROM membership_orderedit f
          WHERE f.member_id = c.member_id AND f.edited_at BETWEEN c.day_at AND c.fact_at)
      - (SELECT coalesce(sum(counted_minor), 0) FROM membership_refund f
          WHERE f.member_id = c.member_id AND f.refunded_at BETWEEN c.day_at AND c.fact_at)""",
    "order_count": """
        (SELECT count(*) FROM membership_order f
          WHERE f.member_id = c.member_id AND f.paid_at BETWEEN c.day_at AND c.fact_at)
      - (SELECT count(*) FROM membership_order f
          WHERE f.member_id = c.member_id AND f.paid_at <= c.fact_at AND f.local_date >= c.{start}
            AND f.returned_at <= c.fact_at)""",
    "credits": """
        (SELECT coalesce(sum(credits), 0) FROM membership_qualifyingcredit f
          WHERE f.member_id = c.member_id AND f.effective_at BETWEEN c.day_at AND c.fact_at)""",
    "active_days": """
        (EXISTS (SELECT FROM membership_order f
          WHERE f.member_id = c.member_id AND f.paid_at BETWEEN c.day_at AND c.fact_at)
      OR EXISTS (SELECT FROM membership_activity f
          WHERE f.member_id = c.member_id AND f.occurred_at BETWEEN c.day_at AND c.fact_at
            AND f.kind <> ALL({idle}) AND f.voided_at IS NULL))::int""",
}

# What was given back afterwards of the orders that a moment's window had counted. A refund counts through the order
# that it names; one that names none counts through the orders of its lines. What comes back of a line that an edit
# added counts through the edit alone.
_RETURNED_LATER: dict[Metric, str] = {
    "net_spend": """
      - (SELECT coalesce(sum(amount), 0) FROM (
          SELECT f.counted_minor - (
              SELECT coalesce(sum(l.counted_minor), 0) FROM membership_refundline l
                JOIN membership_orderline b ON b.id = l.order_line_id AND b.member_id = f.member_id
               WHERE l.refund_id = f.id AND l.member_id = f.member_id AND b.edit_id IS NOT NULL) AS amount
            FROM membership_refund f
            JOIN membership_order o ON o.id = f.order_id AND o.member_id = f.member_id
           WHERE f.member_id = c.member_id AND f.refunded_at > c.fact_at AND f.refunded_at < {until}
             AND o.paid_at <= c.fact_at AND o.local_date >= c.{start}
          UNION ALL
          SELECT l.counted_minor FROM membership_refund f
            JOIN membership_refundline l ON l.refund_id = f.id AND l.member_id = f.member_id
            JOIN membership_orderline b ON b.id = l.order_line_id AND b.member_id = f.member_id
            JOIN membership_order o ON o.id = b.order_id AND o.member_id = f.member_id
           WHERE f.member_id = c.member_id AND f.order_id IS NULL AND b.edit_id IS NULL
             AND f.refunded_at > c.fact_at AND f.refunded_at < {until}
             AND o.paid_at <= c.fact_at AND o.local_date >= c.{start}
          UNION ALL
          SELECT l.counted_minor FROM membership_refund f
            JOIN membership_refundline l ON l.refund_id = f.id AND l.member_id = f.member_id
            JOIN membership_orderline b ON b.id = l.order_line_id AND b.member_id = f.member_id
            JOIN membership_orderedit e ON e.id = b.edit_id AND e.member_id = f.member_id
           WHERE f.member_id = c.member_id AND f.refunded_at > c.fact_at AND f.refunded_at < {until}
             AND e.edited_at <= c.fact_at AND e.local_date >= c.{start}) later)""",
    "order_count": """
      - (SELECT count(*) FROM membership_order f
          WHERE f.member_id = c.member_id AND f.paid_at <= c.fact_at AND f.local_date >= c.{start}
            AND f.returned_at > c.fact_at AND f.returned_at < {until})""",
}


def moment_metrics(plan: LadderPlan, moments: Sequence[Moment], refunds_until: datetime | None = None) -> SQL:
    """Return a query of (member_id, fact_at, m0, ...) for each moment.

    refunds_until: subtract what came back of the counted orders after the moment and before this instant.
    """
    starts = [plan.window_starts(moment.day) for moment in moments]
    names = [sql.SQL(f"s{i}") for i in range(len(plan.columns))]
    # OFFSET 0: else the planner works a metric out again wherever its column is used.
    return sql.SQL("SELECT c.member_id, c.fact_at{values} FROM unnest({arrays}) AS c({names}) OFFSET 0").format(
        values=_moment_values(plan) if refunds_until is None else _compose_moment_values(plan, refunds_until),
        arrays=joined(
            [
                array((m.member_id for m in moments), "bigint"),
                array((m.fact_at for m in moments), "timestamptz"),
                array((m.day for m in moments), "date"),
                array((day_start(m.day, plan.zone) for m in moments), "timestamptz"),
                *(array((row[i] for row in starts), "date") for i in range(len(plan.columns))),
            ]
        ),
        names=joined([sql.SQL("member_id, fact_at, day, day_at"), *names]),
    )


@lru_cache(maxsize=256)
def _moment_values(plan: LadderPlan) -> SQL:
    return flat(_compose_moment_values(plan, None))


def _compose_moment_values(plan: LadderPlan, refunds_until: datetime | None) -> SQL:
    values = (
        sql.SQL(", ((SELECT coalesce(sum({day}), 0) FROM membership_memberday d WHERE d.member_id = c.member_id"
                " AND d.day >= c.{start} AND d.day < c.day) + {partial}{later})::bigint AS {name}").format(
            day=sql.SQL(_DAY_VALUE[column.metric]),
            start=sql.SQL(f"s{i}"),
            partial=sql.SQL(_PARTIAL[column.metric]).format(
                start=sql.SQL(f"s{i}"), idle=sql.Literal(list(NO_ENGAGEMENT))
            ),
            later=sql.SQL("" if refunds_until is None else _RETURNED_LATER.get(column.metric, "")).format(
                until=sql.Literal(refunds_until), start=sql.SQL(f"s{i}")
            ),
            name=column_name(i),
        )
        for i, column in enumerate(plan.columns)
    )  # fmt: skip
    return joined(values, "")
