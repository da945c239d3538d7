"""Coupons of an order that was paid while its checkout held them, but is told after the hold has ended."""

from datetime import datetime
from typing import NamedTuple

from django.db import transaction

from core.models import Program
from coupons.models import Claim, ClaimState, Redemption, RedemptionLine, RedemptionState
from coupons.published import get_offer
from coupons.recalled import is_recalled
from coupons.services import redemptions
from coupons.services.claims import (
    AlreadyClaimed,
    CodeNotAvailable,
    CouponEnded,
    CouponRefused,
    LimitReached,
    MemberNotActive,
    take,
)
from membership.locks import lock_members

# Why a coupon that needed no claim before cannot be had once more.
_REASONS: dict[type[CouponRefused], str] = {
    AlreadyClaimed: "already_used",
    CodeNotAvailable: "code_gone",
    CouponEnded: "ended",
    LimitReached: "all_given_out",
    MemberNotActive: "member_suspended",
}


class NotTaken(NamedTuple):
    """A coupon that a checkout had held and that cannot be used any more: its code and name, what it took off, why.

    reason: held_in_checkout, already_used, revoked, all_given_out, code_gone, ended, member_suspended.
    """

    code: str
    name: str
    discount_minor: int
    shipping_minor: int
    reason: str


class _Gone(Exception):
    """The coupon cannot be had any more."""


@transaction.atomic
def use_again(*, program: Program, member_id: int, reference: str, order_id: int, at: datetime) -> list[NotTaken]:
    """Let an order use the coupons that its checkout had held, as far as they are still to be had; say which are not.

    A claim of the member's own is used if it is open, though its end may be over now: it was held within its time.
    What had been claimed on the way is claimed anew, as of the hold, as far as the limits allow.

    Locks: the member; then a counter of each definition that is claimed, ascending.
    Idempotency: none: the caller uses a checkout for one order.
    """
    lock_members([member_id])
    ended = [
        each
        for each in redemptions.list_redemptions(member_id=member_id, reference=reference)
        if each.state == RedemptionState.RELEASED
    ]
    used, missing = [], []
    for each in sorted(ended, key=lambda one: (one.claim.definition_id, one.pk)):
        try:
            claim_id = _take_again(program, each)
        except _Gone as error:
            missing.append(_not_taken(program, each, str(error)))
        else:
            used.append(_use(each, claim_id, order_id, at))
    redemptions.publish(program, "coupons.redeemed", used, at)
    return missing


def _take_again(program: Program, redemption: Redemption) -> int:
    """Return a claim that is held by the order now.

    Raises: _Gone with the reason.
    """
    claim_id = redemption.claim_id
    if redemption.claim.is_automatic:
        claim_id = _claim_again(program, redemption)
    open_claims = Claim.objects.filter(~is_recalled(), pk=claim_id, member=redemption.member_id, state=ClaimState.OPEN)
    if not open_claims.update(state=ClaimState.HELD):
        state = Claim.objects.values_list("state", flat=True).get(pk=claim_id, member=redemption.member_id)
        reasons = {ClaimState.HELD: "held_in_checkout", ClaimState.USED: "already_used"}
        raise _Gone(reasons.get(ClaimState(state), "revoked"))
    return claim_id


def _claim_again(program: Program, redemption: Redemption) -> int:
    claim = redemption.claim
    try:
        made = take(
            program=program,
            member_id=redemption.member_id,
            offer=get_offer(program, claim.version_id),
            code_id=claim.code_id,
            source=f"late:{redemption.reference}",
            is_automatic=True,
            at=redemption.held_at,
        )
    except CouponRefused as error:
        raise _Gone(_REASONS[type(error)]) from error
    return made.pk


def _use(before: Redemption, claim_id: int, order_id: int, at: datetime) -> Redemption:
    """Write what the checkout had held as used by its order."""
    used = Redemption.objects.create(
        member_id=before.member_id,
        claim_id=claim_id,
        reference=before.reference,
        state=RedemptionState.COMMITTED,
        currency=before.currency,
        discount_minor=before.discount_minor,
        shipping_discount_minor=before.shipping_discount_minor,
        order_id=order_id,
        held_at=before.held_at,
        held_until=before.held_until,
        committed_at=at,
    )
    lines = before.lines.filter(member=before.member_id).values_list("line", "discount_minor")
    RedemptionLine.objects.bulk_create(
        RedemptionLine(redemption=used, member_id=before.member_id, line=line, discount_minor=minor)
        for line, minor in lines
    )
    redemptions.move_claims([used], ClaimState.HELD, ClaimState.USED)
    return used


def _not_taken(program: Program, redemption: Redemption, reason: str) -> NotTaken:
    offer = get_offer(program, redemption.claim.version_id)
    return NotTaken(offer.code, offer.terms.name, redemption.discount_minor, redemption.shipping_discount_minor, reason)
