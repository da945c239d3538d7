"""The walk through time of a set of members: from facts to tier periods.

Each member's rows are worked out from an instant on, from the row held at it: the immediate upgrades of each stretch
of time, then what the evaluation at its end decides. Where orders came back, the upgrades that counted them are
reviewed at the starts of local days too (`membership/services/corrections.py`). The walk reads the facts and the rows
up to its start, and nothing that was worked out later.
"""

import json
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from operator import itemgetter

from psycopg2 import sql

from core.calendar import TICK, local_date, next_day_start
from membership.composed_sql import Cells, among, array, fetch
from membership.decisions import decision, entry_rank, evidence
from membership.ladder_plans import LadderPlans
from membership.models import TierCause
from membership.qualification import LadderPlan, Moment, moment_metrics
from membership.reach import list_who_may_rise
from membership.services import periods
from membership.services.corrections import find_fallen, is_due, undo
from membership.services.periods import History, Period

# Keeps one statement far below the statement timeout at some 50 microseconds a moment.
MOMENTS_PER_STATEMENT = 20_000

# The instants at which each member gave orders back, oldest first.
Returns = Mapping[int, Sequence[datetime]]


@dataclass(frozen=True, slots=True)
class Span:
    """A member's rows in (since, ...) are worked out again, with the evaluations and reviews in (since, until]."""

    since: datetime
    until: datetime


