"""What has served its time is removed, and nothing else."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import DatabaseError, connection, transaction

from core.models import (
    AuditEntry,
    Event,
    IdempotencyRecord,
    OutboxEvent,
    OutboxReceipt,
    Program,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)
from core.services import audit, cleanup
from core.services.cleanup import Retention
from core.tasks import clean_up
from tests.core.conftest import NOW

DAY = timedelta(days=1)
KEEP = Retention(idempotency=2, outbox=7, events=90, webhook_log=30, audit=0)


def _record(program: Program, key: str, age: timedelta, *, is_done: bool = True) -> None:
    IdempotencyRecord.objects.create(
        program=program, caller="key", key=key, request_digest=b"", lease=uuid.uuid4(), created_at=NOW - age,
        leased_until=NOW - age if is_done else NOW + DAY, status=200 if is_done else None, body="" if is_done else None,
    )  # fmt: skip


@pytest.mark.parametrize(("days", "kept"), [(2, ["day", "busy"]), (0, ["busy"]), (9, ["day", "old", "busy"])])
def test_idempotency_records_lapse_but_never_within_a_day(program: Program, days: int, kept: list[str]) -> None:
    _record(program, "day", 1.5 * DAY)
    _record(program, "old", 3 * DAY)
    _record(program, "busy", 3 * DAY, is_done=False)
    cleanup.clean_up(keep=Retention(idempotency=days, outbox=7, events=90, webhook_log=30, audit=0), at=NOW)
    assert list(IdempotencyRecord.objects.values_list("key", flat=True)) == kept
    _record(program, "hours", timedelta(hours=23))
    cleanup.clean_up(keep=Retention(idempotency=0, outbox=0, events=0, webhook_log=0, audit=0), at=NOW)
    assert IdempotencyRecord.objects.filter(key="hours").exists()


def test_outbox_events_go_once_all_their_receipts_are_done(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "BATCH_ROWS", 2)
    for n, (age, dispatched, done) in enumerate(
        [(8, True, True), (8, True, False), (8, False, False), (6, True, True), *[(9, True, True)] * 4]
    ):
        at = NOW - age * DAY
        event = OutboxEvent.objects.create(
            program=program, topic=f"t{n}", payload={}, recorded_at=at, dispatched_at=at if dispatched else None
        )
        if dispatched:
            OutboxReceipt.objects.create(event=event, subscriber="a", next_attempt_at=at, done_at=at if done else None)
    assert cleanup.clean_up(keep=KEEP, at=NOW)["outbox_events"] == 5
    assert list(OutboxEvent.objects.values_list("topic", flat=True)) == ["t1", "t2", "t3"]
    assert OutboxReceipt.objects.count() == 2


def _feed(program: Program, *ages: int) -> list[Event]:
    return [
        Event.objects.create(
            program=program, number=number, type="order.paid", data={}, occurred_at=NOW, recorded_at=NOW - age * DAY
        )
        for number, age in enumerate(ages, 1)
    ]


def _deliver(event: Event, endpoint: WebhookEndpoint, *, is_due: bool) -> WebhookDelivery:
    return WebhookDelivery.objects.create(endpoint=endpoint, event=event, next_attempt_at=NOW if is_due else None)


def test_the_feed_loses_its_old_end_up_to_what_is_still_to_be_delivered(program: Program) -> None:
    endpoint = WebhookEndpoint.objects.create(program=program, url="https://shop.example", secret="s", created_at=NOW)
    events = _feed(program, 99, 98, 97, 96, 2)
    _deliver(events[0], endpoint, is_due=False)
    due = _deliver(events[2], endpoint, is_due=True)
    assert cleanup.clean_up(keep=KEEP, at=NOW)["events"] == 2
    assert list(Event.objects.values_list("number", flat=True)) == [3, 4, 5]
    assert list(WebhookDelivery.objects.all()) == [due]
    # A disabled endpoint keeps nothing.
    WebhookEndpoint.objects.update(disabled_at=NOW)
    assert cleanup.clean_up(keep=KEEP, at=NOW)["events"] == 2
    assert list(Event.objects.values_list("number", flat=True)) == [5]


def test_the_webhook_log_goes_before_its_events(program: Program) -> None:
    endpoint = WebhookEndpoint.objects.create(program=program, url="https://shop.example", secret="s", created_at=NOW)
    delivery = _deliver(_feed(program, 40)[0], endpoint, is_due=False)
    for age in (40, 31, 29):
        WebhookAttempt.objects.create(delivery=delivery, attempted_at=NOW - age * DAY, duration_ms=1)
    assert cleanup.clean_up(keep=KEEP, at=NOW)["webhook_attempts"] == 2
    assert WebhookAttempt.objects.get().attempted_at == NOW - 29 * DAY
    assert WebhookDelivery.objects.exists()


def test_expired_sessions_go(db: None) -> None:
    for key, age in (("old", DAY), ("new", -DAY)):
        Session.objects.create(session_key=key, session_data="", expire_date=NOW - age)
    assert cleanup.clean_up(keep=KEEP, at=NOW)["sessions"] == 1
    assert Session.objects.get().session_key == "new"


def test_cleaning_up_twice_finds_nothing(program: Program) -> None:
    _record(program, "old", 3 * DAY)
    assert sum(cleanup.clean_up(keep=KEEP, at=NOW).values()) == 1
    assert sum(cleanup.clean_up(keep=KEEP, at=NOW).values()) == 0


# --- the audit trail: the database's own clock decides how old an entry is --------------------------------------


def _audit(target: str, age_days: int) -> datetime:
    at = datetime.now(UTC) - age_days * DAY
    audit.record(action="test", target=target, actor="test", at=at)
    return at


def test_the_audit_trail_is_kept_for_ever_unless_told_otherwise(db: None) -> None:
    _audit("ancient", 4_000)
    assert cleanup.clean_up(keep=KEEP, at=datetime.now(UTC))["audit_entries"] == 0
    assert AuditEntry.objects.filter(target="ancient").exists()


@pytest.mark.parametrize("days", [1, 366, 400])
def test_old_audit_entries_go_and_an_entry_says_so(db: None, days: int) -> None:
    for age in (500, 401, 365, 1):
        _audit(f"{age} days", age)
    keep = Retention(idempotency=2, outbox=7, events=90, webhook_log=30, audit=days)
    assert cleanup.clean_up(keep=keep, at=datetime.now(UTC))["audit_entries"] == 2
    assert set(AuditEntry.objects.filter(action="test").values_list("target", flat=True)) == {"365 days", "1 days"}
    said = AuditEntry.objects.get(action="audit.forgotten")
    assert (said.actor, said.after) == ("the clock", {"entries": 2})


def _execute(statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def _assert_refused(statement: str) -> None:
    with pytest.raises(DatabaseError, match="append-only"):
        _execute(statement)


def test_the_database_forgets_no_audit_entry_but_by_its_function_and_after_a_year(db: None) -> None:
    _audit("old", 500)
    _assert_refused("DELETE FROM core_auditentry")
    _assert_refused("UPDATE core_auditentry SET actor = 'nobody'")
    _audit("young", 364)
    _assert_refused("SELECT core_forget_audit(now())")
    assert AuditEntry.objects.filter(action="test").count() == 2
    _execute("SELECT core_forget_audit(now() - interval '1 year')")
    assert AuditEntry.objects.get(action="test").target == "young"
    # The permission does not outlive the function.
    _audit("old again", 500)
    _assert_refused("DELETE FROM core_auditentry")


def test_the_task_reads_the_settings(program: Program) -> None:
    _record(program, "old", 3 * DAY)
    IdempotencyRecord.objects.update(created_at=datetime.now(UTC) - 3 * DAY, leased_until=datetime.now(UTC) - 3 * DAY)
    clean_up(added_by_a_later_release=True)
    assert not IdempotencyRecord.objects.exists()
