"""Which of the coupons that fit a basket to use together, what each takes off, and why the others are left out."""

from collections.abc import Mapping, Sequence
from operator import sub
from typing import Any, NamedTuple

from core.money import BPS, allocate
from coupons import combination, thrift
from coupons.combination import Option, Space, Vector
from coupons.shapes import Applied, Basket, Candidate, RefusalReason, Refused
from coupons.thrift import Use


class Offer(NamedTuple):
    """What an eligible coupon would take off by itself, `minor` in all, and what using it gives up."""

    candidate: Candidate
    option: Option
    minor: int
    use: Use


class Combination(NamedTuple):
    """The coupons to combine and what each takes off; the others that are eligible, and why they are not used.

    Another combination could take off `gap_minor` more, but no more. `nodes` were looked at.
    """

    combined: tuple[Candidate, ...]
    applied: tuple[Applied, ...]
    refused: tuple[Refused, ...]
    gap_minor: int
    nodes: int


class _Choice(NamedTuple):
    """Offers to use together, what they take off, and the best that could be done without exclusive coupons."""

    used: list[Offer]
    minor: int
    shared: list[Offer]
    shared_minor: int
    vectors: Mapping[str, Vector]
    space: Space
    gap_minor: int
    nodes: int


def combine(basket: Basket, offers: Sequence[Offer], *, node_budget: int) -> Combination:
    """Return the combination that takes most off, of equal ones the one that gives up least.

    A coupon of it that is credited with nothing is not used: its fraction counts beside those of the others.
    """
    offers, repeated = _once_each(offers)
    choice = _choose(basket, offers, node_budget)
    taken = take_off(basket, choice.used)
    applied = tuple(one for one in taken if one.minor)
    idle = [Refused(one.candidate, RefusalReason.NO_EFFECT, {}) for one in taken if not one.minor]
    refused = (*repeated, *idle, *_lost(offers, choice))
    return Combination(tuple(one.candidate for one in taken), applied, refused, choice.gap_minor, choice.nodes)


def _once_each(offers: Sequence[Offer]) -> tuple[list[Offer], list[Refused]]:
    """Leave one claim of each definition: what takes off most by itself, then what gives up least."""
    kept: dict[int, Offer] = {}
    for offer in sorted(offers, key=lambda offer: (-offer.minor, offer.use)):
        kept.setdefault(offer.candidate.definition_id, offer)
    left = [offer for offer in offers if kept[offer.candidate.definition_id] is offer]
    repeated = [
        Refused(offer.candidate, RefusalReason.SAME_COUPON, {"with": [offer.candidate.code]})
        for offer in offers
        if kept[offer.candidate.definition_id] is not offer
    ]
    return left, repeated


def _choose(basket: Basket, offers: Sequence[Offer], node_budget: int) -> _Choice:
    """Choose among all combinations of coupons that may be shared, and the exclusive ones by themselves."""
    by_group: dict[str, list[Offer]] = {}
    for offer in offers:
        if not offer.candidate.terms.exclusive:
            # No code has a blank: a coupon without a group is one by itself.
            by_group.setdefault(offer.candidate.terms.stack_group or f" {offer.candidate.key}", []).append(offer)
    groups = list(by_group.values())
    amounts, options = [line.amount_minor for line in basket.lines], [[offer.option for offer in g] for g in groups]
    space = Space(amounts, basket.shipping_minor, options)
    found = combination.search(space, node_budget=node_budget)
    uses = [[offer.use for offer in group] for group in groups]
    chosen = thrift.choose(space, uses, found.chosen, minor=found.minor, node_budget=node_budget)
    shared = sorted((groups[group][place] for group, place in chosen.items()), key=_rank)
    choices = [(found.minor, shared), *((offer.minor, [offer]) for offer in offers if offer.candidate.terms.exclusive)]
    minor, used = min(choices, key=lambda one: (-one[0], thrift.compare_key(offer.use for offer in one[1])))
    vectors = {
        offer.candidate.key: entry.vector
        for group, its in zip(groups, space.groups, strict=True)
        for offer, entry in zip(group, its.entries, strict=True)
    }
    gap = max(0, found.minor + found.gap_minor - minor)
    return _Choice(used, minor, shared, found.minor, vectors, space, gap, found.nodes)


def _rank(offer: Offer) -> tuple[int, str, str]:
    return offer.use.rank