class Walk:
    """One set of members on their way; `histories` are the rows that the facts have given each so far.

    returns: of all members whose upgrades may have to be reviewed in their spans.
    """

    def __init__(
        self, plans: LadderPlans, spans: Mapping[int, Span], live: Mapping[int, History], returns: Returns
    ) -> None:
        self.plans = plans
        self.spans = spans
        self.histories = {
            member_id: [row for row in rows if row.valid_from <= spans[member_id].since]
            for member_id, rows in live.items()
        }
        self._returns = returns
        self._upgraded_to = {member_id: span.since for member_id, span in spans.items()}
        # Up to when the returns of a member are reviewed, and whose upgrades are looked at again on the next day.
        self._reviewed: dict[int, datetime] = {}
        self._watched: set[int] = set()

    def run(self) -> dict[int, History]:
        """Return the rows that the facts give each member, those up to the start of its span as they are."""
        if not self.spans:
            return {}
        begin = min(span.since for span in self.spans.values())
        last = max(span.until for span in self.spans.values())
        evaluations = set(self.plans.list_evaluations(after=begin, until=last))
        changes = set(self.plans.list_changes(begin))
        stops = sorted(evaluations | changes | self._list_reviews())
        while (end := self._next_stop(begin, stops)) is not None:
            is_evaluation = end in evaluations
            if is_evaluation or end in changes:
                self._upgrade(self.spans, end, meets_evaluation=is_evaluation)
            if is_evaluation:
                self._evaluate(end)
            else:
                self._review(end)
            begin = end
        self._upgrade(self.spans, None)
        return self.histories

    def get_unreviewed(self, member_id: int, marked: datetime | None, *, has_refunds: bool) -> datetime | None:
        """Return from when on the next close has to walk again with a member; None: nothing is left to do.

        marked: what was known of that before this walk.
        """
        span = self.spans[member_id]
        if marked is not None and marked < span.since:
            return marked
        since = self._reviewed.get(member_id, span.since)
        left = [at for at in self._returns.get(member_id, ()) if at >= since][:1]
        if member_id in self._watched:
            left.append(span.until)
        if marked is not None and has_refunds and member_id not in self._reviewed:
            left.append(marked)
        return min(left, default=None)

    # --- stops ----------------------------------------------------------------------------------------------------

    def _list_reviews(self) -> set[datetime]:
        """Return the starts of the local days that follow returns, within the spans."""
        found = set()
        for member_id, returns in self._returns.items():
            span = self.spans[member_id]
            for at in {max(at, span.since) for at in returns}:
                review = next_day_start(at, self.plans.zone)
                if review <= span.until:
                    found.add(review)
        return found

    def _next_stop(self, begin: datetime, stops: Sequence[datetime]) -> datetime | None:
        """Return the next instant at which something is decided; while somebody is watched, each start of a day is."""
        found = list(stops[bisect_right(stops, begin) :][:1])
        if self._watched:
            review = next_day_start(begin, self.plans.zone)
            if any(self.spans[member_id].until >= review for member_id in self._watched):
                found.append(review)
        return min(found, default=None)

    def _is_open(self, member_id: int, instant: datetime) -> bool:
        """Tell whether a decision at an instant is in the member's span, and none has been made there."""
        span = self.spans[member_id]
        return span.since < instant <= span.until and self.histories[member_id][-1].valid_from < instant

    # --- what happens at them -------------------------------------------------------------------------------------

    def _evaluate(self, instant: datetime) -> None:
        """Add what the evaluation changes for those who were members before it."""
        plan = self.plans.at(instant)
        due = {member_id for member_id in self.spans if self._is_open(member_id, instant)}
        if plan is None or not due:
            return
        due -= self._undo(due, instant, is_evaluation=True)
        if not due:
            return
        held = {member_id: self.histories[member_id][-1] for member_id in sorted(due)}
        query = decision(plan, held=periods.held_arrays(held), members=among(held), instant=instant)
        for member_id, tier_id, cause, guaranteed, found in fetch(query):
            row = Period(instant, tier_id, plan.version_id, cause, guaranteed, json.loads(found))
            self.histories[member_id].append(row)

    def _review(self, instant: datetime) -> None:
        """Undo the upgrades that have to be undone at the start of a day without an evaluation."""
        members = {member_id for member_id in self._returns if self._is_open(member_id, instant)}
        self._upgrade(members, instant)
        still = {member_id for member_id in members if self._is_open(member_id, instant)}
        self._watched |= members - still  # an upgrade began at this very instant
        self._undo(still, instant, is_evaluation=False)

    def _undo(self, members: Collection[int], instant: datetime, *, is_evaluation: bool) -> set[int]:
        """Add the rows of those who fall at an instant, and return who did."""
        seen = {m: self.histories[m] for m in members if self._has_to_be_seen(m, instant, is_evaluation)}
        if not seen:
            return set()
        fallen = find_fallen(self.plans, seen, instant)
        undone = undo(self.plans, fallen, seen, instant, is_evaluation=is_evaluation)
        for member_id, row in undone.items():
            self.histories[member_id].append(row)
        self._reviewed |= dict.fromkeys(seen, instant)
        self._watched = self._watched - seen.keys() | (fallen.keys() - undone.keys())
        return set(undone)

    def _has_to_be_seen(self, member_id: int, instant: datetime, is_evaluation: bool) -> bool:
        """Tell whether orders came back since the last review, or the upgrade they have shaken may fall now."""
        since = self._reviewed.get(member_id)
        if any(at < instant and (since is None or at >= since) for at in self._returns.get(member_id, ())):
            return True
        is_watched = member_id in self._watched
        return is_watched and is_due(self.plans, self.histories[member_id], instant, is_evaluation=is_evaluation)

    def _upgrade(self, members: Iterable[int], end: datetime | None, *, meets_evaluation: bool = False) -> None:
        """Add the immediate upgrades caused by facts before `end` that have not been looked at.

        meets_evaluation: an upgrade that would begin at `end` is left to the evaluation.
        """
        since = {m: self._upgraded_to[m] for m in members if end is None or self._upgraded_to[m] < end}
        plan = self.plans.at(min(since.values()) if end is None else end - TICK) if since else None
        if end is not None:
            self._upgraded_to |= dict.fromkeys(since, end)
        if plan is None or not plan.is_immediate:
            return
        ranks = {member_id: self._rank(plan, member_id) for member_id in since}
        since = {member_id: at for member_id, at in since.items() if ranks[member_id] < len(plan.tier_ids) - 1}
        rising = list_who_may_rise(plan, since, ranks) if since else set()
        moments = [
            moment
            for moment in self._list_moments({m: at for m, at in since.items() if m in rising}, end)
            if not (meets_evaluation and moment.fact_at + TICK == end and end <= self.spans[moment.member_id].until)
        ]
        for part in periods.batches(moments, MOMENTS_PER_STATEMENT):
            for member_id, reached in groupby(_measure(plan, part), key=itemgetter(0)):
                for _, fact_at, rank, found in reached:
                    if rank > self._rank(plan, member_id):
                        self.histories[member_id].append(_upgraded(plan, fact_at + TICK, rank, found))

    def _list_moments(self, since: Mapping[int, datetime], end: datetime | None) -> list[Moment]:
        """Return the instants at which the members did something that can move them up, in order, before `end`.

        Joining is one where there are facts before it: who enrolls after an order that qualifies moves up at once.
        """
        joined_on = {}
        for member_id, at in since.items():
            first = self.histories[member_id][0]
            is_joining = first.cause == TierCause.ENROLLED and first.valid_from == at
            joined_on[member_id] = local_date(at, self.plans.zone) if is_joining else None
        return _list_facts(since, joined_on, end)

    def _rank(self, plan: LadderPlan, member_id: int) -> int:
        return plan.ranks[self.histories[member_id][-1].tier_id]


