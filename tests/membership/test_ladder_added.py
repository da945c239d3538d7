"""A ladder that a program file adds when members are enrolled already."""

from datetime import timedelta

import pytest

import tests.flushing  # noqa: F401 these tests commit
from core.models import Program
from core.sections import Journal
from membership.fact_inputs import MemberInput
from membership.models import Ladder, TierPeriod
from membership.program_section import LadderEntry, apply_ladders
from membership.services import members, tiers
from tests.membership.tier_worlds import World, cuts, utc
from tests.membership.two_connections import overlap

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> World:
    world = World.create(cuts("100.00"))
    world.join("a")
    world.order("2026-02-10", 6_000, "a")
    return world


def add_club(world: World) -> Ladder:
    entries = [
        LadderEntry.model_validate({"code": code, "name": code, **definition}, context={"currency": "GBP"})
        for code, definition in (("main", cuts("100.00")), ("club", cuts("50.00")))
    ]
    at = world.now() + timedelta(days=1)
    apply_ladders(Journal(program=Program.objects.get(pk=world.program.pk), actor="test", at=at), entries)
    return Ladder.objects.get(program=world.program, code="club")


def rows(ladder: Ladder) -> list[tuple[str, str]]:
    live = TierPeriod.objects.filter(ladder=ladder, superseded_at=None).order_by("member_id", "valid_from")
    return list(live.values_list("tier__code", "cause"))


def test_its_evaluations_know_who_was_enrolled_before(world: World) -> None:
    club = add_club(world)
    assert rows(club) == [("t0", "enrolled")]
    assert TierPeriod.objects.get(ladder=club).valid_from == utc("2026-02-01")
    tiers.evaluate(ladder=club, instant=utc("2026-03-01"), at=world.now())
    assert rows(club) == [("t0", "enrolled"), ("t1", "upgraded")]


def test_who_enrolls_meanwhile_is_on_the_new_ladder(world: World) -> None:
    ben = [MemberInput(external_id="ben", joined_at=utc("2026-01-01"))]
    eve = [MemberInput(external_id="eve", joined_at=utc("2026-01-01"))]
    enroll = members.enroll_members
    assert overlap(lambda: enroll(program=world.program, members=ben, at=world.now()), lambda: add_club(world))
    club = Ladder.objects.get(code="club")
    assert len(rows(club)) == 2
    enroll(program=world.program, members=eve, at=world.now())
    assert len(rows(club)) == 3
