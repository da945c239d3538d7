"""Ids of the storefront: what is taken in can be looked up, refunded and cancelled; what could not be is refused."""

import csv
import gzip
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from core.external_ids import find_flaw
from core.models import Program
from membership.fact_inputs import MemberInput, OrderInput, OrderLineInput
from membership.models import Member, Order, OrderKey, Refund
from membership.services.facts import record_facts
from membership.services.members import enroll_members
from storefront.replay.files import Problem, iter_rows
from tests.api import shop
from tests.api.client import Api
from tests.api.conftest import NOW

GOOD = [
    "2026/00017", "a/b/c", "/a", "a/", "a//b", "a/cancel", "a/edits/b", "a/tiers/main", "a/../b", "a%2Fb", "a%b", "%",
    "a b", "a?b=c", "a#b", "a;b", "a+b", "a&b", "a\\b", "a:b@c", "ä€", "订单/7", "🙂", "...", ".a", "a.", "batches",
    "batch/1", "é\u0301", "x" * 200,
]  # fmt: skip
BAD = {
    "a blank before": " a",
    "a blank after": "a ",
    "a no-break space after": "a\u00a0",
    "an ideographic space before": "\u3000a",
    "only a blank": " ",
    "a place": ".",
    "the place above": "..",
    "the word for batches": "batch",
}
REPLAYED = BAD | {"a tab": "a\tb", "a line end": "a\n"}
UNREADABLE = {
    "nothing": "",
    "a tab": "a\tb",
    "a line end": "a\n",
    "a DEL": "a\x7f",
    "too long": "x" * 201,
}


def path_of(name: str) -> str:
    return quote(name, safe="")


@pytest.fixture(autouse=True)
def ada(program: Program) -> None:
    shop.enroll(program, "ada")


# --- what is taken in ------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("name", GOOD)
def test_an_order_of_any_id_is_looked_up_refunded_edited_and_cancelled(api: Api, name: str) -> None:
    assert api.post("orders", shop.order(name)).status == 201
    order = f"orders/{path_of(name)}"
    assert api.get(order).json["external_id"] == name
    assert api.post("refunds", shop.refund(name, order=name)).status == 201
    assert api.get(f"refunds/{path_of(name)}").json["order"] == name
    added = {"external_id": "e", "edited_at": shop.LATER, "currency": "GBP", "lines": [shop.line("c", 1, 100)]}
    assert api.post(f"{order}/edits", added).status == 201
    assert api.get(f"{order}/explain").status == 200
    cancelled = api.post(f"{order}/cancel", {})
    assert (cancelled.status, cancelled.json["order"]["status"]) == (201, "returned")
    assert api.post(f"{order}/cancel", {}).json["outcome"] == "repeated"
    assert (Order.objects.count(), Refund.objects.count()) == (1, 2)


@pytest.mark.django_db
@pytest.mark.parametrize("name", GOOD)
def test_a_member_of_any_id_is_found_at_every_address(api: Api, name: str) -> None:
    assert api.post("members", {"external_id": name}).status == 201
    member = f"members/{path_of(name)}"
    assert api.get(member).json["external_id"] == name
    assert api.get("members", external_id=name).json["results"][0]["external_id"] == name
    assert api.patch(member, {"country": "FR"}).json["external_id"] == name
    assert api.get(f"{member}/tiers").json["member"] == name
    assert api.get(f"{member}/tiers/main/history").status == 200
    assert api.get(f"{member}/points").json["member"] == name
    token = Api(api.post(f"{member}/tokens").json["token"])
    assert token.get(f"{member}/points").json["member"] == name
    assert token.get("members/ada/points").status == 404


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["2026/7", "a/points/points", "a b", "%2F"])
def test_the_pages_of_a_member_lead_on(api: Api, name: str) -> None:
    member = f"members/{path_of(name)}"
    api.post("members", {"external_id": name})
    for n in range(3):
        body = {"points": 1, "reason": "x"}
        assert api.post(f"{member}/points/points/adjustments", body, key=f"k{n}").status == 201
    first = api.get(f"{member}/points/points/statement", limit=2).json
    second = api.get(first["next"]).json
    assert (len(first["results"]), len(second["results"])) == (2, 1)
    assert api.get(second["previous"]).json["results"] == first["results"]


@pytest.mark.django_db
def test_a_slash_that_is_not_encoded_parts_the_address(api: Api) -> None:
    api.post("orders", shop.order("2026/00017"))
    reply = api.get("orders/2026/00017")
    assert (reply.status, reply.code) == (404, "not_found")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "sent",
    ["{}", "https://shop.example{}", "http://shop.example:8000{}?member=ada"],
)
def test_an_address_is_read_as_it_was_sent(api: Api, sent: str) -> None:
    api.post("orders", shop.order("2026/00017"))
    address = "/api/v1/orders/2026%2f00017"
    headers = {"Authorization": f"Bearer {api.text}"}
    for name in ("RAW_URI", "REQUEST_URI"):
        extra: dict[str, Any] = {name: sent.format(address)}
        reply = Client().generic("GET", address, headers=headers, **extra)
        assert reply.json()["external_id"] == "2026/00017"


@pytest.mark.django_db
def test_a_server_that_decodes_addresses_finds_the_shortest_id(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.text}"}
    for name in ("2026/00017", "a/b/c"):
        api.post("orders", shop.order(name))
        order = f"/api/v1/orders/{name}"
        assert Client(headers=headers).get(order).json()["external_id"] == name
        cancel = Client(headers=headers).post(f"{order}/cancel", {}, content_type="application/json")
        assert cancel.status_code == 201
    assert Client(headers=headers).get("/api/v1/nothing/a/b").status_code == 404
    assert Client(headers=headers).get(f"/api/v1/nothing/{'a/' * 2_000}").status_code == 404


