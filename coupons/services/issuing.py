"""Coupons that an operator or a key gives to a member, or takes for them: what is made is in the audit trail."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from core.services import audit
from coupons.models import Claim
from coupons.services import claims
from membership.models import Member


@transaction.atomic
def issue(
    *,
    member: Member,
    definition_code: str,
    source: str,
    actor: str,
    at: datetime,
    user: User | None = None,
    reason: str = "",
) -> Claim:
    """Issue a coupon to a member and note who did it and why. `is_new`: this call made it.

    Raises, Locks: as `claims.issue`.
    Idempotency: the same source gives the same claim.
    """
    made = claims.issue(
        program=member.program, member_id=member.pk, definition_code=definition_code, source=source, at=at
    )
    _note("coupon.issued", made, member, actor=actor, user=user, reason=reason, at=at)
    return made


@transaction.atomic
def claim(*, member: Member, definition: str, code: str, source: str, actor: str, at: datetime) -> Claim:
    """Let a member take a coupon, and note by which key. `is_new`: this call made it.

    Raises, Locks, Idempotency: as `claims.claim`.
    """
    made = claims.claim(
        program=member.program, member_id=member.pk, definition=definition, code=code, source=source, at=at
    )
    _note("coupon.claimed", made, member, actor=actor, at=at)
    return made


def _note(action: str, made: Any, member: Member, **told: Any) -> None:
    if made.is_new:
        after = {"coupon": made.definition.code, "claim": str(made.public_id)}
        audit.record(action=action, target=f"member {member.external_id}", program=member.program, after=after, **told)
