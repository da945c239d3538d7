"""Orders that come back whole: whether the coupon they used is the member's again, and until when."""

from datetime import datetime, timedelta

from core.calendar import day_start, local_date
from core.models import Program
from coupons.models import Claim, Redemption, ReturnOutcome
from coupons.published import get_offer, list_offers
from coupons.recalled import is_recalled


def give_back_use(*, program: Program, redemption: Redemption, is_cancelled: bool, at: datetime) -> ReturnOutcome:
    """Decide what becomes of the coupon of an order that came back whole, cancelled by the shop or returned.

    The version of its claim says it. One that is over is given back for the days that the version grants, or is lost.
    The claim's end is written here; its state is the caller's.
    """
    claim = redemption.claim
    terms = get_offer(program, claim.version_id).terms
    if (terms.on_cancel if is_cancelled else terms.on_refund) == "keep":
        return ReturnOutcome.KEPT
    if Claim.objects.filter(is_recalled(), pk=claim.pk, member=claim.member_id).exists():
        return ReturnOutcome.LOST
    if claim.is_automatic and _can_be_had(program, claim, at):
        return ReturnOutcome.RESTORED
    if terms.restore_days is not None:
        _extend(claim, _last_instant(at, terms.restore_days, program.time_zone))
    is_over = claim.is_automatic or (claim.expires_at is not None and claim.expires_at <= at)
    return ReturnOutcome.LOST if is_over else ReturnOutcome.RESTORED


def _can_be_had(program: Program, claim: Claim, at: datetime) -> bool:
    """Tell whether a coupon that a checkout took by itself can be taken by another one."""
    offer = list_offers(program).find_by_id(claim.definition_id, at)
    return offer is not None and offer.is_open(at)


def _extend(claim: Claim, until: datetime) -> None:
    """Let a claim be the member's own until an instant, unless it ends later anyway."""
    if claim.is_automatic or (claim.expires_at is not None and claim.expires_at < until):
        claim.is_automatic, claim.expires_at = False, until
        claim.save(update_fields=["is_automatic", "expires_at"])


def _last_instant(at: datetime, days: int, zone: str) -> datetime:
    return day_start(local_date(at, zone) + timedelta(days=days + 1), zone)
