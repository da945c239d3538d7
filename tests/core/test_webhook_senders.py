"""Senders side by side, slow endpoints, and senders that die."""

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from core import locks
from core.models import AuditEntry, Program, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from core.services import webhook_sending, webhooks
from core.services.webhook_sending import LEASE, PER_ENDPOINT, send_due
from core.tasks import send_webhooks
from tests.core.conftest import NOW
from tests.core.receivers import Receiver, receiving, speaking, url_of_this_database
from tests.core.test_feed import make_program
from tests.core.test_webhooks import BY, announce
from tests.membership.two_connections import overlap

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def inside_allowed(settings: Any) -> None:
    settings.WEBHOOKS_PRIVATE_HOSTS = True


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def make_endpoint(program: Program, url: str) -> WebhookEndpoint:
    return webhooks.create(program=program, url=url, by=BY, at=NOW)


def claim(at: datetime = NOW, limit: int = 100) -> list[int]:
    return [delivery.event.number for delivery in webhook_sending.claim(at=at, limit=limit)]


def test_a_claim_locks_what_it_leases_and_waits_for_nobody(receiver: Receiver) -> None:
    program = make_program()
    make_endpoint(program, receiver.url)
    announce(program, "a")
    with CaptureQueriesContext(connection) as queries:
        assert claim() == [1]
    statement = queries[0]["sql"]
    assert "FOR NO KEY UPDATE SKIP LOCKED" in statement
    assert "UPDATE core_webhookdelivery" in statement
    delivery = WebhookDelivery.objects.get()
    assert (delivery.leased_until, delivery.attempts) == (NOW + LEASE, 1)
    assert claim(NOW + LEASE - timedelta(microseconds=1)) == []
    assert claim(NOW + LEASE) == [1]


def test_a_sender_leaves_out_what_another_is_claiming(receiver: Receiver) -> None:
    program = make_program()
    make_endpoint(program, receiver.url)
    announce(program, *"abcdef")
    claimed: list[list[int]] = []
    assert not overlap(lambda: claimed.append(claim(limit=2)), lambda: claimed.append(claim(limit=2)))
    first, second = claimed
    assert first == [1, 2]
    assert len(second) == 2
    assert not set(first) & set(second)


def test_control_without_the_lock_both_claim_the_same(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    unlocked = locks._CLAIM_DELIVERIES.replace("FOR NO KEY UPDATE SKIP LOCKED", "")
    assert unlocked != locks._CLAIM_DELIVERIES
    monkeypatch.setattr(locks, "_CLAIM_DELIVERIES", unlocked)
    program = make_program()
    make_endpoint(program, receiver.url)
    announce(program, *"abcdef")
    claimed: list[list[int]] = []
    assert overlap(lambda: claimed.append(claim(limit=2)), lambda: claimed.append(claim(limit=2)))
    assert claimed == [[1, 2], [1, 2]]


def test_endpoints_take_turns_and_one_has_only_so_many_under_way(receiver: Receiver) -> None:
    program = make_program()
    busy, quiet = make_endpoint(program, receiver.url), make_endpoint(program, receiver.url)
    announce(program, *"abcdefgh")
    WebhookDelivery.objects.filter(endpoint=quiet, event__number__gt=2).delete()

    def claim_by_endpoint(limit: int) -> dict[int, int]:
        return Counter(delivery.endpoint_id for delivery in webhook_sending.claim(at=NOW, limit=limit))

    assert claim_by_endpoint(2) == {busy.pk: 1, quiet.pk: 1}
    assert claim_by_endpoint(2) == {busy.pk: 1, quiet.pk: 1}
    assert claim_by_endpoint(100) == {busy.pk: PER_ENDPOINT - 2}
    assert claim_by_endpoint(100) == {}


def test_what_is_due_of_disabled_endpoints_is_left(receiver: Receiver) -> None:
    program = make_program()
    endpoint = make_endpoint(program, receiver.url)
    announce(program, "a")
    webhooks.update(endpoint=endpoint, is_enabled=False, by=BY, at=NOW)
    assert claim() == []
    webhooks.update(endpoint=endpoint, is_enabled=True, by=BY, at=NOW)
    assert claim() == [1]


def test_senders_side_by_side_send_each_delivery_once(receiver: Receiver) -> None:
    program = make_program()
    for _ in range(3):
        make_endpoint(program, receiver.url)
    announce(program, *(str(number) for number in range(20)))

    def work(_: int) -> int:
        try:
            return send_due(clock=lambda: NOW)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(work, range(4)))
    sent.append(send_due(clock=lambda: NOW))
    assert sum(sent) == len(receiver.came) == 60
    assert set(Counter(receiver.ids).values()) == {3}
    assert WebhookDelivery.objects.filter(delivered_at=NOW, attempts=1).count() == 60


def test_a_slow_endpoint_holds_up_nobody(receiver: Receiver) -> None:
    """The slow one answers only after all the others have been told everything."""
    program = make_program()
    told_all = threading.Event()
    make_endpoint(program, receiver.url + "/slow")
    make_endpoint(program, receiver.url + "/fast")
    announce(program, *(str(number) for number in range(30)))
    fast = []

    def answer(path: str) -> int:
        if path == "/slow":
            return 204 if told_all.wait(20) else 500
        fast.append(path)
        if len(fast) == 30:
            told_all.set()
        return 204

    receiver.answer = answer
    assert send_due(clock=lambda: NOW) == 60
    assert WebhookDelivery.objects.filter(delivered_at=NOW).count() == 60


