"""Overrides beside intakes, beside each other and beside an evaluation, with controls that show what goes wrong."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

import tests.flushing  # noqa: F401 these tests commit
from core import locks as core_locks
from membership import locks
from membership.models import TierOverride, TierPeriod
from membership.services import evaluations, overrides
from membership.services.tiers import apply_dirty
from tests.membership.override_worlds import ClockedWorld
from tests.membership.tier_worlds import cuts, utc
from tests.membership.two_connections import overlap

pytestmark = pytest.mark.django_db(transaction=True)

UNTIL = "2026-03-15"


@pytest.fixture
def world() -> ClockedWorld:
    world = ClockedWorld.create(cuts("100.00", "300.00", upgrade="immediate"))
    world.join()
    world.order("2026-02-05", 1)
    world.go("2026-02-10")
    return world


def test_an_intake_beside_an_override_waits_and_sees_it(world: ClockedWorld) -> None:
    assert overlap(lambda: world.override("t2", UNTIL), lambda: world.order("2026-02-11", 10_000))
    assert [row[1:] for row in world.rows()[1:]] == [("t2", "overridden")]
    end(world)
    assert world.rows()[-1] == (UNTIL, "t1", "restored")


def test_an_override_beside_an_intake_waits_and_sees_its_fact(world: ClockedWorld) -> None:
    def told_then_overridden() -> None:
        world.override("t0", UNTIL, at=utc("2026-02-12"))

    assert overlap(lambda: world.order("2026-02-11", 10_000), told_then_overridden)
    assert [row[1:] for row in world.rows()[1:]] == [("t1", "upgraded"), ("t0", "overridden")]


def test_control_without_the_members_lock_an_upgrade_breaks_through(
    world: ClockedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "lock_members", sorted)
    assert not overlap(lambda: world.override("t2", UNTIL), lambda: world.order("2026-02-11", 10_000))
    assert [row[1:] for row in world.rows()[1:]] == [("t2", "overridden"), ("t1", "upgraded")]


def decide(world: ClockedWorld, tier: str, at: str) -> Callable[[], Any]:
    return partial(world.override, tier, UNTIL, at=utc(at))


def test_of_two_overrides_the_later_one_ends_the_other(world: ClockedWorld) -> None:
    assert overlap(decide(world, "t1", "2026-02-11"), decide(world, "t2", "2026-02-12"))
    assert [row[1:] for row in world.rows()[1:]] == [("t1", "overridden"), ("t2", "overridden")]
    assert [row.lifted_at for row in TierOverride.objects.order_by("valid_from")] == [utc("2026-02-12"), None]


def test_the_earlier_of_two_overrides_is_refused_if_it_comes_last(world: ClockedWorld) -> None:
    def too_late() -> None:
        with pytest.raises(overrides.OverrideConflict):
            decide(world, "t1", "2026-02-11")()

    assert overlap(decide(world, "t2", "2026-02-12"), too_late)
    assert [row[1:] for row in world.rows()[1:]] == [("t2", "overridden")]


def test_control_without_locks_two_overrides_are_in_force(world: ClockedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "lock_members", sorted)
    monkeypatch.setattr(core_locks, "lock_row", lambda row: row)
    assert not overlap(decide(world, "t1", "2026-02-11"), decide(world, "t2", "2026-02-12"))
    assert list(TierOverride.objects.values_list("lifted_at", flat=True)) == [None, None]


def test_two_lifts_end_one_override_once(world: ClockedWorld) -> None:
    world.override("t2", UNTIL)

    def lift_again() -> None:
        with pytest.raises(overrides.NoOverride):
            world.lift()

    assert overlap(world.lift, lift_again)
    assert TierPeriod.objects.filter(cause="restored").count() == 1


def test_an_override_taken_and_lifted_beside_an_open_evaluation_misses_nothing() -> None:
    world = ClockedWorld.create(cuts("100.00", window={"calendar": "month"}))
    world.join()
    world.order("2026-02-10", 10_000)
    world.go("2026-03-01T00:05")
    world.ladder.refresh_from_db()
    begun = evaluations.begin(ladder=world.ladder, instant=utc("2026-03-01"), at=world.now())
    world.override("t0", UNTIL)
    world.go(world.moment + timedelta(minutes=1))
    world.lift()
    assert [row[1:] for row in world.rows()[1:]] == [("t1", "upgraded"), ("t0", "overridden"), ("t1", "restored")]
    before = world.full_rows()
    assert evaluations.run_chunk(evaluation_id=begun.pk, at=world.now())
    assert evaluations.finish(evaluation_id=begun.pk, at=world.now())
    assert world.full_rows() == before


def test_a_chunk_locks_the_overridden_before_it_writes_anything(world: ClockedWorld) -> None:
    world.override("t2", UNTIL)
    world.go("2026-03-01")
    world.ladder.refresh_from_db()
    begun = evaluations.begin(ladder=world.ladder, instant=utc("2026-03-01"), at=world.now())
    with CaptureQueriesContext(connection) as queries:
        evaluations.run_chunk(evaluation_id=begun.pk, at=world.now())
    statements = [query["sql"] for query in queries]
    lock = next(i for i, text in enumerate(statements) if text.endswith("FOR NO KEY UPDATE") and "_member" in text)
    insert = next(i for i, text in enumerate(statements) if "INSERT INTO membership_tierperiod" in text)
    assert lock < insert


def test_a_decision_locks_the_ladder_and_the_member_before_it_reads(world: ClockedWorld) -> None:
    with CaptureQueriesContext(connection) as queries:
        world.override("t2", UNTIL)
    statements = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    locked = [i for i, text in enumerate(statements) if text.endswith("FOR NO KEY UPDATE")]
    tables = [statements[i].partition("FROM ")[2].split()[0].strip('"') for i in locked]
    reads = [i for i, text in enumerate(statements) if "membership_tieroverride" in text or "_tierperiod" in text]
    assert tables == ["membership_ladder", "membership_member"]
    assert max(locked) < min(reads)


def end(world: ClockedWorld) -> None:
    world.go("2026-03-16")
    apply_dirty(ladder=world.ladder, at=world.now())


def test_two_workers_end_an_override_once(world: ClockedWorld) -> None:
    world.override("t2", UNTIL)
    overlap(partial(apply_under_way, world), partial(end, world))
    assert TierPeriod.objects.filter(cause="restored").count() == 1


def apply_under_way(world: ClockedWorld) -> None:
    world.go("2026-03-16")
    overrides.end_overrides(ladder=world.ladder, at=world.now())
