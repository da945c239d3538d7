"""Overrides: the tier is held until the end, nothing moves it meanwhile, and nothing of it is left afterwards."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from core.models import AuditEntry, OutboxEvent
from membership.models import DirtyMember, TierOverride, TierPeriod
from membership.selectors import list_periods, tiers_at
from membership.services import overrides, tiers
from tests.membership.override_worlds import ClockedWorld
from tests.membership.tier_worlds import cuts, utc

pytestmark = pytest.mark.django_db

MONTH = {"calendar": "month"}


def world_of(*amounts: str, **policies: Any) -> ClockedWorld:
    world = ClockedWorld.create(cuts(*amounts, **policies))
    world.join(at="2026-01-05")
    return world


def close(world: ClockedWorld, at: str) -> None:
    """Do what the closes do for tiers, all that are due at an instant."""
    apply_late(world, at)
    world.evaluate(*tiers.list_due(ladder=world.ladder, until=world.moment))


def apply_late(world: ClockedWorld, at: str) -> None:
    """Do the first step of a close alone."""
    world.go(at)
    world.ladder.refresh_from_db()
    tiers.apply_dirty(ladder=world.ladder, at=world.now())


def test_the_tier_is_held_until_the_end_and_then_what_the_facts_give() -> None:
    world = world_of("100.00", "300.00")
    world.go("2026-02-10")
    override = world.override("t2", "2026-03-10T15:00", at=utc("2026-02-10T12:00"))
    assert (override.valid_from, override.recorded_at, override.lifted_at) == (utc("2026-02-10T12:00"),) * 2 + (None,)
    world.order("2026-02-20", 10_000)
    close(world, "2026-03-01T00:05")
    assert world.rows()[1:] == [("2026-02-10T12:00", "t2", "overridden")]
    close(world, "2026-03-11T00:05")
    assert world.rows()[1:] == [("2026-02-10T12:00", "t2", "overridden"), ("2026-03-10T15:00", "t1", "restored")]
    assert world.held("2026-03-10T14:59:59")[0] == "t2"
    row = TierPeriod.objects.get(cause="overridden")
    assert (row.guaranteed_until, row.evidence) == (utc("2026-03-10T15:00"), {})


@pytest.mark.parametrize("upgrade", ["immediate", "at_evaluation"])
def test_neither_upgrades_nor_evaluations_move_who_is_overridden(upgrade: str) -> None:
    world = world_of("100.00", "300.00", upgrade=upgrade, window=MONTH)
    world.go("2026-02-10")
    world.override("t1", "2026-05-10")
    world.order("2026-02-20", 90_000)
    close(world, "2026-03-01T00:05")
    close(world, "2026-04-01T00:05")
    assert [row[1:] for row in world.rows()[1:]] == [("t1", "overridden")]
    close(world, "2026-05-11")
    assert world.rows()[-1] == ("2026-05-10", "t0", "restored")


def test_a_lowered_member_is_back_where_the_facts_lead() -> None:
    world = world_of("100.00", upgrade="immediate", downgrade={"when": "never"})
    world.go("2026-02-10")
    world.order("2026-02-10", 10_000)
    world.override("t0", "2026-02-20")
    world.go("2026-02-21")
    assert overrides.end_overrides(ladder=world.ladder, at=world.now()) == 1
    assert overrides.end_overrides(ladder=world.ladder, at=world.now()) == 0
    assert [row[1:] for row in world.rows()[1:]] == [("t1", "upgraded"), ("t0", "overridden"), ("t1", "restored")]


def test_a_grace_that_ran_under_the_override_goes_on_after_it() -> None:
    world = world_of("100.00", window=MONTH, downgrade={"when": "after_grace", "grace_days": 60})
    world.go("2026-01-10")
    world.order("2026-01-10", 10_000)
    close(world, "2026-02-01T00:05")
    world.override("t0", "2026-03-15")
    close(world, "2026-03-01T00:05")
    close(world, "2026-03-16")
    assert world.rows()[-1] == ("2026-03-15", "t1", "stayed")
    assert world.held("2026-03-15") == ("t1", utc("2026-04-30"))
    close(world, "2026-05-01T00:05")
    assert world.rows()[-1] == ("2026-05-01", "t0", "downgraded")


def test_three_late_closes_equal_three_punctual_ones() -> None:
    def run(punctual: bool, *, at_once: bool = False) -> list[Any]:
        world = world_of("100.00", "300.00", window=MONTH, evaluation={"every": "day"}, upgrade="immediate")
        world.go("2026-02-01")
        world.order("2026-02-01", 10_000)
        world.go("2026-02-27T10:00")
        world.override("t2", "2026-03-02T10:00", at=utc("2026-02-27T10:00"))
        days = ["2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02", "2026-03-03"]
        for day in days if punctual else ():
            if at_once and day == "2026-03-03":
                overrides.end_overrides(ladder=world.ladder, at=utc("2026-03-02T10:05"))
            close(world, day + "T00:05")
        if at_once and not punctual:
            overrides.end_overrides(ladder=world.ladder, at=utc("2026-03-02T10:05"))
        close(world, "2026-03-03T12:00")
        return world.full_rows()

    late = run(punctual=False)
    assert late == run(punctual=True)
    # Nor does it matter whether the end was noticed before the close.
    assert late == run(punctual=True, at_once=True)
    assert late == run(punctual=False, at_once=True)
    assert late[-1][0] == utc("2026-03-02T10:00")


def test_an_order_after_the_end_sees_the_tier_of_after_it_whenever_a_job_runs() -> None:
    world = world_of("100.00")
    world.go("2026-02-10")
    world.override("t1", "2026-02-20")
    world.go("2026-02-21")
    world.order("2026-02-21", 1_000)
    assert world.rows()[-1] == ("2026-02-20", "t0", "restored")


def test_a_late_fact_rewrites_what_comes_after_the_override_and_not_the_override() -> None:
    world = world_of("100.00", "300.00")
    world.go("2026-02-10")
    override = world.override("t2", "2026-02-20")
    apply_late(world, "2026-02-21")
    close(world, "2026-03-01T00:05")
    known_before = world.now()
    assert world.rows()[2:] == [("2026-02-20", "t0", "restored")]
    for day in ("2026-02-15", "2026-01-10"):
        world.order(day, 5_000)
    assert DirtyMember.objects.get().since == utc("2026-01-10")
    close(world, "2026-03-02")
    assert world.rows()[2:] == [("2026-02-20", "t0", "restored"), ("2026-03-01", "t1", "upgraded")]
    assert [row[2] for row in world.rows()[:2]] == ["enrolled", "overridden"]
    override.refresh_from_db()
    assert override.lifted_at is None
    world.ladder.refresh_from_db()
    recomputed = tiers.recompute(
        ladder=world.ladder, member_ids=[world.ids["m"]], since=utc("2026-01-01"), at=world.now()
    )
    assert recomputed == 0

    def held(at: str, known: bool) -> str:
        known_at = known_before if known else None
        return tiers_at(ladder_id=world.ladder.pk, at=utc(at), known_at=known_at).get().tier.code

    assert (held("2026-03-01", True), held("2026-03-01", False)) == ("t0", "t1")
    assert held("2026-02-15", True) == held("2026-02-15", False) == "t2"


def test_before_its_recording_nobody_knew_of_an_override() -> None:
    world = world_of("100.00")
    world.go("2026-02-10")
    before = world.now()
    override = world.override("t1", "2026-02-20")
    found = tiers_at(ladder_id=world.ladder.pk, at=override.valid_from, known_at=before).get()
    assert found.tier.code == "t0"
    known = list_periods(member_id=world.ids["m"], ladder_id=world.ladder.pk, known_at=override.recorded_at)
    assert [row.tier.code for row in known] == ["t0", "t1"]


def test_lifting_ends_it_at_once() -> None:
    world = world_of("100.00")
    world.go("2026-02-10")
    world.override("t1", "2026-05-01")
    world.go("2026-02-20")
    lifted = world.lift()
    assert [row[1:] for row in world.rows()[1:]] == [("t1", "overridden"), ("t0", "restored")]
    assert lifted.lifted_at == world.moment == TierPeriod.objects.get(cause="restored").valid_from
    with pytest.raises(overrides.NoOverride):
        world.lift()
    close(world, "2026-05-02")
    assert len(world.rows()) == 3


def test_a_new_override_ends_the_one_in_force() -> None:
    world = world_of("100.00", "300.00")
    world.go("2026-02-10")
    first = world.override("t1", "2026-05-01")
    world.go("2026-02-20")
    second = world.override("t2", "2026-03-05")
    first.refresh_from_db()
    assert first.lifted_at == second.valid_from
    close(world, "2026-06-01")
    assert [row[1:] for row in world.rows()[1:]] == [("t1", "overridden"), ("t2", "overridden"), ("t0", "restored")]
    assert world.rows()[-1][0] == "2026-03-05"


def test_an_evaluation_that_is_late_finds_the_override_made_since() -> None:
    world = world_of("100.00", window=MONTH)
    world.go("2026-01-10")
    world.order("2026-01-10", 10_000)
    world.go("2026-02-03")
    world.override("t0", "2026-02-04")
    apply_late(world, "2026-02-05")
    assert world.rows()[-1] == ("2026-02-04", "t0", "restored")
    close(world, "2026-02-06")
    assert [row[1:] for row in world.rows()[1:]] == [("t1", "upgraded"), ("t0", "overridden"), ("t1", "restored")]


def test_an_upgrade_under_an_override_is_undone_as_any_other() -> None:
    world = world_of("100.00", upgrade="immediate", downgrade={"when": "never"})
    world.go("2026-02-10")
    world.override("t0", "2026-02-20")
    order = world.order("2026-02-12", 10_000)
    close(world, "2026-02-21")
    assert world.rows()[-1][1:] == ("t1", "restored")
    world.refund("2026-02-22", 10_000, order=order)
    close(world, "2026-03-01T00:05")
    assert world.rows()[-1] == ("2026-02-23", "t0", "corrected")


def test_the_decision_is_in_the_audit_trail_and_told_upward() -> None:
    world = world_of("100.00")
    world.go("2026-02-10")
    OutboxEvent.objects.all().delete()
    override = world.override("t1", "2026-02-20")
    told = OutboxEvent.objects.get()
    assert (told.topic, told.payload["members"]) == ("membership.tiers_moved", {"2026-02-01": [world.ids["m"]]})
    world.lift()
    placed, lifted = AuditEntry.objects.order_by("pk")
    assert (placed.action, placed.target, placed.actor) == ("tier.overridden", "member m", "ops")
    assert (placed.reason, placed.before, placed.recorded_at) == (
        "a complaint",
        {"ladder": "main", "tier": "t0"},
        override.recorded_at,
    )
    assert placed.after == {"ladder": "main", "tier": "t1", "valid_until": "2026-02-20T00:00:00+00:00"}
    assert (lifted.action, lifted.reason, lifted.after) == ("tier.override_lifted", "settled", {"ladder": "main"})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "in the past": ({"valid_until": utc("2026-02-10")}, "invalid_value"),
    "without end": ({"valid_until": utc("2100-01-01")}, "invalid_value"),
    "no reason": ({"reason": "  "}, "invalid_value"),
    "long reason": ({"reason": "x" * 501}, "invalid_value"),
    "no text": ({"reason": "a\0b"}, "invalid_value"),
    "before joining": ({"at": utc("2026-01-05")}, "tier_not_open"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_and_writes_nothing(name: str) -> None:
    world = world_of("100.00")
    changes, code = REFUSED[name]
    asked: dict[str, Any] = {"valid_until": utc("2026-02-20"), "reason": "r", "at": utc("2026-02-10")} | changes
    with pytest.raises(overrides.BadOverride) as refusal:
        overrides.override_tier(
            member=world.member(), ladder=world.ladder, tier=world.tier("t1"), decided_by="ops", **asked
        )
    assert refusal.value.code == code
    assert (len(world.rows()), TierOverride.objects.count(), AuditEntry.objects.count()) == (1, 0, 0)


def test_a_tier_of_another_ladder_is_refused() -> None:
    world, other = world_of("100.00"), world_of("100.00")
    with pytest.raises(overrides.BadOverride) as refusal:
        overrides.override_tier(
            member=world.member(), ladder=world.ladder, tier=other.tier("t1"), reason="r", decided_by="ops",
            valid_until=utc("2026-02-20"), at=utc("2026-02-10"),
        )  # fmt: skip
    assert refusal.value.code == "unknown_tier"
    assert not TierOverride.objects.exists()


def test_a_decision_that_comes_after_a_later_one_is_refused() -> None:
    world = world_of("100.00", "300.00")
    world.go("2026-02-10")
    late = world.now()
    world.go("2026-02-11")
    world.override("t1", "2026-02-20")
    with pytest.raises(overrides.OverrideConflict):
        world.override("t2", "2026-03-20", at=late)
    world.lift()
    with pytest.raises(overrides.OverrideConflict):
        world.override("t2", "2026-03-20", at=world.moment - timedelta(microseconds=1))
    assert TierOverride.objects.count() == 1


@pytest.mark.parametrize(
    "change",
    [{"reason": "another"}, {"valid_until": utc("2031-01-01")}, {"lifted_at": utc("2026-02-12"), "reason": "another"}],
    ids="+".join,
)
def test_the_database_keeps_what_was_decided(change: dict[str, Any]) -> None:
    world = world_of("100.00")
    world.go("2026-02-10")
    world.override("t1", "2026-02-20")
    with pytest.raises(IntegrityError, match="only lifted_at"), transaction.atomic():
        TierOverride.objects.update(**change)
    with pytest.raises(IntegrityError, match="refused"), transaction.atomic():
        TierOverride.objects.all()._raw_delete("default")
    TierOverride.objects.update(lifted_at=utc("2026-02-12"))
    with pytest.raises(IntegrityError, match="only lifted_at"), transaction.atomic():
        TierOverride.objects.update(lifted_at=utc("2026-02-13"))
