from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from core import versions
from core.models import Program
from membership.models import Ladder, Member, TierPeriod
from membership.services.facts import BadFact
from membership.services.members import MemberInput, enroll_members
from tests.membership.conftest import THREE_TIERS

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
ADA = MemberInput(
    external_id="ada", joined_at=NOW, locale="en-GB", country="GB", birthday=date(1990, 2, 28), consents={"mail": True}
)


def test_keeps_a_member_as_told(program: Program) -> None:
    enrolled = enroll_members(program=program, members=[ADA], at=NOW + timedelta(hours=1))
    member = Member.objects.get()
    assert (enrolled.ids, enrolled.new_ids) == ({"ada": member.pk}, [member.pk])
    assert (member.kind, member.status, member.locale, member.country) == ("person", "active", "en-GB", "GB")
    assert (member.birthday, member.consents) == (date(1990, 2, 28), {"mail": True})
    assert (member.joined_at, member.recorded_at) == (NOW, NOW + timedelta(hours=1))


def test_begins_in_the_lowest_tier_when_joining(program: Program, ladder: Ladder) -> None:
    enroll_members(program=program, members=[ADA], at=NOW + timedelta(days=3))
    period = TierPeriod.objects.get()
    assert (period.member.external_id, period.ladder, period.tier.code) == ("ada", ladder, "bronze")
    assert (period.valid_from, period.recorded_at) == (NOW, NOW + timedelta(days=3))
    assert (period.cause, period.version, period.evidence) == ("enrolled", ladder.versions.get(), {})
    assert (period.superseded_at, period.guaranteed_until) == (None, None)


def test_the_version_is_the_one_in_force_when_joining(program: Program, ladder: Ladder) -> None:
    versions.publish(ladder, THREE_TIERS, at=NOW + timedelta(days=1))
    later = MemberInput(external_id="ben", joined_at=NOW + timedelta(days=1))
    enroll_members(program=program, members=[ADA, later], at=NOW + timedelta(days=2))
    assert dict(TierPeriod.objects.values_list("member__external_id", "version__number")) == {"ada": 1, "ben": 2}


def test_a_ladder_without_a_version_gives_no_tier(program: Program) -> None:
    Ladder.objects.create(program=program, code="draft", name="Draft")
    enroll_members(program=program, members=[ADA], at=NOW)
    assert not TierPeriod.objects.exists()


def test_whoever_is_enrolled_stays_as_they_are(program: Program, ladder: Ladder) -> None:
    first = enroll_members(program=program, members=[ADA], at=NOW)
    other = MemberInput(external_id="ada", joined_at=NOW - timedelta(days=9), country="FR")
    ben = MemberInput(external_id="ben", joined_at=NOW)
    second = enroll_members(program=program, members=[ben, other, ben], at=NOW)
    assert second.ids["ada"] == first.ids["ada"]
    assert second.new_ids == [second.ids["ben"]]
    assert Member.objects.get(external_id="ada").country == "GB"
    assert TierPeriod.objects.count() == 2


def test_the_same_id_in_another_program_is_another_member(
    program: Program, make_program: Callable[..., Program]
) -> None:
    one = enroll_members(program=program, members=[ADA], at=NOW)
    two = enroll_members(program=make_program(code="other"), members=[ADA], at=NOW)
    assert one.ids != two.ids


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (MemberInput(external_id="", joined_at=NOW), "external_id"),
        (MemberInput(external_id="x", joined_at=NOW.replace(tzinfo=None)), "joined_at"),
        (MemberInput(external_id="x", joined_at=NOW, kind="robot"), "kind"),
        (MemberInput(external_id="x", joined_at=NOW, country="GBR"), "country"),
    ],
)
def test_a_bad_member_is_named_and_nobody_is_enrolled(program: Program, bad: MemberInput, field: str) -> None:
    with pytest.raises(BadFact) as refusal:
        enroll_members(program=program, members=[ADA, bad], at=NOW)
    assert refusal.value.field == field
    assert not Member.objects.exists()


def test_nobody_told_is_nobody_enrolled(program: Program) -> None:
    assert enroll_members(program=program, members=[], at=NOW).ids == {}
