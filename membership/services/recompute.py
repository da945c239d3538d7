"""The one way in which tiers follow from facts again: late facts, publishing, immediate upgrades, a set of one or many.

Each member's rows are worked out again from an instant on, from the row held at it: the immediate upgrades of each
stretch between two evaluations, then the evaluation. The result is compared with the live rows after that instant:
those that are the same stay, the others are superseded. What must be so whatever runs when:

- A member is taken through every evaluation that has begun (`Ladder.evaluated_at`) and every one that is not after
  the member's last day with a fact: what happens on that day already sees the tier of after that evaluation, even
  if the job is late.
- An immediate upgrade takes effect one tick after its fact and sees all of that instant, refunds too. One that would
  begin at an evaluation's very instant is left to the evaluation. Orders, edits, credits and activities cause
  upgrades, from joining on; refunds do not.
- The walk knows no overrides. They cover its outcome (`membership/services/covering.py`); whoever had one since the
  evaluation before `since` is worked out again from before it.
- Rows with cause paid or imported are left alone.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from operator import itemgetter

from django.db import connection, transaction
from psycopg2 import sql

from core.calendar import TICK, day_start
from membership import locks
from membership.composed_sql import Cells, among, array, fetch
from membership.ladder_plans import LadderPlans, load_plans
from membership.models import Ladder, TierCause
from membership.qualification import LadderPlan, Moment, decision, entry_rank, evidence, moment_metrics
from membership.reach import list_who_may_rise
from membership.services import periods
from membership.services.corrections import find_corrections
from membership.services.covering import cover_rows, find_start, load_covers
from membership.services.periods import History, Period

# Members worked out together: their rows and facts are held in memory, and their locks until the end.
BATCH_MEMBERS = 5_000
# Keeps one statement far below the statement timeout at some 50 microseconds a moment.
MOMENTS_PER_STATEMENT = 20_000

NOT_FROM_FACTS = (TierCause.PAID, TierCause.IMPORTED)


_STATES = """
    SELECT m.id, m.joined_at, (SELECT max(day) FROM membership_memberday d WHERE d.member_id = m.id),
        EXISTS (SELECT FROM membership_tieroverride o WHERE o.member_id = m.id)
    FROM membership_member m WHERE m.id = ANY(%s) ORDER BY m.id"""


@dataclass(frozen=True, slots=True)
class MemberState:
    """What is read of a member who is locked; `last_day`: the last local day with a fact."""

    joined_at: datetime
    last_day: date | None
    had_override: bool


@dataclass(frozen=True, slots=True)
class Span:
    """A member's rows in (since, ...) are worked out again, with the evaluations in (since, until]."""

    since: datetime
    until: datetime


@transaction.atomic
def recompute(*, ladder: Ladder, member_ids: Iterable[int], since: datetime, at: datetime) -> int:
    """Work out the members' tiers again from an instant on and return how many rows that changed.

    Idempotency: a second call changes nothing.
    Locks: the members, ascending, in batches, until the transaction ends.
    """
    plans = load_plans(ladder)
    ids = sorted(set(member_ids))
    return sum(
        recompute_locked(plans, dict.fromkeys(locks.lock_members(batch), since), at=at)
        for batch in periods.batches(ids, BATCH_MEMBERS)
    )


def read_states(member_ids: Iterable[int]) -> dict[int, MemberState]:
    """Return what has to be known of members before their tiers are worked out again."""
    with connection.cursor() as cursor:
        cursor.execute(_STATES, [list(member_ids)])
        return {member_id: MemberState(*state) for member_id, *state in cursor.fetchall()}


def recompute_locked(
    plans: LadderPlans,
    since: Mapping[int, datetime],
    *,
    at: datetime,
    states: Mapping[int, MemberState] | None = None,
) -> int:
    """Work out tiers again for members that the caller has locked, each from its own instant on.

    states: those of the members, if the caller has read them since they are locked.
    """
    live = periods.load_histories(plans.ladder.pk, since)
    states = states or read_states(live)
    overridden = [member_id for member_id in live if states[member_id].had_override]
    covers = load_covers(plans.ladder.pk, overridden) if overridden else {}
    for member_id, overrides in covers.items():
        since = {**since, member_id: find_start(plans, live[member_id], overrides, since[member_id])}
    spans = _spans(plans, since, live, states)
    given = _Recomputation(plans, spans, live).run()
    gone, new = [], []
    for member_id, span in spans.items():
        wanted = cover_rows(plans, given[member_id], covers.get(member_id, ()), start=span.since, until=at)
        stored = [r for r in live[member_id] if r.valid_from > span.since and r.cause not in NOT_FROM_FACTS]
        kept = {row.outcome for row in stored} & {row.outcome for row in wanted}
        gone += [(member_id, row) for row in stored if row.outcome not in kept]
        new += [(member_id, row) for row in wanted if row.outcome not in kept]
    periods.supersede([row for _, row in gone], at=at)
    periods.insert(plans, new, at=at)
    periods.publish_moves(plans, ((member_id, row.valid_from) for member_id, row in gone + new), at=at)
    return len(gone) + len(new)


def _spans(
    plans: LadderPlans,
    since: Mapping[int, datetime],
    live: Mapping[int, History],
    states: Mapping[int, MemberState],
) -> dict[int, Span]:
    """Return where each member's recomputation begins, not before joining, and the last evaluation it includes."""
    evaluated_at = plans.ladder.evaluated_at
    spans = {}
    for member_id, rows in live.items():
        start = max(since[member_id], rows[0].valid_from)
        ends = [start, *([evaluated_at] if evaluated_at else [])]
        if last_day := states[member_id].last_day:
            ends.append(day_start(last_day, plans.zone))
        spans[member_id] = Span(start, max(ends))
    return spans