def test_a_sender_killed_between_sending_and_writing_sends_again_after_its_lease(receiver: Receiver) -> None:
    program = make_program()
    make_endpoint(program, receiver.url)
    announce(program, "a")
    environment = {"DATABASE_URL": url_of_this_database(), "PERENNIAL_WEBHOOKS_PRIVATE_HOSTS": "1"}
    sender = subprocess.Popen(
        [sys.executable, "-m", "tests.core.webhook_sender", NOW.isoformat()],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "sent 204\n"
        sender.kill()
    assert not WebhookAttempt.objects.exists()
    assert send_due(clock=lambda: NOW + LEASE - timedelta(microseconds=1)) == 0
    assert send_due(clock=lambda: NOW + LEASE) == 1
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1
    delivery = WebhookDelivery.objects.get()
    assert (delivery.attempts, delivery.delivered_at) == (2, NOW + LEASE)


def test_who_has_lost_the_lease_writes_nothing(receiver: Receiver) -> None:
    program = make_program()
    make_endpoint(program, receiver.url)
    announce(program, "a")
    (slow,) = webhook_sending.claim(at=NOW, limit=1)
    (taken_over,) = webhook_sending.claim(at=NOW + LEASE, limit=1)
    outcome = webhook_sending.send(slow, clock=lambda: NOW)
    webhook_sending.record(delivery=slow, outcome=outcome)
    assert not WebhookAttempt.objects.exists()
    webhook_sending.record(delivery=taken_over, outcome=outcome)
    assert WebhookAttempt.objects.count() == 1


def test_an_outcome_for_an_endpoint_deleted_meanwhile_is_dropped(receiver: Receiver) -> None:
    program = make_program()
    endpoint = make_endpoint(program, receiver.url)
    announce(program, "a")

    def answer(_path: str) -> int:
        webhooks.delete(endpoint=endpoint, by=BY, at=NOW)
        connections.close_all()
        return 204

    receiver.answer = answer
    assert send_due(clock=lambda: NOW) == 1
    assert not WebhookAttempt.objects.exists()
    assert not WebhookEndpoint.objects.exists()


def test_an_endpoint_is_deleted_while_an_outcome_is_written(receiver: Receiver) -> None:
    program = make_program()
    endpoint = make_endpoint(program, receiver.url)
    announce(program, "a")
    (claimed,) = webhook_sending.claim(at=NOW, limit=1)
    outcome = webhook_sending.send(claimed, clock=lambda: NOW)
    assert overlap(
        lambda: webhook_sending.record(delivery=claimed, outcome=outcome),
        lambda: webhooks.delete(endpoint=endpoint, by=BY, at=NOW),
    )
    assert not WebhookAttempt.objects.exists()
    assert not WebhookEndpoint.objects.exists()


def test_an_answer_that_cannot_be_stored_is_an_outcome_like_any_other(receiver: Receiver) -> None:
    """It is not lost, and neither is what was sent to others meanwhile."""
    program = make_program()
    with speaking(says=b"\0 no HTTP\r\n\r\n") as url:
        babbling, sound = make_endpoint(program, url), make_endpoint(program, receiver.url)
        announce(program, "a", "b")
        assert send_due(clock=lambda: NOW) == 4
    assert WebhookDelivery.objects.filter(endpoint=sound, delivered_at=NOW).count() == 2
    attempts = WebhookAttempt.objects.filter(delivery__endpoint=babbling)
    assert {attempt.error for attempt in attempts} == {"BadStatusLine:  no HTTP"}
    assert not WebhookDelivery.objects.exclude(leased_until=None).exists()


@pytest.mark.parametrize("change", [
    lambda endpoint: webhooks.send_test(endpoint=endpoint, by=webhooks.By("test"), at=NOW),
    lambda endpoint: webhooks.replay_since(endpoint=endpoint, by=webhooks.By("test"), since=NOW, at=NOW),
    lambda endpoint: webhooks.update(endpoint=endpoint, by=BY, at=NOW, description="x"),
    lambda endpoint: webhooks.rotate_secret(endpoint=endpoint, by=BY, at=NOW),
    lambda endpoint: webhooks.delete(endpoint=endpoint, by=BY, at=NOW),
])  # fmt: skip
def test_what_is_asked_of_an_endpoint_while_it_is_deleted_finds_none(receiver: Receiver, change: Any) -> None:
    program = make_program()
    endpoint = make_endpoint(program, receiver.url)
    announce(program, "a")
    with pytest.raises(WebhookEndpoint.DoesNotExist):
        overlap(lambda: webhooks.delete(endpoint=endpoint, by=BY, at=NOW), lambda: change(endpoint))
    assert not WebhookDelivery.objects.exists()
    assert AuditEntry.objects.filter(action="webhook.deleted").count() == 1


def test_nothing_is_sent_inside_a_transaction(receiver: Receiver) -> None:
    """While the receiver thinks, no connection of this database is in a transaction."""
    program = make_program()
    make_endpoint(program, receiver.url)
    announce(program, "a")
    idle: list[int] = []

    def answer(_path: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
                " AND pid <> pg_backend_pid()"
            )
            idle.append(cursor.fetchone()[0])
        connections.close_all()
        return 204

    receiver.answer = answer
    send_due(clock=lambda: NOW)
    assert idle == [0]


def test_the_task_sends(receiver: Receiver) -> None:
    program = make_program()
    make_endpoint(program, receiver.url)
    announce(program, "a")
    send_webhooks(added_by_a_later_release=True)
    assert len(receiver.came) == 1
