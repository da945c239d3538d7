"""Coupons on a basket: 1,000 active definitions and 50 lines, from the database to the best combination."""

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from django.db import connection

from bench.figures import Figure
from bench.sizes import Sizes
from core.models import Program
from coupons import published
from coupons.models import CouponDefinition, CouponDefinitionVersion
from coupons.rules import Basket, Evaluation, Line, Shopper, evaluate
from coupons.selectors import list_candidates
from membership.models import Member
from membership.services.members import MemberInput, enroll_members

DEFINITIONS = 1_000
LINES = 50
SKUS = 2_000
NOW = datetime.now(UTC)
# The design's figures of the same task on this class of machine; they are not measured here.
OTHERS = "Medusa 425 ms, django-oscar > 12 s"


def evaluation(sizes: Sizes) -> list[Figure]:
    """Measure a quote with the definitions in memory, as a server has them, and with all of them read anew."""
    program, member_id = _make_world()
    baskets = [_basket(random.Random(n)) for n in range(40)]
    found: list[Evaluation] = []

    def quote(basket: Basket) -> None:
        shop = Program.objects.get(pk=program.pk)
        offered = list_candidates(
            program=shop, member_id=member_id, codes=(), at=NOW, skus={line.sku for line in basket.lines},
            categories={line.category for line in basket.lines},
        )  # fmt: skip
        found.append(evaluate(basket, offered.candidates, Shopper(), at=NOW))

    def read_anew(basket: Basket) -> None:
        published._list_offers.cache_clear()
        quote(basket)

    quote(baskets[0])
    begun = time.process_time()
    warm = _milliseconds(quote, baskets * sizes.repetitions)
    busy = (time.process_time() - begun) * 1_000 / (len(baskets) * sizes.repetitions)
    kinds = f"{median(len(e.applied) + len(e.refused) for e in found):.0f} candidates, exact {_exact(found)}"
    cold = _milliseconds(read_anew, baskets[: 4 * sizes.repetitions])
    rows = _milliseconds(_read_rows, baskets[: 4 * sizes.repetitions])
    name = f"coupons: {DEFINITIONS:,} active x {LINES} lines"
    ours = f"{warm:.1f} ms, {busy:.1f} of a processor, {kinds}"
    low: dict[str, Any] = {"lower_is_better": True, "unit": " ms"}
    return [
        Figure(name, ours, OTHERS, round(warm, 2), 20, 10, **low),
        Figure(f"{name}, read anew", f"{cold:.1f} ms", f"the rows alone {rows:.1f} ms", round(cold, 2), **low),
    ]


def _exact(found: list[Evaluation]) -> str:
    return f"{sum(one.exact for one in found)}/{len(found)}"


def _milliseconds(work: Callable[[Basket], None], baskets: list[Basket]) -> float:
    taken = []
    for basket in baskets:
        begun = time.perf_counter()
        work(basket)
        taken.append((time.perf_counter() - begun) * 1_000)
    return median(taken)


def _read_rows(_basket: Basket) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT definition::text FROM coupons_coupondefinitionversion WHERE status = 'published'")
        for (text,) in cursor.fetchall():
            json.loads(text)


def _make_world() -> tuple[Program, int]:
    program, is_new = Program.objects.get_or_create(
        code="bench-coupons", defaults={"name": "Bench", "currency": "GBP", "time_zone": "Europe/London"}
    )
    if is_new:
        joined = MemberInput(external_id="ada", joined_at=NOW - timedelta(days=30))
        enroll_members(program=program, members=[joined], at=NOW - timedelta(days=30))
        source = random.Random(1)
        owners = CouponDefinition.objects.bulk_create(
            CouponDefinition(program=program, code=f"c{n}") for n in range(DEFINITIONS)
        )
        CouponDefinitionVersion.objects.bulk_create(
            CouponDefinitionVersion(
                owner=owner, number=1, status="published", definition=_terms(source, owner.code), published_at=NOW
            )
            for owner in owners
        )
    return program, Member.objects.get(program=program).pk


def _terms(source: random.Random, name: str) -> dict[str, Any]:
    """Return one of the mix: nine of ten are about some goods; half of these stack with all, the rest is in groups."""
    discount = source.choice(
        [
            {"percent": f"{source.randint(2, 25)}%"},
            {"percent": f"{source.randint(10, 40)}%", "at_most": {"GBP": f"{source.randint(2, 20)}.00"}},
            {"amount": {"GBP": f"{source.randint(1, 15)}.00"}},
            {"free_shipping": True},
        ]
    )
    told: dict[str, Any] = {"name": name, "discount": discount, "how": "automatic", "priority": source.randint(0, 9)}
    if source.random() < 0.6:
        told["skus"] = [f"sku-{source.randint(1, SKUS)}" for _ in range(source.randint(1, 20))]
    elif source.random() < 0.75:
        told["categories"] = [f"category-{source.randint(1, 200)}"]
    else:
        return told | {"stack_group": f"order-{source.randint(1, 3)}"}
    if source.random() < 0.5:
        told["stack_group"] = f"group-{source.randint(1, 20)}"
    if source.random() < 0.5:
        told["threshold"] = {"GBP": f"{source.randint(20, 800)}.00"}
    return told


def _basket(source: random.Random) -> Basket:
    lines = []
    for n in range(LINES):
        minor = source.randint(200, 9_000)
        sku, category = f"sku-{source.randint(1, SKUS)}", f"category-{source.randint(1, 200)}"
        lines.append(Line(str(n), sku, category, 1, minor, minor))
    return Basket("GBP", tuple(lines), 499)