class _Recomputation:
    """The walk through time of one set of members."""

    def __init__(self, plans: LadderPlans, spans: dict[int, Span], live: Mapping[int, History]) -> None:
        self.plans = plans
        self.spans = spans
        self.histories = {
            member_id: [row for row in rows if row.valid_from <= spans[member_id].since]
            for member_id, rows in live.items()
        }

    def run(self) -> dict[int, History]:
        """Return the rows that the facts give each member, those up to the start of its span as they are."""
        if not self.spans:
            return {}
        first = min(span.since for span in self.spans.values())
        last = max(span.until for span in self.spans.values())
        evaluations = set(self.plans.list_evaluations(after=first, until=last))
        marks = sorted(evaluations | set(self.plans.list_changes(first)))
        for begin, end in zip([first, *marks], [*marks, None], strict=True):
            self._upgrade(begin, end, ends_with_evaluation=end in evaluations)
            if end in evaluations and end is not None:
                self._evaluate(end)
        return self.histories

    def _upgrade(self, begin: datetime, end: datetime | None, *, ends_with_evaluation: bool) -> None:
        """Add the immediate upgrades caused by facts in [begin, end)."""
        plan = self.plans.at(begin)
        if plan is None or not plan.is_immediate:
            return
        open_members = {
            member_id: max(span.since, begin)
            for member_id, span in self.spans.items()
            if (end is None or span.since < end) and self._rank(plan, member_id) < len(plan.tier_ids) - 1
        }
        ranks = {member_id: self._rank(plan, member_id) for member_id in open_members}
        rising = list_who_may_rise(plan, open_members, ranks) if open_members else set()
        moments = [
            moment
            for moment in _list_moments({m: since for m, since in open_members.items() if m in rising}, end)
            if not (ends_with_evaluation and moment.fact_at + TICK == end and end <= self.spans[moment.member_id].until)
        ]
        for part in periods.batches(moments, MOMENTS_PER_STATEMENT):
            for member_id, reached in groupby(_measure(plan, part), key=itemgetter(0)):
                for _, fact_at, rank, found in reached:
                    if rank > self._rank(plan, member_id):
                        self.histories[member_id].append(_upgraded(plan, fact_at + TICK, rank, found))

    def _rank(self, plan: LadderPlan, member_id: int) -> int:
        return plan.ranks[self.histories[member_id][-1].tier_id]

    def _evaluate(self, instant: datetime) -> None:
        """Add what the evaluation changes for those who were members before it."""
        plan = self.plans.at(instant)
        due = {
            member_id: self.histories[member_id]
            for member_id, span in self.spans.items()
            if span.since < instant <= span.until and self.histories[member_id][-1].valid_from < instant
        }
        if plan is None or not due:
            return
        corrections = find_corrections(self.plans, due, instant)
        held = {member_id: rows[-1] for member_id, rows in due.items() if member_id not in corrections}
        for member_id, row in corrections.items():
            self.histories[member_id].append(row)
        if not held:
            return
        query = decision(plan, held=periods.held_arrays(held), members=among(held), instant=instant)
        for member_id, tier_id, cause, guaranteed, found in fetch(query):
            row = Period(instant, tier_id, plan.version_id, cause, guaranteed, json.loads(found))
            self.histories[member_id].append(row)


def _upgraded(plan: LadderPlan, valid_from: datetime, rank: int, found: str) -> Period:
    return Period(
        valid_from=valid_from,
        tier_id=plan.tier_ids[rank],
        version_id=plan.version_id,
        cause=TierCause.UPGRADED.value,
        guaranteed_until=plan.minimum_stay(valid_from),
        evidence=json.loads(found),
    )


def _list_moments(since: Mapping[int, datetime], end: datetime | None) -> list[Moment]:
    """Return the instants at which the members did something that can move them up, in order, before `end`."""
    if not since:
        return []
    query = sql.SQL("""
        SELECT DISTINCT s.member_id, f.at, f.day
          FROM unnest({members}, {since}) AS s(member_id, since)
         CROSS JOIN LATERAL (
            SELECT paid_at AS at, local_date AS day FROM membership_order o
             WHERE o.member_id = s.member_id AND o.paid_at >= s.since AND o.paid_at < {end}
            UNION ALL
            SELECT edited_at, local_date FROM membership_orderedit e
             WHERE e.member_id = s.member_id AND e.edited_at >= s.since AND e.edited_at < {end}
            UNION ALL
            SELECT effective_at, local_date FROM membership_qualifyingcredit q
             WHERE q.member_id = s.member_id AND q.effective_at >= s.since AND q.effective_at < {end}
            UNION ALL
            SELECT occurred_at, local_date FROM membership_activity a
             WHERE a.member_id = s.member_id AND a.occurred_at >= s.since AND a.occurred_at < {end}) f
         ORDER BY 1, 2
    """).format(
        members=array(since, "bigint"),
        since=array(since.values(), "timestamptz"),
        end=sql.Literal("infinity" if end is None else end),
    )
    return [Moment(*row) for row in fetch(query)]


def _measure(plan: LadderPlan, moments: Sequence[Moment]) -> list[Cells]:
    """Return (member_id, fact_at, highest rank whose entry holds, evidence) for each moment, in order."""
    query = sql.SQL("SELECT member_id, fact_at, {rank}, {evidence} FROM ({metrics}) m ORDER BY 1, 2").format(
        rank=entry_rank(plan), evidence=evidence(plan), metrics=moment_metrics(plan, moments)
    )
    return fetch(query)
