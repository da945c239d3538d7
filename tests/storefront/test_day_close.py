"""A day's close: what is due when, its steps, what it does once however often it runs."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from core.calendar import day_start
from core.models import AuditEntry, OutboxEvent, Program
from core.services import outbox
from membership.models import Evaluation, Ladder, TierPeriod
from membership.services.tiers import evaluate, list_due
from membership.tasks import evaluate_chunk
from points.models import Account, LedgerTransaction, TransactionKind
from storefront.models import DayClose, DayCloseStep
from storefront.services import day_close
from storefront.services import day_close_steps as steps
from storefront.services.day_close import CloseUnderWay, DayNotDue, LeaseLost, StepName
from storefront.tasks import close_days, close_program
from tests.storefront.closing import DAY, MEMBERS, MINUTE, Arrival, days_closed, open_shop, outcome, run, steps_of, tell
from tests.storefront.shop import order, refund, review

pytestmark = pytest.mark.django_db

ZONE = "Europe/London"
MONDAY = date(2026, 6, 1)
STEPS = ["late_facts", "settle", "evaluate", "open_periods", "corrections", "months", "reminders"]


def end_of(day: date, zone: str = ZONE) -> datetime:
    return day_start(day + DAY, zone)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return open_shop(tmp_path, joined_at=end_of(MONDAY) - 3 * DAY)


def buy(program: Program, name: str, minor: int, at: datetime, *, told_at: datetime | None = None) -> None:
    tell(program, [Arrival(told_at or at, order(name, (2, minor), at=at))])


# --- which days are due --------------------------------------------------------------------------------------


def test_a_day_is_due_from_the_first_instant_of_the_next(program: Program) -> None:
    end = end_of(MONDAY)
    assert day_close.list_due_days(program=program, at=end - timedelta(microseconds=1)) == [MONDAY - DAY]
    assert day_close.list_due_days(program=program, at=end) == [MONDAY]


def test_days_are_due_one_after_the_other_since_the_last_close(program: Program) -> None:
    day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    later = end_of(MONDAY + 3 * DAY)
    assert day_close.list_due_days(program=program, at=end_of(MONDAY)) == []
    assert day_close.list_due_days(program=program, at=later) == [MONDAY + n * DAY for n in (1, 2, 3)]


@pytest.mark.parametrize("day", [MONDAY - DAY, MONDAY + DAY, MONDAY + 9 * DAY])
def test_a_day_out_of_turn_is_refused(program: Program, day: date) -> None:
    with pytest.raises(DayNotDue, match="the next to close is 2026-06-01"):
        day_close.close_day(program=program, day=day, at=end_of(MONDAY))
    assert not DayClose.objects.exists()


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/London", date(2026, 3, 29), 23),
        ("Europe/London", date(2026, 10, 25), 25),
        ("America/Havana", date(2024, 3, 10), 23),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),
    ],
)
def test_a_day_ends_where_the_clock_says_so(tmp_path: Path, zone: str, day: date, hours: int) -> None:
    program = open_shop(tmp_path, zone=zone)
    end = end_of(day, zone)
    assert end - day_start(day, zone) == timedelta(hours=hours)
    assert day_close.list_due_days(program=program, at=end - timedelta(microseconds=1)) == [day - DAY]
    assert day_close.list_due_days(program=program, at=end) == [day]


def test_two_programs_close_by_their_own_clocks(tmp_path: Path) -> None:
    at = datetime(2026, 6, 1, 20, tzinfo=UTC)  # 21:00 of Monday in London, 04:00 of Tuesday in Shanghai
    london = open_shop(tmp_path, "london", joined_at=at - 3 * DAY)
    shanghai = open_shop(tmp_path, "shanghai", "Asia/Shanghai", joined_at=at - 3 * DAY)
    assert day_close.list_due_days(program=london, at=at) == [MONDAY - DAY]
    assert day_close.list_due_days(program=shanghai, at=at) == [MONDAY]
    closed = day_close.close_day(program=shanghai, day=MONDAY, at=at)
    assert closed.through == datetime(2026, 6, 1, 16, tzinfo=UTC)
    assert days_closed(london) == []


def test_the_clock_leaves_a_program_alone_on_the_day_on_which_it_opens(program: Program) -> None:
    opened = end_of(MONDAY) + 5 * MINUTE
    buy(program, "o1", 1_000, opened)
    Program.objects.update(created_at=opened - 9 * DAY)
    assert day_close.list_due_programs(at=opened + MINUTE) == []
    assert day_close.list_due_programs(at=end_of(MONDAY + DAY)) == [program]


# --- the steps -----------------------------------------------------------------------------------------------


def test_the_steps_run_in_their_order_and_are_recorded(program: Program) -> None:
    buy(program, "o1", 12_000, end_of(MONDAY) - 9 * DAY + MINUTE)
    close = day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY) + MINUTE, requested_by="ann")
    assert steps_of(program) == [(name, True) for name in STEPS]
    assert list(StepName.values) == STEPS
    assert (close.requested_by, close.attempts, close.last_error) == ("ann", 1, "")
    found = list(close.steps.order_by("position"))
    assert all(earlier.finished_at and earlier.finished_at <= later.started_at for earlier, later in pairwise(found))
    counts = {step.name: step.counts for step in found}
    # The points vested after a day and expired with the eighth day; the gems expired.
    assert counts["settle"] == {"vested": 1, "expired": 2}
    assert counts["evaluate"]["evaluations"] > 0
    assert counts["months"]["rows_written"] > 0


def test_points_fall_due_before_tiers_and_months_follow_both(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapper around each step notes the order in which they are really called."""
    called = []
    for name, step in list(day_close._STEPS.items()):

        def noted(work: steps.Work, step: Any = step, name: str = name) -> dict[str, int]:
            called.append(name)
            counts: dict[str, int] = step(work)
            return counts

        monkeypatch.setitem(day_close._STEPS, name, noted)
    day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    assert called == STEPS


