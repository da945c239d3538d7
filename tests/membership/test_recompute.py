"""Late facts, facts ahead of a late evaluation, both time axes, versions of their time."""

import pytest

from core.versions import publish
from membership.models import DirtyMember, TierPeriod
from membership.selectors import list_periods, tiers_at
from membership.services import evaluations, tiers
from tests.membership.tier_worlds import World, cuts, utc

pytestmark = pytest.mark.django_db


def test_a_late_fact_waits_for_the_next_close_and_rewrites_from_its_day() -> None:
    world = World.create(cuts("100.00", window={"calendar": "month"}))
    world.join(at="2026-01-05")
    world.evaluate("2026-02-01", "2026-03-01", "2026-04-01")
    world.order("2026-02-10", 10_000)
    assert DirtyMember.objects.get().since == utc("2026-02-10")
    assert world.rows()[1:] == []
    world.evaluate("2026-05-01")
    assert world.rows()[1:] == [("2026-03-01", "t1", "upgraded"), ("2026-04-01", "t0", "downgraded")]
    assert not DirtyMember.objects.exists()


def test_the_earliest_of_several_late_facts_counts() -> None:
    world = World.create(cuts("100.00"))
    world.join(at="2026-01-05")
    world.evaluate("2026-02-01", "2026-03-01")
    for day in ("2026-02-10", "2026-01-10", "2026-01-20"):
        world.order(day, 1_000)
    assert DirtyMember.objects.get().since == utc("2026-01-10")


def test_a_late_refund_supersedes_and_as_of_knows_both_axes() -> None:
    world = World.create(cuts("100.00"))
    world.join()
    world.order("2026-02-10", 10_000)
    world.evaluate("2026-03-01")
    known_before = world.now()
    world.refund("2026-02-11", 1)
    world.evaluate("2026-04-01")

    def tier(at: str, known: bool) -> str:
        known_at = known_before if known else None
        found = tiers_at(ladder_id=world.ladder.pk, at=utc(at), known_at=known_at).get()
        return found.tier.code

    assert (tier("2026-03-15", True), tier("2026-03-15", False)) == ("t1", "t0")
    assert tier("2026-02-28", True) == tier("2026-02-28", False) == "t0"
    history = list_periods(member_id=world.ids["m"], ladder_id=world.ladder.pk, known_at=known_before)
    assert [row.tier.code for row in history] == ["t0", "t1"]


def test_recomputing_again_changes_nothing() -> None:
    world = World.create(cuts("100.00", "200.00", upgrade="immediate", window={"rolling_days": 40}))
    world.join(at="2026-01-05")
    for day, minor in (("2026-01-10", 10_000), ("2026-02-10", 10_000), ("2026-02-11", 3_000), ("2026-04-10", 20_000)):
        world.order(day, minor)
    world.evaluate("2026-02-01", "2026-03-01", "2026-04-01")
    before = list(TierPeriod.objects.order_by("pk").values())
    assert len(before) > 4
    world.ladder.refresh_from_db()
    for since in ("2026-01-01", "2026-02-10", "2026-03-01", "2026-06-01"):
        members = [world.ids["m"]]
        assert tiers.recompute(ladder=world.ladder, member_ids=members, since=utc(since), at=world.now()) == 0
    assert list(TierPeriod.objects.order_by("pk").values()) == before


def test_an_order_after_a_late_evaluation_already_sees_its_outcome() -> None:
    world = World.create(cuts("100.00", window={"calendar": "month"}))
    world.join()
    world.order("2026-02-10", 10_000)
    world.order("2026-03-05", 1_000)
    assert world.rows()[1:] == [("2026-03-01", "t1", "upgraded")]
    # What is told afterwards about the time before that evaluation still counts in it.
    world.refund("2026-02-11", 1)
    assert world.rows()[1:] == []
    world.evaluate("2026-03-01")
    assert world.rows()[1:] == []


def test_a_fact_of_the_future_carries_nobody_else_along() -> None:
    world = World.create(cuts("100.00", window={"calendar": "month"}))
    world.join("a")
    world.join("b")
    world.order("2026-02-10", 10_000, "a")
    world.order("2030-01-10", 10_000, "b")
    assert world.rows("a")[1:] == []
    world.evaluate("2026-03-01", "2026-04-01")
    assert [row[1] for row in world.rows("a")] == ["t0", "t1", "t0"]


def test_each_evaluation_is_repeated_under_the_version_of_its_time() -> None:
    world = World.create(cuts("100.00", window={"calendar": "month"}))
    world.join(at="2026-01-05")
    publish(world.ladder, cuts("200.00", window={"calendar": "month"}), at=utc("2026-03-15"))
    world.evaluate("2026-02-01", "2026-03-01", "2026-04-01")
    world.order("2026-02-10", 15_000)
    world.order("2026-03-10", 15_000)
    world.evaluate("2026-05-01")
    assert world.rows()[1:] == [("2026-03-01", "t1", "upgraded"), ("2026-04-01", "t0", "downgraded")]
    versions = TierPeriod.objects.exclude(cause="enrolled").order_by("valid_from")
    assert [row.version.number for row in versions] == [1, 2]


def test_the_schedule_follows_the_versions() -> None:
    world = World.create(cuts("100.00"))
    publish(world.ladder, cuts("100.00", evaluation={"every": "year", "on": "04-06"}), at=utc("2026-02-01"))
    world.ladder.program = world.program
    due = tiers.due_evaluations(ladder=world.ladder, after=utc("2025-12-01"), until=utc("2027-12-31"))
    assert due == [utc("2026-01-01"), utc("2026-04-06"), utc("2027-04-06")]


def test_late_facts_can_be_applied_between_evaluations() -> None:
    world = World.create(cuts("100.00"))
    world.join()
    world.evaluate("2026-03-01")
    world.order("2026-02-10", 10_000)
    assert evaluations.apply_dirty(ladder=world.ladder, at=world.now()) == 1
    assert world.rows()[1:] == [("2026-03-01", "t1", "upgraded")]
    assert evaluations.apply_dirty(ladder=world.ladder, at=world.now()) == 0
