"""A tier that returned orders gave, and that nothing but a guarantee keeps, ends with the close of the day."""

from typing import Any

import pytest

from membership.models import DirtyMember, TierPeriod
from membership.selectors import tier_held
from membership.services import tiers
from tests.membership.override_worlds import ClockedWorld
from tests.membership.tier_worlds import YEAR_OF_DAYS, World, cuts, utc

pytestmark = pytest.mark.django_db

DAILY = {"evaluation": {"every": "day"}}
YEARLY = {"evaluation": {"every": "year"}}
NEVER = {"downgrade": {"when": "never"}}
STAY = {"minimum_stay_days": 365}
# The guarantees that alone may keep a tier; each with the schedule that makes it one.
GUARANTEES: dict[str, dict[str, Any]] = {
    "minimum stay, daily": STAY | DAILY,
    "minimum stay, monthly": STAY,
    "never, daily": NEVER | DAILY,
    "never, monthly": NEVER,
    "yearly": YEARLY,
}


def days(first: int, last: int) -> list[str]:
    return [f"2026-02-{day:02}" for day in range(first, last + 1)]


def world_of(*amounts: str, **policies: Any) -> World:
    world = World.create(cuts(*amounts, **{"upgrade": "immediate"} | policies))
    world.join()
    return world


@pytest.mark.parametrize("upgrade", ["immediate", "at_evaluation"])
@pytest.mark.parametrize("name", GUARANTEES)
def test_it_ends_with_the_close_of_the_day_however_late_the_return(name: str, upgrade: str) -> None:
    world = World.create(cuts("100.00", upgrade=upgrade, **GUARANTEES[name]))
    world.join(at="2025-12-29")
    order = world.order("2025-12-29T10:00", 10_000)
    world.close("2026-01-10")
    assert world.rows()[-1][1:] == ("t1", "upgraded")
    world.refund("2026-01-10T20:00", 1, order=order)
    world.close("2026-01-11", "2026-01-13", "2026-02-02")
    assert world.rows()[2:] == [("2026-01-11", "t0", "corrected")]
    assert not DirtyMember.objects.exists()


def test_without_a_guarantee_the_evaluation_decides() -> None:
    world = world_of("100.00")
    order = world.order("2026-02-10", 10_000)
    world.close("2026-03-01")
    world.refund("2026-03-05", 10_000, order=order)
    world.close("2026-03-06", "2026-03-20")
    assert world.rows()[-1][1] == "t1"
    world.close("2026-04-01")
    assert world.rows()[2:] == [("2026-04-01", "t0", "downgraded")]


def test_who_qualifies_otherwise_keeps_it_until_that_ends() -> None:
    world = world_of("100.00", window={"rolling_days": 5}, **NEVER)
    order = world.order("2026-02-10", 10_000)
    world.order("2026-02-11", 10_000)
    world.refund("2026-02-12", 10_000, order=order)
    world.close(*days(13, 17))
    # From 16 February on the window no longer has the order of 10 February, but still its refund.
    assert world.rows()[2:] == [("2026-02-16", "t0", "corrected")]


def test_a_stay_requirement_that_holds_is_no_guarantee() -> None:
    definition = cuts("100.00", upgrade="immediate", **NEVER)
    definition["tiers"][1]["stay"] = cuts("10.00")["tiers"][1]["entry"]
    world = World.create(definition)
    world.join()
    order = world.order("2026-02-10", 10_000)
    world.refund("2026-02-11", 9_000, order=order)
    world.close(*days(11, 20))
    assert [row[1] for row in world.rows()] == ["t0", "t1"]


