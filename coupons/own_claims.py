"""What became of a member's claims, and why those that cannot be used do not apply."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

from django.db.models import Q

from coupons.models import Claim, ClaimState, CouponCode, Redemption, RedemptionState
from coupons.recalled import is_recalled
from coupons.shapes import RefusalReason

# How many used and expired coupons of a member are named with a basket, the last given first: an answer stays readable.
MOST_ENDED = 100
# unknown: the member can have nothing by this code, and is not told why. too_many_codes: it was not read.
CodeRefusal = Literal[
    "unknown",
    "already_used",
    "all_given_out",
    "held_in_checkout",
    "expired",
    "revoked",
    "once_per_person",
    "too_many_codes",
    "member_suspended",
]


# As text: to compose it anew for each quote takes longer than to run it.
_OWN_CLAIMS = """
    SELECT c.* FROM coupons_claim c
    WHERE c.member_id = %(member)s AND (c.state = 'held' OR (
        c.state = 'open' AND (c.expires_at IS NULL OR c.expires_at > %(at)s) AND NOT EXISTS (
            SELECT FROM coupons_couponrecall r
            WHERE r.definition_id = c.definition_id AND r.recalled_at >= c.claimed_at)))
    UNION ALL (
        SELECT c.* FROM coupons_claim c
        WHERE c.member_id = %(member)s AND NOT c.is_automatic
            AND (c.state = 'used' OR (c.state = 'open' AND c.expires_at <= %(at)s))
        ORDER BY c.id DESC LIMIT %(most)s)"""


class RefusedCode(NamedTuple):
    """Why a code that was typed gives nothing; `details` are ready for JSON, as those of a coupon."""

    reason: CodeRefusal
    details: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class OwnClaims:
    """The claims of a member: those that may be used, those that a checkout holds, and those that are over.

    `moves`: of a claim that is held or used, its redemption.
    """

    open: list[Claim]
    held: list[Claim]
    ended: list[Claim]
    moves: dict[int, Redemption]

    def refuse(self, claim: Claim) -> tuple[RefusalReason, dict[str, Any]]:
        """Say why a claim cannot be used."""
        move = self.moves.get(claim.pk)
        if claim.state == ClaimState.HELD and move is not None:
            return RefusalReason.HELD_IN_CHECKOUT, {"checkout": move.reference, "until": move.held_until.isoformat()}
        if claim.state == ClaimState.USED:
            used_at = move.committed_at if move else None
            return RefusalReason.ALREADY_USED, {"used_at": used_at.isoformat()} if used_at else {}
        ends_at = claim.expires_at
        return RefusalReason.EXPIRED, {"expires_at": ends_at.isoformat() if ends_at else None}

    def refuse_code(self, code: CouponCode) -> RefusedCode | None:
        """Say why a code that the member has claimed gives nothing; None if its claim is open."""
        if any(one.code_id == code.pk for one in self.open):
            return None
        claim = next((one for one in (*self.held, *self.ended) if one.code_id == code.pk), None)
        if claim is not None:
            return as_code(*self.refuse(claim))
        is_back = Q(state=ClaimState.REVOKED) | Q(is_recalled())
        taken_back = Claim.objects.filter(is_back, member=code.claimed_by, code=code)
        return RefusedCode("revoked" if taken_back.exists() else "already_used")

    def refuse_spent(self, definition_id: int) -> tuple[RefusalReason, dict[str, Any]]:
        """Say why a member may have no more of a coupon: a checkout of theirs holds one, or all have been used."""
        held = next((claim for claim in self.held if claim.definition_id == definition_id), None)
        return self.refuse(held) if held is not None else (RefusalReason.ALREADY_USED, {})


def read_own_claims(*, member_id: int, at: datetime) -> OwnClaims:
    """Return the claims of a member as they stand at an instant: one query, another if any is held or used."""
    found = Claim.objects.raw(_OWN_CLAIMS, {"member": member_id, "at": at, "most": MOST_ENDED})
    ordered = sorted(found, key=_by_end)
    moved = [claim.pk for claim in ordered if claim.state != ClaimState.OPEN]
    moves = Redemption.objects.filter(member=member_id, claim__in=moved).exclude(state=RedemptionState.RELEASED)
    usable = [
        one for one in ordered if one.state == ClaimState.OPEN and (one.expires_at is None or one.expires_at > at)
    ]
    held = [one for one in ordered if one.state == ClaimState.HELD]
    current = {claim.pk for claim in (*usable, *held)}
    return OwnClaims(
        open=usable,
        held=held,
        ended=[claim for claim in ordered if claim.pk not in current],
        moves={move.claim_id: move for move in moves.order_by("pk")} if moved else {},
    )


def _by_end(claim: Claim) -> tuple[bool, float, int]:
    return claim.expires_at is None, claim.expires_at.timestamp() if claim.expires_at else 0, claim.pk


def as_code(reason: RefusalReason, details: dict[str, Any]) -> RefusedCode:
    """Return what is said of a code whose claim is held, used or expired."""
    return RefusedCode(cast(CodeRefusal, reason.value), details)
