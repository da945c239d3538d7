"""What a member has and could have: the state of each claim, what is on offer, what a code gives without a basket."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db.models import Prefetch, Q, QuerySet
from django.utils.translation import gettext

from core import typed_codes
from core.models import Program
from coupons.explain import explain_code, explain_refused, explain_spent
from coupons.models import Claim, ClaimState, CouponCode, Redemption, RedemptionState
from coupons.own_claims import CodeRefusal, RefusedCode
from coupons.published import Offer, list_offers
from coupons.rules import Candidate, Refused, Shopper, find_shopper_refusal
from coupons.selectors import list_candidates, list_spent, of_offer
from coupons.services.quotes import describe_shopper
from membership.models import Member, MemberStatus

# As a claim is shown. expired: open, and past its end; what a checkout holds or an order has used does not expire.
ShownState = Literal["open", "held", "used", "revoked", "expired"]
# What anybody may know of: a coupon that comes another way needs a code, or is the shop's to give.
_OFFERED = ("automatic", "claimed")


@dataclass(frozen=True, slots=True)
class Standing:
    """A coupon that a member could have, and why they cannot have it: both are empty if they can.

    `offer` is None for a code that means none.
    """

    offer: Offer | None
    code_refusal: RefusedCode | None = None
    refused: Refused | None = None
    is_by_code: bool = False

    @property
    def reason(self) -> str | None:
        """Return the reason's name."""
        if self.refused is not None:
            return self.refused.reason
        return self.code_refusal.reason if self.code_refusal else None

    def explain(self, *, time_zone: str) -> str | None:
        """Return the reason in a sentence of the active language; instants are told in the zone."""
        if self.refused is not None:
            return explain_refused(self.refused, time_zone)
        if self.code_refusal is None:
            return None
        if self.is_by_code:
            return explain_code(self.code_refusal, time_zone)
        return explain_spent(self.code_refusal.reason)


def state_of(claim: Claim, *, at: datetime) -> ShownState:
    """Return the state of a claim as it is shown at an instant."""
    if claim.state == ClaimState.OPEN and claim.expires_at is not None and claim.expires_at <= at:
        return "expired"
    return claim.state  # type: ignore[return-value]


def show_state(state: ShownState) -> str:
    """Return a state's word in the reader's language."""
    return gettext("Expired") if state == "expired" else str(ClaimState(state).label)


def has_state(state: ShownState, *, at: datetime) -> Q:
    """Return the condition that a claim is shown in a state at an instant."""
    is_over = Q(expires_at__isnull=False, expires_at__lte=at)
    if state == "expired":
        return Q(state=ClaimState.OPEN) & is_over
    return Q(state=state) & ~is_over if state == "open" else Q(state=state)


def list_claims(*, member_id: int) -> QuerySet[Claim]:
    """Return the claims of a member, newest first, each with the redemption that holds it as `holds`.

    Those that a checkout made for itself and gave up were never the member's own, and are left out.
    """
    held = Redemption.objects.filter(member=member_id, state=RedemptionState.HELD)
    claims = Claim.objects.filter(member=member_id).exclude(is_automatic=True, state=ClaimState.REVOKED)
    claims = claims.select_related("definition", "version", "code").order_by("-id")
    return claims.prefetch_related(Prefetch("redemptions", held, to_attr="holds"))


def list_standings(*, program: Program, member: Member, at: datetime) -> list[Standing]:
    """Return the coupons that apply by themselves or can be claimed now, by code, and whether the member can have them.

    What the basket decides, such as a threshold, is not asked; neither is the market.
    """
    offers = [offer for offer in list_offers(program).list_open(at) if offer.terms.how in _OFFERED]
    spent = list_spent(member.pk, offers)
    if member.status != MemberStatus.ACTIVE:
        spent = {offer.definition_id: "member_suspended" for offer in offers}
    asked = [offer.terms for offer in offers]
    shopper = describe_shopper(program=program, member=member, asked=asked, at=at)
    return [_stand(offer, spent.get(offer.definition_id), shopper, at) for offer in offers]


def check_code(*, program: Program, member: Member, code: str, market: str | None, at: datetime) -> Standing:
    """Return what a code gives a member, whatever the basket is; a claim that was made by it counts as its coupon.

    market: None if it is not asked.
    """
    if member.status != MemberStatus.ACTIVE:
        return Standing(None, RefusedCode("member_suspended"), is_by_code=True)
    found = list_candidates(program=program, member_id=member.pk, codes=[code], at=at, skus=(), categories=())
    refusal = found.unknown_codes.get(code)
    row = CouponCode.objects.filter(program=program, text=typed_codes.key(code)).first()
    if row is None or (refusal is not None and refusal.reason == "unknown"):
        return Standing(None, RefusedCode("unknown"), is_by_code=True)
    if refusal is not None:
        return Standing(list_offers(program).find_by_id(row.definition_id, at), refusal, is_by_code=True)
    given = [one for one in found.candidates if one.definition_id == row.definition_id]
    asked = [one.terms for one in given]
    shopper = describe_shopper(program=program, member=member, asked=asked, at=at)
    return _best(program, given, shopper, market, at)


def _stand(offer: Offer, refusal: CodeRefusal | None, shopper: Shopper, at: datetime) -> Standing:
    if refusal is not None:
        return Standing(offer, RefusedCode(refusal))
    return Standing(offer, refused=find_shopper_refusal(of_offer(offer, offer.code), shopper, market=None, at=at))


def _best(program: Program, given: Iterable[Candidate], shopper: Shopper, market: str | None, at: datetime) -> Standing:
    """Return the first candidate that the member can use, else the first that there is."""
    offers = list_offers(program).by_version
    standings = [
        Standing(offers[one.version_id], refused=find_shopper_refusal(one, shopper, market=market, at=at))
        for one in given
    ]
    return min(standings, key=lambda standing: standing.refused is not None)
