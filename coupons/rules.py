"""What coupons take off a basket: pure arithmetic, the same for quote and hold. docs/coupons.md has the semantics."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from math import inf
from typing import Any

from core.money import BPS, allocate
from core.names import fold
from coupons.combination import Option
from coupons.combining import Offer, combine
from coupons.definitions import Amount, CouponTerms, FreeShipping, Percent
from coupons.shapes import Applied, Basket, Candidate, Evaluation, Line, RefusalReason, Refused, Shopper
from coupons.thrift import Use

__all__ = [
    "NODE_BUDGET",
    "Applied",
    "Basket",
    "Candidate",
    "Evaluation",
    "Line",
    "RefusalReason",
    "Refused",
    "Shopper",
    "evaluate",
]

# Random mixes of 64 coupons need a hundred nodes at most, with few exceptions. Large nodes count for more
# (`combination.WORK`), so that a checkout waits half a second in the worst case; see docs/coupons.md.
NODE_BUDGET = 2_000


def evaluate(
    basket: Basket,
    candidates: Sequence[Candidate],
    shopper: Shopper,
    *,
    at: datetime,
    node_budget: int = NODE_BUDGET,
) -> Evaluation:
    """Return the combination of coupons that takes most off the basket, and why each other one takes nothing.

    The answer does not depend on the order of the candidates.
    """
    goods = _Goods(basket)
    refused: list[Refused] = []
    offers: list[Offer] = []
    for candidate in sorted(candidates, key=_rank):
        lines = goods.in_scope(candidate.terms)
        refusal = _find_refusal(basket, candidate, lines, shopper, at)
        if refusal is None:
            offer = _offer(basket, candidate, lines)
            if offer.minor:
                offers.append(offer)
                continue
            refusal = Refused(candidate, RefusalReason.NO_EFFECT, {})
        refused.append(refusal)
    found = combine(basket, offers, node_budget=node_budget)
    refused = sorted([*refused, *found.refused], key=lambda refusal: _rank(refusal.candidate))
    return Evaluation(found.applied, tuple(refused), found.gap_minor == 0, found.gap_minor, found.nodes, found.combined)


class _Goods:
    """The lines of a basket by what coupons name: a thousand coupons ask, and each names little of the basket."""

    def __init__(self, basket: Basket) -> None:
        """Note the places of each sku and category."""
        self.lines = basket.lines
        self.all = range(len(basket.lines))
        self.names: list[tuple[str, str]] = []
        self.skus: dict[str, list[int]] = {}
        self.categories: dict[str, list[int]] = {}
        for place, line in enumerate(basket.lines):
            self.names.append((fold(line.sku), fold(line.category)))
            self.skus.setdefault(self.names[place][0], []).append(place)
            self.categories.setdefault(self.names[place][1], []).append(place)

    def in_scope(self, terms: CouponTerms) -> Sequence[int]:
        """Return the places of the lines that a coupon is about."""
        named: Sequence[int] = self.all
        skus, categories, *_left_out = terms.scope
        if skus or categories:
            lists = [self.skus[sku] for sku in skus if sku in self.skus]
            lists += [self.categories[name] for name in categories if name in self.categories]
            named = lists[0] if len(lists) == 1 else sorted({place for places in lists for place in places})
        if terms.exclude_skus or terms.exclude_categories:
            return [place for place in named if terms.covers(*self.names[place])]
        return named


def _find_refusal(
    basket: Basket, candidate: Candidate, lines: Sequence[int], shopper: Shopper, at: datetime
) -> Refused | None:
    """Return the first reason that keeps a coupon from a basket, whatever else is in it; None if there is none."""
    terms = candidate.terms
    reasons = chain(_time(candidate, at), _person(terms, basket.market, shopper), _order(terms, basket, lines))
    found = next(reasons, None)
    return Refused(candidate, *found) if found else None


def find_shopper_refusal(candidate: Candidate, shopper: Shopper, *, market: str | None, at: datetime) -> Refused | None:
    """Return the first reason that keeps a coupon from a member, whatever is in the basket; None if there is none.

    market: None if it is not asked.
    """
    reasons = chain(_time(candidate, at), _person(candidate.terms, market, shopper))
    return next((Refused(candidate, reason, details) for reason, details in reasons), None)


def _rank(candidate: Candidate) -> tuple[int, str, str]:
    return candidate.terms.priority, candidate.code, candidate.key


_Reasons = Iterator[tuple[RefusalReason, dict[str, Any]]]


def _time(candidate: Candidate, at: datetime) -> _Reasons:
    begins = candidate.valid_from or candidate.terms.starts_at
    ends = candidate.expires_at or candidate.terms.ends_at
    if begins is not None and at < begins:
        yield RefusalReason.NOT_YET_VALID, {"valid_from": begins.isoformat()}
    if ends is not None and at >= ends:
        yield RefusalReason.EXPIRED, {"expires_at": ends.isoformat()}


def _person(terms: CouponTerms, market: str | None, shopper: Shopper) -> _Reasons:
    if terms.markets and market is not None and market not in terms.markets:
        yield RefusalReason.WRONG_MARKET, {"market": market, "markets": list(terms.markets)}
    if terms.tiers and shopper.tier not in terms.tiers:
        yield RefusalReason.WRONG_TIER, {"tier": shopper.tier, "tiers": list(terms.tiers)}
    if terms.first_order and not shopper.is_first_order:
        yield RefusalReason.NOT_FIRST_ORDER, {}
    if terms.first_order and shopper.first_order_held is not None:
        checkout, until = shopper.first_order_held
        yield RefusalReason.FIRST_ORDER_HELD, {"checkout": checkout, "until": until.isoformat()}
    days, most = shopper.member_days, terms.new_member_days
    if most is not None and (days is None or days > most):
        yield RefusalReason.NOT_NEW_MEMBER, {"member_days": days, "new_member_days": most}


def _order(terms: CouponTerms, basket: Basket, lines: Sequence[int]) -> _Reasons:
    for amounts in (_amounts(terms), terms.threshold):
        if amounts is not None and basket.currency not in amounts:
            yield RefusalReason.CURRENCY_NOT_COVERED, {"currency": basket.currency, "currencies": sorted(amounts)}
    if not lines:
        yield RefusalReason.NO_LINE_IN_SCOPE, {}
    threshold = (terms.threshold or {}).get(basket.currency, 0)
    subtotal = sum(basket.lines[place].original_minor for place in lines) if threshold else 0
    if subtotal < threshold:
        yield (
            RefusalReason.BELOW_THRESHOLD,
            {
                "currency": basket.currency,
                "missing_minor": threshold - subtotal,
                "threshold_minor": threshold,
                "subtotal_minor": subtotal,
            },
        )


def _amounts(terms: CouponTerms) -> dict[str, int] | None:
    """Return the amounts by currency that the discount names."""
    return terms.discount.amount if isinstance(terms.discount, Amount) else terms.discount.at_most


def _offer(basket: Basket, candidate: Candidate, lines: Sequence[int]) -> Offer:
    """Return what an eligible coupon would take off by itself, and what using it gives up."""
    terms = candidate.terms
    most = (_amounts(terms) or {}).get(basket.currency)
    ends_at = candidate.expires_at or terms.ends_at
    use = Use(most is None, most or 0, ends_at.timestamp() if ends_at else inf, _rank(candidate))
    return Offer(candidate, *_discount(basket, terms, lines, most), use)


def _discount(basket: Basket, terms: CouponTerms, lines: Sequence[int], most: int | None) -> tuple[Option, int]:
    """Return what terms take off a basket that they fit, and how much that is."""
    nothing = (0,) * len(basket.lines)
    if isinstance(terms.discount, FreeShipping):
        fee = basket.shipping_minor if most is None else min(most, basket.shipping_minor)
        return Option(nothing, shipping_minor=fee), fee
    amounts = [basket.lines[place].amount_minor for place in lines]
    whole = sum(amounts)
    rate_bps = terms.discount.percent if isinstance(terms.discount, Percent) else BPS
    most = whole if most is None else min(most, whole)
    minor = min(most, rate_bps * whole // BPS)
    if not terms.has_scope:
        return Option(nothing, rate_bps, most), minor
    parts = list(nothing)
    for place, part in zip(lines, allocate(minor, amounts), strict=True):
        parts[place] = part
    return Option(tuple(parts)), minor