def _upgraded(plan: LadderPlan, valid_from: datetime, rank: int, found: str) -> Period:
    return Period(
        valid_from=valid_from,
        tier_id=plan.tier_ids[rank],
        version_id=plan.version_id,
        cause=TierCause.UPGRADED.value,
        guaranteed_until=plan.minimum_stay(valid_from),
        evidence=json.loads(found),
    )


def _list_facts(
    since: Mapping[int, datetime], joined_on: Mapping[int, date | None], end: datetime | None
) -> list[Moment]:
    """Return the instants of the members' facts that can move them up, before `end`, in order.

    joined_on: the local day of `since` where that is the instant of joining, which counts if there are facts before it.
    """
    if not since:
        return []
    query = sql.SQL("""
        SELECT DISTINCT s.member_id, f.at, f.day
          FROM unnest({members}, {since}, {joined_on}) AS s(member_id, since, joined_on)
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
             WHERE a.member_id = s.member_id AND a.occurred_at >= s.since AND a.occurred_at < {end}
               AND a.voided_at IS NULL
            UNION ALL
            SELECT s.since, s.joined_on WHERE s.joined_on IS NOT NULL AND (
                EXISTS (SELECT FROM membership_order o WHERE o.member_id = s.member_id AND o.paid_at < s.since)
             OR EXISTS (SELECT FROM membership_orderedit e WHERE e.member_id = s.member_id AND e.edited_at < s.since)
             OR EXISTS (SELECT FROM membership_qualifyingcredit q
                         WHERE q.member_id = s.member_id AND q.effective_at < s.since)
             OR EXISTS (SELECT FROM membership_activity a
                         WHERE a.member_id = s.member_id AND a.occurred_at < s.since AND a.voided_at IS NULL))
            ) f
         ORDER BY 1, 2
    """).format(
        members=array(since, "bigint"),
        since=array(since.values(), "timestamptz"),
        joined_on=array((joined_on[member_id] for member_id in since), "date"),
        end=sql.Literal("infinity" if end is None else end),
    )
    return [Moment(*row) for row in fetch(query)]


def _measure(plan: LadderPlan, moments: Sequence[Moment]) -> list[Cells]:
    """Return (member_id, fact_at, highest rank whose entry holds, evidence) for each moment, in order."""
    query = sql.SQL("SELECT member_id, fact_at, {rank}, {evidence} FROM ({metrics}) m ORDER BY 1, 2").format(
        rank=entry_rank(plan), evidence=evidence(plan), metrics=moment_metrics(plan, moments)
    )
    return fetch(query)
