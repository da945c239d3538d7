"""Upgrades that come at once, and those that their own refunds undo."""

from typing import Any

import pytest

from core.calendar import TICK
from membership.models import TierPeriod
from membership.selectors import tier_held
from tests.membership.tier_worlds import World, cuts, utc

pytestmark = pytest.mark.django_db


def at_once(*amounts: str, **policies: Any) -> World:
    world = World.create(cuts(*amounts, upgrade="immediate", **policies))
    world.join()
    return world


def test_an_upgrade_begins_one_tick_after_its_order_which_still_sees_the_tier_before() -> None:
    world = at_once("100.00")
    world.order("2026-02-10T12:00", 10_000)
    assert world.rows()[1:] == [("2026-02-10T12:00:00.000001", "t1", "upgraded")]
    ranks = {t.pk: t.code for t in world.ladder.tiers.all()}
    moments = [utc("2026-02-10T12:00"), utc("2026-02-10T12:00:00.000001"), utc("2019-01-01")]
    held = tier_held(ladder_id=world.ladder.pk, pairs=[(world.ids["m"], moment) for moment in moments])
    assert [tier_id and ranks[tier_id] for tier_id in held] == ["t0", "t1", None]
    assert TierPeriod.objects.get(cause="upgraded").evidence == {"net_spend:rolling_365": 10_000}


def test_parts_of_a_day_add_to_the_days_before() -> None:
    world = at_once("100.00", "150.00")
    world.order("2026-02-09T23:00", 4_000)
    world.order("2026-02-10T08:00", 3_000)
    world.refund("2026-02-10T09:00", 1_000)
    world.order("2026-02-10T12:00", 3_999)
    assert world.rows()[1:] == []
    world.order("2026-02-10T12:30", 1)
    world.order("2026-02-11T12:00", 5_000)
    assert [row[0][:16] for row in world.rows()[1:]] == ["2026-02-10T12:30", "2026-02-11T12:00"]


def test_an_earlier_fact_told_later_moves_the_upgrade() -> None:
    world = at_once("100.00")
    world.order("2026-02-10T12:00", 5_000)
    world.order("2026-02-12T12:00", 5_000)
    assert world.rows()[1:] == [("2026-02-12T12:00:00.000001", "t1", "upgraded")]
    world.order("2026-02-09T12:00", 5_000)
    assert world.rows()[1:] == [("2026-02-10T12:00:00.000001", "t1", "upgraded")]
    assert TierPeriod.objects.filter(superseded_at__isnull=False).count() == 1


def test_an_order_at_midnight_upgrades_after_the_evaluation_at_that_instant() -> None:
    world = at_once("100.00", window={"calendar": "month"})
    world.order("2026-02-10", 10_000)
    world.order("2026-04-01T00:00", 10_000)
    world.evaluate("2026-03-01", "2026-04-01")
    assert world.rows()[2:] == [
        ("2026-04-01", "t0", "downgraded"),
        ("2026-04-01T00:00:00.000001", "t1", "upgraded"),
    ]


# Each policy that keeps a tier for a time, and when one is undone whose order comes back on 20 February: at the next
# close of a local day, but at the evaluation where it would only be the evaluation that gives a grace.
PROTECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"downgrade": {"when": "never"}}, "2026-02-21"),
    ({"downgrade": {"when": "after_grace", "grace_days": 90}}, "2026-03-01"),
    ({"minimum_stay_days": 90}, "2026-02-21"),
    ({"downgrade": {"to": "one_tier"}}, "2026-03-01"),
]


@pytest.mark.parametrize(("policies", "undone_at"), PROTECTIONS)
def test_an_upgrade_is_undone_when_its_own_order_came_back(policies: dict[str, Any], undone_at: str) -> None:
    world = at_once("100.00", **policies)
    order = world.order("2026-02-10T12:00", 10_000)
    world.refund("2026-02-20", 1, order=order)
    world.evaluate("2026-03-01")
    assert world.rows()[2:] == [(undone_at, "t0", "corrected")]


@pytest.mark.parametrize("policies", [policies for policies, _ in PROTECTIONS[:3]])
def test_a_refund_of_nothing_in_the_evidence_undoes_nothing(policies: dict[str, Any]) -> None:
    world = at_once("100.00", **policies)
    world.order("2026-02-10T12:00", 10_000)
    later = world.order("2026-02-11T12:00", 5_000)
    world.refund("2026-02-20", 5_000, order=later)
    world.refund("2026-02-20", 9_000)
    world.evaluate("2026-03-01")
    assert all(cause != "corrected" for _, _, cause in world.rows())
    assert world.rows()[-1][1] == "t1"


