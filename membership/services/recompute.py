"""The one way in which tiers follow from facts again: late facts, returns, publishing, immediate upgrades, one or many.

Each member's rows are worked out again from an instant on (`membership/services/walk.py`). The result is compared with
the live rows after that instant: those that are the same stay, the others are superseded. What must be so whatever
runs when:

- A member is taken through every evaluation that has begun (`Ladder.evaluated_at`), every review of returned orders
  that has (`Ladder.reviewed_at`), and all of both that are not after the member's last day with a fact: what happens
  on that day already sees the tier of after them, even if the job is late.
- An immediate upgrade takes effect one tick after its fact and sees all of that instant, refunds too. One that would
  begin at an evaluation's very instant is left to the evaluation. Joining, orders, edits, credits and activities cause
  upgrades; refunds do not.
- The walk knows no overrides. They cover its outcome (`membership/services/covering.py`); who had one that hides what
  the walk has to know is worked out again from before it.
- Rows with cause paid or imported are left alone.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from django.db import connection, transaction

from core.calendar import day_start, next_day_start
from membership import locks
from membership.ladder_plans import LadderPlans, load_plans
from membership.models import DirtyMember, Ladder, TierCause
from membership.services import past_changes, periods
from membership.services.batch import RecordedFacts
from membership.services.covering import cover_rows, find_start, load_covers
from membership.services.past_changes import Stretch
from membership.services.periods import History, Period
from membership.services.walk import Span, Walk

# Members worked out together: their rows and facts are held in memory, and their locks until the end.
BATCH_MEMBERS = 5_000

NOT_FROM_FACTS = (TierCause.PAID, TierCause.IMPORTED)

_STATES = """
    SELECT m.id, m.joined_at, (SELECT max(day) FROM membership_memberday d WHERE d.member_id = m.id),
        EXISTS (SELECT FROM membership_tieroverride o WHERE o.member_id = m.id),
        (SELECT max(refunded_at) FROM membership_refund r WHERE r.member_id = m.id),
        ARRAY(SELECT ladder_id FROM membership_dirtymember d WHERE d.member_id = m.id ORDER BY ladder_id),
        ARRAY(SELECT since FROM membership_dirtymember d WHERE d.member_id = m.id ORDER BY ladder_id)
    FROM membership_member m WHERE m.id = ANY(%s) ORDER BY m.id"""

# A refund that names no order takes nothing from what an upgrade counted.
_RETURNS = """
    SELECT member_id, refunded_at FROM membership_refund r
    WHERE member_id = ANY(%s) AND (order_id IS NOT NULL
        OR EXISTS (SELECT FROM membership_refundline l WHERE l.refund_id = r.id AND l.order_line_id IS NOT NULL))
    ORDER BY member_id, refunded_at"""

_WRITE_MARKS = """
    INSERT INTO membership_dirtymember (ladder_id, member_id, since)
    SELECT %s, * FROM unnest(%s::bigint[], %s::timestamptz[])
    ON CONFLICT (member_id, ladder_id) DO UPDATE SET since = excluded.since"""


@dataclass(frozen=True, slots=True)
class MemberState:
    """What is read of a member who is locked.

    last_day: the last local day with a fact. marks: from when the next close works out the tiers of each ladder again.
    """

    joined_at: datetime
    last_day: date | None
    had_override: bool
    last_refund_at: datetime | None
    marks: dict[int, datetime]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a recomputation changed, by member: the rows superseded and the rows written."""

    gone: list[tuple[int, Period]]
    new: list[tuple[int, Period]]

    @property
    def count(self) -> int:
        return len(self.gone) + len(self.new)


@transaction.atomic
def recompute(*, ladder: Ladder, member_ids: Iterable[int], since: datetime, at: datetime) -> int:
    """Work out the members' tiers again from an instant on and return how many rows that changed.

    Idempotency: a second call changes nothing.
    Locks: the members, ascending, in batches, until the transaction ends.
    """
    plans = load_plans(ladder)
    ids = sorted(set(member_ids))
    return sum(
        recompute_locked(plans, dict.fromkeys(locks.lock_members(batch), since), at=at).count
        for batch in periods.batches(ids, BATCH_MEMBERS)
    )


def read_states(member_ids: Iterable[int]) -> dict[int, MemberState]:
    """Return what has to be known of members before their tiers are worked out again."""
    with connection.cursor() as cursor:
        cursor.execute(_STATES, [list(member_ids)])
        states = {}
        for member_id, joined_at, last_day, had_override, last_refund_at, ladders, marks in cursor.fetchall():
            marked = dict(zip(ladders, marks, strict=True))
            states[member_id] = MemberState(joined_at, last_day, had_override, last_refund_at, marked)
    return states


