"""Sending webhooks: due deliveries are leased, sent outside any transaction, and their outcome written.

A sender that dies leaves leases that lapse; what it had sent is sent again. Threads only talk to the network: the one
that claims and writes is the caller's. Signatures are those of the Standard Webhooks specification.
"""

import base64
import hashlib
import hmac
import json
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from core import locks, outgoing
from core.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from core.services import feed, webhooks

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]

# Longer than looking a name up and sending take, with their time-outs.
LEASE = timedelta(seconds=60)
# One run claims for so long; the next one, due by then, goes on.
CLAIMING = timedelta(seconds=5)
SENDERS = 16
PER_ENDPOINT = 4
# Source: the example schedule of the Standard Webhooks specification. After the last one the delivery is given up.
RETRY_DELAYS = (
    timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=5),
    timedelta(hours=10), timedelta(hours=14), timedelta(hours=20), timedelta(hours=24),
)  # fmt: skip
JITTER = 0.1
# An endpoint at which nothing has arrived for so long is disabled.
PATIENCE = timedelta(days=5)
GONE = 410


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one sending came to."""

    at: datetime
    duration_ms: int
    status: int | None = None
    error: str = ""
    answer: str = ""
    retry_after: str = ""

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def send_due(*, clock: Clock) -> int:
    """Send what is due, endpoints in turn, and return how many sendings that were. Safe to run side by side.

    Locks: the deliveries claimed, for a statement; then they are leased.
    """
    stop_at = clock() + CLAIMING
    sent = 0
    flying: dict[Future[Outcome], WebhookDelivery] = {}
    with ThreadPoolExecutor(SENDERS) as pool:
        while True:
            if (at := clock()) < stop_at and len(flying) < SENDERS:
                for delivery in claim(at=at, limit=SENDERS - len(flying)):
                    flying[pool.submit(send, delivery, clock=clock)] = delivery
            if not flying:
                return sent
            for done in wait(flying, return_when=FIRST_COMPLETED).done:
                record(delivery=flying.pop(done), outcome=done.result())
                sent += 1


def claim(*, at: datetime, limit: int) -> list[WebhookDelivery]:
    """Lease due deliveries and return them with all that sending them takes."""
    ids = locks.claim_deliveries(at=at, until=at + LEASE, limit=limit, per_endpoint=PER_ENDPOINT)
    return list(WebhookDelivery.objects.filter(pk__in=ids).select_related("endpoint", "event").order_by("pk"))


def send(delivery: WebhookDelivery, *, clock: Clock) -> Outcome:
    """Send one delivery. Touches no database; whatever goes wrong out there is the outcome."""
    at, begun = clock(), time.perf_counter()
    body = json.dumps(feed.show(delivery.event), ensure_ascii=False, separators=(",", ":")).encode()
    headers = make_headers(delivery.endpoint, message_id=str(delivery.event.public_id), body=body, at=at)
    told: dict[str, Any]
    try:
        answer = outgoing.post(delivery.endpoint.url, body=body, headers=headers)
        told = {"status": answer.status, "answer": answer.text, "retry_after": answer.retry_after}
    except outgoing.NO_ANSWER as error:
        told = {"error": f"{type(error).__name__}: {error}".replace("\0", "")[:500].rstrip()}
    return Outcome(at=at, duration_ms=round((time.perf_counter() - begun) * 1_000), **told)


def make_headers(endpoint: WebhookEndpoint, *, message_id: str, body: bytes, at: datetime) -> dict[str, str]:
    """Return what a receiver verifies a message by: signed with the secret and, while it is valid, the one before."""
    timestamp = int(at.timestamp())
    secrets = [endpoint.secret]
    if endpoint.previous_secret_expires_at is not None and at < endpoint.previous_secret_expires_at:
        secrets.append(endpoint.previous_secret)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, message_id, timestamp, body) for secret in secrets),
    }


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return a message's signature under one secret, as `v1,<base64>`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


@transaction.atomic
def record(*, delivery: WebhookDelivery, outcome: Outcome) -> None:
    """Write what a sending came to. Who has lost the lease writes nothing: the delivery is another sender's.

    Locks: the delivery, then its endpoint where its health changes.
    """
    own = WebhookDelivery.objects.filter(pk=delivery.pk, leased_until=delivery.leased_until)
    if not own.update(leased_until=None, **_state_after(delivery.attempts, outcome)):
        logger.warning("webhook delivery %s: the lease lapsed before the outcome was written", delivery.pk)
        return
    WebhookAttempt.objects.create(
        delivery=delivery,
        attempted_at=outcome.at,
        duration_ms=outcome.duration_ms,
        status=outcome.status,
        error=outcome.error,
        answer=outcome.answer,
    )
    _note_health(delivery.endpoint_id, outcome)


def _state_after(attempts: int, outcome: Outcome) -> dict[str, datetime | None]:
    if outcome.is_delivered:
        return {"delivered_at": outcome.at, "next_attempt_at": None}
    if outcome.status == GONE or attempts > len(RETRY_DELAYS):
        return {"given_up_at": outcome.at, "next_attempt_at": None}
    delay = max(RETRY_DELAYS[attempts - 1], _asked_delay(outcome.retry_after))
    return {"next_attempt_at": outcome.at + delay * random.uniform(1, 1 + JITTER)}  # noqa: S311 spreads load, no secret


def _asked_delay(retry_after: str) -> timedelta:
    """Return for how long the endpoint asked to be left alone, at most the longest delay of the schedule."""
    is_number = retry_after.isascii() and retry_after.isdecimal() and len(retry_after) < 10
    return min(timedelta(seconds=int(retry_after)), RETRY_DELAYS[-1]) if is_number else timedelta()


def _note_health(endpoint_id: int, outcome: Outcome) -> None:
    """Remember since when nothing has arrived at an endpoint, and disable one that is gone or has been silent long."""
    endpoint = WebhookEndpoint.objects.filter(pk=endpoint_id)
    if outcome.is_delivered:
        endpoint.exclude(failing_since=None).update(failing_since=None)
    elif outcome.status == GONE:
        webhooks.disable(endpoint_id=endpoint_id, reason="the endpoint answered 410 Gone", at=outcome.at)
    elif (
        not endpoint.filter(failing_since=None).update(failing_since=outcome.at)
        and endpoint.filter(failing_since__lte=outcome.at - PATIENCE).exists()
    ):
        reason = f"nothing has arrived for {PATIENCE.days} days"
        webhooks.disable(endpoint_id=endpoint_id, reason=reason, at=outcome.at)
