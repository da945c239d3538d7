"""Endpoints and what becomes of deliveries: signatures, retries, giving up, disabling, replaying."""

import hashlib
import json
import re
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from core.event_types import EventType
from core.models import AuditEntry, Event, Program, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from core.outgoing import ForbiddenUrl
from core.services import feed, webhook_sending, webhooks
from core.services.feed import News
from core.services.webhook_sending import RETRY_DELAYS, Outcome, send_due, sign
from core.services.webhooks import By, EndpointDisabled
from tests.core.conftest import NOW
from tests.core.receivers import Receiver, receiving

BY = By("ops")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def inside_allowed(settings: Any) -> None:
    settings.WEBHOOKS_PRIVATE_HOSTS = True


@pytest.fixture
def receiver() -> Any:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def endpoint(program: Program, receiver: Receiver) -> WebhookEndpoint:
    return webhooks.create(program=program, url=receiver.url, by=BY, at=NOW)


def announce(program: Program, *names: str, at: datetime = NOW) -> None:
    news = [News(EventType.MEMBER_UPDATED, name, {"member": name}, at) for name in names]
    feed.announce(program_id=program.pk, news=news, at=at)


def send(at: datetime = NOW) -> int:
    return send_due(clock=lambda: at)


def fail_until_given_up(endpoint: WebhookEndpoint) -> list[datetime]:
    """Let the one delivery fail at each of its instants, and return them."""
    instants = []
    while due := WebhookDelivery.objects.get().next_attempt_at:
        instants.append(due)
        assert send(due - timedelta(microseconds=1)) == 0
        assert send(due) == 1
    return instants


