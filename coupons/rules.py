"""What coupons take off a basket: pure arithmetic, the same for quote and hold. docs/coupons.md has the semantics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import chain
from operator import sub
from typing import Any, NamedTuple

from core.money import BPS, allocate
from coupons import combination
from coupons.combination import Option
from coupons.definitions import Amount, CouponTerms, FreeShipping, Percent

# Random mixes of 64 coupons need a hundred nodes at most, with few exceptions. A node of the largest takes 0.2 ms, so a
# checkout waits half a second in the worst case; see docs/coupons.md.
NODE_BUDGET = 2_000


class RefusalReason(StrEnum):
    """Why a coupon does not apply."""

    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    WRONG_MARKET = "wrong_market"
    WRONG_TIER = "wrong_tier"
    NOT_FIRST_ORDER = "not_first_order"
    NOT_NEW_MEMBER = "not_new_member"
    CURRENCY_NOT_COVERED = "currency_not_covered"
    NO_LINE_IN_SCOPE = "no_line_in_scope"
    BELOW_THRESHOLD = "below_threshold"
    NO_EFFECT = "no_effect"
    SAME_COUPON = "same_coupon"
    STACKS_WITH_BETTER = "stacks_with_better"
    EXCLUSIVE_WITH_BETTER = "exclusive_with_better"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a basket: its list price, and what is left of it after the tier's discount, for all units."""

    key: str
    sku: str
    category: str
    units: int
    original_minor: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Basket:
    """What is about to be bought."""

    currency: str
    lines: tuple[Line, ...]
    shipping_minor: int = 0
    market: str = ""


@dataclass(frozen=True, slots=True)
class Shopper:
    """Who buys. `member_days`: local days since joining."""

    tier: str | None = None
    is_first_order: bool = False
    member_days: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A coupon that might apply: a claim of the shopper, a code typed in, or one that applies by itself.

    `key` tells the candidates of an evaluation apart. `valid_from` and `expires_at` are the claim's; where they are
    empty, the window of the terms holds.
    """

    key: str
    definition_id: int
    version_id: int
    code: str
    terms: CouponTerms
    claim_id: int | None = None
    valid_from: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What a coupon takes off each line of the basket, in their order, and off shipping."""

    candidate: Candidate
    line_minor: tuple[int, ...]
    shipping_minor: int = 0

    @property
    def discount_minor(self) -> int:
        """Return what it takes off the lines."""
        return sum(self.line_minor)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a coupon takes nothing off; `details` are the figures of the reason, ready for JSON."""

    candidate: Candidate
    reason: RefusalReason
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The combination that takes most off. Not `exact`: another could take off `gap_minor` more, but no more."""

    applied: tuple[Applied, ...]
    refused: tuple[Refused, ...]
    exact: bool
    gap_minor: int
    nodes: int


class _Offer(NamedTuple):
    """What an eligible coupon would take off by itself; `minor` in all."""

    candidate: Candidate
    option: Option
    minor: int


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
    offers: list[_Offer] = []
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
    offers, repeated = _once_each(offers)
    chosen, gap, nodes = _choose(basket, offers, node_budget)
    refused += [*repeated, *_lost(offers, chosen)]
    refused.sort(key=lambda refusal: _rank(refusal.candidate))
    return Evaluation(_take_off(basket, chosen), tuple(refused), gap == 0, gap, nodes)


class _Goods:
    """The lines of a basket by what coupons name: a thousand coupons ask, and each names little of the basket."""

    def __init__(self, basket: Basket) -> None:
        """Note the places of each sku and category."""
        self.lines = basket.lines
        self.all = range(len(basket.lines))
        self.skus: dict[str, list[int]] = {}
        self.categories: dict[str, list[int]] = {}
        for place, line in enumerate(basket.lines):
            self.skus.setdefault(line.sku, []).append(place)
            self.categories.setdefault(line.category, []).append(place)

    def in_scope(self, terms: CouponTerms) -> Sequence[int]:
        """Return the places of the lines that a coupon is about."""
        named: Sequence[int] = self.all
        if terms.skus or terms.categories:
            lists = [self.skus[sku] for sku in terms.skus if sku in self.skus]
            lists += [self.categories[name] for name in terms.categories if name in self.categories]
            named = sorted({place for places in lists for place in places})
        if terms.exclude_skus or terms.exclude_categories:
            return [place for place in named if terms.covers(self.lines[place].sku, self.lines[place].category)]
        return named


def _find_refusal(
    basket: Basket, candidate: Candidate, lines: Sequence[int], shopper: Shopper, at: datetime
) -> Refused | None:
    """Return the first reason that keeps a coupon from a basket, whatever else is in it; None if there is none."""
    terms = candidate.terms
    reasons = chain(_time(candidate, at), _person(terms, basket.market, shopper), _order(terms, basket, lines))
    return next((Refused(candidate, reason, details) for reason, details in reasons), None)


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


