"""What a load balancer and a monitor are told."""

import json
import logging
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from config import health
from config.logs import JsonFormatter
from core.event_types import EventType
from core.models import Program
from core.services import feed, outbox, webhook_sending, webhooks
from core.services.feed import News
from points.models import Account, LedgerCheck
from points.services.checks import check_ledger
from storefront.services import day_close
from tests.storefront.shop import NOW

TOKEN = "token-for-tests"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_migrated", False)
    health._client.cache_clear()


def read_metrics(client: Client) -> dict[str, float]:
    text = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).content.decode()
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_process_that_lives_says_so_without_a_database(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert client.post("/healthz").status_code == 405


def test_a_process_that_can_work_says_so(db: None, client: Client) -> None:
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "ok")


def test_a_missing_migration_is_told(db: None, client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE id = (SELECT max(id) FROM django_migrations)")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "1 migration(s) are not applied" in response.json()["migrations"]


def test_a_redis_that_is_down_is_told(db: None, client: Client, settings: object) -> None:
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"  # type: ignore[attr-defined]
    response = client.get("/readyz")
    assert (response.status_code, response.json()["redis"]) == (503, "ConnectionError")
    assert response.json()["database"] == "ok"


def test_there_are_no_metrics_without_the_token(db: None, client: Client, settings: object) -> None:
    assert client.get("/metrics").status_code == 404
    settings.METRICS_TOKEN = TOKEN  # type: ignore[attr-defined]
    assert client.get("/metrics").status_code == 404
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 404


def test_metrics_tell_what_waits_and_what_was_found(shop: Program, client: Client, settings: object) -> None:
    settings.METRICS_TOKEN = TOKEN  # type: ignore[attr-defined]
    before = read_metrics(client)
    assert before["perennial_outbox_waiting_seconds"] > 0
    assert before["perennial_posting_seconds_count"] > 0
    assert "perennial_verify_mismatches[shop]" not in before
    outbox.dispatch(at=NOW)
    assert check_ledger(program=shop, now=lambda: NOW).findings == 0
    after = read_metrics(client)
    assert after["perennial_outbox_waiting_seconds"] == 0
    assert after["perennial_outbox_due_seconds"] > 0
    assert after["perennial_verify_mismatches[shop]"] == 0
    Account.objects.update(lifetime_earned=1)
    assert check_ledger(program=shop, now=lambda: NOW).findings > 0
    assert read_metrics(client)["perennial_verify_mismatches[shop]"] > 0
    assert "balance" in LedgerCheck.objects.latest("id").examples[0]


def test_what_is_under_way_for_the_first_time_does_not_count_as_failing(
    shop: Program, client: Client, settings: object
) -> None:
    settings.METRICS_TOKEN = TOKEN  # type: ignore[attr-defined]
    outbox.dispatch(at=NOW)
    assert outbox._claim_next(at=NOW, wait=False)
    webhooks.create(program=shop, url="https://shop.example/hook", by=webhooks.By("ops"), at=NOW)
    feed.announce(program_id=shop.pk, news=[News(EventType.MEMBER_UPDATED, "m0", {}, NOW)], at=NOW)
    (delivery,) = webhook_sending.claim(at=NOW, limit=1)
    found = read_metrics(client)
    assert found["perennial_outbox_failing_receipts"] == found["perennial_webhook_failing_deliveries"] == 0
    webhook_sending.record(delivery=delivery, outcome=webhook_sending.Outcome(at=NOW, duration_ms=1, status=500))
    assert read_metrics(client)["perennial_webhook_failing_deliveries"] == 1


def test_what_waits_for_a_disabled_endpoint_is_not_late(shop: Program, client: Client, settings: object) -> None:
    settings.METRICS_TOKEN = TOKEN  # type: ignore[attr-defined]
    by = webhooks.By("ops")
    endpoint = webhooks.create(program=shop, url="https://shop.example/hook", by=by, at=NOW)
    feed.announce(program_id=shop.pk, news=[News(EventType.MEMBER_UPDATED, "m0", {}, NOW)], at=NOW)
    assert read_metrics(client)["perennial_webhook_due_seconds"] > 0
    webhooks.update(endpoint=endpoint, is_enabled=False, by=by, at=NOW)
    assert read_metrics(client)["perennial_webhook_due_seconds"] == 0


def test_a_close_that_a_later_one_has_covered_does_not_run_for_ever(
    shop: Program, client: Client, settings: object
) -> None:
    """A first close that never got far: the next day's covers all that came before."""
    settings.METRICS_TOKEN = TOKEN  # type: ignore[attr-defined]
    (day,) = day_close.list_due_days(program=shop, at=NOW)
    day_close.request_close(program=shop, day=day, actor="ops", at=NOW)
    assert read_metrics(client)["perennial_day_close_running_seconds[shop]"] > 0
    tomorrow = NOW + timedelta(days=1)
    (next_day,) = day_close.list_due_days(program=shop, at=tomorrow)
    day_close.close_day(program=shop, day=next_day, at=tomorrow)
    assert "perennial_day_close_running_seconds[shop]" not in read_metrics(client)


def test_requests_are_measured_and_logged_by_route(
    db: None, client: Client, settings: object, caplog: pytest.LogCaptureFixture
) -> None:
    settings.METRICS_TOKEN = TOKEN  # type: ignore[attr-defined]
    with caplog.at_level(logging.INFO, logger="perennial.request"):
        response = client.get("/api/v1/members/someone@example.org/points", headers={"X-Request-ID": "given-1"})
    assert response.headers["X-Request-ID"] == "given-1"
    (record,) = caplog.records  # and none that names the path
    line = json.loads(JsonFormatter().format(record))
    assert (line["method"], line["status"]) == ("GET", 401)
    assert "someone" not in json.dumps(line)
    assert any(name.startswith("perennial_request_seconds_count[GET][api/v1/members/") for name in read_metrics(client))