def test_signs_as_the_specification_does() -> None:
    """Source: the test of signing in the specification's own libraries."""
    secret, message = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, message)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_arrives_signed_and_as_the_feed_shows_it(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    announce(program, "ädä")
    assert send() == 1
    (message,) = receiver.came
    event = Event.objects.get()
    assert json.loads(message.body) == feed.show(event)
    assert message.headers["webhook-id"] == str(event.public_id)
    assert message.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    signature = sign(endpoint.secret, str(event.public_id), int(NOW.timestamp()), message.body)
    assert message.headers["webhook-signature"] == signature
    delivery, attempt = WebhookDelivery.objects.get(), WebhookAttempt.objects.get()
    assert (delivery.delivered_at, delivery.next_attempt_at, delivery.leased_until) == (NOW, None, None)
    assert (attempt.delivery, attempt.status, attempt.error, attempt.attempted_at) == (delivery, 204, "", NOW)
    assert send(NOW + DAY) == 0


def test_a_rotated_secret_and_the_one_before_sign_for_a_day(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    rotated = webhooks.rotate_secret(endpoint=endpoint, by=BY, at=NOW)
    assert rotated.secret != endpoint.secret
    for at in (NOW + DAY - timedelta(seconds=1), NOW + DAY):
        announce(program, "a", at=at)
        send(at)
    during, after = receiver.came

    def signed(message: Any, secret: str) -> str:
        headers = message.headers
        return sign(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), message.body)

    both = f"{signed(during, rotated.secret)} {signed(during, endpoint.secret)}"
    assert during.headers["webhook-signature"] == both
    assert after.headers["webhook-signature"] == signed(after, rotated.secret)


def test_failures_are_retried_on_the_schedule_with_jitter_and_then_given_up(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    receiver.answer, receiver.text = (lambda _path: 500), b"out of order"
    announce(program, "a")
    instants = fail_until_given_up(endpoint)
    assert instants[0] == NOW
    waits = [later - earlier for earlier, later in pairwise(instants)]
    assert len(waits) == len(RETRY_DELAYS) == 9
    assert all(delay <= wait <= delay * 1.1 for wait, delay in zip(waits, RETRY_DELAYS, strict=True))
    delivery = WebhookDelivery.objects.get()
    assert (delivery.attempts, delivery.given_up_at, delivery.delivered_at) == (10, instants[-1], None)
    assert len(set(receiver.ids)) == 1
    assert len({message.headers["webhook-timestamp"] for message in receiver.came}) == 10
    log = list(WebhookAttempt.objects.order_by("id").values_list("attempted_at", "status", "answer"))
    assert log == [(at, 500, "out of order") for at in instants]


def test_a_delivery_that_succeeds_late_is_delivered(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    receiver.answer = lambda _path: 503
    announce(program, "a")
    send()
    assert WebhookEndpoint.objects.get().failing_since == NOW
    receiver.answer = lambda _path: 299
    assert send(NOW + MINUTE) == 1
    assert WebhookDelivery.objects.get().delivered_at == NOW + MINUTE
    assert WebhookEndpoint.objects.get().failing_since is None


@pytest.mark.parametrize("status", [199 + 101, 301, 304, 400, 404, 429, 502])
def test_what_is_not_in_the_two_hundreds_is_a_failure(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver, status: int
) -> None:
    receiver.answer, receiver.headers = (lambda _path: status), {"Location": receiver.url + "/else"}
    announce(program, "a")
    send()
    assert len(receiver.came) == 1
    assert WebhookDelivery.objects.get().delivered_at is None
    assert WebhookAttempt.objects.get().status == status


@pytest.mark.parametrize(
    ("asked", "least"), [("3600", 3_600), ("1", 5), ("99999999", 86_400), ("soon", 5), ("9" * 40, 5)]
)
def test_retry_after_is_respected_up_to_a_day(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver, asked: str, least: int
) -> None:
    receiver.answer, receiver.headers = (lambda _path: 503), {"Retry-After": asked}
    announce(program, "a")
    send()
    due = WebhookDelivery.objects.get().next_attempt_at
    assert due is not None
    assert least <= (due - NOW).total_seconds() <= least * 1.1


def test_gone_disables_at_once(program: Program, endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    receiver.answer = lambda _path: 410
    announce(program, "a")
    send()
    announce(program, "b")
    endpoint.refresh_from_db()
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (NOW, "the endpoint answered 410 Gone")
    assert WebhookDelivery.objects.get().given_up_at == NOW
    entry = AuditEntry.objects.get(action="webhook.disabled")
    assert (entry.actor, entry.reason) == ("webhooks", "the endpoint answered 410 Gone")


def test_an_endpoint_at_which_nothing_arrives_for_five_days_is_disabled(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    receiver.answer = lambda _path: 500
    announce(program, "a")
    send()
    last = NOW + 5 * DAY - timedelta(microseconds=1)
    announce(program, "b", at=last)
    send(last)
    endpoint.refresh_from_db()
    assert (endpoint.failing_since, endpoint.disabled_at) == (NOW, None)
    announce(program, "c", at=NOW + 5 * DAY)
    send(NOW + 5 * DAY)
    endpoint.refresh_from_db()
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (NOW + 5 * DAY, "nothing has arrived for 5 days")
    assert AuditEntry.objects.filter(action="webhook.disabled").count() == 1
    assert send(NOW + 9 * DAY) == 0
    receiver.answer = lambda _path: 200
    webhooks.update(endpoint=endpoint, by=BY, at=NOW + 9 * DAY, is_enabled=True)
    assert send(NOW + 9 * DAY) == 3
    endpoint.refresh_from_db()
    assert (endpoint.disabled_at, endpoint.disabled_reason, endpoint.failing_since) == (None, "", None)


def test_a_server_that_is_away_is_a_failure_with_its_reason(program: Program, settings: Any) -> None:
    webhooks.create(program=program, url="http://127.0.0.1:9", by=BY, at=NOW)
    announce(program, "a")
    send()
    attempt = WebhookAttempt.objects.get()
    assert attempt.status is None
    assert "refused" in attempt.error
    settings.WEBHOOKS_PRIVATE_HOSTS = False
    send(NOW + MINUTE)
    assert WebhookAttempt.objects.latest("id").error == "ForbiddenUrl: a URL must begin with https://"


def test_an_endpoint_is_made_changed_and_noted_without_its_secret(program: Program, settings: Any) -> None:
    settings.WEBHOOKS_PRIVATE_HOSTS = False
    made = webhooks.create(
        program=program, url="https://shop.example/a", event_types=["order.paid", "order.paid"], by=BY, at=NOW
    )
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", made.secret)
    changed = webhooks.update(endpoint=made, url="https://shop.example/b", is_enabled=False, by=BY, at=NOW)
    assert (changed.url, changed.event_types, changed.disabled_reason) == (
        "https://shop.example/b", ["order.paid"], "disabled by ops",
    )  # fmt: skip
    webhooks.update(endpoint=made, url="https://shop.example/b", is_enabled=False, by=BY, at=NOW + DAY)
    webhooks.rotate_secret(endpoint=made, by=BY, at=NOW)
    with pytest.raises(ForbiddenUrl):
        webhooks.update(endpoint=made, url="https://10.0.0.1/", by=BY, at=NOW)
    with pytest.raises(ForbiddenUrl):
        webhooks.create(program=program, url="https://10.0.0.1/", by=BY, at=NOW)
    entries = AuditEntry.objects.order_by("id")
    assert [entry.action for entry in entries] == ["webhook.created", "webhook.updated", "webhook.secret_rotated"]
    assert "whsec" not in str([(entry.before, entry.after) for entry in entries])
    assert WebhookEndpoint.objects.get().disabled_at == NOW


def test_a_deleted_endpoint_is_gone_with_its_log(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    other = webhooks.create(program=program, url=receiver.url + "/other", by=BY, at=NOW)
    announce(program, "a")
    send()
    webhooks.delete(endpoint=endpoint, by=BY, at=NOW)
    assert list(WebhookEndpoint.objects.all()) == [other]
    assert [delivery.endpoint for delivery in WebhookDelivery.objects.all()] == [other]
    assert WebhookAttempt.objects.get().delivery.endpoint == other
    assert AuditEntry.objects.get(action="webhook.deleted", before__url=receiver.url).after is None


def test_one_delivery_is_sent_again(program: Program, endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    announce(program, "a", "b")
    send()
    first = WebhookDelivery.objects.order_by("id")[0]
    webhooks.replay(delivery=first, by=webhooks.By("test"), at=NOW + DAY)
    first.refresh_from_db()
    assert (first.delivered_at, first.next_attempt_at, first.attempts) == (None, NOW + DAY, 0)
    assert send(NOW + DAY) == 1
    assert receiver.ids[2:] == [str(first.event.public_id)]
    assert first.log.count() == 2


def test_everything_since_an_instant_is_sent_again_with_what_was_missed(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    announce(program, "before", at=NOW - DAY)
    announce(program, "sent")
    send()
    webhooks.update(endpoint=endpoint, is_enabled=False, by=BY, at=NOW)
    announce(program, "missed", at=NOW + MINUTE)
    with pytest.raises(EndpointDisabled):
        webhooks.replay_since(endpoint=WebhookEndpoint.objects.get(), by=webhooks.By("test"), since=NOW, at=NOW + DAY)
    enabled = webhooks.update(endpoint=endpoint, is_enabled=True, by=BY, at=NOW + DAY)
    announce(program, "waiting", at=NOW + DAY)
    receiver.came.clear()
    assert webhooks.replay_since(endpoint=enabled, by=webhooks.By("test"), since=NOW, at=NOW + DAY) == 3
    assert send(NOW + DAY) == 3
    names = {json.loads(message.body)["subject"] for message in receiver.came}
    assert names == {"sent", "missed", "waiting"}


def test_a_replay_sends_only_the_types_wanted(program: Program, receiver: Receiver) -> None:
    endpoint = webhooks.create(program=program, url=receiver.url, event_types=["order.paid"], by=BY, at=NOW)
    announce(program, "a")
    assert webhooks.replay_since(endpoint=endpoint, by=webhooks.By("test"), since=NOW, at=NOW) == 0


def test_a_replay_while_it_is_under_way_is_sent_all_the_same(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    announce(program, "a")
    (claimed,) = webhook_sending.claim(at=NOW, limit=1)
    webhooks.replay(delivery=claimed, by=webhooks.By("test"), at=NOW)
    webhook_sending.record(delivery=claimed, outcome=Outcome(at=NOW, duration_ms=1, status=200))
    assert WebhookDelivery.objects.get().delivered_at is None
    assert send() == 1


def test_a_test_event_goes_to_its_endpoint_alone(
    program: Program, endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    webhooks.create(program=program, url=receiver.url + "/other", by=BY, at=NOW)
    picky = webhooks.create(program=program, url=receiver.url + "/picky", event_types=["order.paid"], by=BY, at=NOW)
    event = webhooks.send_test(endpoint=picky, by=webhooks.By("test"), at=NOW)
    send()
    assert [(message.path, json.loads(message.body)) for message in receiver.came] == [("/picky", feed.show(event))]
    assert (event.type, event.data) == ("webhook.test", {"endpoint": str(picky.public_id)})
    webhooks.update(endpoint=picky, is_enabled=False, by=BY, at=NOW)
    picky.refresh_from_db()
    with pytest.raises(EndpointDisabled):
        webhooks.send_test(endpoint=picky, by=webhooks.By("test"), at=NOW)
    assert Event.objects.count() == 1


def test_the_secret_is_long_enough_and_each_endpoints_own(program: Program) -> None:
    secrets = {webhooks.create(program=program, url="https://a.example", by=BY, at=NOW).secret for _ in range(20)}
    assert len({hashlib.sha256(secret.encode()).digest() for secret in secrets}) == 20