def _lost(offers: Sequence[Offer], choice: _Choice) -> list[Refused]:
    """Say why eligible coupons are left out of the combination."""
    used = {offer.candidate.key for offer in choice.used}
    others = [offer for offer in offers if offer.candidate.key not in used]
    if any(offer.candidate.terms.exclusive for offer in choice.used):
        return [_beside_exclusive(offer, choice) for offer in others]
    swaps = _Swaps(choice)
    return [
        _beside_exclusive(offer, choice) if offer.candidate.terms.exclusive else swaps.refuse(offer) for offer in others
    ]


def _beside_exclusive(offer: Offer, choice: _Choice) -> Refused:
    """Refuse a coupon that is exclusive, or beside one that is."""
    is_equal = offer.minor == choice.minor or (choice.shared_minor == choice.minor and offer in choice.shared)
    reason = RefusalReason.WORTH_THE_SAME if is_equal else RefusalReason.EXCLUSIVE_WITH_BETTER
    return Refused(offer.candidate, reason, {"with": [used.candidate.code for used in choice.used]})


class _Swaps:
    """What would come off with another coupon in the place of one that is used."""

    def __init__(self, choice: _Choice) -> None:
        self.choice = choice
        self.by_group = {offer.candidate.terms.stack_group: offer for offer in choice.used}
        whole = combination.add_up(choice.space.nothing, (choice.vectors[one.candidate.key] for one in choice.used))
        self.without = {
            one.candidate.key: tuple(map(sub, whole, choice.vectors[one.candidate.key])) for one in choice.used
        }
        self.worths = {key: choice.space.worth(vector) for key, vector in self.without.items()}

    def refuse(self, offer: Offer) -> Refused:
        """Say why a coupon that may stand beside others is left out."""
        group = offer.candidate.terms.stack_group
        winner = self.by_group.get(group) if group is not None else None
        rivals = [winner] if winner is not None else self.choice.used
        equal = next((rival for rival in rivals if self._is_equal(rival, offer)), None)
        details: dict[str, Any] = {"with": [rival.candidate.code for rival in ([equal] if equal else rivals)]}
        if winner is not None:
            details["stack_group"] = group
        if equal is not None:
            return Refused(offer.candidate, RefusalReason.WORTH_THE_SAME, details)
        reason = RefusalReason.NO_EFFECT if winner is None else RefusalReason.STACKS_WITH_BETTER
        return Refused(offer.candidate, reason, details)

    def _is_equal(self, rival: Offer, offer: Offer) -> bool:
        """Tell whether as much would come off with the offer in the place of one that is used."""
        key, enough = rival.candidate.key, self.choice.minor * BPS
        # By itself a coupon takes off the most that it ever does, and less than a minor unit above its whole ones.
        if self.worths[key] + (offer.minor + 1) * BPS <= enough:
            return False
        vector = combination.plus(self.without[key], self.choice.vectors[offer.candidate.key])
        return self.choice.space.worth(vector) >= enough


def take_off(basket: Basket, used: Sequence[Offer]) -> tuple[Applied, ...]:
    """Return what each coupon takes off: those of lines first, then those of the order, then those of shipping."""
    left = [line.amount_minor for line in basket.lines]
    applied = []
    for offer in used:
        if any(offer.option.lines):
            parts = list(map(min, offer.option.lines, left))
            left = list(map(sub, left, parts))
            applied.append(Applied(offer.candidate, tuple(parts)))
    of_order = [offer for offer in used if offer.option.rate_bps]
    for offer, minor in zip(of_order, _credit(of_order, sum(left)), strict=True):
        parts = allocate(minor, left)
        left = list(map(sub, left, parts))
        applied.append(Applied(offer.candidate, tuple(parts)))
    fee = basket.shipping_minor
    for offer in used:
        if offer.option.shipping_minor:
            part = min(offer.option.shipping_minor, fee)
            fee -= part
            applied.append(Applied(offer.candidate, (0,) * len(left), part))
    return tuple(applied)


def _credit(offers: Sequence[Offer], whole: int) -> list[int]:
    """Part what coupons of the order take off together: in their order, and nothing for none as far as it goes.

    Their fractions are added up before the one floor, so one of several may be left with less than a minor unit; it
    is credited with one of those of the largest.
    """
    minors, taken = [], 0
    for offer in offers:
        share = min(offer.option.most_minor * BPS, offer.option.rate_bps * whole)
        before, taken = taken, min(whole * BPS, taken + share)
        minors.append(taken // BPS - before // BPS)
    for place in [place for place, minor in enumerate(minors) if not minor]:
        largest = minors.index(max(minors))
        if minors[largest] > 1:
            minors[largest] -= 1
            minors[place] = 1
    return minors
