"""Facts that were told wrong: say what is right, with a reason, and let everything follow as for a late fact.

The row of a fact says what its last correction says, so that all readers read one thing; what it said before is kept
in `FactCorrection`. The database refuses any other change of it (membership/sql/guards_0002.sql). The points that
differ are posted by the next close, up and down, whatever the program's `corrections` say.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import QuerySet

from core.calendar import day_start, local_date
from core.models import Program
from core.services import audit, outbox
from membership import locks
from membership.engagement import is_engagement
from membership.fact_checks import check_activity, digest_of
from membership.fact_inputs import ActivityInput, FactConflict
from membership.field_checks import Check, frame_of
from membership.models import Activity, FactCorrection, FactKind
from membership.services.batch import RecordedFacts, open_batch
from membership.services.past_changes import note_facts
from membership.services.tiers import follow_facts

REASON_LENGTH = 500

# A day on which nothing has happened after all is none that analytics should see. Tiers have followed by then: they are
# worked out again up to the member's last day.
_FORGET_DAY = """
    DELETE FROM membership_memberday d WHERE d.member_id = %(member)s AND d.day = %(day)s
        AND (orders, orders_returned, spend_minor, refunds_minor, credits, activities) = (0, 0, 0, 0, 0, 0)
        AND NOT EXISTS (SELECT FROM membership_order o WHERE o.member_id = d.member_id AND o.local_date = d.day)
        AND NOT EXISTS (SELECT FROM membership_orderedit e WHERE e.member_id = d.member_id AND e.local_date = d.day)
        AND NOT EXISTS (SELECT FROM membership_refund r WHERE r.member_id = d.member_id AND r.local_date = d.day)
        AND NOT EXISTS (
            SELECT FROM membership_qualifyingcredit q WHERE q.member_id = d.member_id AND q.local_date = d.day)
        AND NOT EXISTS (
            SELECT FROM membership_activity a
            WHERE a.member_id = d.member_id AND a.local_date = d.day AND a.voided_at IS NULL)"""


class UnknownFact(Exception):
    """The program has no such fact to correct."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityCorrection:
    """What is right about an activity; None: as it is. `is_void`: it never happened.

    member, source, activity: the key of the activity. external_id: the correction's own, unique for its activity.
    """

    member: str
    source: str = ""
    activity: str
    external_id: str
    reason: str
    kind: str | None = None
    occurred_at: datetime | None = None
    is_void: bool = False


@transaction.atomic
def correct_activity(
    *,
    program: Program,
    correction: ActivityCorrection,
    decided_by: str,
    last: datetime | None = None,
    at: datetime,
    user: User | None = None,
) -> bool:
    """Correct an activity, and tell whether it is news: told again with the same content it has no effect.

    last: as for `record_facts`.
    Raises: UnknownFact; BadFact; FactConflict for a known correction with other content.
    Locks: the activity; then as a late activity its member's days and the member.
    """
    activity = _lock(program, correction)
    told = Told(
        FactKind.ACTIVITY,
        activity.pk,
        activity.member_id,
        correction.external_id,
        correction.reason,
        _digest(correction),
    )
    if find_known(told) is not None:
        return False
    right = _check(program, activity, correction, check_correction(told), last=last)
    before = _content(activity)
    old_at, old_day = activity.occurred_at, activity.local_date
    activity.kind, activity.occurred_at = right.kind, right.occurred_at
    activity.local_date = local_date(right.occurred_at, program.time_zone)
    activity.voided_at = at if correction.is_void else None
    row = write(program, told, before=before, after=_content(activity), decided_by=decided_by, at=at)
    activity.save(update_fields=["kind", "occurred_at", "local_date", "voided_at"])
    recorded = _count(program, activity, old_kind=before["kind"], old_at=old_at, at=at)
    follow_facts(program=program, recorded=recorded, at=at)
    forget_day(activity.member_id, old_day)
    # Of activities of one day a rule may pay one: when it is another one, that may have come earlier that day.
    since = day_start(min(old_day, activity.local_date), program.time_zone)
    note_facts({activity.member_id: since}, fact_kind=FactKind.ACTIVITY, fact_id=activity.pk)
    fact = {"fact_kind": "activity", "fact": correction.activity, "source": correction.source}
    tell(program, row, member=correction.member, fact=fact, user=user)
    return True


@dataclass(frozen=True, slots=True)
class Told:
    """What any correction says: of which fact, and its own id, reason and digest."""

    kind: FactKind
    fact_id: int
    member_id: int | None
    external_id: str
    reason: str
    digest: bytes

    def all(self) -> QuerySet[FactCorrection]:
        """Return all corrections of the fact."""
        return FactCorrection.objects.filter(member=self.member_id, fact_kind=self.kind, fact_id=self.fact_id)


