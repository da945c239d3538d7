"""What the rest of the project asks of tiers: follow new facts, work tiers out again, evaluate on schedule."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from core.calendar import day_start
from core.models import Program
from membership import locks
from membership.ladder_plans import LadderPlans, read_plans
from membership.models import DirtyMember, Ladder
from membership.services import overrides
from membership.services.batch import RecordedFacts
from membership.services.evaluations import apply_dirty, due_evaluations, evaluate, list_due
from membership.services.periods import batches
from membership.services.recompute import BATCH_MEMBERS, MemberState, read_states, recompute, recompute_locked

__all__ = ["apply_dirty", "due_evaluations", "evaluate", "follow_facts", "list_due", "recompute"]


@dataclass(frozen=True, slots=True)
class _News:
    """A member with new facts: the earliest that matters (not before joining) and the start of the last day."""

    first: datetime
    last_day_at: datetime
    state: MemberState


@transaction.atomic(savepoint=False)
def follow_facts(*, program: Program, recorded: RecordedFacts, at: datetime) -> None:
    """Move members' tiers as new facts demand, in the transaction that wrote the facts and after them.

    A fact dated before the ladder's last evaluation marks its member dirty for the next close. A member with a fact
    after an evaluation that has not finished is taken through it at once, so that the fact earns with the tier of
    its time whenever the job runs; so is one whose override has ended. Immediate upgrades follow, from the member's
    earliest new fact on.

    Locks: the members, ascending. What decides is read after the locks: of two intakes of one member the second
    sees all that the first wrote, and an evaluation that has begun is seen by every intake it did not wait for.
    """
    ids = locks.lock_members(recorded.first_fact_at)
    if not ids:
        return
    news = {
        member_id: _News(
            first=max(recorded.first_fact_at[member_id], state.joined_at),
            last_day_at=day_start(state.last_day, program.time_zone),
            state=state,
        )
        for member_id, state in read_states(ids).items()
        if state.last_day
    }
    for plans in read_plans(program.pk):
        _follow(plans, news, at=at)


def _follow(plans: LadderPlans, news: Mapping[int, _News], *, at: datetime) -> None:
    evaluated_at, completed_at = plans.ladder.evaluated_at, plans.ladder.completed_at
    if evaluated_at is not None:
        _mark_dirty(plans.ladder, {m: new.first for m, new in news.items() if new.first < evaluated_at})
    waiting_since = {m: max(completed_at or new.state.joined_at, new.state.joined_at) for m, new in news.items()}
    due = plans.list_evaluations(after=min(waiting_since.values()), until=max(new.last_day_at for new in news.values()))
    since: dict[int, datetime] = {}
    for member_id, new in news.items():
        waits = bisect_right(due, waiting_since[member_id]) < bisect_right(due, new.last_day_at)
        start = waiting_since[member_id] if waits else max(new.first, evaluated_at or new.first)
        if waits or plans.is_immediate_from(start):
            since[member_id] = start
    if overridden := [member_id for member_id, new in news.items() if new.state.had_override]:
        ended = overrides.list_unrestored(ladder_id=plans.ladder.pk, member_ids=overridden, at=at)
        since |= {member_id: min(end, since.get(member_id, end)) for member_id, end in ended.items()}
    states = {member_id: new.state for member_id, new in news.items()}
    for part in batches(sorted(since), BATCH_MEMBERS):
        recompute_locked(plans, {member_id: since[member_id] for member_id in part}, at=at, states=states)


def _mark_dirty(ladder: Ladder, since: Mapping[int, datetime]) -> None:
    """Remember the earliest late fact of each member. The members are locked, so nobody else marks them."""
    if not since:
        return
    marks = DirtyMember.objects.filter(ladder=ladder, member_id__in=list(since))
    known = dict(marks.values_list("member_id", "since"))
    DirtyMember.objects.bulk_create(
        [DirtyMember(ladder=ladder, member_id=m, since=min(first, known.get(m, first))) for m, first in since.items()],
        update_conflicts=True,
        unique_fields=["member", "ladder"],
        update_fields=["since"],
    )
