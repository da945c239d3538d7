"""The scheduled evaluation of every member of a ladder: late facts, begin, chunks, finish.

It begins behind a barrier: every intake that read the older `Ladder.evaluated_at` has committed, so the chunks see
its facts; every later one reads the new instant and marks its member dirty if its fact is older. Then each range of
member ids is one statement that writes only changes. All of it can be killed, repeated and run side by side: the
evaluation is unique by ladder and instant, a chunk is done once, a tier period is unique by member and instant.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Max, Min, Q
from psycopg2 import sql

from core import locks as core_locks
from core.calendar import TICK, day_start, local_date
from membership import locks
from membership.composed_sql import SQL, Cells, among, fetch
from membership.decisions import decision, insert_decision
from membership.ladder_plans import LadderPlans, load_plans
from membership.models import (
    DirtyMember,
    Evaluation,
    EvaluationChunk,
    Ladder,
    Member,
    TierCause,
)
from membership.qualification import LadderPlan
from membership.services import overrides, periods
from membership.services.recompute import BATCH_MEMBERS, recompute_locked

# About half a second of work: short enough to lose to a kill, long enough to make the cost of a task invisible.
CHUNK_MEMBERS = 100_000
# Sums for a hundred thousand members stay in memory. The chunks are the parallelism, and their plans are too short
# for just-in-time compilation to pay.
_CHUNK_SETTINGS = "SET LOCAL work_mem = '64MB'; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off"

Progress = Callable[[int, int], None]


class NotScheduled(Exception):
    """The ladder plans no evaluation at this instant."""


class EvaluationOutOfOrder(Exception):
    """A later evaluation has begun, or an earlier one has to be run or finished first."""


def evaluate(
    *,
    ladder: Ladder,
    instant: datetime,
    at: datetime,
    chunk_size: int = CHUNK_MEMBERS,
    progress: Progress | None = None,
    share: Callable[[int], None] | None = None,
) -> Evaluation:
    """Run a scheduled evaluation to its end, beside other workers if there are any, and return it.

    progress: called with the chunks done and all chunks after each one.
    share: called with the evaluation's id for each open chunk but one, so that other workers can run it beside this.
    Raises: NotScheduled; EvaluationOutOfOrder.
    Idempotency: a finished evaluation is returned as it is; an interrupted one goes on.
    """
    apply_dirty(ladder=ladder, through=instant - TICK, at=at)
    evaluation = begin(ladder=ladder, instant=instant, at=at, chunk_size=chunk_size)
    if evaluation.finished_at is None:
        if share:
            for _ in range(evaluation.chunks.filter(done_at=None).count() - 1):
                share(evaluation.pk)
        while run_chunk(evaluation_id=evaluation.pk, at=at) or run_chunk(evaluation_id=evaluation.pk, at=at, wait=True):
            if progress:
                chunks = EvaluationChunk.objects.filter(evaluation=evaluation)
                progress(chunks.exclude(done_at=None).count(), chunks.count())
        finish(evaluation_id=evaluation.pk, at=at)
        evaluation.refresh_from_db()
    return evaluation


def list_due(*, ladder: Ladder, until: datetime) -> list[datetime]:
    """Return the evaluations that have not finished, oldest first; before the first one, all since anyone joined."""
    after = ladder.completed_at or Member.objects.filter(program=ladder.program_id).aggregate(at=Min("joined_at"))["at"]
    return load_plans(ladder).list_evaluations(after=after, until=until) if after else []


def due_evaluations(*, ladder: Ladder, after: datetime, until: datetime) -> list[datetime]:
    """Return the instants in (after, until] at which the ladder plans an evaluation."""
    return load_plans(ladder).list_evaluations(after=after, until=until)


@transaction.atomic(durable=True)
def begin(*, ladder: Ladder, instant: datetime, at: datetime, chunk_size: int = CHUNK_MEMBERS) -> Evaluation:
    """Make an evaluation and its chunks behind the barrier, or return the one that was begun before.

    Raises: NotScheduled; EvaluationOutOfOrder.
    Locks: the ladder, then the days of all members: it waits for the intakes under way and holds back new ones for
    the few statements that follow.
    """
    ladder = core_locks.lock_row(ladder)
    begun = Evaluation.objects.filter(ladder=ladder, at=instant).first()
    if begun is not None:
        return begun
    plans = load_plans(ladder)
    plan = plans.at(instant)
    if plan is None or not plans.list_evaluations(after=instant - TICK, until=instant):
        raise NotScheduled(f"ladder {ladder.code} plans no evaluation at {instant.isoformat()}")
    _check_turn(ladder, instant)
    locks.lock_member_days()
    evaluation = Evaluation.objects.create(ladder=ladder, version_id=plan.version_id, at=instant, started_at=at)
    EvaluationChunk.objects.bulk_create(
        EvaluationChunk(evaluation=evaluation, first_member_id=first, last_member_id=first + chunk_size - 1)
        for first in _first_ids(ladder.program_id, chunk_size)
    )
    Ladder.objects.filter(pk=ladder.pk).update(evaluated_at=instant)
    return evaluation


def _check_turn(ladder: Ladder, instant: datetime) -> None:
    """Refuse an evaluation that would come before its turn: what was skipped could not be made up for."""
    evaluated_at = ladder.evaluated_at
    if evaluated_at is not None and evaluated_at > instant:
        reason = f"{instant.isoformat()} lies behind its last evaluation, of {evaluated_at.isoformat()}"
        raise EvaluationOutOfOrder(f"ladder {ladder.code}: {reason}")
    first = min(list_due(ladder=ladder, until=instant), default=instant)
    if first < instant:
        raise EvaluationOutOfOrder(f"ladder {ladder.code}: run the evaluation of {first.isoformat()} to its end first")


def _first_ids(program_id: int, chunk_size: int) -> range:
    """Return where each range of member ids begins. Ids of other programs in between only make a chunk smaller."""
    ids = Member.objects.filter(program=program_id).aggregate(first=Min("pk"), last=Max("pk"))
    return range(ids["first"], ids["last"] + 1, chunk_size) if ids["first"] is not None else range(0)


def apply_dirty(
    *,
    ladder: Ladder,
    through: datetime | None = None,
    at: datetime,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Work out again the tiers of members who are marked, and return how many rows changed.

    Late facts always; with `through`, upgrades whose orders came back are reviewed too, at the starts of all local
    days up to it, but not past an evaluation that is due. Overrides that have ended come first; those do not wait for
    an evaluation under way. While an evaluation is under way it does nothing: a chunk that read a member's facts and
    tiers before them would write what it decided after them, and no mark would be left to mend it. Locks: the ladder,
    then the members, ascending, in batches of a transaction each. Marks are only made under the same locks of members,
    so none is deleted unseen.
    """
    changed, last = overrides.end_overrides(ladder=ladder, at=at), 0
    until = _begin_reviews(ladder, through)
    while until is not None:
        marked = DirtyMember.objects.filter(ladder=ladder, since__lt=until, member_id__gt=last).order_by("member_id")
        ids = list(marked.values_list("member_id", flat=True)[:BATCH_MEMBERS])
        if not ids:
            break
        changed += _apply_dirty_batch(ladder, ids, until, at=at)
        if on_progress:
            on_progress(changed)
        last = ids[-1]
    return changed