def recompute_locked(
    plans: LadderPlans,
    since: Mapping[int, datetime],
    *,
    at: datetime,
    states: Mapping[int, MemberState] | None = None,
    unearned: RecordedFacts | None = None,
    follows_facts: bool = True,
) -> Changes:
    """Work out tiers again for members that the caller has locked, each from its own instant on.

    What the next close has to look at again stays marked; the marks of what has been worked out are removed.
    states: those of the members, if the caller has read them since they are locked. unearned: new facts, which earn
    after this. follows_facts: what has been earned where the tiers change is looked at again by the next close; a
    decision of an operator's changes nothing of that.
    """
    live = periods.load_histories(plans.ladder.pk, since)
    states = states or read_states(live)
    spans = _spans(plans, since, live, states)
    reviewed = [member_id for member_id, span in spans.items() if _may_be_reviewed(plans, span, states[member_id])]
    overridden = [member_id for member_id in live if states[member_id].had_override]
    covers = load_covers(plans.ladder.pk, overridden) if overridden else {}
    for member_id, overrides in covers.items():
        start = find_start(live[member_id], overrides, spans[member_id].since, needs_grounds=member_id in reviewed)
        spans[member_id] = Span(start, spans[member_id].until)
    walk = Walk(plans, spans, live, _read_returns(reviewed))
    given = walk.run()
    changes = Changes([], [])
    for member_id, span in spans.items():
        wanted = cover_rows(plans, given[member_id], covers.get(member_id, ()), start=span.since, until=at)
        stored = [r for r in live[member_id] if r.valid_from > span.since and r.cause not in NOT_FROM_FACTS]
        kept = {row.outcome for row in stored} & {row.outcome for row in wanted}
        changes.gone.extend((member_id, row) for row in stored if row.outcome not in kept)
        changes.new.extend((member_id, row) for row in wanted if row.outcome not in kept)
    periods.supersede([row for _, row in changes.gone], at=at)
    periods.insert(plans, changes.new, at=at)
    moves = ((member_id, row.valid_from) for member_id, row in changes.gone + changes.new)
    periods.publish_moves(plans, moves, at=at)
    if follows_facts:
        past_changes.note_tiers(_find_stretches(live, changes), unearned=unearned)
    _mark_again(plans.ladder, walk, states)
    return changes


def _find_stretches(live: Mapping[int, History], changes: Changes) -> dict[int, Stretch]:
    """Return where the members hold other tiers than before."""
    gone: dict[int, set[datetime]] = defaultdict(set)
    new: dict[int, History] = defaultdict(list)
    for member_id, row in changes.gone:
        gone[member_id].add(row.valid_from)
    for member_id, row in changes.new:
        new[member_id].append(row)
    found = {}
    for member_id in gone.keys() | new.keys():
        kept = [row for row in live[member_id] if row.valid_from not in gone[member_id]]
        if stretch := past_changes.find_difference(live[member_id], kept + new[member_id]):
            found[member_id] = stretch
    return found


def _spans(
    plans: LadderPlans,
    since: Mapping[int, datetime],
    live: Mapping[int, History],
    states: Mapping[int, MemberState],
) -> dict[int, Span]:
    """Return where each member's recomputation begins, not before joining, and the last decision it includes."""
    begun = [instant for instant in (plans.ladder.evaluated_at, plans.ladder.reviewed_at) if instant is not None]
    spans = {}
    for member_id, rows in live.items():
        start = max(since[member_id], rows[0].valid_from)
        last_day = states[member_id].last_day
        ends = [start, *begun, *([day_start(last_day, plans.zone)] if last_day else [])]
        spans[member_id] = Span(start, max(ends))
    return spans


def _may_be_reviewed(plans: LadderPlans, span: Span, state: MemberState) -> bool:
    """Tell whether the span has a review of returned orders, or returns for a later one."""
    last = state.last_refund_at
    return last is not None and (last >= span.since or next_day_start(span.since, plans.zone) <= span.until)


def _read_returns(member_ids: Collection[int]) -> dict[int, list[datetime]]:
    """Return the instants of all refunds of the members' orders."""
    returns: dict[int, list[datetime]] = {member_id: [] for member_id in member_ids}
    if returns:
        with connection.cursor() as cursor:
            cursor.execute(_RETURNS, [list(member_ids)])
            for member_id, refunded_at in cursor.fetchall():
                returns[member_id].append(refunded_at)
    return returns


def _mark_again(ladder: Ladder, walk: Walk, states: Mapping[int, MemberState]) -> None:
    """Keep, move or remove the marks of members whom a walk has taken along."""
    marks = {m: states[m].marks.get(ladder.pk) for m in walk.spans}
    wanted = {
        m: walk.get_unreviewed(m, marked, has_refunds=states[m].last_refund_at is not None)
        for m, marked in marks.items()
    }
    gone = [m for m, since in wanted.items() if since is None and marks[m] is not None]
    if gone:
        DirtyMember.objects.filter(ladder=ladder, member_id__in=gone).delete()
    write_marks(ladder, {m: since for m, since in wanted.items() if since is not None and since != marks[m]})


def write_marks(ladder: Ladder, since: Mapping[int, datetime]) -> None:
    """Mark locked members to be worked out again from an instant on, whatever they were marked with."""
    if not since:
        return
    with connection.cursor() as cursor:
        cursor.execute(_WRITE_MARKS, [ladder.pk, list(since), list(since.values())])
