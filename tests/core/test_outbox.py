"""The outbox delivers at least once and applies exactly once, whoever dies, fails or works beside it."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from core import events
from core.models import OutboxEvent, OutboxReceipt, Program
from core.services import outbox
from core.tasks import deliver_outbox
from tests.core.conftest import NOW, TOPIC
from tests.core.effects import list_effects, record_effect

Subscribe = Callable[[str, events.Handler], None]


def _publish(program: Program, count: int = 1) -> None:
    with transaction.atomic():
        for number in range(count):
            outbox.publish(program_id=program.pk, topic=TOPIC, payload={"number": number}, at=NOW)


def _fail(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    record_effect(program_id=program_id, payload=payload, at=at)
    raise RuntimeError("the shelf is full")


def _break_the_database(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    Program.objects.create(code="bad", name="Bad", currency="?", time_zone="UTC")


def test_an_event_goes_with_the_transaction_that_wrote_it(program: Program, subscribe: Subscribe) -> None:
    subscribe("a", record_effect)
    with transaction.atomic():
        outbox.publish(program_id=program.pk, topic=TOPIC, payload={"number": 1}, at=NOW)
        transaction.set_rollback(True)
    assert outbox.dispatch(at=NOW) == 0
    assert not OutboxEvent.objects.exists()


def test_publishing_is_one_insert(program: Program) -> None:
    with CaptureQueriesContext(connection) as queries:
        outbox.publish(program_id=program.pk, topic=TOPIC, payload={"number": 1}, at=NOW)
    assert [query["sql"].split()[0] for query in queries] == ["INSERT"]


def test_every_subscriber_gets_every_event_once_and_in_order(program: Program, subscribe: Subscribe) -> None:
    told: dict[str, list[int]] = {"a": [], "b": []}

    def keep(name: str) -> events.Handler:
        def handler(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
            told[name].append(payload["number"])

        return handler

    subscribe("a", keep("a"))
    subscribe("b", keep("b"))
    _publish(program, 5)
    assert outbox.drain(at=NOW) == outbox.Delivery(done=10, failed=0)
    assert outbox.drain(at=NOW + timedelta(days=1)) == outbox.Delivery(0, 0)
    assert told == {"a": [0, 1, 2, 3, 4], "b": [0, 1, 2, 3, 4]}


def test_who_drains_delivers_what_a_worker_with_a_later_clock_dispatched(
    program: Program, subscribe: Subscribe
) -> None:
    """A day's close works at the instant at which it began; other workers go on dispatching what it brings about."""
    subscribe("a", record_effect)
    _publish(program)
    outbox.dispatch(at=NOW + timedelta(minutes=10))
    assert outbox.drain(at=NOW) == outbox.Delivery(done=1, failed=0)


def test_an_event_without_subscribers_is_done_with(program: Program) -> None:
    _publish(program)
    assert outbox.drain(at=NOW) == outbox.Delivery(0, 0)
    assert OutboxEvent.objects.get().dispatched_at == NOW


