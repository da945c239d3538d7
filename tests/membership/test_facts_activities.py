from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from core.models import OutboxEvent, Program
from membership.models import Activity, MemberDay, QualifyingCredit
from membership.services.facts import (
    ActivityInput,
    BadFact,
    CreditInput,
    FactConflict,
    record_credits,
    record_facts,
)
from membership.services.rebuild import find_day_mismatches

NOW = datetime(2026, 6, 15, 23, 30, tzinfo=UTC)  # half past midnight of the 16th in London

VISIT = ActivityInput(external_id="v1", member="ada", kind="visit", source="pos", occurred_at=NOW, quality=-3)
CREDIT = CreditInput(member="ada", source="order:7", rule="double", credits=30, effective_at=NOW)


def test_keeps_an_activity_as_told(program: Program, ada: int) -> None:
    recorded = record_facts(program=program, activities=[VISIT], at=NOW)
    kept = Activity.objects.get()
    assert (recorded.activity_ids, recorded.first_fact_at) == ([kept.pk], {ada: NOW})
    assert (kept.member_id, kept.kind, kept.source, kept.external_id) == (ada, "visit", "pos", "v1")
    assert (kept.occurred_at, kept.local_date, kept.quality) == (NOW, date(2026, 6, 16), -3)
    assert MemberDay.objects.get().activities == 1
    assert OutboxEvent.objects.get(topic="membership.facts_recorded").payload == {
        "members": {"2026-06-01": [ada]}, "orders": [], "edits": [], "refunds": [], "activities": [kept.pk],
    }  # fmt: skip


def test_an_activity_is_unique_by_member_and_source(program: Program, ada: int, ben: int) -> None:
    told = [VISIT, replace(VISIT, source="web"), replace(VISIT, member="ben"), replace(VISIT, external_id="v2")]
    assert len(record_facts(program=program, activities=told, at=NOW).activity_ids) == 4
    again = record_facts(program=program, activities=[*told, VISIT, replace(VISIT, external_id="v3")], at=NOW)
    assert (len(again.activity_ids), again.repeated) == (1, 5)
    assert find_day_mismatches(program) == []


@pytest.mark.parametrize(
    "other",
    [replace(VISIT, kind="review"), replace(VISIT, quality=None), replace(VISIT, occurred_at=NOW.replace(hour=1))],
)
def test_the_same_activity_with_other_content_is_refused(program: Program, ada: int, other: ActivityInput) -> None:
    record_facts(program=program, activities=[VISIT], at=NOW)
    with pytest.raises(FactConflict) as refusal:
        record_facts(program=program, activities=[replace(VISIT, external_id="v0"), other], at=NOW)
    assert (refusal.value.kind, refusal.value.external_id) == ("activity", "v1")
    assert Activity.objects.count() == 1


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (replace(VISIT, member=""), "member"),
        (replace(VISIT, member="eve"), "member"),
        (replace(VISIT, kind=""), "kind"),
        (replace(VISIT, quality=40_000), "quality"),
        (replace(VISIT, occurred_at=NOW.replace(tzinfo=None)), "occurred_at"),
    ],
)
def test_a_bad_activity_is_named_and_nothing_is_written(
    program: Program, ada: int, bad: ActivityInput, field: str
) -> None:
    with pytest.raises(BadFact) as refusal:
        record_facts(program=program, activities=[replace(VISIT, external_id="v0"), bad], at=NOW)
    assert (refusal.value.field, refusal.value.external_id) == (field, "v1")
    assert not Activity.objects.exists()


def test_credits_count_on_their_day_and_once(program: Program, ada: int) -> None:
    correction = replace(CREDIT, source="order:7 refund", credits=-10)
    first = record_credits(program=program, credits=[CREDIT, correction], at=NOW)
    again = record_credits(program=program, credits=[correction, CREDIT], at=NOW + timedelta(days=1))
    assert first.first_fact_at == {ada: NOW}
    assert (again.repeated, again.first_fact_at) == (2, {})
    assert list(QualifyingCredit.objects.order_by("id").values_list("source", "rule", "credits")) == [
        ("order:7", "double", 30),
        ("order:7 refund", "double", -10),
    ]
    assert list(MemberDay.objects.values_list("day", "credits")) == [(date(2026, 6, 16), 20)]
    assert OutboxEvent.objects.filter(topic="membership.facts_recorded").count() == 1
    assert find_day_mismatches(program) == []


def test_other_credits_under_the_same_key_are_refused(program: Program, ada: int) -> None:
    record_credits(program=program, credits=[CREDIT], at=NOW)
    for other in (replace(CREDIT, credits=31), replace(CREDIT, effective_at=NOW + timedelta(seconds=1))):
        with pytest.raises(FactConflict) as refusal:
            record_credits(program=program, credits=[replace(CREDIT, rule="another"), other], at=NOW)
        assert (refusal.value.kind, refusal.value.external_id) == ("credit", "order:7 double")
    assert QualifyingCredit.objects.get().credits == 30
    assert MemberDay.objects.get().credits == 30


def test_credits_of_a_stranger_are_refused(program: Program) -> None:
    with pytest.raises(BadFact) as refusal:
        record_credits(program=program, credits=[CREDIT], at=NOW)
    assert refusal.value.field == "member"
    assert not QualifyingCredit.objects.exists()


@pytest.mark.parametrize("together", [True, False])
def test_credits_that_a_day_cannot_hold_are_refused(program: Program, ada: int, together: bool) -> None:
    most = [replace(CREDIT, rule=rule, credits=2**31 - 1) for rule in ("one", "two")]
    if not together:
        record_credits(program=program, credits=[most.pop()], at=NOW)
    with pytest.raises(BadFact) as refusal:
        record_credits(program=program, credits=most, at=NOW)
    assert (refusal.value.field, refusal.value.external_id) == ("credits", "ada")
    assert QualifyingCredit.objects.count() == (0 if together else 1)
    assert find_day_mismatches(program) == []
