"""Baskets and coupons for tests of the evaluation, and its plain oracle."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from math import inf
from typing import Any

from core.money import BPS, allocate
from coupons.combination import Option
from coupons.definitions import Amount, CouponTerms, FreeShipping, Percent
from coupons.rules import Basket, Candidate, Line, Shopper

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SHOPPER = Shopper(tier="silver", is_first_order=False, member_days=100)


def terms(discount: dict[str, Any], **values: Any) -> CouponTerms:
    """Read terms as a program file says them."""
    return CouponTerms.model_validate({"name": "Test", "discount": discount} | values, context={"currency": "GBP"})


def candidate(code: str, discount: dict[str, Any], *, definition_id: int | None = None, **values: Any) -> Candidate:
    """Return a coupon with terms of its own."""
    number = definition_id if definition_id is not None else int.from_bytes(code.encode())
    return Candidate(code, number, number, code, terms(discount, **values))


def basket(*amounts: int, shipping: int = 0, currency: str = "GBP", market: str = "") -> Basket:
    """Return a basket of lines a, b, c, ... in categories even and odd."""
    lines = tuple(
        Line(str(i), f"{i}" if i > 25 else chr(97 + i), ("even", "odd")[i % 2], 1, amount, amount)
        for i, amount in enumerate(amounts)
    )
    return Basket(currency, lines, shipping, market)


def random_case(seed: int, *, coupons: int, lines: int = 4) -> tuple[Basket, list[Candidate]]:
    """Return a basket and coupons of every kind: overlapping scopes, caps, groups, exclusives, thresholds.

    Half of the cases are hard: groups only, and discounts that together come to about what there is to pay.
    """
    source = random.Random(seed)
    is_hard = source.random() < 0.5
    goods = basket(*(source.randint(0, 3_000) for _ in range(lines)), shipping=source.choice([0, 399, 1_000]))
    whole = sum(line.amount_minor for line in goods.lines)
    largest = max(2, whole * source.choice([2, 4, 6]) // (coupons or 1)) if is_hard else 2_500
    make = _hard_candidate if is_hard else _any_candidate
    return goods, [make(source, f"c{n}", [line.sku for line in goods.lines], largest) for n in range(coupons)]


def _hard_candidate(source: random.Random, code: str, skus: list[str], largest: int) -> Candidate:
    discount: dict[str, Any] = source.choice(
        [
            {"amount": _pounds(source, largest // 2, largest)},
            {"amount": _pounds(source, largest // 2, largest)},
            {"percent": f"{source.randint(100, 1_500) / 100:.2f}%", "at_most": _pounds(source, largest // 2, largest)},
            {"percent": f"{source.randint(100, 1_500) / 100:.2f}%"},
        ]
    )
    values: dict[str, Any] = {"stack_group": f"g{source.randint(1, 24)}" if source.random() < 0.4 else f"g{code[-1]}"}
    if source.random() < 0.8:
        values["skus"] = source.sample(skus, k=source.randint(1, min(3, len(skus))))
    return candidate(code, discount, **values)


def _any_candidate(source: random.Random, code: str, skus: list[str], largest: int) -> Candidate:
    discount: dict[str, Any] = source.choice(
        [
            {"percent": source.choice(["3.33%", "10%", "15%", "50%", "100%"])},
            {"percent": source.choice(["20%", "35%"]), "at_most": _pounds(source, 1, 900)},
            {"amount": _pounds(source, 1, largest)},
            {"amount": _pounds(source, 1, 400)},
            {"free_shipping": True} | ({"at_most": _pounds(source, 1, 800)} if source.random() < 0.7 else {}),
        ]
    )
    values: dict[str, Any] = {"priority": source.randint(0, 2)}
    if source.random() < 0.5:
        values["skus"] = source.sample(skus, k=source.randint(1, len(skus)))
    elif source.random() < 0.2:
        values["exclude_categories"] = ["odd"]
    if source.random() < 0.6:
        values["stack_group"] = source.choice(["x", "y", "z"])
    if source.random() < 0.1:
        values["exclusive"] = True
    if source.random() < 0.2:
        values["threshold"] = _pounds(source, 100, 6_000)
    return candidate(code, discount, **values)


def _pounds(source: random.Random, least: int, most: int) -> dict[str, str]:
    return {"GBP": f"{source.randint(max(1, least), most) / 100:.2f}"}


def packing_case(seed: int, *, groups: int, of: int, spare: int) -> tuple[list[int], list[list[Option]]]:
    """Return lines, and groups of options that take the same off one of them; `spare` percent of it fit in all."""
    source = random.Random(seed)
    weights = [source.randint(2_500, 5_000) for _ in range(groups)]
    amounts = [sum(weights) * spare // 100 // of] * of
    return amounts, [[Option(tuple(w if i == j else 0 for i in range(of))) for j in range(of)] for w in weights]


def best_of_all(goods: Basket, candidates: Sequence[Candidate]) -> int:
    """Return what the best allowed set of eligible coupons takes off, by trying every set."""
    offers = [coupon for coupon in candidates if _is_eligible(goods, coupon.terms)]
    sets = (chosen for size in range(len(offers) + 1) for chosen in combinations(offers, size))
    return max(total_off(goods, chosen) for chosen in sets if _is_allowed(chosen))


def best_and_least(goods: Basket, candidates: Sequence[Candidate]) -> tuple[int, tuple[Candidate, ...]]:
    """Return what the best allowed sets take off, and which of them gives up least, by trying every set."""
    offers = [coupon for coupon in candidates if _is_eligible(goods, coupon.terms)]
    sets = [s for size in range(len(offers) + 1) for s in combinations(offers, size) if _is_allowed(s)]
    worths = [total_off(goods, chosen) for chosen in sets]
    best = max(worths)
    return best, min((chosen for chosen, worth in zip(sets, worths, strict=True) if worth == best), key=_given_up)


def _given_up(chosen: Sequence[Candidate]) -> tuple[Any, ...]:
    """As docs/coupons.md orders combinations that take off as much."""
    most = [_most(coupon.terms) for coupon in chosen]
    ends = (coupon.expires_at or coupon.terms.ends_at for coupon in chosen)
    return (
        most.count(None),
        sum(minor for minor in most if minor is not None),
        sorted(end.timestamp() if end else inf for end in ends),
        len(chosen),
        sorted((coupon.terms.priority, coupon.code) for coupon in chosen),
    )


def _most(said: CouponTerms) -> int | None:
    amounts = said.discount.amount if isinstance(said.discount, Amount) else said.discount.at_most
    return amounts["GBP"] if amounts else None


def _is_eligible(goods: Basket, said: CouponTerms) -> bool:
    lines = [line for line in goods.lines if said.covers(line.sku, line.category)]
    is_over = sum(line.original_minor for line in lines) >= (said.threshold or {}).get("GBP", 0)
    return bool(lines) and is_over and total_off(goods, [Candidate("", 0, 0, "", said)]) > 0


def _is_allowed(chosen: Sequence[Candidate]) -> bool:
    groups = [coupon.terms.stack_group for coupon in chosen if coupon.terms.stack_group]
    is_crowded = len(chosen) > 1 and any(coupon.terms.exclusive for coupon in chosen)
    definitions = {coupon.definition_id for coupon in chosen}
    return not is_crowded and len(set(groups)) == len(groups) and len(definitions) == len(chosen)


def total_off(goods: Basket, chosen: Sequence[Candidate]) -> int:
    """Return what a set takes off, as docs/coupons.md says it."""
    amounts = [line.amount_minor for line in goods.lines]
    off, order, fee = [0] * len(amounts), [], 0
    for said in (coupon.terms for coupon in chosen):
        if isinstance(said.discount, FreeShipping):
            fee += min((said.discount.at_most or {}).get("GBP", goods.shipping_minor), goods.shipping_minor)
        elif said.has_scope:
            scoped = [a if said.covers(li.sku, li.category) else 0 for a, li in zip(amounts, goods.lines, strict=True)]
            parts = allocate(_share(said, sum(scoped)) // BPS, scoped)
            off = [sum(pair) for pair in zip(off, parts, strict=True)]
        else:
            order.append(said)
    off = [min(pair) for pair in zip(off, amounts, strict=True)]
    left = sum(amounts) - sum(off)
    return sum(off) + min(left, sum(_share(said, left) for said in order) // BPS) + min(goods.shipping_minor, fee)


def _share(said: CouponTerms, whole: int) -> int:
    """Return what the discount takes off an amount, in 1/10,000 of a minor unit."""
    if isinstance(said.discount, Amount):
        return min(said.discount.amount["GBP"], whole) * BPS
    assert isinstance(said.discount, Percent)
    most = (said.discount.at_most or {}).get("GBP", whole)
    return min(said.discount.percent * whole, most * BPS)
