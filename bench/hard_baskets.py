"""The baskets on which the search for coupons takes longest: it ends when its nodes are used up."""

import random
from datetime import UTC, datetime
from time import process_time
from typing import Any

from bench.figures import Figure
from bench.sizes import Sizes
from coupons.definitions import CouponTerms
from coupons.rules import Basket, Candidate, Evaluation, Line, Shopper, evaluate

COUPONS = 64
LINES = 50
NOW = datetime(2026, 6, 1, tzinfo=UTC)
# Of 700 mixes that were tried (8 to 64 groups, scopes of 1 to 50 lines, half to four times of what there is to pay)
# these take longest: two coupons to a group, each about two lines, together a little more than there is to pay.
SEEDS = (41, 89, 109, 110)


def worst(sizes: Sizes) -> list[Figure]:
    """Measure the hardest baskets: of each the shortest of several turns, of these the longest."""
    slowest, found = max(_measure(seed, sizes.repetitions + 2) for seed in SEEDS)
    ours = f"{slowest:.2f} s of a processor, {found.nodes:,} nodes"
    reference = f"at most {found.gap_minor / 100:.2f} more could come off"
    low: dict[str, Any] = {"lower_is_better": True, "unit": " s"}
    return [
        Figure(f"coupons: the worst of {COUPONS} x {LINES} lines", ours, reference, round(slowest, 2), 1, 0.5, **low)
    ]


def _measure(seed: int, turns: int) -> tuple[float, Evaluation]:
    basket, coupons = make(random.Random(seed))
    taken = []
    for _ in range(turns):
        begun = process_time()
        found = evaluate(basket, coupons, Shopper(), at=NOW)
        taken.append(process_time() - begun)
    return min(taken), found


def make(source: random.Random) -> tuple[Basket, list[Candidate]]:
    """Return a basket and coupons in 32 groups of two, which is like parting numbers into equal heaps."""
    lines = tuple(
        Line(str(n), f"s{n}", "", 1, minor, minor) for n in range(LINES) for minor in [source.randint(2_000, 9_000)]
    )
    groups, share, scope = source.choice([32, 21]), source.uniform(1, 1.5), source.choice([2, 3])
    size = sum(line.amount_minor for line in lines) * share / groups
    coupons = []
    for n in range(COUPONS):
        amount = {"GBP": f"{source.uniform(0.8, 1.2) * size / 100:.2f}"}
        told: dict[str, Any] = {"name": "Hard", "how": "automatic", "stack_group": f"g{n % groups}"}
        if source.random() < 0.1:
            told["discount"] = {"percent": f"{source.randint(100, 1_500) / 100:.2f}%", "at_most": amount}
        else:
            told |= {"discount": {"amount": amount}, "skus": [f"s{k}" for k in source.sample(range(LINES), scope)]}
        terms = CouponTerms.model_validate(told, context={"currency": "GBP"})
        coupons.append(Candidate(f"k{n:02}", n, n, f"k{n:02}", terms))
    return Basket("GBP", lines, 499), coupons
