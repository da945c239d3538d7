"""Facts told by two connections at once. `overlap` makes the race certain: the first commits when the second waits."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from core.models import Program
from membership import locks
from membership.models import Activity, Member, MemberDay, Order, QualifyingCredit, Refund
from membership.services.facts import (
    ActivityInput,
    BadFact,
    CreditInput,
    FactConflict,
    OrderInput,
    OrderLineInput,
    RecordedFacts,
    RefundInput,
    RefundLineInput,
    record_credits,
    record_facts,
)
from membership.services.members import MemberInput, enroll_members
from membership.services.rebuild import find_day_mismatches, find_line_mismatches

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
PATIENCE_SECONDS = 20.0

ORDER = OrderInput(
    external_id="o1",
    member="ada",
    paid_at=NOW,
    currency="GBP",
    amount_minor=3000,
    lines=(
        OrderLineInput(external_id="a", units=1, amount_minor=900),
        OrderLineInput(external_id="b", units=1, amount_minor=2100),
    ),
)


@pytest.fixture
def opened(program: Program, ada: int, ben: int) -> Program:
    """A program that has a fact, so that no call waits for another's to open it."""
    record_facts(program=program, orders=[replace(ORDER, external_id="o0")], at=NOW)
    program.refresh_from_db()
    return program


@pytest.fixture
def other() -> Iterator[ThreadPoolExecutor]:
    """Another connection: one thread that keeps its own."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        yield executor
        executor.submit(lambda: connection.close()).result()  # noqa: PLW0108 the thread's own connection


def overlap(
    other: ThreadPoolExecutor, first: Callable[[], Any], second: Callable[[], Any], *, commit: bool = True
) -> Future[Any]:
    """Run `second` on the other connection while `first` is done but not committed, until it waits or ends."""
    pid = other.submit(own_pid).result()
    with transaction.atomic():
        first()
        running = other.submit(second)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not running.done() and not is_waiting(pid):
            assert time.monotonic() < deadline
        transaction.set_rollback(not commit)
    running.exception(timeout=PATIENCE_SECONDS)
    return running


def own_pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def is_waiting(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid])
        return bool(cursor.fetchone()[0])


def tell(program: Program, **facts: Any) -> Callable[[], RecordedFacts]:
    return lambda: record_facts(program=program, at=NOW, **facts)


def give_back(name: str, line: str, *, days: int = 0, **fields: Any) -> RefundInput:
    return RefundInput(
        external_id=name,
        member="ada",
        order="o0",
        refunded_at=NOW + timedelta(days=days),
        currency="GBP",
        amount_minor=100,
        lines=(RefundLineInput(external_id="1", order_line=line, units=1, amount_minor=100),),
        **fields,
    )


def assert_reconciled(program: Program) -> None:
    assert find_day_mismatches(program) == []
    assert find_line_mismatches(program) == []


def test_the_same_batch_from_two_connections_counts_once(opened: Program, other: ThreadPoolExecutor) -> None:
    batch = {
        "orders": [replace(ORDER, external_id=f"x{n}") for n in range(50)],
        "refunds": [give_back("r1", "a")],
        "activities": [ActivityInput(external_id="v1", member="ben", kind="visit", occurred_at=NOW)],
    }
    second = overlap(other, tell(opened, **batch), tell(opened, **batch)).result()
    assert (second.order_ids, second.refund_ids, second.activity_ids, second.repeated) == ([], [], [], 52)
    assert (Order.objects.count(), Refund.objects.count(), Activity.objects.count()) == (51, 1, 1)
    assert_reconciled(opened)


@pytest.mark.parametrize(
    "facts",
    [
        {"refunds": [give_back("r1", "a")]},
        {"refunds": [replace(give_back("r1", ""), order="", lines=())]},
        {"activities": [ActivityInput(external_id="v1", member="ada", kind="visit", occurred_at=NOW)]},
    ],
)
def test_each_kind_of_fact_counts_once(opened: Program, other: ThreadPoolExecutor, facts: dict[str, Any]) -> None:
    assert overlap(other, tell(opened, **facts), tell(opened, **facts)).result().repeated == 1
    assert_reconciled(opened)


def test_without_the_claimed_key_one_order_would_be_written_twice(opened: Program, other: ThreadPoolExecutor) -> None:
    """The control: looking first and inserting then lets both connections insert."""

    def look_then_insert() -> None:
        if not Order.objects.filter(external_id="x").exists():
            known = Order.objects.get(external_id="o0")
            known.pk, known.external_id = None, "x"
            known.save(force_insert=True)

    overlap(other, look_then_insert, look_then_insert).result()
    assert Order.objects.filter(external_id="x").count() == 2


def test_the_second_content_of_one_id_is_refused_when_the_first_commits(
    opened: Program, other: ThreadPoolExecutor
) -> None:
    changed = replace(ORDER, channel="app")
    second = overlap(other, tell(opened, orders=[ORDER]), tell(opened, orders=[changed]))
    assert isinstance(second.exception(), FactConflict)
    assert Order.objects.get(external_id="o1").channel == ""


def test_a_call_that_is_rolled_back_leaves_its_facts_to_the_other(opened: Program, other: ThreadPoolExecutor) -> None:
    second = overlap(other, tell(opened, orders=[ORDER]), tell(opened, orders=[ORDER]), commit=False).result()
    assert (len(second.order_ids), second.repeated) == (1, 0)
    assert_reconciled(opened)


def test_two_halves_that_come_back_at_once_return_the_order(opened: Program, other: ThreadPoolExecutor) -> None:
    halves = [
        tell(opened, refunds=[give_back(name, line, days=n)])
        for n, (name, line) in enumerate([("r1", "a"), ("r2", "b")])
    ]
    overlap(other, *halves).result()
    assert Order.objects.get().returned_at == NOW + timedelta(days=1)
    assert_reconciled(opened)


def test_without_the_orders_lock_neither_half_returns_the_order(
    opened: Program, other: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: each refund reads the lines before the other has written them."""
    monkeypatch.setattr(locks, "lock_orders", lambda order_ids: Order.objects.filter(pk__in=order_ids))
    halves = [
        tell(opened, refunds=[give_back(name, line, days=n)])
        for n, (name, line) in enumerate([("r1", "a"), ("r2", "b")])
    ]
    overlap(other, *halves).result()
    assert Order.objects.get().returned_at is None


