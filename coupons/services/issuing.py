"""Operators give coupons to members, with a reason."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from core.services import audit
from coupons.models import Claim, CouponDefinition
from coupons.services import claims
from membership.models import Member


@transaction.atomic
def issue_by_operator(
    *, definition: CouponDefinition, member: Member, source: str, reason: str, at: datetime, user: User
) -> Claim:
    """Issue a coupon to a member and note who did it and why. `is_new`: this call made it.

    Raises, Locks: as `claims.issue`.
    Idempotency: the same source gives the same claim.
    """
    made = claims.issue(
        program=definition.program, member_id=member.pk, definition_code=definition.code, source=source, at=at
    )
    if made.is_new:  # type: ignore[attr-defined]
        audit.record(
            action="coupon.issued",
            target=f"member {member.external_id}",
            actor=user.get_username(),
            user=user,
            program=definition.program,
            reason=reason,
            after={"coupon": definition.code, "claim": str(made.public_id)},
            at=at,
        )
    return made