@transaction.atomic
def _begin_reviews(ladder: Ladder, through: datetime | None) -> datetime | None:
    """Put on record up to when returned orders are reviewed, and return before when marked members are worked out."""
    ladder = core_locks.lock_row(ladder)
    if through is not None and ladder.evaluated_at == ladder.completed_at:
        zone = ladder.program.time_zone
        first = min(list_due(ladder=ladder, until=through), default=through + TICK)
        day = day_start(local_date(min(through, first - TICK), zone), zone)
        ladder.reviewed_at = max(day, ladder.reviewed_at or day)
        Ladder.objects.filter(pk=ladder.pk).update(reviewed_at=ladder.reviewed_at)
    return max((begun for begun in (ladder.evaluated_at, ladder.reviewed_at) if begun is not None), default=None)


@transaction.atomic
def _apply_dirty_batch(ladder: Ladder, member_ids: list[int], until: datetime, *, at: datetime) -> int:
    ladder = core_locks.lock_row(ladder)
    if ladder.evaluated_at != ladder.completed_at:
        return 0
    marks = DirtyMember.objects.filter(ladder=ladder, since__lt=until, member_id__in=locks.lock_members(member_ids))
    return recompute_locked(load_plans(ladder), dict(marks.values_list("member_id", "since")), at=at).count


@transaction.atomic(durable=True)
def run_chunk(*, evaluation_id: int, at: datetime, wait: bool = False) -> bool:
    """Decide for the next range of members; False if none is left, or all that are left are other workers'.

    Members with an override since the evaluation before this one, and those who are marked to be worked out again, are
    worked out one by one instead.
    Locks: the chunk, then those members. wait: wait for other workers' chunks instead of leaving them out.
    """
    chunk = locks.lock_open_chunk(evaluation_id, wait=wait)
    if chunk is None:
        # Whoever waited for a chunk finds it done by now; another may be open.
        return wait and EvaluationChunk.objects.filter(evaluation_id=evaluation_id, done_at=None).exists()
    evaluation = Evaluation.objects.select_related("ladder__program").get(pk=evaluation_id)
    plans = load_plans(evaluation.ladder)
    plan = plans.at(evaluation.at)
    if plan is None or plan.version_id != evaluation.version_id:
        raise RuntimeError(f"evaluation {evaluation_id} began with another version than the one in force")
    apart = _list_covered(plans, chunk, evaluation.at) | _list_marked(plans, chunk, evaluation.at)
    causes = _work_out(plans, sorted(apart), evaluation.at, at=at)
    moved = _decide(plan, chunk, evaluation.at, apart, at=at)
    causes.update(cause for _, cause in moved)
    chunk.upgraded = causes[TierCause.UPGRADED]
    chunk.downgraded = causes[TierCause.DOWNGRADED] + causes[TierCause.CORRECTED]
    chunk.done_at = at
    chunk.save(update_fields=["upgraded", "downgraded", "done_at"])
    periods.publish_moves(plans, ((member_id, evaluation.at) for member_id, _ in moved), at=at)
    return True