def test_one_unit_comes_back_once(opened: Program, other: ThreadPoolExecutor) -> None:
    second = overlap(
        other, tell(opened, refunds=[give_back("r1", "a")]), tell(opened, refunds=[give_back("r2", "a", days=1)])
    )
    refusal = second.exception()
    assert isinstance(refusal, BadFact)
    assert (refusal.external_id, refusal.reason) == ("r2", "1 come back, but only 0 are left")
    assert Refund.objects.get().external_id == "r1"
    assert_reconciled(opened)


def test_batches_in_opposite_order_do_not_deadlock(opened: Program, other: ThreadPoolExecutor) -> None:
    activities = [
        ActivityInput(external_id=str(n), member=name, kind="visit", occurred_at=NOW)
        for n in range(100)
        for name in ("ada", "ben")
    ]
    orders = [replace(ORDER, external_id=f"x{n}", member=("ada", "ben")[n % 2]) for n in range(200)]
    for round_number in range(5):
        mine = [replace(order, external_id=f"{round_number}{order.external_id}") for order in orders]
        running = other.submit(tell(opened, orders=mine[::-1], activities=activities[::-1]))
        tell(opened, orders=mine, activities=activities)()
        running.result(timeout=PATIENCE_SECONDS)
    assert Order.objects.count() == 1001
    assert_reconciled(opened)


def test_two_members_days_add_up_from_both_sides(opened: Program, other: ThreadPoolExecutor) -> None:
    overlap(
        other,
        tell(opened, orders=[replace(ORDER, external_id="x")]),
        tell(opened, orders=[replace(ORDER, external_id="y")]),
    ).result()
    assert MemberDay.objects.get().orders == 3
    assert_reconciled(opened)


def test_the_same_credit_from_two_connections_counts_once(opened: Program, other: ThreadPoolExecutor) -> None:
    def give() -> RecordedFacts:
        credit = CreditInput(member="ada", source="order:7", rule="double", credits=30, effective_at=NOW)
        return record_credits(program=opened, credits=[credit], at=NOW)

    assert overlap(other, give, give).result().repeated == 1
    assert QualifyingCredit.objects.count() == 1
    assert_reconciled(opened)


def test_a_member_enrolled_by_two_connections_is_one(opened: Program, other: ThreadPoolExecutor) -> None:
    def enroll() -> list[int]:
        told = [MemberInput(external_id=name, joined_at=NOW) for name in ("cleo", "dan")]
        return enroll_members(program=opened, members=told, at=NOW).new_ids

    assert overlap(other, enroll, enroll).result() == []
    assert Member.objects.count() == 4


def test_the_first_facts_of_a_program_may_come_at_once(program: Program, ada: int, other: ThreadPoolExecutor) -> None:
    overlap(other, tell(program, orders=[ORDER]), tell(program, orders=[replace(ORDER, external_id="o2")])).result()
    program.refresh_from_db()
    assert program.opened_at == NOW
    assert Order.objects.count() == 2
