"""Webhook endpoints over the API: made, changed, rotated, tested, replayed, deleted."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from core.event_types import EventType
from core.models import AuditEntry, Program, Scope, WebhookDelivery, WebhookEndpoint
from core.services import feed, webhook_sending
from core.services.feed import News
from core.services.webhook_sending import Outcome
from tests.api.client import Api, Reply
from tests.api.conftest import NOW, Clock, MakeKey

URL = "https://shop.example/hook"
BODY = {"url": URL, "description": "The shop", "event_types": ["order.paid", "tier.upgraded"]}


@pytest.fixture
def made(api: Api) -> Any:
    reply = api.post("webhook-endpoints", {"url": URL})
    assert reply.status == 201, reply.text
    return reply.json


def announce(program: Program, count: int = 1) -> None:
    news = [News(EventType.MEMBER_UPDATED, "m", {"member": "m"}, NOW)] * count
    feed.announce(program_id=program.pk, news=news, at=NOW)


def assert_refused(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.code) == (status, code)


def test_an_endpoint_is_made_and_its_secret_shown_once(api: Api) -> None:
    reply = api.post("webhook-endpoints", BODY)
    assert reply.status == 201
    shown = reply.json
    assert shown.pop("secret") == WebhookEndpoint.objects.get().secret
    assert shown == {
        "id": shown["id"], "url": URL, "description": "The shop", "event_types": ["order.paid", "tier.upgraded"],
        "is_enabled": True, "disabled_at": None, "disabled_reason": "", "failing_since": None,
        "previous_secret_expires_at": None, "created_at": "2026-06-01T12:00:00Z",
    }  # fmt: skip
    path = f"webhook-endpoints/{shown['id']}"
    assert api.get(path).json == shown
    assert api.get("webhook-endpoints").json["results"] == [shown]
    assert "secret" not in api.get(path).text.replace("previous_secret_expires_at", "")
    assert "whsec" not in api.patch(path, {"description": ""}).text


@pytest.mark.parametrize(
    ("method", "below", "body"),
    [
        ("POST", "/test", None), ("POST", "/replay", {"since": "2026-05-01T00:00:00Z"}),
        ("POST", "/rotate-secret", None), ("PATCH", "", {"description": "x"}), ("DELETE", "", None),
    ],
)  # fmt: skip
def test_what_is_asked_of_an_endpoint_that_is_deleted_meanwhile_finds_nothing(
    api: Api, made: Any, method: str, below: str, body: Any
) -> None:
    def delete_before_the_lock(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "FOR NO KEY UPDATE" in sql:
            WebhookEndpoint.objects.all().delete()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(delete_before_the_lock):
        reply = api.call(method, f"webhook-endpoints/{made['id']}{below}", body)
    assert_refused(reply, 404, "not_found")
    assert not WebhookDelivery.objects.exists()


def test_made_twice_with_one_key_it_is_one(api: Api) -> None:
    replies = [api.post("webhook-endpoints", BODY, key="k-1") for _ in range(2)]
    assert replies[0].json == replies[1].json
    assert WebhookEndpoint.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"url": "http://shop.example"}, "invalid_url"),
        ({"url": "https://127.0.0.1/"}, "invalid_url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "invalid_url"),
        ({"url": "https://169.254.169.254/latest"}, "invalid_url"),
        ({"url": "https://me:secret@shop.example"}, "invalid_url"),
        ({"url": "https://shop example"}, "invalid_request"),
        ({"url": ""}, "invalid_request"),
        ({"url": "https://shop.example/" + "a" * 500}, "invalid_request"),
        ({"event_types": ["order.lost"]}, "invalid_request"),
        ({"event_types": "order.paid"}, "invalid_request"),
        ({"description": "a" * 201}, "invalid_request"),
        ({"secret": "whsec_mine"}, "invalid_request"),
    ],
)
def test_what_cannot_be_an_endpoint_is_refused(api: Api, made: Any, change: dict[str, Any], code: str) -> None:
    before = WebhookEndpoint.objects.values().get()
    assert_refused(api.post("webhook-endpoints", BODY | change), 422, code)
    assert_refused(api.patch(f"webhook-endpoints/{made['id']}", change), 422, code)
    assert WebhookEndpoint.objects.values().get() == before


def test_an_endpoint_is_changed_disabled_and_enabled(api: Api, made: Any) -> None:
    path = f"webhook-endpoints/{made['id']}"
    changed = api.patch(path, {"event_types": ["order.paid"], "is_enabled": False}).json
    assert (changed["event_types"], changed["is_enabled"], changed["url"]) == (["order.paid"], False, URL)
    assert changed["disabled_reason"].startswith("disabled by key ")
    enabled = api.patch(path, {"is_enabled": True}).json
    assert (enabled["is_enabled"], enabled["disabled_at"], enabled["disabled_reason"]) == (True, None, "")
    assert {entry.action for entry in AuditEntry.objects.filter(target__contains=made["id"])} == {
        "webhook.created", "webhook.updated",
    }  # fmt: skip


def test_a_secret_is_rotated_and_shown_once(api: Api, made: Any) -> None:
    path = f"webhook-endpoints/{made['id']}"
    rotated = api.post(path + "/rotate-secret", {}, key="r-1")
    assert rotated.status == 200
    assert rotated.json["secret"] not in {None, made["secret"]}
    assert rotated.json["previous_secret_expires_at"] == "2026-06-02T12:00:00Z"
    assert api.post(path + "/rotate-secret", {}, key="r-1").json == rotated.json
    assert WebhookEndpoint.objects.get().previous_secret == made["secret"]
    assert "whsec" not in api.get(path).text


def test_deliveries_are_listed_with_their_attempts(api: Api, made: Any, program: Program) -> None:
    announce(program, 3)
    outcomes = [(200, ""), (500, "out of order")]
    for claimed, (status, answer) in zip(webhook_sending.claim(at=NOW, limit=3), outcomes, strict=False):
        outcome = Outcome(at=NOW, duration_ms=7, status=status, answer=answer)
        webhook_sending.record(delivery=claimed, outcome=outcome)
    path = f"webhook-endpoints/{made['id']}/deliveries"
    rows = api.get(path).json["results"]
    assert [(row["number"], row["state"]) for row in rows] == [(3, "waiting"), (2, "waiting"), (1, "delivered")]
    assert rows[1]["attempts"] == [
        {"attempted_at": "2026-06-01T12:00:00Z", "duration_ms": 7, "status": 500, "error": "", "answer": "out of order"}
    ]
    assert (rows[2]["delivered_at"], rows[2]["next_attempt_at"]) == ("2026-06-01T12:00:00Z", None)
    assert [row["number"] for row in api.get(path, state="delivered").json["results"]] == [1]
    assert [row["number"] for row in api.get(path, state="waiting", limit=1).json["results"]] == [3]
    assert_refused(api.get(path, state="lost"), 400, "invalid_parameter")


def test_one_event_is_sent_again(api: Api, made: Any, program: Program) -> None:
    announce(program)
    (claimed,) = webhook_sending.claim(at=NOW, limit=1)
    webhook_sending.record(delivery=claimed, outcome=Outcome(at=NOW, duration_ms=1, status=200))
    path = f"webhook-endpoints/{made['id']}/deliveries/{claimed.event.public_id}/replay"
    assert (api.post(path, {}).status, api.post(path, {}).json) == (202, {"deliveries": 1})
    assert WebhookDelivery.objects.get().next_attempt_at == NOW
    assert_refused(api.post(path.replace(str(claimed.event.public_id), str(UUID(int=1))), {}), 404, "not_found")


def test_everything_since_an_instant_is_sent_again(api: Api, made: Any, program: Program, clock: Clock) -> None:
    announce(program, 2)
    WebhookDelivery.objects.update(delivered_at=NOW, next_attempt_at=None)
    clock(NOW + timedelta(hours=1))
    path = f"webhook-endpoints/{made['id']}/replay"
    assert api.post(path, {"since": "2026-06-01T12:00:00.000001Z"}).json == {"deliveries": 0}
    reply = api.post(path, {"since": "2026-06-01T13:00:00+01:00"})
    assert (reply.status, reply.json) == (202, {"deliveries": 2})
    assert {delivery.next_attempt_at for delivery in WebhookDelivery.objects.all()} == {NOW + timedelta(hours=1)}
    assert_refused(api.post(path, {"since": "2026-06-01T12:00:00"}), 422, "invalid_request")
    assert_refused(api.post(path, {}), 422, "invalid_request")


def test_a_test_event_is_queued_for_the_endpoint(api: Api, made: Any) -> None:
    reply = api.post(f"webhook-endpoints/{made['id']}/test", {})
    assert reply.status == 202
    delivery = WebhookDelivery.objects.get()
    assert (delivery.event.type, delivery.event.public_id) == ("webhook.test", UUID(reply.json["event"]))


def test_nothing_is_queued_for_a_disabled_endpoint(api: Api, made: Any, program: Program) -> None:
    announce(program)
    event = WebhookDelivery.objects.get().event.public_id
    path = f"webhook-endpoints/{made['id']}"
    api.patch(path, {"is_enabled": False})
    before = WebhookDelivery.objects.values().get()
    assert_refused(api.post(path + "/test", {}), 409, "webhook_disabled")
    assert_refused(api.post(path + "/replay", {"since": "2026-06-01T00:00:00Z"}), 409, "webhook_disabled")
    assert_refused(api.post(f"{path}/deliveries/{event}/replay", {}), 409, "webhook_disabled")
    assert WebhookDelivery.objects.values().get() == before


def test_an_endpoint_is_deleted_with_its_log(api: Api, made: Any, program: Program) -> None:
    announce(program)
    path = f"webhook-endpoints/{made['id']}"
    reply = api.delete(path)
    assert (reply.status, reply.text) == (204, "")
    assert_refused(api.delete(path), 404, "not_found")
    assert not WebhookEndpoint.objects.exists()
    assert not WebhookDelivery.objects.exists()


CALLS = [
    ("GET", "", None), ("PATCH", "", {"url": URL}), ("DELETE", "", None), ("POST", "/rotate-secret", {}),
    ("POST", "/test", {}), ("POST", "/replay", {"since": "2026-06-01T00:00:00Z"}), ("GET", "/deliveries", None),
    ("POST", f"/deliveries/{UUID(int=1)}/replay", {}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "rest", "body"), CALLS)
def test_another_programs_endpoint_is_not_there(
    made: Any, make_key: MakeKey, foreign_program: Program, method: str, rest: str, body: Any
) -> None:
    before = WebhookEndpoint.objects.values().get()
    foreign = Api(make_key(program=foreign_program))
    assert_refused(foreign.call(method, f"webhook-endpoints/{made['id']}{rest}", body), 404, "not_found")
    assert foreign.get("webhook-endpoints").json["results"] == []
    assert WebhookEndpoint.objects.values().get() == before


@pytest.mark.parametrize(("method", "rest", "body"), [*CALLS, ("PUT", "", {})])
def test_webhooks_need_their_scope(made: Any, make_key: MakeKey, method: str, rest: str, body: Any) -> None:
    before = WebhookEndpoint.objects.values().get()
    other = Api(make_key(*(scope for scope in Scope.values if scope != Scope.WEBHOOKS_MANAGE)))
    expected = (405, "method_not_allowed") if method == "PUT" else (403, "scope_missing")
    assert_refused(other.call(method, f"webhook-endpoints/{made['id']}{rest}", body), *expected)
    assert WebhookEndpoint.objects.values().get() == before
