"""Every list of the admin with more rows than a page has: it opens, in as many queries as with few, uncounted."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from core.models import AuditEntry, OutboxEvent, OutboxReceipt, Program
from core.services import audit
from points.models import LedgerTransaction
from tests.storefront.admin_rows import NO_LISTS, add_rows

FEW, MANY = 5, 61
ROWS_PER_PAGE = 50
# Counted by Django's own pages; there are as many of them as people who work here.
COUNTED = {User, Group}


@pytest.fixture
def operator(client: Client, admin_user: User) -> Client:
    client.force_login(admin_user)
    return client


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected


def _lists() -> Iterator[tuple[type[Model], str]]:
    for model in admin.site._registry.keys() - NO_LISTS:
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        # The ledger's list shows the latest days, and these rows are of other ones.
        yield model, url + ("?recorded_at_from=2026-01-01" if model is LedgerTransaction else "")


def _queries(client: Client) -> dict[type[Model], list[str]]:
    asked = {}
    for model, url in _lists():
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200, url
        asked[model] = [query["sql"] for query in captured]
    return asked


def test_no_list_asks_more_queries_for_more_rows(db: None, operator: Client, tmp_path: Path) -> None:
    add_rows(tmp_path, range(FEW))
    _queries(operator)  # content types are read once
    few = _queries(operator)
    add_rows(tmp_path, range(FEW, MANY))
    many = _queries(operator)
    for model, url in _lists():
        assert model._default_manager.count() > ROWS_PER_PAGE, model
        assert len(operator.get(url).context["cl"].result_list) == ROWS_PER_PAGE, model
        # A filter that offers programs or endpoints reads them all in one query.
        assert len(many[model]) <= len(few[model]), many[model]
        if model not in COUNTED:
            assert not [sql for sql in many[model] if "COUNT(" in sql], model


def test_every_page_of_a_row_opens(db: None, operator: Client, tmp_path: Path) -> None:
    add_rows(tmp_path, range(2))
    for model, _ in _lists():
        row = model._default_manager.order_by("pk").last()
        assert row is not None, model
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[row.pk])
        assert operator.get(url).status_code == 200, url


def _shown(client: Client, query: str) -> list[str]:
    response = client.get(reverse("admin:core_auditentry_changelist") + query)
    assert response.status_code == 200
    return [entry.target for entry in response.context["cl"].result_list]


def test_the_audit_trail_is_filtered_by_day_program_action_and_actor(operator: Client) -> None:
    program = Program.objects.create(code="a", name="A", currency="GBP", time_zone="UTC")
    for n, action in enumerate(("wallet.changed", "ladder.changed", "wallet.changed")):
        audit.record(
            action=action, target=f"t{n}", actor=f"actor{n}", program=program if n else None,
            at=datetime(2026, 6, 1 + n, 23, 59, 59, tzinfo=UTC),
        )  # fmt: skip
    assert _shown(operator, "") == ["t2", "t1", "t0"]
    assert _shown(operator, "?action=wallet.changed") == ["t2", "t0"]
    assert _shown(operator, "?actor=actor1") == ["t1"]
    assert _shown(operator, f"?program__id__exact={program.pk}") == ["t2", "t1"]
    assert _shown(operator, "?recorded_at_from=2026-06-02&recorded_at_to=2026-06-02") == ["t1"]
    assert _shown(operator, "?recorded_at_from=nonsense&recorded_at_to=2026-99-99") == ["t2", "t1", "t0"]
    assert _shown(operator, "?recorded_at_to=9999-12-31") == ["t2", "t1", "t0"]
    assert _shown(operator, "?q=t1") == ["t1"]


def test_filters_offer_each_value_once(operator: Client) -> None:
    for n in range(9):
        audit.record(action=f"a{n % 3}", target="t", actor="x", at=datetime(2026, 6, 1 + n, tzinfo=UTC))
    response = operator.get(reverse("admin:core_auditentry_changelist"))
    offered = {spec.parameter_name: spec.lookup_choices for spec in response.context["cl"].filter_specs[-2:]}
    assert offered == {"action": [("a0", "a0"), ("a1", "a1"), ("a2", "a2")], "actor": [("x", "x")]}


def test_what_failed_in_the_outbox_is_retried_at_once_and_audited(operator: Client) -> None:
    program = Program.objects.create(code="a", name="A", currency="GBP", time_zone="UTC")
    later, now = datetime(2100, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
    events = [
        OutboxEvent.objects.create(program=program, topic="t", payload={}, recorded_at=now, dispatched_at=now)
        for _ in range(3)
    ]
    for attempts, event in zip((4, 2, 0), events, strict=True):
        OutboxReceipt.objects.create(event=event, subscriber="s", attempts=attempts, next_attempt_at=later)
    listed = operator.get(reverse("admin:core_outboxevent_changelist") + "?state=failing")
    assert {event.pk for event in listed.context["cl"].result_list} == {events[0].pk, events[1].pk}

    url = reverse("admin:core_outboxevent_retry_now", args=[events[0].pk])
    assert operator.get(url).status_code == 200
    due = OutboxReceipt.objects.filter(next_attempt_at__lt=later)
    assert not due.exists()
    operator.post(url)
    assert [receipt.event_id for receipt in due.all()] == [events[0].pk]
    operator.post(reverse("admin:core_outboxevent_retry_all"))
    assert {receipt.event_id for receipt in due.all()} == {events[0].pk, events[1].pk}
    entries = AuditEntry.objects.filter(action="outbox.retried").order_by("id")
    assert [(entry.target, entry.after) for entry in entries] == [
        (f"outbox {events[0].pk}", {"receipts": 1}), ("outbox", {"receipts": 1}),
    ]  # fmt: skip