def test_an_order_at_midnight_belongs_to_the_day_that_begins(program: Program) -> None:
    end = end_of(MONDAY)
    buy(program, "before", 20_000, end - timedelta(microseconds=1))
    buy(program, "midnight", 20_000, end)
    day_close.close_day(program=program, day=MONDAY, at=end + MINUTE)
    # The evaluation at midnight saw 200 pounds: silver. The order of midnight made it gold, one tick after itself.
    rows = TierPeriod.objects.filter(superseded_at=None, ladder__code="main", member__external_id="m0")
    moved = list(rows.order_by("valid_from").values_list("tier__code", "valid_from"))
    assert moved[1:] == [("silver", end), ("gold", end + timedelta(microseconds=1))]
    # Points of the day that ended vest at midnight; those of the order of midnight a day later.
    account = Account.objects.get(wallet__code="points", member__external_id="m0")
    assert (account.available, account.pending) == (200, 300)
    day_close.close_day(program=program, day=MONDAY + DAY, at=end_of(MONDAY + DAY) + MINUTE)
    account.refresh_from_db()
    assert (account.available, account.pending) == (500, 0)


def test_a_close_applies_late_facts_first(program: Program) -> None:
    buy(program, "o1", 4_000, end_of(MONDAY) - DAY)
    day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY) + MINUTE)
    told_at = end_of(MONDAY) + 60 * MINUTE
    buy(program, "late", 32_000, end_of(MONDAY) - 2 * MINUTE, told_at=told_at)
    assert outcome(program)["dirty"] > 0
    day_close.close_day(program=program, day=MONDAY + DAY, at=end_of(MONDAY + DAY))
    found = outcome(program)
    assert found["dirty"] == 0
    assert ("m0", "main", end_of(MONDAY) - 2 * MINUTE + timedelta(microseconds=1), "gold", "upgraded", None) in found[
        "tiers"
    ]


def test_a_late_fact_is_judged_alike_before_and_after_the_close(tmp_path: Path) -> None:
    """Points expire at the end of Monday; a refund of Monday is told on Tuesday, before or after the close."""
    found = []
    for code in ("before", "after"):
        program = open_shop(tmp_path, code, joined_at=end_of(MONDAY) - 12 * DAY)
        buy(program, "o1", 20_000, end_of(MONDAY) - 9 * DAY + MINUTE)
        day_close.close_day(program=program, day=MONDAY - DAY, at=end_of(MONDAY - DAY) + MINUTE)
        back_at = end_of(MONDAY) - MINUTE
        back = [Arrival(end_of(MONDAY) + 2 * MINUTE, refund("r1", ("o1.1", 1, 10_000), at=back_at))]
        close_at = end_of(MONDAY) + (3 if code == "before" else 1) * MINUTE
        if code == "before":
            tell(program, back)
        day_close.close_day(program=program, day=MONDAY, at=close_at)
        if code == "after":
            tell(program, back)
        found.append(outcome(program) | {"dirty": 0})
    before, after = found
    assert before["entries"] == after["entries"]
    assert before["accounts"] == after["accounts"]