def test_an_undone_upgrade_falls_to_what_the_rest_of_its_evidence_gives() -> None:
    world = at_once("50.00", "100.00", "150.00", downgrade={"when": "never"})
    world.order("2026-02-09T12:00", 6_000)
    order = world.order("2026-02-10T12:00", 9_000)
    world.refund("2026-02-20", 5_000, order=order)
    world.evaluate("2026-03-01")
    assert [row[1] for row in world.rows()] == ["t0", "t1", "t3", "t2"]
    assert world.rows()[-1][2] == "corrected"


def test_who_qualifies_at_the_evaluation_keeps_the_tier() -> None:
    world = at_once("100.00", downgrade={"when": "never"})
    order = world.order("2026-02-10T12:00", 10_000)
    world.refund("2026-02-20", 10_000, order=order)
    world.order("2026-02-20T23:59", 10_000)
    world.evaluate("2026-03-01")
    assert [row[1:] for row in world.rows()] == [("t0", "enrolled"), ("t1", "upgraded")]


def test_late_facts_undo_as_punctual_ones_do() -> None:
    world = at_once("100.00", downgrade={"when": "never"})
    world.evaluate("2026-02-01", "2026-03-01")
    order = world.order("2026-02-10T12:00", 10_000)
    world.refund("2026-02-20", 10_000, order=order)
    world.evaluate("2026-04-01")
    assert [row[1:] for row in world.rows()[1:]] == [("t1", "upgraded"), ("t0", "corrected")]
    assert world.rows()[-1][0] == "2026-02-21"


@pytest.mark.parametrize("joined_at", ["2026-02-10T12:00:00.400", "2026-02-10T12:05", "2026-02-14"])
def test_who_enrolls_after_the_order_that_qualifies_is_upgraded_at_enrollment(joined_at: str) -> None:
    world = World.create(cuts("100.00", upgrade="immediate"))
    world.join(at=joined_at)
    world.order("2026-02-10T12:00", 10_000)
    moved = utc(joined_at) + TICK
    assert world.full_rows()[1:] == [(moved, "t1", "upgraded", None)]
    held = tier_held(ladder_id=world.ladder.pk, pairs=[(world.ids["m"], utc("2026-02-10T12:00"))])
    assert held == [None]


def test_who_enrolls_at_the_instant_of_the_order_is_upgraded_after_it() -> None:
    world = World.create(cuts("100.00", upgrade="immediate"))
    world.join(at="2026-02-10T12:00")
    world.order("2026-02-10T12:00", 10_000)
    assert world.rows()[1:] == [("2026-02-10T12:00:00.000001", "t1", "upgraded")]


def test_an_order_before_enrollment_that_is_told_late_upgrades_at_enrollment() -> None:
    punctual, late = (World.create(cuts("100.00", upgrade="immediate")) for _ in range(2))
    for world in (punctual, late):
        world.join(at="2026-02-10T12:05")
    punctual.order("2026-02-10T12:00", 10_000)
    late.order("2026-02-20", 500)
    late.evaluate("2026-03-01")
    late.order("2026-02-10T12:00", 10_000)
    assert late.rows()[1:] == []
    late.evaluate("2026-04-01")
    assert late.rows() == punctual.rows()


def test_enrollment_alone_upgrades_nobody_and_at_evaluations_only_the_evaluation_does() -> None:
    world = at_once("100.00")
    world.order("2026-02-10T12:00", 10_000)
    assert [row[0] for row in world.rows()] == ["2026-02-01", "2026-02-10T12:00:00.000001"]
    world = World.create(cuts("100.00"))
    world.join(at="2026-02-10T12:05")
    world.order("2026-02-10T12:00", 10_000)
    world.evaluate("2026-03-01")
    assert world.rows()[1:] == [("2026-03-01", "t1", "upgraded")]


def test_joining_a_tick_before_an_evaluation_leaves_the_upgrade_to_it() -> None:
    world = World.create(cuts("100.00", upgrade="immediate"))
    world.join(at="2026-02-28T23:59:59.999999")
    world.order("2026-02-10", 10_000)
    world.evaluate("2026-03-01")
    assert world.rows()[1:] == [("2026-03-01", "t1", "upgraded")]
