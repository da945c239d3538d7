"""The close of a local day: everything that time brings about by the first instant of the next day, in a fixed order.

A close is a row, and each of its steps is one. Whoever works on it holds a lease and renews it between batches; a
killed worker's lease lapses, and the next one goes on with the first step that has not finished. What keeps the work
from being done twice is not the lease: every step works "through" an instant, in transactions of its own, and is safe
to repeat, to run late and to run side by side.

Leases and durations are read from the database's clock, so that workers whose clocks differ agree.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta

from django.db import transaction
from django.db.models import F, QuerySet, TextChoices
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from core.calendar import day_start, local_date
from core.models import Program
from core.services import audit
from points.services.expiry import settle_due
from storefront.models import DayClose, DayCloseStep
from storefront.services import day_close_steps as steps

CLOCK = "clock"
# Far more than the longest batch takes; after it the close of a killed worker is anybody's.
LEASE = timedelta(minutes=2)
# A traceback's last line says enough; the log has the rest.
ERROR_LENGTH = 1_000
ONE_DAY = timedelta(days=1)

Progress = Callable[[str, dict[str, int]], None]


class StepName(TextChoices):
    """The steps in their order."""

    LATE_FACTS = "late_facts", _("Late facts")
    SETTLE = "settle", _("Vest and expire points")
    EVALUATE = "evaluate", _("Evaluate tiers")
    OPEN_PERIODS = "open_periods", _("End overrides")
    CORRECTIONS = "corrections", _("Correct what was earned")
    MONTHS = "months", _("Recompute months")
    REMINDERS = "reminders", _("Remind of points that expire")


# Points fall due before tiers are evaluated; what was earned follows the tiers; months are computed from all of it.
_STEPS: dict[StepName, Callable[[steps.Work], dict[str, int]]] = {
    StepName.LATE_FACTS: steps.apply_late_facts,
    StepName.SETTLE: steps.settle_points,
    StepName.EVALUATE: steps.evaluate_tiers,
    StepName.OPEN_PERIODS: steps.open_periods,
    StepName.CORRECTIONS: steps.correct_points,
    StepName.MONTHS: steps.recompute_months,
    StepName.REMINDERS: steps.remind_members,
}


class DayNotDue(Exception):
    """The day has not ended yet, or a later close has covered it, or an earlier day has to be closed first."""


class CloseUnderWay(Exception):
    """A worker holds the close. If it has died, the close is free at `leased_until`."""

    def __init__(self, close: DayClose) -> None:
        super().__init__(
            f"the close of {close.day} is under way; a worker holds it until {close.leased_until:%H:%M:%S}"
        )
        self.close = close


class LeaseLost(Exception):
    """Another worker has taken the close over and goes on with it."""


def list_due_days(*, program: Program, at: datetime) -> list[date]:
    """Return the local days that have ended and are not closed, oldest first.

    They follow the last finished close. A program without any begins with the day that ended last: its close covers
    all that came before.
    """
    last = local_date(at, program.time_zone) - ONE_DAY
    finished = DayClose.objects.filter(program=program).exclude(finished_at=None).order_by("-day").first()
    first = finished.day + ONE_DAY if finished else last
    return [first + n * ONE_DAY for n in range((last - first).days + 1)]


def list_due_programs(*, at: datetime) -> list[Program]:
    """Return the programs that the clock has something to close for.

    A program's first close is left until a day has ended since its first fact was recorded: its history may still be
    loading, and would be judged as late.
    """
    return [
        program
        for program in Program.objects.order_by("pk")
        if list_due_days(program=program, at=at)
        and (_has_closes(program) or local_date(_begun_at(program), program.time_zone) < _today(program, at))
    ]


def _has_closes(program: Program) -> bool:
    return DayClose.objects.filter(program=program).exists()


def _begun_at(program: Program) -> datetime:
    return program.opened_at or program.created_at


def _today(program: Program, at: datetime) -> date:
    return local_date(at, program.time_zone)


def settle_before_late_facts(*, program: Program, first_fact_at: Mapping[int, datetime], at: datetime) -> None:
    """Post what had fallen due for members by the end of the last day, before facts of that day or older are posted.

    So what a late fact earns or takes back is judged by what time had done to the account when it was told, whether or
    not the close has run. Until a program's first close its history may be loading, and nothing is late.
    Locks: the members' accounts.
    """
    today = day_start(_today(program, at), program.time_zone)
    late = [member_id for member_id, first in first_fact_at.items() if first < today]
    if late and DayClose.objects.filter(program=program).exclude(finished_at=None).exists():
        settle_due(program=program, through=today, at=at, member_ids=late)


def request_close(*, program: Program, day: date, actor: str, reason: str = "", at: datetime) -> DayClose:
    """Put a day's close on record for an operator; the clock works on it with its next tick, or whoever is asked to.

    Idempotency: a close that is on record already is returned as it is.
    Raises: DayNotDue.
    """
    with transaction.atomic():
        close, is_new = _ensure(program, day, requested_by=actor, at=at)
        if is_new:
            audit.record(
                action="day_close.requested", target=f"close {program.code} {day}", actor=actor, reason=reason,
                program=program, at=at,
            )  # fmt: skip
    return close


def close_day(
    *,
    program: Program,
    day: date,
    at: datetime,
    requested_by: str = CLOCK,
    progress: Progress | None = None,
    share: steps.Share | None = None,
) -> DayClose:
    """Close a day, or go on with a close that was interrupted, and return it finished.

    progress: called with a step's name and its counts so far. share: see `evaluate`.
    Idempotency: a finished close is returned as it is.
    Raises: DayNotDue; CloseUnderWay; LeaseLost; whatever a step raises, after it is noted in `last_error`.
    Locks: none over a batch; each step's own.
    """
    close, _is_new = _ensure(program, day, requested_by=requested_by, at=at)
    if close.finished_at is not None:
        return close
    claim = _claim(close)
    try:
        for position, name in enumerate(_STEPS, 1):
            _run_step(claim, position, name, at=at, progress=progress, share=share)
        _held(claim).update(finished_at=Now(), leased_until=Now(), last_error="")
    except LeaseLost:
        raise
    except BaseException as error:  # an interruption frees the lease too
        _held(claim).update(leased_until=Now(), last_error=f"{type(error).__name__}: {error}"[:ERROR_LENGTH])
        raise
    claim.refresh_from_db()
    return claim


def _ensure(program: Program, day: date, *, requested_by: str, at: datetime) -> tuple[DayClose, bool]:
    """Return the row of a day's close, and whether this call made it.

    Raises: DayNotDue.
    """
    close = DayClose.objects.filter(program=program, day=day).first()
    if close is not None and close.finished_at is not None:
        return close, False
    due = list_due_days(program=program, at=at)
    if not due or due[0] != day:
        first = f"the next to close is {due[0]}" if due else "no day is due"
        raise DayNotDue(f"{day} of {program.code} is not the day to close: {first}")
    close, is_new = DayClose.objects.get_or_create(
        program=program,
        day=day,
        defaults={
            "through": day_start(day + ONE_DAY, program.time_zone),
            "requested_by": requested_by,
            "started_at": Now(),
            "leased_until": Now(),
        },
    )
    close.refresh_from_db()
    return close, is_new


def _claim(close: DayClose) -> DayClose:
    """Take the lease of a close that nobody holds. The number of attempts tells this claim from later ones.

    Raises: CloseUnderWay.
    """
    free = DayClose.objects.filter(pk=close.pk, finished_at=None, leased_until__lte=Now())
    is_taken = not free.filter(attempts=close.attempts).update(attempts=F("attempts") + 1, leased_until=Now() + LEASE)
    attempts = close.attempts + 1
    close.refresh_from_db()
    if is_taken:
        raise CloseUnderWay(close)
    close.attempts = attempts
    return close


def _held(claim: DayClose) -> QuerySet[DayClose]:
    """Return the close as long as this claim's lease is the last one given."""
    return DayClose.objects.filter(pk=claim.pk, attempts=claim.attempts, finished_at=None)


def _run_step(
    claim: DayClose,
    position: int,
    name: StepName,
    *,
    at: datetime,
    progress: Progress | None,
    share: steps.Share | None,
) -> None:
    step, _is_new = DayCloseStep.objects.get_or_create(
        close=claim, position=position, defaults={"name": name.value, "started_at": Now()}
    )
    if step.finished_at is not None:
        return
    before: dict[str, int] = step.counts

    @transaction.atomic
    def tell(counts: dict[str, int]) -> None:
        """Renew the lease and note how far the step is, with what an interrupted run had done."""
        if not _held(claim).update(leased_until=Now() + LEASE):
            raise LeaseLost(f"another worker goes on with the close of {claim.day}")
        step.counts = {name: before.get(name, 0) + count for name, count in counts.items()}
        DayCloseStep.objects.filter(pk=step.pk, finished_at=None).update(counts=step.counts)
        if progress:
            progress(step.name, step.counts)

    work = steps.Work(program=claim.program, through=claim.through, at=at, tell=tell, share=share)
    tell(_STEPS[name](work))
    DayCloseStep.objects.filter(pk=step.pk, finished_at=None).update(finished_at=Now())
