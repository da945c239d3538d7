"""Retention: each report from its facts against one statement over orders and tier periods, and a served page."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from django.db import connection

from analytics import retention, selectors
from analytics.services import cells, months
from bench import clients
from bench.figures import Figure, alternate
from bench.sizes import Sizes
from bench.worlds import World, settle_disk
from core.calendar import add_months
from membership.models import Ladder, Tier

SQL = Path(__file__).parent / "sql"
FIRST_MONTH, LAST_DAY = date(2025, 1, 1), date(2026, 12, 31)
MONTHS = [add_months(FIRST_MONTH, n) for n in range(25)]
AT = datetime(2027, 1, 1, tzinfo=UTC)
DAY_N = (1, 7, 14, 30, 60, 90)


def load(world: World, orders_per_member: int) -> None:
    """Fill in two years of orders, days and tier periods, unchecked: they are right as made."""
    first, last = world.member_ids.start, world.member_ids.stop - 1
    ladder = Ladder.objects.get(program=world.program)
    tiers = list(Tier.objects.filter(ladder=ladder).order_by("pk").values_list("pk", flat=True))
    known = {
        "first": first, "last": last, "orders": orders_per_member, "program": world.program.pk,
        "ladder": ladder.pk, "version": ladder.versions.get().pk, "tier": tiers[0], "other": tiers[1],
    }  # fmt: skip
    text = (SQL / "retention_facts.sql").read_text()
    clients.psql(["".join(f"\\set {name} {value}\n" for name, value in known.items()) + text])
    settle_disk()


def count(world: World) -> float:
    """Bring the members' months, stats and cells up to date; return the seconds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO analytics_dirtymonth (program_id, member_id, since) SELECT program_id, id, %s"
            " FROM membership_member WHERE program_id = %s",
            [FIRST_MONTH, world.program.pk],
        )
    began = perf_counter()
    months.refresh(program=world.program, through=LAST_DAY)
    settle_disk("analytics_membermonth")
    settle_disk("analytics_memberstat")
    return perf_counter() - began


def _rows(sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def reports(sizes: Sizes) -> list[Figure]:
    """Measure the three kinds of report, then all cells at once and what a page reads of them."""
    world = World.create(sizes.members)
    load(world, sizes.orders_per_member)
    counted = count(world)
    ladder_id = Ladder.objects.get(program=world.program).pk
    parameters = {
        "program": world.program.pk, "ladder": ladder_id, "months": MONTHS[1:24], "next_months": MONTHS[2:25],
        "starts": [datetime(m.year, m.month, 1, tzinfo=UTC) for m in MONTHS[1:24]], "days": list(DAY_N),
    }  # fmt: skip
    pairs = {
        "active rate": (selectors._CELLS, "retention_active.sql"),
        "cohorts": (selectors._COHORTS, "retention_cohorts.sql"),
        "day N": (selectors._DAY_N, "retention_day_n.sql"),
    }
    orders = sizes.members * sizes.orders_per_member
    found = []
    for name, (facts, raw) in pairs.items():
        ours, reference = _compared(sizes, parameters, facts, (SQL / raw).read_text())
        found.append(
            Figure(f"retention: {name} of {orders:,} orders / raw SQL", f"{ours:.2f} s", f"{reference:.2f} s",
                   round(reference / ours, 2), 3, 5, unit="x")
        )  # fmt: skip
    began = perf_counter()
    cells.refresh(program=world.program, through=LAST_DAY, at=AT)
    seconds = perf_counter() - began
    served = median(_read_page(world) for _ in range(20)) * 1000
    found.append(
        Figure("retention: a served page of cells", f"{served:.1f} ms",
               f"cells summed in {seconds:.1f} s, facts from nothing in {counted:.1f} s", round(served, 1), 50, 50,
               lower_is_better=True, unit=" ms")
    )  # fmt: skip
    return found


def _compared(sizes: Sizes, parameters: dict[str, Any], facts: str, raw: str) -> tuple[float, float]:
    """Return the seconds of both, of answers that are the same."""
    seen: set[frozenset[tuple[Any, ...]]] = set()

    def timed(sql: str) -> Callable[[], float]:
        def run() -> float:
            began = perf_counter()
            answer = _rows(sql, parameters)
            seconds = perf_counter() - began
            seen.add(frozenset(answer))
            return seconds

        return run

    ours, reference = alternate(sizes.repetitions, timed(facts), timed(raw))
    if len(seen) != 1:
        raise RuntimeError("the two do not answer the same")
    return median(ours), median(reference)


def _read_page(world: World) -> float:
    """Read every report as the page does and return the seconds."""
    began = perf_counter()
    ground = retention.get_ground(program=world.program)
    for report in retention.REPORTS.values():
        report.read(ground=ground, filters=ground.last_months)
    return perf_counter() - began
