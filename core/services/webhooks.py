"""Webhook endpoints: who is told, of what, and with which secret messages are signed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import QuerySet

from core import locks, outgoing
from core.models import Event, Program, WebhookDelivery, WebhookEndpoint, make_webhook_secret
from core.services import audit, feed

# Messages carry the signatures of both secrets meanwhile, so that a receiver can be changed over without a gap.
SECRET_OVERLAP = timedelta(days=1)

_REPLAY_SINCE = """
    INSERT INTO core_webhookdelivery AS kept (endpoint_id, event_id, attempts, next_attempt_at)
    SELECT %(endpoint)s, e.id, 0, %(at)s FROM core_event e
    WHERE e.program_id = %(program)s AND e.recorded_at >= %(since)s AND e.type <> 'webhook.test'
        AND (%(types)s::text[] = '{}' OR e.type = ANY (%(types)s::text[]))
    ORDER BY e.number
    ON CONFLICT (endpoint_id, event_id) DO UPDATE SET attempts = 0, next_attempt_at = excluded.next_attempt_at,
        leased_until = NULL, delivered_at = NULL, given_up_at = NULL"""


class EndpointDisabled(Exception):
    """Nothing is sent to a disabled endpoint; enable it first."""


@dataclass(frozen=True, slots=True)
class By:
    """Who changes an endpoint: a login, or the name of what acted."""

    actor: str
    user: User | None = None
    reason: str = ""


@transaction.atomic
def create(
    *, program: Program, url: str, by: By, at: datetime, description: str = "", event_types: Sequence[str] = ()
) -> WebhookEndpoint:
    """Make an endpoint that is told of what is announced from now on; without event types, of everything.

    Raises: ForbiddenUrl.
    """
    outgoing.check_url(url)
    endpoint = WebhookEndpoint.objects.create(
        program=program,
        url=url,
        description=description,
        event_types=sorted(set(event_types)),
        secret=make_webhook_secret(),
        created_at=at,
    )
    _note(endpoint, "webhook.created", by, at, after=_state(endpoint))
    return endpoint


@transaction.atomic
def update(
    *,
    endpoint: WebhookEndpoint,
    by: By,
    at: datetime,
    url: str | None = None,
    description: str | None = None,
    event_types: Sequence[str] | None = None,
    is_enabled: bool | None = None,
) -> WebhookEndpoint:
    """Change what is told of an endpoint, and return it as it is now.

    While it is disabled nothing is made or sent for it; what was waiting goes out when it is enabled again.
    Raises: ForbiddenUrl.
    Locks: the endpoint.
    """
    if url is not None:
        outgoing.check_url(url)
    endpoint = locks.lock_row(endpoint)
    before = _state(endpoint)
    endpoint.url = endpoint.url if url is None else url
    endpoint.description = endpoint.description if description is None else description
    endpoint.event_types = endpoint.event_types if event_types is None else sorted(set(event_types))
    if is_enabled is False and endpoint.disabled_at is None:
        endpoint.disabled_at, endpoint.disabled_reason = at, f"disabled by {by.actor}"[:200]
    elif is_enabled:
        endpoint.disabled_at, endpoint.disabled_reason, endpoint.failing_since = None, "", None
    if _state(endpoint) != before:
        endpoint.save()
        _note(endpoint, "webhook.updated", by, at, before=before, after=_state(endpoint))
    return endpoint


@transaction.atomic
def rotate_secret(*, endpoint: WebhookEndpoint, by: By, at: datetime) -> WebhookEndpoint:
    """Give an endpoint a new secret; the one before signs too for a day.

    Locks: the endpoint.
    """
    endpoint = locks.lock_row(endpoint)
    endpoint.previous_secret, endpoint.previous_secret_expires_at = endpoint.secret, at + SECRET_OVERLAP
    endpoint.secret = make_webhook_secret()
    endpoint.save(update_fields=["secret", "previous_secret", "previous_secret_expires_at"])
    _note(endpoint, "webhook.secret_rotated", by, at)
    return endpoint


@transaction.atomic
def delete(*, endpoint: WebhookEndpoint, by: By, at: datetime) -> None:
    """Remove an endpoint with its deliveries and their log; the audit trail keeps that it was.

    Locks: the feed of its program, so that no delivery is made for it meanwhile; then its deliveries.
    """
    endpoint = _find_under_feed(endpoint)
    _note(endpoint, "webhook.deleted", by, at, before=_state(endpoint))
    with connection.cursor() as cursor:
        # Deliveries first: who is writing an attempt holds its delivery. Foreign keys are checked at the end.
        cursor.execute("DELETE FROM core_webhookdelivery WHERE endpoint_id = %s RETURNING id", [endpoint.pk])
        deliveries = [delivery_id for (delivery_id,) in cursor.fetchall()]
        cursor.execute("DELETE FROM core_webhookattempt WHERE delivery_id = ANY (%s)", [deliveries])
    WebhookEndpoint.objects.filter(pk=endpoint.pk).delete()


@transaction.atomic
def disable(*, endpoint_id: int, reason: str, at: datetime) -> bool:
    """Disable an endpoint that can no longer be told anything; False if it was disabled before."""
    enabled = WebhookEndpoint.objects.filter(pk=endpoint_id, disabled_at=None)
    if not enabled.update(disabled_at=at, disabled_reason=reason[:200]):
        return False
    endpoint = WebhookEndpoint.objects.get(pk=endpoint_id)
    _note(endpoint, "webhook.disabled", By("webhooks", reason=reason), at, after=_state(endpoint))
    return True


@transaction.atomic
def send_test(*, endpoint: WebhookEndpoint, by: By, at: datetime) -> Event:
    """Announce an event of type `webhook.test` to this endpoint alone and return it.

    Raises: EndpointDisabled.
    Locks: the feed of the program.
    """
    endpoint = _find_under_feed(endpoint)
    _require_enabled(endpoint)
    data = {"endpoint": str(endpoint.public_id)}
    event = feed.announce_test(program_id=endpoint.program_id, data=data, at=at)
    WebhookDelivery.objects.create(endpoint=endpoint, event=event, next_attempt_at=at)
    _note(endpoint, "webhook.tested", by, at, after={"event": str(event.public_id)})
    return event


@transaction.atomic
def replay(*, delivery: WebhookDelivery, by: By, at: datetime) -> None:
    """Send one event again, delivered or not, with all its attempts before it.

    Raises: EndpointDisabled.
    """
    _require_enabled(delivery.endpoint)
    WebhookDelivery.objects.filter(pk=delivery.pk).update(
        attempts=0, next_attempt_at=at, leased_until=None, delivered_at=None, given_up_at=None
    )
    _note(delivery.endpoint, "webhook.replayed", by, at, after={"event": str(delivery.event.public_id)})


@transaction.atomic
def replay_since(*, endpoint: WebhookEndpoint, by: By, since: datetime, at: datetime) -> int:
    """Send everything the endpoint wants that was recorded since an instant, sent before or not; return how many.

    Raises: EndpointDisabled.
    Locks: the feed of the program, so that what is announced meanwhile comes before or after it.
    """
    endpoint = _find_under_feed(endpoint)
    _require_enabled(endpoint)
    values: dict[str, Any] = {
        "endpoint": endpoint.pk,
        "program": endpoint.program_id,
        "since": since,
        "types": endpoint.event_types,
        "at": at,
    }
    with connection.cursor() as cursor:
        cursor.execute(_REPLAY_SINCE, values)
        count = int(cursor.rowcount)
    _note(endpoint, "webhook.replayed", by, at, after={"since": since, "deliveries": count})
    return count


def list_deliveries(*, endpoint: WebhookEndpoint) -> QuerySet[WebhookDelivery]:
    """Return an endpoint's deliveries with their events and attempts, the newest first."""
    return endpoint.deliveries.select_related("event").prefetch_related("log").order_by("-id")


def _find_under_feed(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    """Lock the feed of an endpoint's program and return the endpoint as it is now: nobody deletes it meanwhile.

    Raises: WebhookEndpoint.DoesNotExist.
    """
    locks.lock_feed(endpoint.program_id)
    return WebhookEndpoint.objects.select_related("program").get(pk=endpoint.pk)


def _require_enabled(endpoint: WebhookEndpoint) -> None:
    if endpoint.disabled_at is not None:
        raise EndpointDisabled


def _state(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return what the audit trail shows of an endpoint: no secret."""
    return {
        "url": endpoint.url,
        "description": endpoint.description,
        "event_types": endpoint.event_types,
        "disabled": endpoint.disabled_reason if endpoint.disabled_at else None,
    }


def _note(endpoint: WebhookEndpoint, action: str, by: By, at: datetime, **states: dict[str, Any]) -> None:
    audit.record(
        action=action,
        target=f"webhook endpoint {endpoint.public_id}",
        actor=by.actor,
        user=by.user,
        reason=by.reason,
        program=endpoint.program,
        at=at,
        **states,
    )
