"""An operator's decisions about a tier: hold this one until then, whatever the facts say, and take that back.

What an override does to the member's history: `membership/services/covering.py`.
"""

from collections.abc import Sequence
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Least

from core import locks as core_locks
from core.calendar import TICK
from core.services import audit
from membership import locks
from membership.field_checks import LATEST
from membership.ladder_plans import load_plans
from membership.models import Ladder, Member, Tier, TierOverride, TierPeriod
from membership.selectors import tiers_at
from membership.services import periods
from membership.services.recompute import BATCH_MEMBERS, recompute_locked

REASON_LENGTH = 500


class BadOverride(Exception):
    """An override that makes no sense; `code` and `field` say why. Nothing was written."""

    def __init__(self, code: str, field: str, detail: str) -> None:
        self.code = code
        self.field = field
        self.detail = detail
        super().__init__(detail)


class OverrideConflict(Exception):
    """Another decision about this member and ladder, dated later, was recorded first."""


class NoOverride(Exception):
    """The member has no override in force on this ladder."""


@transaction.atomic
def override_tier(
    *,
    member: Member,
    ladder: Ladder,
    tier: Tier,
    valid_until: datetime,
    reason: str,
    decided_by: str,
    at: datetime,
    user: User | None = None,
) -> TierOverride:
    """Let a member hold exactly this tier from `at` until `valid_until`; an override in force ends with it.

    At the end the member has the tier that the facts have given meanwhile. The reason is kept with the override and in
    the audit trail, and nowhere else.
    Raises: BadOverride; OverrideConflict.
    Locks: the ladder, then the member.
    """
    _check(tier, ladder, valid_until, reason, at=at)
    ladder = core_locks.lock_row(ladder)
    locks.lock_members([member.pk])
    held = tiers_at(ladder_id=ladder.pk, at=at - TICK, member_ids=[member.pk]).select_related("tier").first()
    plan = load_plans(ladder).at(at)
    if held is None or plan is None or tier.pk not in plan.ranks:
        raise BadOverride("tier_not_open", "tier", f"{member} cannot hold {tier.code} on this ladder now")
    _end_running(member, ladder, at=at)
    override = TierOverride.objects.create(
        member=member, ladder=ladder, tier=tier, valid_from=at, valid_until=valid_until, recorded_at=at,
        reason=reason.strip(), decided_by=decided_by,
    )  # fmt: skip
    audit.record(
        action="tier.overridden",
        target=f"member {member.external_id}",
        actor=decided_by,
        user=user,
        at=at,
        program=ladder.program,
        reason=reason.strip(),
        before={"ladder": ladder.code, "tier": held.tier.code},
        after={"ladder": ladder.code, "tier": tier.code, "valid_until": valid_until.isoformat()},
    )
    _work_out(ladder, member.pk, at=at)
    return override


@transaction.atomic
def lift_override(
    *, member: Member, ladder: Ladder, reason: str, decided_by: str, at: datetime, user: User | None = None
) -> TierOverride:
    """End the override in force before its time; the member has the tier that the facts have given meanwhile.

    Raises: NoOverride; BadOverride without a reason; OverrideConflict.
    Locks: the ladder, then the member.
    """
    _check_reason(reason)
    ladder = core_locks.lock_row(ladder)
    locks.lock_members([member.pk])
    override = _end_running(member, ladder, at=at)
    if override is None:
        raise NoOverride(f"{member} has no override in force on ladder {ladder.code}")
    audit.record(
        action="tier.override_lifted",
        target=f"member {member.external_id}",
        actor=decided_by,
        user=user,
        at=at,
        program=ladder.program,
        reason=reason.strip(),
        before={"ladder": ladder.code, "tier": override.tier.code, "valid_until": override.valid_until.isoformat()},
        after={"ladder": ladder.code},
    )
    _work_out(ladder, member.pk, at=at)
    return override


def find_running(*, member_id: int, ladder_id: int, at: datetime) -> TierOverride | None:
    """Return the override in force at an instant."""
    running = list_ending_after(at).filter(member_id=member_id, ladder_id=ladder_id, valid_from__lte=at)
    return running.select_related("tier").first()


def list_ending_after(instant: datetime) -> QuerySet[TierOverride]:
    """Return the overrides that end, or were lifted, after an instant."""
    return TierOverride.objects.annotate(ends_at=Least("valid_until", "lifted_at")).filter(ends_at__gt=instant)


def list_unrestored(*, ladder_id: int, member_ids: list[int] | None = None, at: datetime) -> dict[int, datetime]:
    """Return the members whose override has ended by an instant without their tiers worked out since, and its end."""
    restored = TierPeriod.objects.filter(
        member_id=OuterRef("member_id"), ladder_id=ladder_id, valid_from=OuterRef("valid_until"), superseded_at=None
    )
    ended = TierOverride.objects.filter(ladder_id=ladder_id, lifted_at=None, valid_until__lte=at)
    if member_ids is not None:
        ended = ended.filter(member_id__in=member_ids)
    return dict(ended.filter(~Exists(restored)).order_by("member_id").values_list("member_id", "valid_until"))


def end_overrides(*, ladder: Ladder, at: datetime) -> int:
    """Work out the tiers of members whose override has ended, and return how many rows that wrote.

    Idempotency: a second call changes nothing.
    Locks: the ladder, then the members, ascending, in batches of a transaction each.
    """
    members = list(list_unrestored(ladder_id=ladder.pk, at=at))
    return sum(_end_batch(ladder, batch, at=at) for batch in periods.batches(members, BATCH_MEMBERS))


@transaction.atomic
def _end_batch(ladder: Ladder, member_ids: Sequence[int], *, at: datetime) -> int:
    ladder = core_locks.lock_row(ladder)
    ended = list_unrestored(ladder_id=ladder.pk, member_ids=locks.lock_members(member_ids), at=at)
    return recompute_locked(load_plans(ladder), ended, at=at, follows_facts=False).count


def _work_out(ladder: Ladder, member_id: int, *, at: datetime) -> None:
    """Work out the locked member from just before a decision, and through an evaluation that is under way."""
    since = at - TICK
    if ladder.evaluated_at is not None and ladder.evaluated_at != ladder.completed_at:
        since = min(since, ladder.completed_at or ladder.evaluated_at - TICK)
    recompute_locked(load_plans(ladder), {member_id: since}, at=at, follows_facts=False)


def _end_running(member: Member, ladder: Ladder, *, at: datetime) -> TierOverride | None:
    """End the locked member's override at `at`, if one is in force, and return it.

    Raises: OverrideConflict.
    """
    running = list_ending_after(at).filter(member=member, ladder=ladder).order_by("valid_from")
    for override in running.select_related("tier"):
        if override.valid_from >= at or override.lifted_at is not None:
            raise OverrideConflict(f"another decision about {member} was recorded meanwhile; repeat this one")
        override.lifted_at = at
        override.save(update_fields=["lifted_at"])
        return override
    return None


def _check(tier: Tier, ladder: Ladder, valid_until: datetime, reason: str, *, at: datetime) -> None:
    _check_reason(reason)
    if tier.ladder_id != ladder.pk:
        raise BadOverride("unknown_tier", "tier", f"ladder {ladder.code} has no tier {tier.code}")
    if not at < valid_until < LATEST:
        raise BadOverride("invalid_value", "valid_until", "an override ends in the future, before the year 2100")


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > REASON_LENGTH or "\0" in reason:
        raise BadOverride("invalid_value", "reason", f"say why, in text of at most {REASON_LENGTH} characters")
