"""What the coupons of a member take off a basket now: nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.calendar import local_date
from core.models import Program
from coupons.models import Claim, ClaimState
from coupons.rules import Basket, Evaluation, Shopper, evaluate
from coupons.selectors import CodeRefusal, list_candidates
from membership.models import Member, Order
from membership.selectors import list_standings


@dataclass(frozen=True, slots=True)
class BasketQuote:
    """The evaluation, and why a code that was typed gives nothing, by its text."""

    evaluation: Evaluation
    unknown_codes: dict[str, CodeRefusal]


def evaluate_basket(
    *, program: Program, member: Member, basket: Basket, codes: Sequence[str], at: datetime
) -> Evaluation:
    """Return the best combination of the member's coupons for a basket, and why each other one does not apply."""
    return quote_basket(program=program, member=member, basket=basket, codes=codes, at=at).evaluation


def quote_basket(
    *, program: Program, member: Member, basket: Basket, codes: Sequence[str], at: datetime
) -> BasketQuote:
    """Evaluate a basket as `evaluate_basket` does, and say which of the codes give nothing."""
    found = list_candidates(
        program=program,
        member_id=member.pk,
        codes=codes,
        at=at,
        skus={line.sku for line in basket.lines},
        categories={line.category for line in basket.lines},
    )
    shopper = describe_shopper(program=program, member=member, at=at)
    return BasketQuote(evaluate(basket, found.candidates, shopper, at=at), found.unknown_codes)


def describe_shopper(*, program: Program, member: Member, at: datetime) -> Shopper:
    """Return what conditions ask about a member: the tier on the main ladder, orders so far, days since joining."""
    standings = list_standings(program=program, member_id=member.pk, at=at)
    zone = program.time_zone
    return Shopper(
        tier=standings[0].period.tier.code if standings else None,
        is_first_order=not Order.objects.filter(member=member).exists() and not _holds_first_order(member),
        member_days=(local_date(at, zone) - local_date(member.joined_at, zone)).days,
    )


def _holds_first_order(member: Member) -> bool:
    """Tell whether a checkout that is not paid yet holds a coupon for the first order."""
    held = Claim.objects.filter(member=member, state=ClaimState.HELD)
    return held.filter(version__definition__first_order=True).exists()
