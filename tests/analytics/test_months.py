"""MemberMonth: dense, recomputed from marks, the same whatever came in which order."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from analytics.models import DirtyMonth, MemberMonth, MemberStat, Segment
from analytics.services import months
from core.calendar import TICK
from core.models import Program
from core.services import outbox
from membership.models import Tier
from tests.analytics.histories import (
    NOW,
    evaluate_until,
    follow,
    member_id,
    new_program,
    order,
    record,
    refund,
)

MARCH = datetime(2025, 3, 1, tzinfo=UTC)
JUNE = datetime(2025, 6, 15, tzinfo=UTC)
DAY = timedelta(days=1)

Row = tuple[date, date, str | None, int, int]


@pytest.fixture
def program(db: None) -> Program:
    return new_program()


def rows(program: Program, name: str) -> list[Row]:
    """(month, first month, tier at its start, orders, net) of a member, by month."""
    found = MemberMonth.objects.filter(program=program, member__external_id=name).order_by("month")
    return list(found.values_list("month", "first_month", "tier_start__code", "orders", "net_minor"))


def segment_of(member: int) -> int:
    return MemberStat.objects.get(pk=member).segment_id


def month(number: int) -> date:
    return date(2025, number, 1)


def test_every_month_from_the_first_order_on_has_a_row(program: Program) -> None:
    record(
        program,
        orders=[order("o1", "ann", MARCH + 9 * DAY, 7_000), order("o2", "ann", MARCH + 10 * DAY, 100)],
        refunds=[refund("r0", "ann", MARCH - 9 * DAY, 50), refund("r1", "ann", MARCH + 70 * DAY, 3_000)],
    )
    evaluate_until(program, JUNE)
    follow(program, JUNE)
    assert rows(program, "ann") == [
        (month(3), month(3), "bronze", 2, 7_100),
        (month(4), month(3), "silver", 0, 0),
        (month(5), month(3), "silver", 0, -3_000),
        (month(6), month(3), "bronze", 0, 0),
    ]


def test_guests_and_members_who_only_returned_have_no_months(program: Program) -> None:
    record(program, orders=[order("o1", "", MARCH)], refunds=[refund("r1", "bob", MARCH)])
    follow(program, JUNE)
    assert not MemberMonth.objects.filter(program=program).exists()
    assert not DirtyMonth.objects.filter(program=program).exists()


@pytest.mark.django_db
def test_months_begin_at_local_midnight() -> None:
    program = new_program("America/New_York")
    midnight = datetime(2025, 4, 1, 4, tzinfo=UTC)
    record(program, orders=[order("o1", "ann", midnight - TICK), order("o2", "bob", midnight)])
    follow(program, midnight)
    assert [row[0] for row in rows(program, "ann")] == [month(3), month(4)]
    assert [row[0] for row in rows(program, "bob")] == [month(4)]


def test_a_tier_held_from_the_first_instant_of_a_month_is_its_tier(program: Program) -> None:
    april = datetime(2025, 4, 1, tzinfo=UTC)
    record(program, orders=[order("o1", "ann", april - TICK, 5_000), order("o2", "bob", april, 5_000)])
    evaluate_until(program, JUNE)
    follow(program, JUNE)
    assert [row[2] for row in rows(program, "ann")] == [None, "silver", "silver", "silver"]  # not yet a member
    assert [row[2] for row in rows(program, "bob")] == ["bronze", "silver", "silver"]


def test_a_late_fact_moves_the_first_month_and_changes_later_tiers(program: Program) -> None:
    record(program, orders=[order("o1", "ann", MARCH + 40 * DAY, 100), order("o2", "bob", MARCH, 100)])
    evaluate_until(program, JUNE)
    follow(program, JUNE)
    bob = rows(program, "bob")
    record(program, orders=[order("o3", "ann", MARCH, 5_000)])
    assert follow(program, JUNE) == 4
    assert [row[:2] for row in rows(program, "ann")] == [(month(number), month(3)) for number in (3, 4, 5, 6)]
    assert rows(program, "bob") == bob
    assert months.find_month_mismatches(program=program) == []


def test_a_second_refresh_writes_nothing(program: Program) -> None:
    record(program, orders=[order("o1", "ann", MARCH), order("o2", "bob", MARCH + 40 * DAY)])
    assert follow(program, JUNE) == 4 + 3
    assert follow(program, JUNE) == 0
    months.mark_dirty(program_id=program.pk, members={month(1): [member_id(program, "ann")]})
    assert months.refresh(program=program, through=JUNE) == 0


def test_small_chunks_give_the_same_rows(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(months, "MARKS_PER_CHUNK", 2)
    record(program, orders=[order(f"o{n}", f"m{n % 7}", MARCH + n * DAY) for n in range(60)])
    follow(program, JUNE)
    assert MemberMonth.objects.filter(program=program).count() == 7 * 4
    assert not DirtyMonth.objects.filter(program=program).exists()
    assert months.find_month_mismatches(program=program) == []


def test_new_months_are_appended_for_everybody(program: Program) -> None:
    record(program, orders=[order("o1", "ann", MARCH), order("o2", "bob", MARCH, 5_000)])
    evaluate_until(program, JUNE)
    follow(program, MARCH)
    assert follow(program, MARCH + 61 * DAY) == 4
    assert [row[2] for row in rows(program, "bob")] == ["bronze", "silver", "silver"]


def test_the_frontier_never_moves_back(program: Program) -> None:
    record(program, orders=[order("o1", "ann", MARCH)])
    follow(program, JUNE)
    record(program, orders=[order("o2", "bob", MARCH)])
    follow(program, MARCH)
    assert [row[0] for row in rows(program, "bob")] == [month(number) for number in (3, 4, 5, 6)]


def test_a_mark_beyond_the_frontier_waits_for_it(program: Program) -> None:
    record(program, orders=[order("o1", "ann", MARCH), order("o2", "bob", JUNE)])
    follow(program, MARCH)
    assert rows(program, "bob") == []
    follow(program, JUNE)
    assert [row[0] for row in rows(program, "bob")] == [month(6)]


def test_news_of_a_later_month_first_leaves_no_gap(program: Program) -> None:
    record(program, orders=[order("o1", "ann", MARCH), order("o2", "ann", JUNE)])
    months.mark_dirty(program_id=program.pk, members={month(6): [member_id(program, "ann")]})
    months.refresh(program=program, through=JUNE)
    assert [row[0] for row in rows(program, "ann")] == [month(number) for number in (3, 4, 5, 6)]


def test_programs_do_not_mix(program: Program) -> None:
    other = new_program()
    record(program, orders=[order("o1", "ann", MARCH)])
    record(other, orders=[order("o1", "ann", JUNE)])
    follow(program, JUNE)
    assert not MemberMonth.objects.filter(program=other).exists()
    assert DirtyMonth.objects.filter(program=other).count() == 1


def test_verification_finds_a_changed_a_missing_and_an_invented_row(program: Program) -> None:
    record(program, orders=[order("o1", "ann", MARCH, 5_000), order("o2", "bob", MARCH)])
    evaluate_until(program, JUNE)
    follow(program, JUNE)
    assert months.find_month_mismatches(program=program) == []
    ann, bob = member_id(program, "ann"), member_id(program, "bob")
    gold = Tier.objects.get(ladder__program=program, code="gold")
    MemberMonth.objects.filter(member=ann, month=month(4)).update(tier_start=gold)
    MemberMonth.objects.filter(member=bob, month=month(5)).delete()
    MemberMonth.objects.create(
        segment=Segment.objects.get(program=program),
        program=program,
        member_id=bob,
        month=month(1),
        first_month=month(1),
        orders=1,
        net_minor=1,
    )
    found = {(one.member_id, one.month): one for one in months.find_month_mismatches(program=program)}
    assert set(found) == {(ann, month(4)), (bob, month(5)), (bob, month(1))}
    assert found[ann, month(4)].stored == months.MonthValues(month(3), segment_of(ann), gold.pk, None, 0, 0)
    assert found[bob, month(5)].stored is None
    assert found[bob, month(1)].expected is None


def test_verification_leaves_marked_members_to_the_next_refresh(program: Program) -> None:
    record(program, orders=[order("o1", "ann", MARCH)])
    follow(program, JUNE)
    record(program, orders=[order("o2", "ann", JUNE)])
    assert len(months.find_month_mismatches(program=program)) == 1
    outbox.drain(at=NOW)
    assert months.find_month_mismatches(program=program) == []


def test_the_program_is_locked_and_marks_are_taken_before_facts_are_read(program: Program) -> None:
    record(program, orders=[order("o1", "ann", MARCH)])
    outbox.drain(at=NOW)
    with CaptureQueriesContext(connection) as captured:
        months.refresh(program=program, through=JUNE)
    steps = {
        "core_program": "lock",
        "DELETE FROM analytics_dirty": "take",
        "INSERT INTO analytics_memberm": "write",
        "INSERT INTO analytics_members": "stats",
    }
    taken = [word for query in captured for start, word in steps.items() if start in query["sql"]]
    assert taken == ["lock", "lock", "take", "stats", "write", "lock", "take"]
    locks = [query["sql"] for query in captured if "core_program" in query["sql"]]
    assert all(sql.endswith("FOR NO KEY UPDATE") for sql in locks)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_until_one_waits_for_us() -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))")
            if cursor.rowcount:
                return
    raise AssertionError("nobody waits for this connection")


def tell_late(program: Program) -> None:
    record(program, orders=[order("o2", "ann", MARCH + DAY, 5)])
    outbox.drain(at=NOW)


@pytest.mark.django_db(transaction=True)
def test_a_mark_that_arrives_during_a_refresh_is_not_lost() -> None:
    program = new_program()
    record(program, orders=[order("o1", "ann", MARCH, 100)])
    outbox.drain(at=NOW)
    with transaction.atomic():
        months.refresh(program=program, through=MARCH)
        # Its facts are committed, its mark is the one that the refresh has just taken.
        thread = in_thread(lambda: tell_late(program))
        wait_until_one_waits_for_us()
    thread.join()
    assert DirtyMonth.objects.filter(program=program).count() == 1
    months.refresh(program=program, through=MARCH)
    assert [row[3:] for row in rows(program, "ann")] == [(2, 105)]


@pytest.mark.django_db(transaction=True)
def test_control_reading_facts_before_taking_the_marks_loses_a_mark() -> None:
    program = new_program()
    other = new_program()
    record(program, orders=[order("o1", "ann", MARCH, 100)])
    outbox.drain(at=NOW)
    with transaction.atomic():
        marks = list(DirtyMonth.objects.filter(program=program))
        months.refresh(program=other, through=MARCH)  # stands for the work on the facts as they are now
        thread = in_thread(lambda: tell_late(program))
        thread.join()
        for mark in marks:
            mark.delete()
    assert not DirtyMonth.objects.filter(program=program).exists()  # and yet o2 was never counted


@pytest.mark.django_db(transaction=True)
def test_two_refreshes_take_turns() -> None:
    program = new_program()
    record(program, orders=[order(f"o{n}", f"m{n}", MARCH + n * DAY) for n in range(40)])
    outbox.drain(at=NOW)
    with transaction.atomic():
        months.refresh(program=program, through=JUNE)
        second = in_thread(lambda: months.refresh(program=program, through=JUNE))
        wait_until_one_waits_for_us()
    second.join()
    assert months.find_month_mismatches(program=program) == []
    assert not DirtyMonth.objects.filter(program=program).exists()
