"""What is missing to the next tier and to stay, and why a tier is held."""

from datetime import date

import pytest

from membership.models import TierPeriod
from membership.selectors import Path, explain, get_path
from tests.membership.tier_worlds import World, cuts, spend, utc

pytestmark = pytest.mark.django_db


def path(world: World, at: str) -> Path:
    world.ladder.refresh_from_db()
    found = get_path(member_id=world.ids["m"], ladder=world.ladder, at=utc(at))
    assert found is not None
    return found


def test_the_path_looks_at_the_window_of_the_next_evaluation() -> None:
    world = World.create(cuts("100.00", "300.00", window={"rolling_days": 30}))
    world.join()
    world.order("2026-02-20", 10_000)
    world.evaluate("2026-03-01")
    world.order("2026-03-10", 8_800)
    found = path(world, "2026-03-15T12:00")
    assert (found.tier, found.next_evaluation_at) == ("t1", utc("2026-04-01"))
    # The window before 1 April begins on 2 March: the order of February has left it.
    (((need,),),) = (found.stay.branches,)
    assert (need.has, need.missing, need.by) == (8_800, 1_200, date(2026, 3, 31))
    assert need.describe("GBP") == "GBP 12.00 by 2026-03-31"
    assert not found.stay.holds
    assert [(step.tier, step.branches[0][0].missing) for step in found.above] == [("t2", 21_200)]


def test_with_immediate_upgrades_the_path_looks_at_the_window_of_now() -> None:
    world = World.create(cuts("100.00", window={"rolling_days": 30}, upgrade="immediate"))
    world.join()
    world.order("2026-02-20", 8_800)
    ((need,),) = path(world, "2026-03-15T12:00").above[0].branches
    # The order of 20 February is counted up to and including 21 March.
    assert (need.missing, need.by) == (1_200, date(2026, 3, 21))


def test_a_calendar_window_ends_with_its_period_and_a_lifetime_never() -> None:
    definition = cuts("100.00", "100.00", upgrade="immediate", window={"calendar": "quarter"})
    definition["tiers"][2]["entry"] = spend("3", "lifetime", "order_count")
    world = World.create(definition)
    world.join()
    world.order("2026-02-20", 8_800)
    first, second = path(world, "2026-03-15T12:00").above
    assert first.branches[0][0].by == date(2026, 3, 31)
    assert second.branches[0][0].describe("GBP") == "2 orders"


def test_the_top_needs_nothing_more_and_the_lowest_nothing_to_stay() -> None:
    world = World.create(cuts("100.00"))
    world.join()
    lowest = path(world, "2026-03-15")
    assert lowest.stay.holds
    assert lowest.stay.branches == ()
    world.order("2026-02-20", 10_000)
    world.evaluate("2026-03-01")
    assert path(world, "2026-03-15").above == ()


def test_nobody_has_a_path_before_joining() -> None:
    world = World.create(cuts("100.00"))
    world.join()
    assert get_path(member_id=world.ids["m"], ladder=world.ladder, at=utc("2019-01-01")) is None


def test_a_period_explains_itself_by_its_evidence() -> None:
    world = World.create(cuts("100.00", "300.00"))
    world.join()
    world.order("2026-02-20", 28_800)
    world.evaluate("2026-03-01")
    found = explain(period=TierPeriod.objects.get(cause="upgraded"), ladder=world.ladder)
    assert found.reached.tier == "t1"
    assert found.reached.holds
    assert found.above is not None
    assert found.above.branches[0][0].describe("GBP") == "GBP 12.00"
