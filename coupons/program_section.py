"""coupons' part of a program file: coupon definitions."""

from collections.abc import Collection

from core.models import Market
from core.sections import Coded, Journal, Kind, Reader, apply_fields, unknown_reference
from core.services.drafts import DraftRefused
from coupons.definitions import CouponTerms
from coupons.models import CouponDefinition
from coupons.services import limits
from membership.models import Ladder, Tier


class CouponEntry(CouponTerms, Coded):
    """A coupon definition with its code."""


def parse_coupons(reader: Reader, tier_codes: list[str]) -> list[CouponEntry]:
    """Read the coupons and check the tiers and markets that they name."""
    entries = reader.read_list("coupons", CouponEntry)
    places = {code: index for index, code in enumerate(reader.codes("coupons"))}
    market_codes = reader.codes("markets")
    for entry in entries:
        problems = _find_unknown(entry, tier_codes, market_codes)
        reader.problems.extend(f"coupons[{places[entry.code]}].{problem}" for problem in problems)
    return entries


def apply_coupons(journal: Journal, entries: list[CouponEntry]) -> None:
    """Bring the coupons in line. One that the file leaves out ends; what members have claimed stays theirs."""
    present = {coupon.code: coupon for coupon in CouponDefinition.objects.filter(program=journal.program)}
    for index, entry in enumerate(entries):
        coupon = present.pop(entry.code, None)
        is_new = coupon is None
        if coupon is None:
            coupon = CouponDefinition.objects.create(program=journal.program, code=entry.code)
        apply_fields(journal, COUPON.target(coupon), coupon, {}, is_new=is_new)
        try:
            COUPON.publish(journal, coupon, entry)
        except DraftRefused as error:
            journal.problems.append(f"coupons[{index}].limit: {error.__cause__}")
    for coupon in present.values():
        COUPON.end(journal, coupon)


def _find_unknown(terms: CouponTerms, tiers: Collection[str], markets: Collection[str]) -> list[str]:
    problems = []
    for index, tier in enumerate(terms.tiers):
        problems += unknown_reference(f"tiers[{index}]", tier, tiers, "tier in the main ladder named")
    for index, market in enumerate(terms.markets):
        problems += unknown_reference(f"markets[{index}]", market, markets, "market")
    return problems


def _check(coupon: CouponDefinition, terms: CouponTerms) -> list[str]:
    """Compare with the program's markets, the tiers of its main ladder, and the claims that were given out."""
    main = Ladder.objects.filter(program_id=coupon.program_id).order_by("id").values("id")[:1]
    tiers = Tier.objects.filter(ladder__in=main).values_list("code", flat=True)
    markets = Market.objects.filter(program_id=coupon.program_id).values_list("code", flat=True)
    # A coupon that is only thought of has no claims.
    problem = limits.find_problem(definition=coupon, limit=terms.limit) if coupon.pk else ""
    return [*_find_unknown(terms, list(tiers), list(markets)), *([f"limit: {problem}"] if problem else [])]


def _prepare_counters(coupon: CouponDefinition, terms: CouponTerms) -> None:
    """Let the counters follow the limit.

    Raises: DraftRefused.
    """
    try:
        limits.set_limit(definition=coupon, limit=terms.limit, shards=terms.shards)
    except limits.LimitBelowUsed as error:  # claims came after the check
        raise DraftRefused("invalid", [f"{COUPON.word}.limit: {error}"]) from error


COUPON = Kind("coupon", CouponTerms, check=_check, prepare=_prepare_counters)
