"""Facts that were told wrong and are corrected: everything is as if they had been told right."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from core.models import AuditEntry, Event, Program
from core.services import outbox
from membership.fact_inputs import ActivityInput, BadFact, FactConflict, MemberInput
from membership.models import Activity, FactCorrection, Ladder, MemberDay, TierPeriod
from membership.services.fact_corrections import ActivityCorrection, UnknownFact, correct_activity
from membership.services.members import enroll_members
from membership.services.rebuild import find_day_mismatches
from membership.services.tiers import apply_dirty, evaluate, list_due
from membership.stories import find_story, list_facts_that_decided
from points.models import AccrualCorrection
from points.services import corrections
from points.services.verify import verify
from storefront.services import program_file
from tests.storefront.shop import DAY, NOW, START, balance, content, order, review, tell

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
NewProgram = Callable[..., Program]
WRONG = ActivityCorrection(member="m0", activity="a1", external_id="c1", reason="the till was wrong")
VOID = replace(WRONG, is_void=True)


def definition(code: str, policy: str, upgrade: str) -> dict[str, Any]:
    """Reviews and visits earn once a day, twice as much on silver, which three active days of sixty give."""
    entry = {"metric": "active_days", "at_least": 3, "window": {"rolling_days": 60}}
    silver = {"entry": {"any_of": [{"all_of": [entry]}]}, "benefits": {"points_multiplier": "2"}}
    activity = {"trigger": "activity", "wallet": "points", "tier_multiplier": True, "once_per_day": True}
    return {
        "program": {
            "code": code, "name": code, "currency": "GBP", "time_zone": "Europe/London", "corrections": policy,
            "start_date": "2025-12-01",
        },
        "ladders": [{
            "code": "main", "name": "Tiers", "upgrade": upgrade, "evaluation": {"every": "month"},
            "tiers": [{"code": "basic", "name": "Basic"}, {"code": "silver", "name": "Silver"} | silver],
        }],
        "wallets": [{"code": "points", "name": "Points"}],
        "earn_rules": [
            {"code": "spend", "name": "Spend", "wallet": "points", "trigger": "order_line",
             "formula": {"points": 1, "per": "1.00"}, "tier_multiplier": True},
            {"code": "review", "name": "Reviews", "activity_kinds": ["review"], "formula": {"fixed": 5}} | activity,
            {"code": "visit", "name": "Visits", "activity_kinds": ["visit"], "formula": {"fixed": 3}} | activity,
        ],
    }  # fmt: skip


@pytest.fixture
def new_program(tmp_path: Path) -> NewProgram:
    """Make programs with the member m0, who joined before all facts."""

    def make(code: str = "shop", policy: str = "never", upgrade: str = "immediate") -> Program:
        path = tmp_path / f"{code}.yaml"
        path.write_text(json.dumps(definition(code, policy, upgrade)))
        program = program_file.apply(program_file.load(path), at=START - 30 * DAY, actor="test")
        joined = [MemberInput(external_id="m0", joined_at=START - 30 * DAY)]
        enroll_members(program=program, members=joined, at=START - 30 * DAY)
        return program

    return make


def amend(program: Program, correction: ActivityCorrection, **more: Any) -> bool:
    return correct_activity(
        program=program, correction=replace(correction, **more), decided_by="ann", last=NOW + HOUR, at=NOW
    )


def close(program: Program) -> None:
    """Do what a close does after late facts."""
    ladder = Ladder.objects.get(program=program)
    for instant in list_due(ladder=ladder, until=NOW):
        evaluate(ladder=Ladder.objects.get(pk=ladder.pk), instant=instant, at=NOW)
    apply_dirty(ladder=Ladder.objects.get(pk=ladder.pk), at=NOW)
    corrections.correct(program=program, through=NOW, at=NOW)


def outcome(program: Program) -> dict[str, Any]:
    """Return what the member has by the facts."""
    tiers = TierPeriod.objects.filter(member__program=program, superseded_at=None).order_by("valid_from")
    days = MemberDay.objects.filter(member__program=program).order_by("day")
    return {
        "tiers": list(tiers.values_list("tier__code", "valid_from", "cause")),
        "days": list(days.values_list("day", "orders", "spend_minor", "activities")),
        "points": balance(program, at=NOW).available,
    }


def is_sound(program: Program) -> bool:
    return list(verify(program=program)) == [] and find_day_mismatches(program) == []


# Facts as told, what corrects them, and the facts as they were. Two more days and an order follow.
CASES: dict[str, tuple[list[ActivityInput], ActivityCorrection, list[ActivityInput]]] = {
    "it never happened": ([review("a1")], VOID, []),
    "it was of another kind": ([review("a1")], replace(WRONG, kind="visit"), [review("a1", kind="visit")]),
    "it was of a kind that earns nothing": ([review("a1")], replace(WRONG, kind="share"), [review("a1", kind="share")]),
    "it was of a kind that earns": ([review("a1", kind="share")], replace(WRONG, kind="review"), [review("a1")]),
    "it was no engagement": (
        [review("a1")], replace(WRONG, kind="service_issue"), [review("a1", kind="service_issue")]
    ),
    "it was an engagement": (
        [review("a1", kind="service_issue")], replace(WRONG, kind="visit"), [review("a1", kind="visit")]
    ),
    "a failed payment never happened": ([review("a1", kind="payment_failure"), review("a2")],
                                        replace(WRONG, activity="a2", is_void=True),
                                        [review("a1", kind="payment_failure")]),
    "it was earlier": (
        [review("a1", at=START + 2 * DAY)], replace(WRONG, occurred_at=START), [review("a1", at=START)]
    ),
    "it was later": (
        [review("a1")], replace(WRONG, occurred_at=START + 12 * DAY), [review("a1", at=START + 12 * DAY)]
    ),
    "it was before the window": (
        [review("a1")], replace(WRONG, occurred_at=START - 20 * DAY), [review("a1", at=START - 20 * DAY)]
    ),
    "it was of another kind and later": (
        [review("a1")],
        replace(WRONG, kind="visit", occurred_at=START + DAY),
        [review("a1", at=START + DAY, kind="visit")],
    ),
    "another one of that day is paid instead": (
        [review("a1"), review("a2", at=START - 2 * HOUR), review("a3", at=START + HOUR)],
        VOID,
        [review("a2", at=START - 2 * HOUR), review("a3", at=START + HOUR)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("upgrade", ["immediate", "at_evaluation"])
@pytest.mark.parametrize("is_closed_before", [True, False])
@pytest.mark.parametrize("case", list(CASES))
def test_a_corrected_activity_is_as_if_it_had_been_told_right(
    new_program: NewProgram, case: str, is_closed_before: bool, upgrade: str
) -> None:
    """In a program that posts no corrections of late facts, too: these are posted up and down."""
    wrong, correction, right = CASES[case]
    others = [review("b1", at=START + 5 * DAY), review("b2", at=START + 10 * DAY)]
    late = order("o1", (1, 10_000), at=FEBRUARY + DAY)
    told_wrong, told_right = new_program("wrong", upgrade=upgrade), new_program("right", upgrade=upgrade)
    for program, facts in ((told_wrong, wrong), (told_right, right)):
        for activity in [*facts, *others]:
            tell(program, activity)
        tell(program, late)
        if is_closed_before:
            close(program)
    assert outcome(told_wrong) != outcome(told_right)
    assert amend(told_wrong, correction)
    close(told_wrong)
    close(told_right)
    assert outcome(told_wrong) == outcome(told_right)
    assert is_sound(told_wrong)
    assert is_sound(told_right)


@pytest.mark.parametrize("policy", ["never", "upward", "both"])
def test_what_it_earned_is_taken_back_whatever_the_program_posts_of_late_facts(
    new_program: NewProgram, policy: str
) -> None:
    program = new_program(policy=policy)
    tell(program, review("a1"))
    amend(program, VOID)
    assert balance(program, at=NOW).available == 5
    close(program)
    assert balance(program, at=NOW).available == 0
    (row,) = AccrualCorrection.objects.all()
    assert (row.fact_kind, row.fact_id, row.points_taken) == (5, Activity.objects.get().pk, 5)


def test_an_activity_told_after_a_void_one_of_that_day_is_paid(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, review("a1"))
    amend(program, VOID)
    tell(program, review("a2", at=START - HOUR))
    close(program)
    assert balance(program, at=NOW).available == 5
    assert is_sound(program)


# --- every version is kept ---------------------------------------------------------------------------------------


def test_every_version_is_kept_and_the_row_says_the_last(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, review("a1"))
    assert amend(program, WRONG, kind="visit")
    assert amend(program, WRONG, external_id="c2", reason="and late", occurred_at=START + DAY)
    assert amend(program, VOID, external_id="c3")
    rows = FactCorrection.objects.order_by("number")
    versions = [(row.before["kind"], row.before["local_date"], row.after["voided_at"]) for row in rows]
    assert versions == [
        ("review", "2026-01-10", None), ("visit", "2026-01-10", None), ("visit", "2026-01-11", NOW.isoformat())
    ]  # fmt: skip
    assert [(row.number, row.external_id, row.reason, row.decided_by) for row in rows] == [
        (1, "c1", "the till was wrong", "ann"), (2, "c2", "and late", "ann"), (3, "c3", "the till was wrong", "ann")
    ]  # fmt: skip
    activity = Activity.objects.get()
    assert (activity.kind, activity.occurred_at, activity.voided_at) == ("visit", START + DAY, NOW)


def test_it_is_in_the_audit_trail_and_in_the_feed(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, review("a1"))
    amend(program, WRONG, kind="visit")
    entry = AuditEntry.objects.get(action="fact.corrected")
    assert (entry.target, entry.actor, entry.reason) == ("member m0", "ann", "the till was wrong")
    said = [(told["fact"], told["kind"]) for told in (entry.before, entry.after) if told]
    assert said == [("a1", "review"), ("a1", "visit")]
    assert outbox.drain(at=NOW).failed == 0
    event = Event.objects.get(type="fact.corrected")
    assert (event.subject, event.data) == ("m0", {
        "member": "m0", "fact_kind": "activity", "fact": "a1", "source": "", "correction": "c1", "is_void": False,
    })  # fmt: skip


def test_told_again_as_first_told_it_is_repeated(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, review("a1"))
    amend(program, WRONG, kind="visit")
    before = content()
    tell(program, review("a1"))
    assert content() == before
    with pytest.raises(FactConflict):
        tell(program, review("a1", kind="visit"))


def test_a_void_activity_explains_no_tier(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, *(review(f"a{n}", at=START + n * DAY) for n in range(1, 5)))
    amend(program, VOID)
    member = Activity.objects.filter(external_id="a1").values_list("member_id", flat=True).get()
    story = find_story(program=program, member_id=member, ladder="main", at=START + 5 * DAY)
    assert story is not None
    assert [fact.external_id for fact in list_facts_that_decided(story)] == ["a4", "a3", "a2"]


# --- told twice --------------------------------------------------------------------------------------------------


def test_a_correction_told_twice_has_one_effect(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, review("a1"))
    assert amend(program, VOID)
    close(program)
    before = content()
    assert not amend(program, VOID)
    assert content() == before


def test_another_correction_under_its_id_is_refused(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, review("a1"))
    amend(program, VOID)
    before = content()
    others: Sequence[dict[str, Any]] = ({"is_void": False, "kind": "visit"}, {"reason": "another"})
    for other in others:
        with pytest.raises(FactConflict) as refusal:
            amend(program, VOID, **other)
        assert (refusal.value.kind, refusal.value.external_id) == ("correction", "c1")
    assert content() == before


# --- refused -----------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({}, "", "nothing_corrected", "activity a1 says so already: tell another kind, another occurred_at, or void"),
    ({"kind": "review", "occurred_at": START}, "", "nothing_corrected",
     "activity a1 says so already: tell another kind, another occurred_at, or void"),
    ({"kind": ""}, "kind", "invalid_value", "is empty"),
    ({"reason": " "}, "reason", "invalid_value", "is empty"),
    ({"external_id": "."}, "external_id", "invalid_value",
     ". means something else in an address, so it could not be looked up"),
    ({"occurred_at": NOW + DAY}, "occurred_at", "in_future", "lies in the future"),
    ({"occurred_at": START - 90 * DAY}, "occurred_at", "before_program", "is before the program began"),
    ({"occurred_at": datetime(2026, 1, 1)}, "occurred_at", "invalid_value", "has no UTC offset"),  # noqa: DTZ001
    ({"is_void": True, "kind": "visit"}, "void", "invalid_value",
     "an activity that never happened has neither kind nor instant: tell either void or what is right"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "field", "code", "reason"), REFUSED)
def test_what_cannot_be_right_is_refused_and_nothing_changes(
    new_program: NewProgram, change: dict[str, Any], field: str, code: str, reason: str
) -> None:
    program = new_program()
    tell(program, review("a1"))
    before = content()
    with pytest.raises(BadFact) as refusal:
        amend(program, WRONG, **change)
    assert (refusal.value.field, refusal.value.code, refusal.value.reason) == (field, code, reason)
    assert content() == before


def test_a_void_activity_is_not_corrected_again(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, review("a1"))
    amend(program, VOID)
    before = content()
    for again in (replace(VOID, external_id="c2"), replace(WRONG, external_id="c3", kind="visit")):
        with pytest.raises(BadFact) as refusal:
            amend(program, again)
        assert (refusal.value.code, refusal.value.reason) == (
            "fact_void", "activity a1 is void: record what did happen as an activity of its own"
        )  # fmt: skip
    assert content() == before


@pytest.mark.parametrize("other", [{"member": "m1"}, {"source": "web"}, {"activity": "a2"}])
def test_an_activity_that_there_is_not_is_refused(new_program: NewProgram, other: dict[str, Any]) -> None:
    program = new_program()
    tell(program, review("a1"))
    before = content()
    with pytest.raises(UnknownFact):
        amend(program, VOID, **other)
    assert content() == before


def test_an_activity_of_another_program_is_none(new_program: NewProgram) -> None:
    program, other = new_program(), new_program("other")
    tell(program, review("a1"))
    before = content()
    with pytest.raises(UnknownFact):
        amend(other, VOID)
    assert content() == before


# --- what the database refuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", ["kind = 'share'", "occurred_at = now()", "local_date = '2026-02-02'", "voided_at = now()",
               "quality = 3", "external_id = 'a9'", "recorded_at = now()", "content_digest = ''"]
)  # fmt: skip
def test_the_database_refuses_a_change_that_no_correction_says(new_program: NewProgram, change: str) -> None:
    program = new_program()
    tell(program, review("a1"))
    for number in range(2):
        with (
            pytest.raises(IntegrityError, match="no correction says so"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"UPDATE membership_activity SET {change}")
        amend(program, WRONG, external_id=f"c{number}", kind=f"kind {number}")