def test_each_return_takes_what_it_gave_and_no_more() -> None:
    world = world_of("50.00", "100.00", "150.00", **NEVER)
    world.order("2026-02-02", 5_000)
    second = world.order("2026-02-03", 5_000)
    third = world.order("2026-02-04", 5_000)
    world.close("2026-02-10")
    world.refund("2026-02-10", 1, order=third)
    world.close("2026-02-12")
    world.refund("2026-02-12", 5_000, order=second)
    world.close("2026-02-20")
    assert [row[1:] for row in world.rows()] == [
        ("t0", "enrolled"), ("t1", "upgraded"), ("t2", "upgraded"), ("t3", "upgraded"),
        ("t2", "corrected"), ("t1", "corrected"),
    ]  # fmt: skip
    assert [row[0] for row in world.rows()[-2:]] == ["2026-02-11", "2026-02-13"]
    last = TierPeriod.objects.get(valid_from=utc("2026-02-13"), superseded_at=None)
    assert last.evidence == {"net_spend:rolling_365": 9_999}


def test_the_guarantee_of_what_is_left_is_kept() -> None:
    world = world_of("50.00", "100.00", **STAY)
    world.order("2026-02-02", 5_000)
    order = world.order("2026-02-20", 5_000)
    world.refund("2026-02-21", 5_000, order=order)
    world.close("2026-02-25")
    assert world.full_rows()[-1] == (utc("2026-02-22"), "t1", "corrected", utc("2027-02-02"))


def test_no_upgrade_before_a_downgrade_is_looked_at() -> None:
    world = world_of("100.00", "200.00", window={"calendar": "month"}, minimum_stay_days=10)
    order = world.order("2026-02-10", 20_000)
    world.order("2026-03-10", 10_000)
    world.close("2026-03-01", "2026-04-01")
    assert world.rows()[-1] == ("2026-04-01", "t1", "downgraded")
    world.refund("2026-04-02", 20_000, order=order)
    world.close("2026-04-10")
    assert world.rows()[-1][1:] == ("t1", "downgraded")


def test_an_immediate_ladder_gives_what_was_bought_meanwhile() -> None:
    world = world_of("50.00", "100.00", window={"rolling_days": 30}, **YEARLY)
    order = world.order("2026-02-10", 10_000)
    world.order("2026-02-12", 5_000)
    world.refund("2026-02-13", 10_000, order=order)
    world.close("2026-02-20")
    assert world.rows()[2:] == [("2026-02-14", "t1", "corrected")]


def test_a_ladder_that_upgrades_at_evaluations_gives_it_at_the_next() -> None:
    world = World.create(cuts("50.00", "100.00", window="lifetime", upgrade="at_evaluation", **YEARLY))
    world.join(at="2025-12-01")
    order = world.order("2025-12-10", 10_000)
    world.close("2026-01-01")
    world.order("2026-01-05", 5_000)
    world.refund("2026-01-06", 10_000, order=order)
    world.close("2026-01-10")
    assert world.rows()[1:] == [("2026-01-01", "t2", "upgraded"), ("2026-01-07", "t0", "corrected")]
    world.close("2027-01-01")
    assert world.rows()[-1] == ("2027-01-01", "t1", "upgraded")


def test_returned_orders_count_by_number_too() -> None:
    definition = cuts(upgrade="immediate", **NEVER)
    counts = {"metric": "order_count", "at_least": 2, "window": YEAR_OF_DAYS}
    definition["tiers"].append({"code": "t1", "name": "T1", "entry": {"any_of": [{"all_of": [counts]}]}})
    world = World.create(definition)
    world.join()
    world.order("2026-02-10", 100)
    order = world.order("2026-02-11", 100)
    world.close("2026-02-12")
    world.refund("2026-02-12T12:00", 99, order=order)
    world.close("2026-02-13")
    assert world.rows()[-1][1] == "t1"
    world.refund("2026-02-14T12:00", 1, order=order)
    world.close("2026-02-16")
    assert world.rows()[2:] == [("2026-02-15", "t0", "corrected")]