def test_months_see_the_moves_of_the_close_itself(tmp_path: Path) -> None:
    last = date(2026, 6, 30)
    program = open_shop(tmp_path, joined_at=end_of(last) - 3 * DAY)
    buy(program, "o1", 40_000, end_of(last) - DAY)
    day_close.close_day(program=program, day=last, at=end_of(last) + MINUTE)
    assert ("m0", date(2026, 7, 1), date(2026, 6, 1), "gold", 0, 0) in outcome(program)["months"]
    club = TierPeriod.objects.filter(member__external_id="m0", ladder__code="club", superseded_at=None)
    assert list(club.order_by("valid_from").values_list("tier__code", flat=True)) == ["guest", "regular"]


# --- once ----------------------------------------------------------------------------------------------------


def test_a_close_that_has_finished_is_returned_as_it_is(program: Program) -> None:
    buy(program, "o1", 12_000, end_of(MONDAY) - DAY)
    first = day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    found, ledger = outcome(program), LedgerTransaction.objects.count()
    again = day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY) + DAY)
    assert (again.pk, again.finished_at, again.attempts) == (first.pk, first.finished_at, 1)
    assert (outcome(program), LedgerTransaction.objects.count()) == (found, ledger)


def test_every_step_is_safe_to_repeat(program: Program) -> None:
    buy(program, "o1", 12_000, end_of(MONDAY) - 2 * DAY)
    day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    found, evaluations = outcome(program), Evaluation.objects.count()
    DayCloseStep.objects.update(finished_at=None)
    DayClose.objects.update(finished_at=None)
    day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY) + MINUTE)
    assert (outcome(program), Evaluation.objects.count()) == (found, evaluations)


class OutOfOrder(Exception):
    """What goes wrong in these tests."""


def fail(_work: steps.Work) -> dict[str, int]:
    raise OutOfOrder("the till is jammed")


def test_a_close_that_fails_keeps_its_error_and_goes_on_later(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    buy(program, "o1", 12_000, end_of(MONDAY) - 2 * DAY)
    sound = day_close._STEPS[StepName.EVALUATE]
    monkeypatch.setitem(day_close._STEPS, StepName.EVALUATE, fail)
    with pytest.raises(OutOfOrder):
        day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    failed = DayClose.objects.get()
    assert (failed.finished_at, failed.last_error) == (None, "OutOfOrder: the till is jammed")
    assert steps_of(program) == [("late_facts", True), ("settle", True), ("evaluate", False)]
    settled_at = DayCloseStep.objects.get(name="settle").finished_at
    # The lease is free at once, and what has finished is not run again.
    monkeypatch.setitem(day_close._STEPS, StepName.EVALUATE, sound)
    monkeypatch.setitem(day_close._STEPS, StepName.SETTLE, fail)
    close = day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY) + MINUTE)
    assert (close.last_error, close.attempts) == ("", 2)
    assert DayCloseStep.objects.get(name="settle").finished_at == settled_at
    assert steps_of(program) == [(name, True) for name in STEPS]