def test_draining_delivers_what_handlers_publish(program: Program, subscribe: Subscribe) -> None:
    def pass_on(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
        if payload["number"] < 3:
            outbox.publish(program_id=program_id, topic=TOPIC, payload={"number": payload["number"] + 1}, at=at)

    subscribe("a", pass_on)
    _publish(program)
    assert outbox.drain(at=NOW).done == 4


@pytest.mark.parametrize("failing", [_fail, _break_the_database])
def test_a_failing_subscriber_blocks_nobody_and_leaves_no_effect(
    program: Program, subscribe: Subscribe, failing: events.Handler
) -> None:
    subscribe("failing", failing)
    subscribe("sound", record_effect)
    _publish(program, 3)
    assert outbox.drain(at=NOW) == outbox.Delivery(done=3, failed=3)
    assert list_effects() == ["event 0", "event 1", "event 2"]
    waiting = OutboxReceipt.objects.filter(done_at=None)
    assert {receipt.subscriber for receipt in waiting} == {"failing"}
    assert {receipt.attempts for receipt in waiting} == {1}
    assert all(receipt.last_error for receipt in waiting)


def test_a_failure_is_tried_again_when_due_and_keeps_its_last_error(program: Program, subscribe: Subscribe) -> None:
    broken = True

    def recover(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
        if broken:
            raise RuntimeError("the shelf is full")
        record_effect(program_id=program_id, payload=payload, at=at)

    subscribe("a", recover)
    _publish(program)
    outbox.drain(at=NOW)
    broken = False
    due = NOW + outbox.FIRST_RETRY
    assert outbox.drain(at=due - timedelta(microseconds=1)) == outbox.Delivery(0, 0)
    assert outbox.drain(at=due) == outbox.Delivery(done=1, failed=0)
    receipt = OutboxReceipt.objects.get()
    assert (receipt.attempts, receipt.done_at) == (2, due)
    assert receipt.last_error == "RuntimeError: the shelf is full"
    assert list_effects() == ["event 0"]


def test_a_worker_whose_time_is_up_ends_and_the_receipt_waits_for_its_next_attempt(
    program: Program, subscribe: Subscribe
) -> None:
    def run_out_of_time(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
        record_effect(program_id=program_id, payload=payload, at=at)
        raise SoftTimeLimitExceeded

    subscribe("a", run_out_of_time)
    _publish(program, 2)
    with pytest.raises(SoftTimeLimitExceeded):
        outbox.drain(at=NOW)
    assert list_effects() == []
    receipts = OutboxReceipt.objects.order_by("id").values_list("attempts", "last_error", "next_attempt_at")
    assert list(receipts) == [(1, "", NOW + outbox.retry_delay(1)), (0, "", NOW)]


def test_retries_wait_twice_as_long_each_time_up_to_an_hour() -> None:
    delays = [outbox.retry_delay(attempts) for attempts in (1, 2, 3, 10, 11, 5_000)]
    assert [int(delay.total_seconds()) for delay in delays] == [5, 10, 20, 2_560, 3_600, 3_600]


def test_a_receipt_for_a_subscriber_of_another_release_waits(program: Program, subscribe: Subscribe) -> None:
    subscribe("gone", record_effect)
    _publish(program)
    outbox.dispatch(at=NOW)
    events._handlers.pop(TOPIC)
    assert outbox.deliver(at=NOW, limit=10) == outbox.Delivery(done=0, failed=1)
    assert "no subscriber named gone" in OutboxReceipt.objects.get().last_error


def test_two_subscribers_of_one_name_are_refused(subscribe: Subscribe) -> None:
    subscribe("a", record_effect)
    subscribe("a", record_effect)
    with pytest.raises(ValueError, match="already has a subscriber named a"):
        subscribe("a", _fail)


def test_the_worker_takes_its_locks_before_it_writes(program: Program, subscribe: Subscribe) -> None:
    subscribe("a", record_effect)
    _publish(program)
    with CaptureQueriesContext(connection) as queries:
        outbox.dispatch(at=NOW)
        outbox.deliver(at=NOW, limit=1)
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    events_lock, *receipt_locks = (s for s in statements if s.startswith("SELECT") and "FOR" in s)
    assert events_lock.endswith("FOR NO KEY UPDATE SKIP LOCKED")
    to_claim, to_deliver = receipt_locks
    assert to_claim.endswith('FOR NO KEY UPDATE OF "core_outboxreceipt" SKIP LOCKED')
    assert to_deliver.endswith('FOR NO KEY UPDATE OF "core_outboxreceipt"')
    assert statements.index(events_lock) == 0
    # The attempt is counted under the first lock, before the handler writes anything under the second.
    writes = [statements.index(s) for s in statements if s.startswith(("UPDATE", "INSERT"))][2:]
    first, second = (statements.index(lock) for lock in receipt_locks)
    assert first < writes[0] < second < writes[1]


@pytest.mark.django_db(transaction=True)
def test_the_task_delivers(subscribe: Subscribe) -> None:
    program = Program.objects.create(code="aurora", name="Aurora", currency="GBP", time_zone="UTC")
    subscribe("a", record_effect)
    _publish(program, 2)
    deliver_outbox(added_by_a_later_release=True)
    assert list_effects() == ["event 0", "event 1"]


@contextmanager
def stopped_worker(at: datetime = NOW) -> Iterator[subprocess.Popen[str]]:
    """Run a worker that stops in the middle of the handler of the first due receipt, and kill it there."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.core.outbox_worker", TOPIC, "a", at.isoformat()],
        env=os.environ | {"DATABASE_URL": _url_of_this_database()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "in the middle\n"
        yield worker
        worker.kill()


@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_in_the_middle_leaves_only_its_attempt_and_the_next_one_delivers(subscribe: Subscribe) -> None:
    program = Program.objects.create(code="aurora", name="Aurora", currency="GBP", time_zone="UTC")
    subscribe("a", record_effect)
    _publish(program)
    outbox.dispatch(at=NOW)
    with stopped_worker():
        # Its receipt is locked: another worker leaves it alone.
        assert outbox.deliver(at=NOW, limit=10) == outbox.Delivery(0, 0)
    # drain() waits until the server has noticed the death and let the lock go.
    assert outbox.drain(at=NOW) == outbox.Delivery(done=1, failed=0)
    assert list_effects() == ["event 0"]
    assert OutboxReceipt.objects.get().attempts == 2


@pytest.mark.django_db(transaction=True)
def test_a_handler_that_kills_its_workers_steps_aside(subscribe: Subscribe) -> None:
    program = Program.objects.create(code="aurora", name="Aurora", currency="GBP", time_zone="UTC")
    subscribe("a", record_effect)
    _publish(program, 2)
    outbox.dispatch(at=NOW)
    deadly = OutboxReceipt.objects.earliest("id")
    again_at = NOW + outbox.retry_delay(1)
    with stopped_worker():
        pass
    # The receipt is not due any more: the next worker goes on with the others at once.
    assert outbox.deliver(at=NOW, limit=10) == outbox.Delivery(done=1, failed=0)
    assert list_effects() == ["event 1"]
    with stopped_worker(again_at):
        pass
    assert outbox.drain(at=again_at) == outbox.Delivery(0, 0)
    deadly.refresh_from_db()
    assert (deadly.attempts, deadly.done_at, deadly.last_error) == (2, None, outbox.NO_OUTCOME)
    assert deadly.next_attempt_at == again_at + outbox.retry_delay(2)
    # Once it does not kill any more, it is applied, once.
    assert outbox.drain(at=deadly.next_attempt_at) == outbox.Delivery(done=1, failed=0)
    assert list_effects() == ["event 1", "event 0"]


def _url_of_this_database() -> str:
    parts = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))


@pytest.mark.django_db(transaction=True)
def test_workers_side_by_side_apply_every_receipt_once(subscribe: Subscribe) -> None:
    program = Program.objects.create(code="aurora", name="Aurora", currency="GBP", time_zone="UTC")
    workers, count = 4, 40
    # The first receipt of each worker waits for the other workers': they do work side by side.
    together = threading.Barrier(workers, timeout=30)
    met = threading.local()

    def meet_then_record(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
        if not getattr(met, "done", False):
            met.done = True
            together.wait()
        record_effect(program_id=program_id, payload=payload, at=at)

    subscribe("a", meet_then_record)
    _publish(program, count)

    def work(_: int) -> outbox.Delivery:
        try:
            outbox.dispatch(at=NOW)
            return outbox.deliver(at=NOW, limit=count)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(workers) as pool:
        outbox.dispatch(at=NOW, limit=count // 2)
        deliveries = list(pool.map(work, range(workers)))
    assert sum(delivery.done for delivery in deliveries) == count
    # Nobody claimed what another was about to deliver.
    assert set(OutboxReceipt.objects.values_list("attempts", flat=True)) == {1}
    assert sorted(list_effects()) == sorted(f"event {number}" for number in range(count))


@pytest.mark.django_db(transaction=True)
def test_two_workers_that_do_not_lock_would_apply_one_receipt_twice(subscribe: Subscribe) -> None:
    """The control: the race is real, and the lock on the receipt is what ends it."""
    program = Program.objects.create(code="aurora", name="Aurora", currency="GBP", time_zone="UTC")
    subscribe("a", record_effect)
    _publish(program)
    outbox.dispatch(at=NOW)
    together = threading.Barrier(2, timeout=30)

    def work_without_lock(_: int) -> None:
        try:
            with transaction.atomic():
                receipt = OutboxReceipt.objects.filter(done_at=None).select_related("event").get()
                together.wait()
                record_effect(program_id=program.pk, payload=receipt.event.payload, at=NOW)
                OutboxReceipt.objects.filter(pk=receipt.pk).update(done_at=NOW)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work_without_lock, range(2)))
    assert list_effects() == ["event 0", "event 0"]
