"""Keys, webhooks and day closes as administrators handle them."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from kombu.simple import SimpleQueue

from config.celery import app
from core.event_types import EventType
from core.models import ApiKey, AuditEntry, Program, Scope, WebhookDelivery, WebhookEndpoint
from core.services import api_keys, webhooks
from storefront.models import DayClose
from storefront.services import day_close
from storefront.tasks import close_program

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEYS = reverse("admin:core_apikey_changelist")
ISSUE = reverse("admin:core_apikey_issue")


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected


@pytest.fixture
def program(db: None) -> Program:
    return Program.objects.create(code="aurora", name="Aurora", currency="GBP", time_zone="Europe/London")


@pytest.fixture
def operator(admin_client: Client) -> Client:
    return admin_client


def form_of(client: Client, url: str) -> dict[str, Any]:
    fields = client.get(url).context["form"]
    return {field.html_name: field.value() for field in fields if field.value() is not None}


def shown_secret(page: str) -> str:
    found = re.search(r'id="secret">([^<]+)<', page)
    assert found is not None
    return found[1]


def issue(client: Client, program: Program, **changes: Any) -> Any:
    told = {
        "program": program.pk,
        "name": "shop",
        "scopes": [Scope.MEMBERS_READ, Scope.FACTS_WRITE],
        "reason": "launch",
    }
    return client.post(ISSUE, form_of(client, ISSUE) | told | changes)


def test_a_key_is_issued_and_shown_once(program: Program, operator: Client) -> None:
    asked = operator.get(ISSUE).content.decode()
    assert all(scope in asked for scope in Scope.values)
    answer = issue(
        operator, program, allowed_origins="https://shop.example\nhttps://m.shop.example", rate_per_minute="600"
    )
    text = shown_secret(answer.content.decode())
    assert "no-store" in answer["Cache-Control"]
    key = ApiKey.objects.get()
    found = api_keys.find(text)
    assert found is not None
    assert found.id == key.pk
    assert key.scopes == [Scope.FACTS_WRITE, Scope.MEMBERS_READ]
    assert (key.allowed_origins, key.rate_per_minute) == (["https://m.shop.example", "https://shop.example"], 600)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.reason, entry.actor) == ("api_key.issued", "launch", "admin")
    secret = text.split(".")[1]
    for url in (KEYS, reverse("admin:core_apikey_change", args=[key.pk])):
        page = operator.get(url).content.decode()
        assert key.prefix in page
        assert secret not in page
    assert secret not in str(list(AuditEntry.objects.values()))


def test_the_same_form_sent_twice_issues_one_key(program: Program, operator: Client) -> None:
    once = form_of(operator, ISSUE)["once"]
    shown_secret(issue(operator, program, once=once).content.decode())
    again = issue(operator, program, once=once)
    assert "This form was sent before." in again.content.decode()
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scopes": []}, "This field is required."),
        ({"scopes": ["everything"]}, "Select a valid choice."),
        ({"allowed_origins": "shop.example/path"}, "is no web origin"),
        ({"rate_per_minute": "0"}, "greater than or equal to 1"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "a key must expire in the future"),
        ({"reason": ""}, "This field is required."),
    ],
)
def test_a_key_that_cannot_be_is_refused(
    program: Program, operator: Client, changes: dict[str, Any], message: str
) -> None:
    assert message in issue(operator, program, **changes).content.decode()
    assert not ApiKey.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_refused_form_can_be_sent_again(program: Program, operator: Client) -> None:
    once = form_of(operator, ISSUE)["once"]
    issue(operator, program, once=once, allowed_origins="nonsense")
    shown_secret(issue(operator, program, once=once).content.decode())


def test_a_key_is_rotated_once_and_revoked_with_a_reason(program: Program, operator: Client) -> None:
    issued = api_keys.issue(program=program, name="shop", scopes=[Scope.MEMBERS_READ], actor="test", at=NOW)
    rotate = reverse("admin:core_apikey_rotate", args=[issued.key.pk])
    assert shown_secret(operator.post(rotate, {"reason": "yearly"}).content.decode()).startswith("pnl_live_")
    assert "has a successor already" in operator.post(rotate, {"reason": "yearly"}).content.decode()
    assert ApiKey.objects.count() == 2

    revoke = reverse("admin:core_apikey_revoke", args=[issued.key.pk])
    operator.post(revoke, {"reason": ""})
    assert ApiKey.objects.get(pk=issued.key.pk).revoked_at is None
    operator.post(revoke, {"reason": "leaked"})
    operator.post(revoke, {"reason": "leaked"})
    assert ApiKey.objects.get(pk=issued.key.pk).revoked_at is not None
    entries = AuditEntry.objects.filter(action="api_key.revoked")
    assert [entry.reason for entry in entries] == ["leaked"]
    assert "revoked" in operator.get(KEYS).content.decode()


def test_an_endpoint_is_made_with_checks_and_its_secret_shown_once(program: Program, operator: Client) -> None:
    url = reverse("admin:core_webhookendpoint_create")
    told = {"program": program.pk, "url": "https://127.0.0.1/hook", "reason": "launch"}
    form = form_of(operator, url) | told
    assert not WebhookEndpoint.objects.exists()
    refused = operator.post(url, form | {"url": "http://10.0.0.1/hook"}).content.decode()
    assert 'id="secret"' not in refused
    assert not WebhookEndpoint.objects.exists()
    form |= {"url": "https://shop.example/hook", "event_types": [EventType.ORDER_PAID]}
    page = operator.post(url, form).content.decode()
    endpoint = WebhookEndpoint.objects.get()
    assert shown_secret(page) == endpoint.secret
    assert endpoint.event_types == [EventType.ORDER_PAID]
    shown = operator.get(reverse("admin:core_webhookendpoint_change", args=[endpoint.pk])).content.decode()
    assert endpoint.secret not in shown
    assert "This form was sent before." in operator.post(url, form).content.decode()
    assert WebhookEndpoint.objects.count() == 1


@pytest.fixture
def endpoint(program: Program) -> WebhookEndpoint:
    return webhooks.create(program=program, url="https://shop.example/hook", by=webhooks.By("test"), at=NOW)


def button(row: Any, name: str) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{name}", args=[row.pk])


def test_an_endpoint_is_edited_disabled_enabled_tested_and_its_secret_rotated(
    endpoint: WebhookEndpoint, operator: Client
) -> None:
    form = form_of(operator, button(endpoint, "edit"))
    operator.post(button(endpoint, "edit"), form | {"description": "till", "reason": "moved"})
    operator.post(button(endpoint, "disable"), {"reason": "maintenance"})
    endpoint.refresh_from_db()
    assert endpoint.description == "till"
    assert endpoint.disabled_at is not None
    assert "The endpoint is disabled." in operator.post(button(endpoint, "test")).content.decode()
    assert not WebhookDelivery.objects.exists()
    operator.post(button(endpoint, "enable"), {"reason": "done"})
    operator.post(button(endpoint, "test"))
    assert WebhookDelivery.objects.get().event.type == EventType.WEBHOOK_TEST

    form = form_of(operator, button(endpoint, "rotate")) | {"reason": "yearly"}
    secret = shown_secret(operator.post(button(endpoint, "rotate"), form).content.decode())
    operator.post(button(endpoint, "rotate"), form)
    before, endpoint = endpoint.secret, WebhookEndpoint.objects.get()
    assert (endpoint.secret, endpoint.previous_secret) == (secret, before)
    actions = list(AuditEntry.objects.order_by("id").values_list("action", "reason"))
    assert actions[1:] == [
        ("webhook.updated", "moved"), ("webhook.updated", "maintenance"), ("webhook.updated", "done"),
        ("webhook.tested", ""), ("webhook.secret_rotated", "yearly"),
    ]  # fmt: skip


def test_a_delivery_is_sent_again_and_lists_filter_by_state(endpoint: WebhookEndpoint, operator: Client) -> None:
    for _ in range(2):
        webhooks.send_test(endpoint=endpoint, by=webhooks.By("test"), at=NOW)
    first, second = WebhookDelivery.objects.order_by("id")
    WebhookDelivery.objects.filter(pk=first.pk).update(given_up_at=NOW, next_attempt_at=None, attempts=9)

    def listed(query: str) -> list[int]:
        page = operator.get(reverse("admin:core_webhookdelivery_changelist") + query)
        return [row.pk for row in page.context["cl"].result_list]

    assert listed("?state=given_up") == [first.pk]
    assert listed("?state=waiting") == [second.pk]
    assert listed("?state=delivered") == listed("?state=failing") == []
    assert listed(f"?endpoint__id__exact={endpoint.pk}") == [second.pk, first.pk]
    operator.post(button(first, "replay"))
    first.refresh_from_db()
    assert (first.given_up_at, first.attempts) == (None, 0)
    assert first.next_attempt_at is not None
    assert AuditEntry.objects.filter(action="webhook.replayed").count() == 1


@pytest.fixture
def queue() -> Iterator[SimpleQueue]:
    """What the workers would get next."""
    with app.connection_for_read() as broker, broker.SimpleQueue("celery") as queue:
        queue.clear()
        yield queue
        queue.clear()


def test_due_days_are_put_on_record_without_redis(
    program: Program, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Program.objects.filter(pk=program.pk).update(opened_at=timezone.now() - timedelta(days=3))
    with monkeypatch.context() as away:
        away.setattr(app.conf, "broker_url", "redis://127.0.0.1:1/0")
        away.setattr(app, "_pool", None)
        away.setattr(app.amqp, "_producer_pool", None)
        url = reverse("admin:storefront_dayclose_close_now")
        assert operator.post(url, {"program": program.pk, "reason": "the clock was down"}).status_code == 302
    assert DayClose.objects.get().finished_at is None


def test_due_days_are_handed_to_the_workers(program: Program, operator: Client, queue: SimpleQueue) -> None:
    Program.objects.filter(pk=program.pk).update(opened_at=timezone.now() - timedelta(days=3))
    program.refresh_from_db()
    url = reverse("admin:storefront_dayclose_close_now")
    assert operator.get(url).status_code == 200
    assert not DayClose.objects.exists()
    assert operator.post(url, {"program": program.pk, "reason": "the clock was down"}).status_code == 302
    close = DayClose.objects.get()
    assert (close.requested_by, close.finished_at) == ("admin", None)
    message = queue.get(timeout=10)
    assert message.headers["task"] == close_program.name
    assert message.payload[1] == {"program_id": program.pk, "requested_by": "admin"}
    assert AuditEntry.objects.get(action="day_close.requested").reason == "the clock was down"

    due = day_close.list_due_days(program=program, at=timezone.now())
    for day in due:
        day_close.close_day(program=program, day=day, at=timezone.now(), requested_by="test")
    operator.post(url, {"program": program.pk, "reason": "again"})
    with pytest.raises(SimpleQueue.Empty):
        queue.get(block=False)
    shown = operator.get(reverse("admin:storefront_dayclose_change", args=[close.pk])).content.decode()
    for step in day_close.StepName:
        assert str(step.label) in shown
