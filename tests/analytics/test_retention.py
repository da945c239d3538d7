"""The replay's figures against the brute-force oracle, on made corners and on random histories."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics import selectors
from analytics.services import months
from core.models import Program
from membership.fact_inputs import OrderInput, RefundInput
from tests.analytics.histories import (
    evaluate_until,
    follow,
    last_order_at,
    new_program,
    order,
    read_directory,
    record,
    refund,
)
from tests.oracle import replay
from tests.oracle.edge_cases import write_edge_data
from tests.oracle.local_days import local_day

RETENTION_KEYS = ("members", "orders", "guest_orders", "tiers", "tier_moves", "cohorts", "day_n", "repurchase")
DAY = timedelta(days=1)


def report(program: Program, orders: list[OrderInput], refunds: list[RefundInput]) -> dict[str, Any]:
    """Load the facts, run all evaluations, and return the figures."""
    record(program, orders=orders, refunds=refunds)
    last = last_order_at(orders)
    evaluate_until(program, last)
    follow(program, last)
    assert months.find_month_mismatches(program=program) == []
    return selectors.get_report(program_id=program.pk)


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Equal, but for the last bits of the oracle's mean, which adds up floats."""
    ours_mean, theirs_mean = (one["repurchase"].pop("mean_days_between_orders") for one in (ours, theirs))
    assert ours == theirs
    assert ours_mean == (None if theirs_mean is None else pytest.approx(theirs_mean, rel=1e-12))


@pytest.mark.django_db
def test_the_corners_of_the_contract(tmp_path: Path) -> None:
    write_edge_data(tmp_path)
    theirs = replay.compute(tmp_path, cuts=replay.USD_CUTS)
    assert_same(report(new_program(), *read_directory(tmp_path)), {key: theirs[key] for key in RETENTION_KEYS})


def oracle_report(orders: list[OrderInput], refunds: list[RefundInput], zone: ZoneInfo) -> dict[str, Any]:
    histories: dict[str, replay.History] = {}
    for one in orders:
        if one.member:
            mine = replay.Order(one.external_id, one.paid_at, local_day(one.paid_at, zone), one.amount_minor)
            histories.setdefault(one.member, replay.History()).orders.append(mine)
    for history in histories.values():
        history.orders.sort(key=lambda mine: (mine.at, mine.order_id))
    for back in refunds:
        if back.member in histories:
            given_back = (back.refunded_at, local_day(back.refunded_at, zone), back.amount_minor)
            histories[back.member].refunds.append(given_back)
    facts = replay.Facts(zone, histories, sum(not one.member for one in orders), last_order_at(orders))
    members, cuts = list(histories.values()), replay.USD_CUTS
    starts = replay.month_starts(members, zone)
    return {
        "members": len(members),
        "orders": sum(len(member.orders) for member in members),
        "guest_orders": facts.guest_orders,
        "tiers": {str(month): replay.tier_cells(members, zone, month, cuts, 365) for month in starts},
        "tier_moves": {str(month): replay.tier_moves(facts, month, cuts, 365) for month in starts},
        "cohorts": replay.cohorts(members),
        "day_n": {str(n): replay.within_days(members, n) for n in replay.DAY_N},
        "repurchase": replay.repurchase(members),
    }


# Zones whose days are not all 24 hours long, and hours around their midnights; one zone's midnight does not exist.
ZONES = ("UTC", "America/New_York", "Asia/Kathmandu", "America/Sao_Paulo")
instants = st.builds(
    lambda day, seconds: datetime(2018, 9, 1, tzinfo=UTC) + day * DAY + timedelta(seconds=seconds),
    st.one_of(st.integers(0, 40), st.sampled_from([0, 30, 61, 91, 122]), st.integers(0, 480)),
    st.sampled_from([0, 1, 2 * 3600, 3 * 3600, 4 * 3600, 5 * 3600 - 1, 18 * 3600 + 900, 86_399.999999]),
)
members = st.sampled_from(["ann", "bob", "cy", ""])
amounts = st.sampled_from([0, 1, 4_999, 5_000, 10_000, 30_000, 100_000])


@pytest.mark.django_db
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    zone=st.sampled_from(ZONES),
    told=st.lists(st.tuples(members, instants, amounts), min_size=1, max_size=14),
    back=st.lists(st.tuples(members, instants, amounts), max_size=5),
)
def test_random_histories(
    zone: str, told: list[tuple[str, datetime, int]], back: list[tuple[str, datetime, int]]
) -> None:
    first = ("ann", datetime(2018, 10, 5, tzinfo=UTC), 10)
    orders = [order(f"o{n}", member, at, amount) for n, (member, at, amount) in enumerate([first, *told])]
    refunds = [refund(f"r{n}", member, at, amount) for n, (member, at, amount) in enumerate(back)]
    assert_same(report(new_program(zone), orders, refunds), oracle_report(orders, refunds, ZoneInfo(zone)))


@pytest.fixture
def program(db: None) -> Program:
    return new_program()


def test_a_member_whose_first_order_is_at_midnight_of_the_first_counts_from_the_next_month(program: Program) -> None:
    orders = [
        order("o0", "old", datetime(2025, 1, 31, tzinfo=UTC)),
        order("o1", "new", datetime(2025, 2, 1, tzinfo=UTC)),
        order("o2", "new", datetime(2025, 3, 1, tzinfo=UTC)),
    ]
    tiers = report(program, orders, [])["tiers"]
    assert {month: cells["bronze"] for month, cells in tiers.items()} == {
        "2025-02-01": {"n": 1, "retained": 0},
        "2025-03-01": {"n": 2, "retained": 1},
    }
    assert list(tiers["2025-02-01"]) == ["bronze", "silver", "gold", "platinum", "diamond"]


def test_a_last_order_at_midnight_of_the_first_makes_that_month_the_last(program: Program) -> None:
    orders = [
        order("o0", "ann", datetime(2025, 1, 1, tzinfo=UTC)),
        order("o1", "ann", datetime(2025, 4, 1, tzinfo=UTC)),
    ]
    record(program, orders=orders)
    follow(program, datetime(2025, 9, 1, tzinfo=UTC))
    assert selectors.list_months(program_id=program.pk) == [date(2025, month, 1) for month in (2, 3, 4)]


def test_a_program_without_orders_has_no_figures(program: Program) -> None:
    record(program, refunds=[refund("r0", "bob", datetime(2025, 1, 1, tzinfo=UTC))])
    follow(program, datetime(2025, 9, 1, tzinfo=UTC))
    found = selectors.get_report(program_id=program.pk)
    assert (found["members"], found["orders"], found["tiers"], found["cohorts"]) == (0, 0, {}, {})
    assert found["repurchase"] == {"members_2plus_orders": 0, "mean_days_between_orders": None}
    assert found["day_n"]["30"] == {"within_incl_day0": 0, "within_excl_day0": 0, "on_or_after": 0}


def test_gaps_are_pooled_to_the_microsecond(program: Program) -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    instants = [start, start + timedelta(microseconds=1), start + DAY]
    record(program, orders=[order(f"o{n}", "ann", at) for n, at in enumerate(instants)])
    record(program, orders=[order("p0", "bob", start), order("p1", "bob", start + timedelta(microseconds=2))])
    found = selectors.get_repurchase(program_id=program.pk)
    assert found == selectors.Repurchase(2, 86_400_000_002 / (3 * 86_400_000_000))