# When it is told, and what. The last one is late in every run: it is dated before closes that have been.
TOLD = [
    ("2026-02-10", "order", "2026-02-10T10:00", 10_000, "a"),
    ("2026-02-11", "order", "2026-02-11T10:00", 5_000, "b"),
    ("2026-02-12", "refund", "2026-02-12T10:00", 6_000, "a"),
    ("2026-02-16", "refund", "2026-02-14T10:00", 1, "b"),
]


@pytest.mark.parametrize("guarantee", [NEVER | DAILY, NEVER, YEARLY])
def test_late_closes_and_late_facts_equal_punctual_ones(guarantee: dict[str, Any]) -> None:
    found = []
    for closes in (days(11, 19), days(13, 19)[::3], ["2026-02-19"]):
        world = world_of("50.00", "100.00", window={"rolling_days": 6}, **guarantee)
        told = list(TOLD)
        for through in closes:
            while told and told[0][0] < through:
                _, tell, at, minor, order = told.pop(0)
                getattr(world, tell)(at, minor, **{"order_id" if tell == "order" else "order": order})
            world.close(through)
        world.close("2026-02-20")
        found.append(world.full_rows())
        ids = [world.ids["m"]]
        assert tiers.recompute(ladder=world.ladder, member_ids=ids, since=utc("2026-01-01"), at=world.now()) == 0
    assert found[0] == found[1] == found[2]
    assert "corrected" in {cause for _, _, cause, _ in found[0]}


def test_an_order_after_a_review_that_is_late_sees_its_outcome() -> None:
    world = world_of("100.00", **NEVER)
    order = world.order("2026-02-10", 10_000)
    world.close("2026-02-11")
    world.refund("2026-02-12", 1_000, order=order)
    world.order("2026-02-14T12:00", 100)
    assert world.rows()[2:] == [("2026-02-13", "t0", "corrected")]
    held = tier_held(ladder_id=world.ladder.pk, pairs=[(world.ids["m"], utc("2026-02-14T12:00"))])
    assert held == [world.ladder.tiers.get(code="t0").pk]
    world.close("2026-02-15")
    assert len(world.rows()) == 3


def test_a_late_order_gives_back_what_a_review_took() -> None:
    world = world_of("100.00", **NEVER, window={"rolling_days": 8})
    order = world.order("2026-02-10", 10_000)
    world.refund("2026-02-12", 1, order=order)
    world.close(*days(11, 14))
    assert world.rows()[2:] == [("2026-02-13", "t0", "corrected")]
    world.order("2026-02-11T10:00", 100)
    world.close("2026-02-15")
    assert [row[1] for row in world.rows()] == ["t0", "t1"]
    # From 18 February on the window no longer has the order of 10 February.
    world.close(*days(16, 20))
    assert world.rows()[2:] == [("2026-02-19", "t0", "corrected")]


def test_refunds_that_shake_no_upgrade_leave_no_mark() -> None:
    world = world_of("100.00", **NEVER)
    world.order("2026-02-10", 20_000)
    other = world.order("2026-02-11", 5_000)
    world.refund("2026-02-12", 5_000)
    assert not DirtyMember.objects.exists()
    world.refund("2026-02-12", 5_000, order=other)
    assert DirtyMember.objects.get().since == utc("2026-02-12")
    world.close("2026-02-13")
    assert not DirtyMember.objects.exists()


def test_an_upgrade_that_an_override_hid_is_undone_as_any_other() -> None:
    world = ClockedWorld.create(cuts("50.00", "100.00", upgrade="immediate", **NEVER))
    world.join()
    world.go("2026-02-10")
    world.override("t2", "2026-02-20")
    world.order("2026-02-12", 5_000)
    order = world.order("2026-02-13", 5_000)
    world.go("2026-02-25")
    world.close("2026-02-25")
    assert world.rows()[-1] == ("2026-02-20", "t2", "restored")
    world.refund("2026-02-26", 1, order=order)
    world.close("2026-03-02")
    assert world.rows()[-1] == ("2026-02-27", "t1", "corrected")