def _offer(basket: Basket, candidate: Candidate, lines: Sequence[int]) -> _Offer:
    """Return what an eligible coupon would take off by itself."""
    terms = candidate.terms
    nothing = (0,) * len(basket.lines)
    most = (_amounts(terms) or {}).get(basket.currency)
    if isinstance(terms.discount, FreeShipping):
        fee = basket.shipping_minor if most is None else min(most, basket.shipping_minor)
        return _Offer(candidate, Option(nothing, shipping_minor=fee), fee)
    amounts = [basket.lines[place].amount_minor for place in lines]
    whole = sum(amounts)
    rate_bps = terms.discount.percent if isinstance(terms.discount, Percent) else BPS
    most = whole if most is None else min(most, whole)
    minor = min(most, rate_bps * whole // BPS)
    if not terms.has_scope:
        return _Offer(candidate, Option(nothing, rate_bps, most), minor)
    parts = list(nothing)
    for place, part in zip(lines, allocate(minor, amounts), strict=True):
        parts[place] = part
    return _Offer(candidate, Option(tuple(parts)), minor)


def _once_each(offers: Sequence[_Offer]) -> tuple[list[_Offer], list[Refused]]:
    """Leave one claim of each definition: what takes off most by itself, then what expires first."""
    kept: dict[int, _Offer] = {}
    for offer in sorted(offers, key=_by_need):
        kept.setdefault(offer.candidate.definition_id, offer)
    left = [offer for offer in offers if kept[offer.candidate.definition_id] is offer]
    repeated = [
        Refused(offer.candidate, RefusalReason.SAME_COUPON, {"with": [offer.candidate.code]})
        for offer in offers
        if kept[offer.candidate.definition_id] is not offer
    ]
    return left, repeated


def _by_need(offer: _Offer) -> tuple[int, bool, float, str]:
    ends = offer.candidate.expires_at or offer.candidate.terms.ends_at
    return -offer.minor, ends is None, ends.timestamp() if ends else 0, offer.candidate.key


def _choose(basket: Basket, offers: Sequence[_Offer], node_budget: int) -> tuple[list[_Offer], int, int]:
    """Return the offers that take off most together, what others could add to that at most, and the nodes visited."""
    amounts, shipping = [line.amount_minor for line in basket.lines], basket.shipping_minor
    groups: dict[str, list[_Offer]] = {}
    for offer in offers:
        if not offer.candidate.terms.exclusive:
            # No code has a blank: a coupon without a group is one by itself.
            groups.setdefault(offer.candidate.terms.stack_group or f" {offer.candidate.key}", []).append(offer)
    options = [[offer.option for offer in group] for group in groups.values()]
    found = combination.search(amounts, shipping, options, node_budget=node_budget)
    picked = [group[place] for group, place in zip(groups.values(), found.chosen, strict=True)]
    picked.sort(key=lambda offer: _rank(offer.candidate))
    needed, minor = combination.find_needed(amounts, shipping, [offer.option for offer in picked])
    chosen = [picked[place] for place in needed]
    alone = max((o for o in offers if o.candidate.terms.exclusive), key=lambda offer: offer.minor, default=None)
    if alone is None or (alone.minor, -1) < (minor, -len(chosen)):
        return chosen, found.gap_minor, found.nodes
    return [alone], max(0, minor + found.gap_minor - alone.minor), found.nodes


def _lost(offers: Sequence[_Offer], chosen: Sequence[_Offer]) -> list[Refused]:
    """Say why eligible coupons are left out of the combination."""
    used = {offer.candidate.key: offer.candidate for offer in chosen}
    codes = [candidate.code for candidate in used.values()]
    winners = {candidate.terms.stack_group: candidate.code for candidate in used.values()}
    has_exclusive = any(candidate.terms.exclusive for candidate in used.values())
    refused = []
    for candidate in (offer.candidate for offer in offers if offer.candidate.key not in used):
        reason, details, group = RefusalReason.NO_EFFECT, dict[str, Any](), candidate.terms.stack_group
        if candidate.terms.exclusive or has_exclusive:
            reason, details = RefusalReason.EXCLUSIVE_WITH_BETTER, {"with": codes}
        elif group is not None and group in winners:
            reason, details = RefusalReason.STACKS_WITH_BETTER, {"with": [winners[group]], "stack_group": group}
        refused.append(Refused(candidate, reason, details))
    return refused


def _take_off(basket: Basket, chosen: Sequence[_Offer]) -> tuple[Applied, ...]:
    """Return what each coupon takes off: those of lines first, then those of the order, then those of shipping."""
    left = [line.amount_minor for line in basket.lines]
    applied = []
    for offer in chosen:
        if any(offer.option.lines):
            parts = list(map(min, offer.option.lines, left))
            left = list(map(sub, left, parts))
            applied.append(Applied(offer.candidate, tuple(parts)))
    whole, taken = sum(left), 0
    for offer in chosen:
        if offer.option.rate_bps:
            share = min(offer.option.most_minor * BPS, offer.option.rate_bps * whole)
            before, taken = taken, min(whole * BPS, taken + share)
            parts = allocate(taken // BPS - before // BPS, left)
            left = list(map(sub, left, parts))
            applied.append(Applied(offer.candidate, tuple(parts)))
    fee = basket.shipping_minor
    for offer in chosen:
        if offer.option.shipping_minor:
            part = min(offer.option.shipping_minor, fee)
            fee -= part
            applied.append(Applied(offer.candidate, (0,) * len(left), part))
    return tuple(applied)
