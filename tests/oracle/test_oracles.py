"""The oracles against figures worked out by hand: what checks everything else must be right itself."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.edge_cases import BAD_KINDS, Book, write_bad_rows, write_edge_data
from tests.oracle.ledger import Account, Posting, RefusedError
from tests.oracle.local_days import day_before, day_start, local_day
from tests.oracle.replay import USD_CUTS, compute
from tests.oracle.tiers import Fact, Ladder, Requirement, Tier, tier_history

DAY = timedelta(days=1)
NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "start"),
    [
        ("UTC", date(2020, 2, 29), "2020-02-29T00:00"),
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00"),  # no midnight: the day begins at 01:00
        ("America/Sao_Paulo", date(2018, 2, 18), "2018-02-18T03:00"),  # the hour before midnight occurs twice
        ("America/Havana", date(2018, 11, 4), "2018-11-04T04:00"),  # two midnights: the first
        ("America/Havana", date(2018, 3, 11), "2018-03-11T05:00"),  # no midnight
        ("America/St_Johns", date(2006, 10, 29), "2006-10-29T02:30"),  # set back from 00:01 to 23:01 of the day before
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00"),  # a day that never was begins with the next one
        ("Pacific/Apia", date(2011, 12, 31), "2011-12-30T10:00"),
    ],
)
def test_a_local_day_begins_at_its_first_existing_instant(zone: str, day: date, start: str) -> None:
    assert day_start(day, ZoneInfo(zone)) == datetime.fromisoformat(start).replace(tzinfo=UTC)


def test_a_day_that_began_goes_on_when_the_clock_shows_the_day_before_again() -> None:
    zone = ZoneInfo("America/St_Johns")
    assert local_day(datetime(2006, 10, 29, 2, 45, tzinfo=UTC), zone) == date(2006, 10, 29)
    assert day_before(datetime(2006, 10, 29, 2, 30, tzinfo=UTC), zone) == date(2006, 10, 28)


def test_replay_of_a_few_orders(tmp_path: Path) -> None:
    book = Book()
    book.order("o1", "m1", "2019-01-31T23:59:59Z", (3, 10_099))  # 100 points, gone at 2020-02-01
    book.order("o2", "m1", "2019-02-01T00:00:00Z", (1, 4_901))
    book.order("o3", "", "2019-01-15T00:00:00Z", (1, 99_999))
    book.refund("r1", "m1", "2019-03-01T00:00:00Z", ("o1.1", 1, 3_366))
    book.refund("r2", "m1", "2020-01-31T23:59:59Z", ("o1.1", 1, 3_366))
    book.refund("r3", "m1", "2020-02-01T00:00:00Z", ("o1.1", 1, 3_366))
    book.order("o4", "m2", "2019-03-01T00:00:00Z", amount=5_000)
    book.write(tmp_path)
    figures = compute(tmp_path, cuts=USD_CUTS, as_of=["2020-02-01T00:00:00Z"])
    # o2 (49) ends at 2020-02-02, o4 (50) at 2020-03-01.
    assert figures["points"] == {
        "2020-02-01T00:00:00Z": {"earned": 199, "clawed_back": 66, "expired": 34, "outstanding": 99}
    }
    assert (figures["members"], figures["orders"], figures["guest_orders"]) == (2, 3, 1)
    none = {"n": 0, "retained": 0}
    assert figures["tiers"] == {
        "2019-02-01": {**dict.fromkeys(USD_CUTS, none), "silver": {"n": 1, "retained": 1}},
        "2019-03-01": {**dict.fromkeys(USD_CUTS, none), "gold": {"n": 1, "retained": 0}},
    }
    assert figures["tier_moves"]["2019-03-01"] == {"new": 0, "up": 1, "down": 0, "same": 0}
    assert figures["cohorts"] == {"2019-01": {"0": 1, "1": 1}, "2019-03": {"0": 1}}
    assert figures["day_n"]["1"] == {"within_incl_day0": 1, "within_excl_day0": 1, "on_or_after": 1}
    assert figures["day_n"]["7"]["on_or_after"] == 0
    assert figures["repurchase"] == {"members_2plus_orders": 1, "mean_days_between_orders": 1 / 86_400}


def test_edge_data_visits_every_tier_and_every_move(tmp_path: Path) -> None:
    write_edge_data(tmp_path)
    figures = compute(tmp_path, cuts=USD_CUTS)
    for tier in USD_CUTS:
        assert any(cells[tier]["n"] for cells in figures["tiers"].values())
    assert sum(moves["down"] for moves in figures["tier_moves"].values()) > 50
    (points,) = figures["points"].values()
    assert all(points.values())


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_each_bad_set_has_its_defect_in_an_existing_file(tmp_path: Path, kind: str) -> None:
    assert (tmp_path / write_bad_rows(tmp_path, kind).file).exists()


def moves(account: Account) -> list[tuple[str, str, str, int, int]]:
    """Return (kind, from, to, points, day)."""
    return [(p.kind, p.from_bucket, p.to_bucket, p.points, (p.effective_at - NOW).days) for p in account.postings]


def test_a_refund_of_spent_points_makes_a_debt_that_the_next_lot_repays() -> None:
    account = Account()
    account.earn("o1", NOW, [("l1", 10), ("l2", 0)], expires_at=NOW + 30 * DAY)
    account.burn("b1", NOW + DAY, 8)
    account.clawback("r1", NOW + 2 * DAY, [("l1", 2, 3), ("l2", 1, 1), ("unknown", 1, 1)])
    account.earn("o2", NOW + 3 * DAY, [("l3", 7)], expires_at=NOW + 33 * DAY)
    account.settle(NOW + 40 * DAY)
    assert moves(account) == [
        ("earn", "issued", "available", 10, 0),
        ("burn", "available", "redeemed", 8, 1),
        ("clawback", "available", "clawed_back", 2, 2),
        ("clawback", "debt", "clawed_back", 4, 2),
        ("earn", "issued", "available", 7, 3),
        ("earn", "available", "debt", 4, 3),
        ("expire", "available", "expired", 3, 33),
    ]


def test_pending_points_vest_before_they_expire_and_a_late_posting_keeps_its_day() -> None:
    account = Account()
    account.earn("o1", NOW, [("l1", 9)], available_at=NOW + 5 * DAY, expires_at=NOW + 10 * DAY)
    account.clawback("r1", NOW + 2 * DAY, [("l1", 1, 3)])
    account.earn("o2", NOW + 12 * DAY, [("l2", 4)])
    account.clawback("r2", NOW + 8 * DAY, [("l1", 1, 3)])  # late: its lot is gone by now
    assert moves(account) == [
        ("earn", "issued", "pending", 9, 0),
        ("clawback", "pending", "clawed_back", 3, 2),
        ("vest", "pending", "available", 6, 5),
        ("expire", "available", "expired", 6, 10),
        ("earn", "issued", "available", 4, 12),
    ]


def test_points_given_back_to_an_ended_lot_expire_when_they_come_back() -> None:
    account = Account()
    account.earn("o1", NOW, [("l1", 5)], expires_at=NOW + 3 * DAY)
    account.burn("b1", NOW + DAY, 5)
    account.reverse("x1", NOW + 6 * DAY, "b1")
    account.settle(NOW + 9 * DAY)
    assert moves(account)[2:] == [
        ("reverse", "redeemed", "available", 5, 6),
        ("expire", "available", "expired", 5, 6),
    ]


def test_a_refused_burn_leaves_no_trace() -> None:
    account = Account()
    account.earn("o1", NOW, [("l1", 5)], expires_at=NOW + 3 * DAY)
    with pytest.raises(RefusedError):
        account.burn("b1", NOW + 4 * DAY, 1)
    assert len(account.postings) == 1
    account.burn("b1", NOW + 2 * DAY, 5)


OPERATIONS = st.tuples(
    st.sampled_from(["earn", "burn", "clawback", "adjust", "reverse"]),
    st.integers(0, 40),  # day
    st.integers(0, 9),  # which earlier source, or delay
    st.integers(1, 30),  # points
)


@given(st.lists(OPERATIONS, max_size=25))
def test_balances_are_the_sums_of_lots_and_of_postings(operations: Sequence[tuple[str, int, int, int]]) -> None:
    account = Account()
    for number, (kind, day, other, points) in enumerate(operations):
        source, at = f"s{number}", NOW + day * DAY
        try:
            match kind:
                case "earn":
                    account.earn(source, at, [(f"s{number}", points)], at + other * DAY, at + 15 * DAY)
                case "burn":
                    account.burn(source, at, points)
                case "clawback":
                    account.clawback(source, at, [(f"s{other}", 1, 40)])
                case "adjust":
                    account.adjust(source, at, points - 15 or 1, expires_at=at + 5 * DAY)
                case _:
                    account.reverse(source, at, f"s{other}")
        except RefusedError:
            continue
        balances = account.balances
        assert balances["available"] == sum(lot.remaining for lot in account.lots if not lot.is_pending)
        assert balances["pending"] == sum(lot.remaining for lot in account.lots if lot.is_pending)
        assert balances["debt"] <= 0 <= balances["available"]
        assert 0 in (balances["debt"], balances["available"])
        for bucket, balance in balances.items():
            assert balance == flow(account.postings, bucket)


def flow(postings: Sequence[Posting], bucket: str) -> int:
    """Return what came into a bucket less what went out of it."""
    came = sum(posting.points for posting in postings if posting.to_bucket == bucket)
    return came - sum(posting.points for posting in postings if posting.from_bucket == bucket)


def spend(at_least: int, window: int = 365) -> list[list[Requirement]]:
    return [[Requirement("net_spend", at_least, window)]]


TIERS = (Tier("bronze", ()), Tier("silver", spend(50)), Tier("gold", spend(100)), Tier("platinum", spend(200)))


def history(ladder: Ladder, facts: Sequence[Fact], days: int, zone: str = "UTC") -> list[tuple[str, str, str]]:
    """Return (date and time, tier, cause) from 2024-01-01 on."""
    rows = tier_history(ladder, facts, time_zone=zone, joined_at=NOW, until=NOW + days * DAY)
    return [(row.valid_from.strftime("%m-%d %H:%M:%S.%f"), row.tier, row.cause) for row in rows]


def test_an_order_at_the_evaluation_counts_at_the_next_one() -> None:
    ladder = Ladder(TIERS, "at_evaluation", "month")
    facts = [
        Fact("order", NOW + 31 * DAY - timedelta(seconds=1), 50),
        Fact("order", NOW + 31 * DAY, 50),
        Fact("refund", NOW + 70 * DAY, 1),
    ]
    assert history(ladder, facts, 100) == [
        ("01-01 00:00:00.000000", "bronze", "enrolled"),
        ("02-01 00:00:00.000000", "silver", "upgraded"),
        ("03-01 00:00:00.000000", "gold", "upgraded"),
        ("04-01 00:00:00.000000", "silver", "downgraded"),
    ]


def test_an_immediate_upgrade_starts_a_tick_after_its_order_and_grace_runs_once() -> None:
    ladder = Ladder(TIERS, "immediate", "day", downgrade="after_grace", grace_days=3, drop_to="one_tier")
    facts = [Fact("order", NOW + 1.5 * DAY, 200), Fact("refund", NOW + 2.5 * DAY, 200)]
    assert history(ladder, facts, 12)[1:] == [
        ("01-02 12:00:00.000001", "platinum", "upgraded"),
        ("01-04 00:00:00.000000", "platinum", "stayed"),
        ("01-07 00:00:00.000000", "gold", "downgraded"),
        ("01-08 00:00:00.000000", "gold", "stayed"),
        ("01-11 00:00:00.000000", "silver", "downgraded"),
        ("01-12 00:00:00.000000", "silver", "stayed"),
    ]


def test_a_minimum_stay_outlasts_failing_evaluations() -> None:
    ladder = Ladder(TIERS, "at_evaluation", "day", minimum_stay_days=5)
    facts = [Fact("order", NOW, 100), Fact("refund", NOW + 1.5 * DAY, 100)]
    assert history(ladder, facts, 10)[1:] == [
        ("01-02 00:00:00.000000", "gold", "upgraded"),
        ("01-07 00:00:00.000000", "bronze", "downgraded"),
    ]


@pytest.mark.parametrize(
    ("requirement", "reached"),
    [
        (Requirement("order_count", 3, "lifetime"), "01-06"),
        (Requirement("order_count", 2, 2), "01-05"),  # the window slides with the days
        (Requirement("active_days", 3, 4), "01-05"),
        (Requirement("credits", 7, "year"), "01-04"),
        (Requirement("net_spend", 25, "month"), "01-05"),
    ],
)
def test_each_metric_and_window(requirement: Requirement, reached: str) -> None:
    ladder = Ladder((Tier("low", ()), Tier("high", [[requirement]])), "at_evaluation", "day")
    half_days = [0.5, 3.25, 3.5, 4.5]
    facts = [Fact("order", NOW + day * DAY, 10) for day in half_days]
    facts[0] = facts[0]._replace(returned_at=NOW + 1.5 * DAY)
    facts += [Fact("credit", NOW + 2.5 * DAY, 7), Fact("visit", NOW + 2.5 * DAY), Fact("refund", NOW + DAY, 5)]
    assert history(ladder, facts, 20)[1][0][:5] == reached


def test_evaluation_in_a_zone_without_that_midnight() -> None:
    ladder = Ladder(TIERS, "at_evaluation", "year", on="11-04")
    joined = datetime(2018, 6, 1, tzinfo=UTC)
    rows = tier_history(
        ladder,
        [Fact("order", datetime(2018, 11, 4, 2, 59, 59, tzinfo=UTC), 50)],
        time_zone="America/Sao_Paulo",
        joined_at=joined,
        until=joined + 200 * DAY,
    )
    assert rows[-1].valid_from == datetime(2018, 11, 4, 3, tzinfo=UTC)