# --- what is refused -------------------------------------------------------------------------------------------


def bodies(name: str) -> dict[str, tuple[str, dict[str, Any], str]]:
    """Everything that is told with an id of its own: address, body, where the id stands."""
    part = shop.back("a", 1, 1) | {"external_id": name}
    return {
        "member": ("members", {"external_id": name}, "/external_id"),
        "order": ("orders", shop.order(name), "/external_id"),
        "order line": ("orders", shop.order("o2", shop.line(name, 1, 100)), "/lines/0/external_id"),
        "refund": ("refunds", shop.refund(name), "/external_id"),
        "refund line": (
            "refunds",
            shop.refund("r", part),
            "/lines/0/external_id",
        ),
        "activity": ("activities", shop.activity(name), "/external_id"),
        "edit": (
            "orders/o1/edits",
            {"external_id": name, "edited_at": shop.LATER, "currency": "GBP", "lines": [shop.line("c", 1, 1)]},
            "/external_id",
        ),
        "cancellation": ("orders/o1/cancel", {"external_id": name}, "/external_id"),
    }


@pytest.mark.django_db
@pytest.mark.parametrize("what", bodies(""))
@pytest.mark.parametrize("flaw", BAD | UNREADABLE)
def test_an_id_that_could_not_be_looked_up_is_refused(api: Api, what: str, flaw: str) -> None:
    api.post("orders", shop.order())
    address, body, pointer = bodies((BAD | UNREADABLE)[flaw])[what]
    before = shop.written()
    code = "invalid_value" if flaw in BAD else "invalid_request"
    shop.assert_problem(api.post(address, body), 422, code, pointer)
    assert (shop.written(), Member.objects.count()) == (before, 1)


@pytest.mark.django_db
def test_in_a_batch_each_such_id_is_refused_by_itself(api: Api) -> None:
    orders = [shop.order(name) for name in ("o1", " o2", "o3", "..", "batch", "o4")]
    results = api.post("orders/batch", {"orders": orders}).json["results"]
    assert [result["outcome"][:4] for result in results] == ["reco", "refu", "reco", "refu", "refu", "reco"]
    members = api.post("members/batch", {"members": [{"external_id": "ben"}, {"external_id": "ben "}]})
    assert [result["outcome"] for result in members.json["results"]] == ["recorded", "refused"]
    assert OrderKey.objects.count() == 3


@pytest.mark.parametrize("flaw", REPLAYED)
@pytest.mark.parametrize("column", ["order_id", "member_id"])
def test_a_replay_keeps_the_same_rule(tmp_path: Path, column: str, flaw: str) -> None:
    row = {"order_id": "o", "member_id": "m", "ordered_at": "2026-05-01T00:00:00Z", "amount": "1", "currency": "GBP"}
    row[column] = REPLAYED[flaw]
    with gzip.open(tmp_path / "orders.csv.gz", "wt", newline="") as out:
        csv.writer(out).writerows([list(row), list(row.values())])
    (problem,) = iter_rows(tmp_path, "orders")
    assert isinstance(problem, Problem)
    assert (problem.column, problem.reason) == (column, find_flaw(row[column]))


@pytest.mark.parametrize("name", GOOD)
def test_a_replay_takes_what_the_api_takes(tmp_path: Path, name: str) -> None:
    row = [name, name, "2026-05-01T00:00:00Z", "1", "GBP"]
    with gzip.open(tmp_path / "orders.csv.gz", "wt", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([["order_id", "member_id", "ordered_at", "amount", "currency"], row])
    (read,) = iter_rows(tmp_path, "orders")
    assert not isinstance(read, Problem)
    assert read[1][:2] == [name, name]


# --- what was recorded before there was a rule ------------------------------------------------------------------


@pytest.fixture
def old(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member and an order whose ids are taken no more."""
    with monkeypatch.context() as context:
        context.setattr("membership.field_checks.find_flaw", lambda _text: "")
        enroll_members(program=program, members=[MemberInput(external_id=" eve", joined_at=shop.JOINED)], at=NOW)
        lines = (OrderLineInput(external_id=" a", units=2, amount_minor=200),)
        told = OrderInput(external_id=" o", member=" eve", paid_at=NOW, currency="GBP", amount_minor=200, lines=lines)
        record_facts(program=program, orders=[told], at=NOW)


@pytest.mark.django_db
def test_what_was_recorded_before_is_repeated_refunded_and_cancelled(api: Api, old: None) -> None:
    told = shop.order(" o", shop.line(" a", 2, 200), member=" eve", paid_at="2026-06-01T12:00:00Z")
    assert api.post("orders", told).json["outcome"] == "repeated"
    results = api.post("orders/batch", {"orders": [told, shop.order("o1")]}).json["results"]
    assert [result["outcome"] for result in results] == ["repeated", "recorded"]
    assert api.post("members", {"external_id": " eve"}).json["outcome"] == "repeated"
    assert api.get("members/%20eve").json["external_id"] == " eve"
    back = shop.back(" a", 1, 100) | {"external_id": "1"}
    body = shop.refund("r", back, order=" o", member=" eve", refunded_at="2026-06-01T12:00:00Z")
    assert api.post("refunds", body).status == 201
    for outcome in ("recorded", "repeated"):
        assert api.post("orders/%20o/cancel", {}).json["outcome"] == outcome
    assert api.get("orders/%20o").json["status"] == "returned"
