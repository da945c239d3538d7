"""What the rest of the project asks of tiers: follow new facts, work tiers out again, evaluate on schedule."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from core.calendar import day_start, next_day_start
from core.models import Program
from membership import locks
from membership.ladder_plans import LadderPlans, read_plans
from membership.models import Ladder
from membership.returns import ReturnChange
from membership.services import overrides
from membership.services.batch import RecordedFacts
from membership.services.evaluations import apply_dirty, due_evaluations, evaluate, list_due
from membership.services.periods import batches
from membership.services.recompute import (
    BATCH_MEMBERS,
    MemberState,
    read_states,
    recompute,
    recompute_locked,
    write_marks,
)

__all__ = ["apply_dirty", "due_evaluations", "evaluate", "follow_facts", "list_due", "recompute"]


@dataclass(frozen=True, slots=True)
class _News:
    """A member with new facts: the earliest that matters (not before joining) and the start of the last day.

    returned_at: when first something of an order came back.
    """

    first: datetime
    last_day_at: datetime
    returned_at: datetime | None
    state: MemberState


@transaction.atomic(savepoint=False)
def follow_facts(*, program: Program, recorded: RecordedFacts, at: datetime) -> None:
    """Move members' tiers as new facts demand, in the transaction that wrote the facts and after them.

    A fact dated before the ladder's last evaluation, or the last review of returned orders, marks its member dirty for
    the next close; so does a refund of an order. A member with a fact after an evaluation that has not finished is
    taken through it at once, so that the fact earns with the tier of its time whenever the job runs; so is one whose
    override has ended, or whose returned orders would have been reviewed. Immediate upgrades follow, from the member's
    earliest new fact on.

    Locks: the members, ascending. What decides is read after the locks: of two intakes of one member the second
    sees all that the first wrote, and an evaluation that has begun is seen by every intake it did not wait for.
    """
    ids = locks.lock_members(recorded.first_fact_at)
    if not ids:
        return
    returned = _list_returned(recorded.returns)
    news = {
        member_id: _News(
            first=max(recorded.first_fact_at[member_id], state.joined_at),
            last_day_at=day_start(state.last_day, program.time_zone),
            returned_at=returned.get(member_id),
            state=state,
        )
        for member_id, state in read_states(ids).items()
        if state.last_day
    }
    for plans in read_plans(program.pk):
        _follow(plans, news, recorded, at=at)


def _follow(plans: LadderPlans, news: Mapping[int, _News], recorded: RecordedFacts, *, at: datetime) -> None:
    _mark_dirty(plans.ladder, news)
    since = _list_starts(plans, news)
    if overridden := [member_id for member_id, new in news.items() if new.state.had_override]:
        ended = overrides.list_unrestored(ladder_id=plans.ladder.pk, member_ids=overridden, at=at)
        since |= {member_id: min(end, since.get(member_id, end)) for member_id, end in ended.items()}
    states = {member_id: new.state for member_id, new in news.items()}
    for part in batches(sorted(since), BATCH_MEMBERS):
        starts = {member_id: since[member_id] for member_id in part}
        recompute_locked(plans, starts, at=at, states=states, unearned=recorded)


def _list_starts(plans: LadderPlans, news: Mapping[int, _News]) -> dict[int, datetime]:
    """Return from when on members have to be worked out at once. None is before the last evaluation that has begun."""
    evaluated_at, completed_at = plans.ladder.evaluated_at, plans.ladder.completed_at
    waiting_since = {m: max(completed_at or new.state.joined_at, new.state.joined_at) for m, new in news.items()}
    due = plans.list_evaluations(after=min(waiting_since.values()), until=max(new.last_day_at for new in news.values()))
    since: dict[int, datetime] = {}
    for member_id, new in news.items():
        start = max(new.first, evaluated_at or new.first)
        starts = [start] if plans.is_immediate_from(start) else []
        if bisect_right(due, waiting_since[member_id]) < bisect_right(due, new.last_day_at):
            starts.append(waiting_since[member_id])
        mark = new.state.marks.get(plans.ladder.pk)
        if mark is not None and mark >= (evaluated_at or mark) and next_day_start(mark, plans.zone) <= new.last_day_at:
            starts.append(mark)
        if starts:
            since[member_id] = min(starts)
    return since


def _mark_dirty(ladder: Ladder, news: Mapping[int, _News]) -> None:
    """Mark the members whom the next close has to work out again. They are locked, so nobody else marks them."""
    wanted: dict[int, datetime] = {}
    for member_id, new in news.items():
        # Whoever gave nothing back has no reviews that an earlier fact could change.
        begun = (ladder.evaluated_at, ladder.reviewed_at if new.state.last_refund_at else None)
        late = [new.first for instant in begun if instant is not None and new.first < instant]
        returned = [max(new.returned_at, new.state.joined_at)] if new.returned_at else []
        mark = new.state.marks.get(ladder.pk)
        earliest = min([*late, *returned, *([mark] if mark else [])], default=None)
        if earliest is not None and earliest != mark:
            wanted[member_id] = new.state.marks[ladder.pk] = earliest
    if wanted:
        write_marks(ladder, wanted)


def _list_returned(returns: Iterable[tuple[int, ReturnChange]]) -> dict[int, datetime]:
    """Return, by member, the instant of the first of new refunds that give something of an order back."""
    first: dict[int, datetime] = {}
    for _, change in returns:
        member_id = change.after.order.member_id
        if member_id is not None:
            first[member_id] = min(change.refunded_at, first.get(member_id, change.refunded_at))
    return first