def find_known(told: Told) -> FactCorrection | None:
    """Return the correction if it has been told before; the caller has locked the fact.

    Raises: FactConflict if it was told with other content.
    """
    known = told.all().filter(external_id=told.external_id).first()
    if known is not None and bytes(known.content_digest) != told.digest:
        raise FactConflict(kind="correction", external_id=told.external_id)
    return known


def check_correction(told: Told) -> Check:
    """Check a correction's own id and reason, and return what refuses the rest of it.

    Raises: BadFact.
    """
    check = Check(told.external_id)
    check.new_id(told.external_id)
    check.text("reason", told.reason.strip(), REASON_LENGTH)
    if check.first_objection:
        raise check.first_objection
    return check


def write(
    program: Program, told: Told, *, before: dict[str, Any], after: dict[str, Any], decided_by: str, at: datetime
) -> FactCorrection:
    """Write a correction as the last one of its fact, which the caller has locked."""
    return FactCorrection.objects.create(
        program=program, member_id=told.member_id, fact_kind=told.kind, fact_id=told.fact_id,
        number=told.all().count() + 1, external_id=told.external_id, reason=told.reason.strip(),
        decided_by=decided_by, before=before, after=after, content_digest=told.digest, recorded_at=at,
    )  # fmt: skip


def tell(program: Program, row: FactCorrection, *, member: str, fact: dict[str, Any], user: User | None) -> None:
    """Publish a correction, and leave it in the audit trail."""
    payload = {"corrections": [row.pk]}
    outbox.publish(program_id=program.pk, topic="membership.facts_corrected", payload=payload, at=row.recorded_at)
    audit.record(
        action="fact.corrected",
        target=f"member {member}" if member else f"order {fact['fact']}",
        actor=row.decided_by,
        user=user,
        at=row.recorded_at,
        program=program,
        reason=row.reason,
        before=fact | row.before,
        after=fact | row.after,
    )


def _lock(program: Program, correction: ActivityCorrection) -> Activity:
    found = Activity.objects.filter(
        member__program=program,
        member__external_id=correction.member,
        source=correction.source,
        external_id=correction.activity,
    ).first()
    if found is None:
        raise UnknownFact(f"member {correction.member} has no activity {correction.activity} of this source")
    return locks.lock_activity(found.pk)


def _check(
    program: Program, activity: Activity, correction: ActivityCorrection, check: Check, *, last: datetime | None
) -> ActivityInput:
    """Return what is right about the activity.

    Raises: BadFact.
    """
    if activity.voided_at is not None:
        reason = f"activity {activity.external_id} is void: record what did happen as an activity of its own"
        check.refuse("", reason, code="fact_void")
    if correction.is_void and (correction.kind is not None or correction.occurred_at is not None):
        reason = "an activity that never happened has neither kind nor instant: tell either void or what is right"
        check.refuse("void", reason)
    right = ActivityInput(
        external_id=activity.external_id,
        member=correction.member,
        kind=activity.kind if correction.kind is None else correction.kind,
        source=activity.source,
        occurred_at=correction.occurred_at or activity.occurred_at,
        quality=activity.quality,
        order=activity.order,
        product=activity.product,
    )
    check_activity(right, frame_of(program, last=last))
    if not correction.is_void and (right.kind, right.occurred_at) == (activity.kind, activity.occurred_at):
        reason = f"activity {activity.external_id} says so already: tell another kind, another occurred_at, or void"
        check.refuse("", reason, code="nothing_corrected")
    return right


def _count(program: Program, activity: Activity, *, old_kind: str, old_at: datetime, at: datetime) -> RecordedFacts:
    """Take the activity out of the day on which it had counted, and add it to its own if it is not void."""
    batch = open_batch(program=program, members=(), at=at)
    batch.note(activity.member_id, old_at).activities -= is_engagement(old_kind)
    if activity.voided_at is None:
        batch.change(activity.member_id, activity.occurred_at).activities += is_engagement(activity.kind)
    return batch.finish(told=1)


def forget_day(member_id: int | None, day: date) -> None:
    """Remove a member's day on which nothing has happened after all.

    Locks: the row of the day, which the caller has written.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FORGET_DAY, {"member": member_id, "day": day})


def _content(activity: Activity) -> dict[str, Any]:
    """Return what can be corrected of an activity, and what follows from it in its own row."""
    return {
        "kind": activity.kind,
        "occurred_at": activity.occurred_at.astimezone(UTC).isoformat(),
        "local_date": activity.local_date.isoformat(),
        "voided_at": activity.voided_at.astimezone(UTC).isoformat() if activity.voided_at else None,
    }


def _digest(correction: ActivityCorrection) -> bytes:
    occurred_at = correction.occurred_at.astimezone(UTC).isoformat() if correction.occurred_at else None
    return digest_of(correction.reason.strip(), correction.kind, occurred_at, correction.is_void)
