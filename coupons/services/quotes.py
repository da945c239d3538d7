"""What the coupons of a member take off a basket now: nothing is written."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from core.calendar import local_date
from core.models import Program
from coupons.definitions import CouponTerms
from coupons.own_claims import RefusedCode
from coupons.published import list_offers
from coupons.rules import Basket, Candidate, Evaluation, RefusalReason, Refused, Shopper, evaluate
from coupons.selectors import CandidateSet, list_candidates
from coupons.services.first_orders import find_first_order_hold
from membership.first_orders import has_ordered
from membership.models import Member
from membership.selectors import list_standings


@dataclass(frozen=True, slots=True)
class BasketQuote:
    """The evaluation, and why a code that was typed gives nothing, by its text."""

    evaluation: Evaluation
    unknown_codes: dict[str, RefusedCode]


class ChoiceRefused(Exception):
    """The program has never had a coupon of the code that a choice names; `field` as `without.0`."""

    def __init__(self, field: str, code: str) -> None:
        super().__init__(f"{field}: {code}")
        self.field, self.code = field, code


@dataclass(frozen=True, slots=True)
class Choice:
    """What the shopper decides about coupons, named by the codes of their definitions: all but those, or only these."""

    without: Sequence[str] = ()
    only: Sequence[str] | None = None

    def allows(self, candidate: Candidate) -> bool:
        """Tell whether a coupon may be used."""
        return candidate.code not in self.without and (self.only is None or candidate.code in self.only)


_EVERY_COUPON = Choice()


def quote_basket(
    *,
    program: Program,
    member: Member,
    basket: Basket,
    codes: Sequence[str],
    at: datetime,
    choice: Choice = _EVERY_COUPON,
) -> BasketQuote:
    """Return the best combination of the member's coupons for a basket, and why others and codes give none.

    Raises: ChoiceRefused.
    """
    _check_choice(program, choice)
    found = _find_candidates(program, member, basket, codes, at)
    terms = [one.terms for one in found.candidates]
    shopper = describe_shopper(program=program, member=member, asked=terms, at=at)
    evaluation = evaluate(basket, [one for one in found.candidates if choice.allows(one)], shopper, at=at)
    left_out = [Refused(one, RefusalReason.NOT_CHOSEN, {}) for one in found.candidates if not choice.allows(one)]
    refused = sorted((*evaluation.refused, *left_out, *found.refused), key=_rank)
    return BasketQuote(replace(evaluation, refused=tuple(refused)), found.unknown_codes)


def price_combination(
    *,
    program: Program,
    member: Member,
    basket: Basket,
    codes: Sequence[str],
    combination: Sequence[Sequence[str]],
    at: datetime,
) -> Evaluation:
    """Return what the coupons of a combination take off a basket now; nothing else is looked at.

    combination: the code of each coupon with the public id of its claim, empty where it needed none. The claim itself
    is priced if it can still be used, else what there is of the same coupon.
    """
    found = _find_candidates(program, member, basket, codes, at).candidates
    chosen: list[Candidate] = []
    for code, claim in combination:
        same = [one for one in found if one.code == code]
        chosen += [one for one in same if one.claim == claim] or same
    terms = [one.terms for one in chosen]
    shopper = describe_shopper(program=program, member=member, asked=terms, at=at)
    return evaluate(basket, chosen, shopper, at=at)


def _find_candidates(
    program: Program, member: Member, basket: Basket, codes: Sequence[str], at: datetime
) -> CandidateSet:
    return list_candidates(
        program=program,
        member_id=member.pk,
        codes=codes,
        at=at,
        skus={line.sku for line in basket.lines},
        categories={line.category for line in basket.lines},
    )


def _rank(refused: Refused) -> tuple[int, str, str]:
    candidate = refused.candidate
    return candidate.terms.priority, candidate.code, candidate.key


def _check_choice(program: Program, choice: Choice) -> None:
    """Refuse a choice that names what the program never had: a coupon would be used against the shopper's will."""
    offers = list_offers(program)
    for field, codes in (("without", choice.without), ("only", choice.only or ())):
        for index, code in enumerate(codes):
            if not offers.has(code):
                raise ChoiceRefused(f"{field}.{index}", code)


def describe_shopper(*, program: Program, member: Member, asked: Collection[CouponTerms], at: datetime) -> Shopper:
    """Return what conditions ask about a member: the tier on the main ladder, orders so far, days since joining.

    asked: the terms whose conditions are to be judged; what none of them asks about is not read.
    """
    zone = program.time_zone
    asks_tier, asks_first = any(terms.tiers for terms in asked), any(terms.first_order for terms in asked)
    standings = list_standings(program=program, member_id=member.pk, at=at) if asks_tier else []
    hold = find_first_order_hold(member.pk, at=at) if asks_first else None
    return Shopper(
        tier=standings[0].period.tier.code if standings else None,
        is_first_order=asks_first and not has_ordered(member_id=member.pk, at=at),
        first_order_held=(hold.reference, hold.held_until) if hold else None,
        member_days=(local_date(at, zone) - local_date(member.joined_at, zone)).days,
    )