def test_an_interrupted_step_adds_to_what_it_had_done(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(work: steps.Work) -> dict[str, int]:
        work.tell({"reminders": 3})
        raise OutOfOrder("enough")

    sound = day_close._STEPS[StepName.REMINDERS]
    monkeypatch.setitem(day_close._STEPS, StepName.REMINDERS, stop)
    with pytest.raises(OutOfOrder):
        day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    monkeypatch.setitem(day_close._STEPS, StepName.REMINDERS, sound)
    day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    assert DayCloseStep.objects.get(name="reminders").counts == {"reminders": 3}


def test_a_close_under_way_is_left_alone_until_its_lease_lapses(program: Program) -> None:
    request = day_close.request_close(program=program, day=MONDAY, actor="ann", at=end_of(MONDAY))
    DayClose.objects.update(attempts=1, leased_until=Now() + day_close.LEASE)
    with pytest.raises(CloseUnderWay):
        day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    assert not DayCloseStep.objects.exists()
    DayClose.objects.update(leased_until=Now())
    close = day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    assert (close.pk, close.attempts, close.requested_by) == (request.pk, 2, "ann")


def test_a_worker_that_lost_its_lease_stops(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken_over(work: steps.Work) -> dict[str, int]:
        DayClose.objects.update(attempts=7)
        work.tell({})
        raise AssertionError("it went on")

    monkeypatch.setitem(day_close._STEPS, StepName.SETTLE, taken_over)
    with pytest.raises(LeaseLost):
        day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    close = DayClose.objects.get()
    assert (close.finished_at, close.attempts, close.last_error) == (None, 7, "")


def test_other_workers_are_asked_to_help_with_an_evaluation_of_many_chunks(program: Program) -> None:
    ladder = Ladder.objects.select_related("program").get(code="main")
    instant = list_due(ladder=ladder, until=end_of(MONDAY))[0]
    asked = []

    def ask(evaluation_id: int) -> None:
        asked.append(evaluation_id)
        evaluate_chunk(evaluation_id=evaluation_id)

    evaluation = evaluate(ladder=ladder, instant=instant, at=end_of(MONDAY), chunk_size=1, share=ask)
    assert asked == [evaluation.pk] * (len(MEMBERS) - 1)
    assert evaluation.finished_at is not None
    assert evaluation.chunks.count() == len(MEMBERS)


# --- who starts it -------------------------------------------------------------------------------------------


def test_an_operators_request_is_audited_once(program: Program) -> None:
    for _ in range(2):
        close = day_close.request_close(program=program, day=MONDAY, actor="ann", reason="Month end", at=end_of(MONDAY))
    entry = AuditEntry.objects.get(action="day_close.requested")
    assert (entry.actor, entry.reason, entry.target) == ("ann", "Month end", "close shop 2026-06-01")
    assert (close.requested_by, close.finished_at) == ("ann", None)
    with pytest.raises(DayNotDue):
        day_close.request_close(program=program, day=MONDAY + DAY, actor="ann", at=end_of(MONDAY))


def test_the_tasks_close_what_is_due_and_one_programs_failure_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined_at = datetime.now(UTC) - 6 * DAY
    bad, good = open_shop(tmp_path, "bad", joined_at=joined_at), open_shop(tmp_path, "good", joined_at=joined_at)
    Program.objects.update(created_at=datetime.now(UTC) - 9 * DAY)
    yesterday = day_close.list_due_days(program=good, at=datetime.now(UTC))[0]
    for program in (bad, good):
        run(program, [], [], until=end_of(yesterday - 3 * DAY) + MINUTE)
    queued: list[dict[str, Any]] = []
    monkeypatch.setattr(close_program, "delay", lambda **call: queued.append(call))
    sound = day_close._STEPS[StepName.SETTLE]

    def fail_for_one(work: steps.Work) -> dict[str, int]:
        return fail(work) if work.program.pk == bad.pk else sound(work)

    monkeypatch.setitem(day_close._STEPS, StepName.SETTLE, fail_for_one)
    close_days(added_by_a_later_release=True)
    assert [call["program_id"] for call in queued] == [bad.pk, good.pk]
    while queued:
        call = queued.pop(0)
        if call["program_id"] == bad.pk:
            with pytest.raises(OutOfOrder):
                close_program(**call)
        else:
            close_program(**call)
    assert days_closed(good)[-3:] == [yesterday - 2 * DAY, yesterday - DAY, yesterday]
    assert days_closed(bad)[-1] == yesterday - 3 * DAY
    assert DayClose.objects.get(program=bad, finished_at=None).last_error == "OutOfOrder: the till is jammed"


def test_the_command_closes_up_to_a_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = open_shop(tmp_path, joined_at=datetime.now(UTC) - 6 * DAY)
    yesterday = day_close.list_due_days(program=program, at=datetime.now(UTC))[0]
    run(program, [], [], until=end_of(yesterday - 3 * DAY) + MINUTE)
    call_command("close_day", program="shop", day=yesterday - DAY)
    assert days_closed(program)[-2:] == [yesterday - 2 * DAY, yesterday - DAY]
    assert f"shop {yesterday - DAY}: closed." in capsys.readouterr().out
    with pytest.raises(CommandError, match=f"the next to close is {yesterday}"):
        call_command("close_day", program="shop", day=yesterday - DAY)
    with pytest.raises(CommandError, match="There is no program nowhere"):
        call_command("close_day", program="nowhere")
    call_command("close_day")
    assert days_closed(program)[-1] == yesterday


def test_vests_and_expiries_of_a_close_are_told(program: Program) -> None:
    buy(program, "o1", 4_000, end_of(MONDAY) - 9 * DAY + MINUTE)
    outbox.drain(at=end_of(MONDAY))
    before = OutboxEvent.objects.filter(topic="points.posted").count()
    day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    told = OutboxEvent.objects.filter(topic="points.posted").order_by("pk")[before:]
    kinds = LedgerTransaction.objects.filter(pk__in=[pk for event in told for pk in event.payload["transactions"]])
    assert sorted(kinds.values_list("kind", flat=True)) == [
        TransactionKind.EXPIRE, TransactionKind.EXPIRE, TransactionKind.VEST,
    ]  # fmt: skip


def test_reviews_close_too(program: Program) -> None:
    at = end_of(MONDAY) - 2 * DAY
    tell(program, [Arrival(at, review("v1", at=at))])
    day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    assert Account.objects.get(member__external_id="m0", wallet__code="points").available == 5