def _list_covered(plans: LadderPlans, chunk: EvaluationChunk, instant: datetime) -> set[int]:
    """Return the members of a range whose rows since the evaluation before may not be all that the facts gave."""
    since = plans.get_evaluation_before(instant)
    found = overrides.list_ending_after(since).filter(_in_range(chunk), ladder=plans.ladder)
    return set(found.values_list("member_id", flat=True))


def _list_marked(plans: LadderPlans, chunk: EvaluationChunk, instant: datetime) -> set[int]:
    """Return the members of a range who are marked to be worked out from before the evaluation."""
    marked = DirtyMember.objects.filter(_in_range(chunk), ladder=plans.ladder, since__lt=instant)
    return set(marked.values_list("member_id", flat=True))


def _in_range(chunk: EvaluationChunk) -> Q:
    return Q(member_id__gte=chunk.first_member_id, member_id__lte=chunk.last_member_id)


def _work_out(plans: LadderPlans, member_ids: list[int], instant: datetime, *, at: datetime) -> Counter[str]:
    """Take members one by one through an evaluation, and return how many it moved by each cause."""
    locked = locks.lock_members(member_ids) if member_ids else []
    marks = DirtyMember.objects.filter(ladder=plans.ladder, since__lt=instant, member_id__in=locked)
    since = {**dict.fromkeys(locked, instant - TICK), **dict(marks.values_list("member_id", "since"))}
    causes: Counter[str] = Counter()
    for part in periods.batches(locked, BATCH_MEMBERS):
        changes = recompute_locked(plans, {member_id: since[member_id] for member_id in part}, at=at)
        causes.update(row.cause for _, row in changes.new if row.valid_from == instant)
    return causes


def _decide(
    plan: LadderPlan, chunk: EvaluationChunk, instant: datetime, apart: set[int], *, at: datetime
) -> list[Cells]:
    """Write what the evaluation changes for the others in a range and return (member_id, cause) of each new row."""
    members = sql.SQL("member_id BETWEEN {} AND {}").format(
        sql.Literal(chunk.first_member_id), sql.Literal(chunk.last_member_id)
    )
    if apart:
        members = sql.SQL("{} AND NOT {}").format(members, among(apart))
    decided = decision(plan, held=_held(plan.ladder_id, members, instant), members=members, instant=instant)
    with connection.cursor() as cursor:
        cursor.execute(_CHUNK_SETTINGS)
    return fetch(insert_decision(plan, decided, instant=instant, at=at))


def _held(ladder_id: int, members: SQL, instant: datetime) -> SQL:
    """Return a query of what each member of a range holds just before an instant, without those decided at it."""
    return sql.SQL("""
        SELECT member_id, tier_id, cause = 'stayed' AND guaranteed_until IS NOT NULL AS in_grace, guaranteed_until
          FROM (SELECT DISTINCT ON (member_id) member_id, tier_id, cause, guaranteed_until, valid_from
                  FROM membership_tierperiod
                 WHERE ladder_id = {ladder} AND {members} AND superseded_at IS NULL AND valid_from <= {instant}
                 ORDER BY member_id DESC, valid_from DESC) latest
         WHERE valid_from < {instant}
    """).format(ladder=sql.Literal(ladder_id), members=members, instant=sql.Literal(instant))


@transaction.atomic
def finish(*, evaluation_id: int, at: datetime) -> bool:
    """Close an evaluation whose chunks are all done; False if it is closed already or one is open."""
    unfinished = Evaluation.objects.filter(pk=evaluation_id, finished_at=None)
    if EvaluationChunk.objects.filter(evaluation_id=evaluation_id, done_at=None).exists():
        return False
    if not unfinished.update(finished_at=at):
        return False
    evaluation = Evaluation.objects.get(pk=evaluation_id)
    reached = Q(completed_at=None) | Q(completed_at__lt=evaluation.at)
    Ladder.objects.filter(reached, pk=evaluation.ladder_id).update(completed_at=evaluation.at)
    return True
