"""Members over HTTP: enrolled once for ever, found, and changed."""

from datetime import timedelta
from typing import Any

import pytest

from core.models import AuditEntry, OutboxEvent, Program, Scope
from membership.models import Member, MemberStatus, TierPeriod
from tests.api.client import Api, in_parallel
from tests.api.conftest import NOW, MakeKey
from tests.storefront.shop import order, tell

pytestmark = pytest.mark.django_db

ADA: dict[str, Any] = {
    "external_id": "ada", "joined_at": "2026-05-01T10:00:00+01:00", "locale": "en-GB", "country": "GB",
    "birthday": "1990-02-28", "consents": {"mail": True},
}  # fmt: skip


def enroll(api: Api, *names: str, **more: Any) -> None:
    for name in names:
        assert api.post("members", {"external_id": name, **more}).status == 201


def test_a_member_is_enrolled_once_for_ever(api: Api) -> None:
    first = api.post("members", ADA)
    assert (first.status, first.json["outcome"]) == (201, "recorded")
    assert first.json["member"] == ADA | {
        "kind": "person", "status": "active",
        "joined_at": "2026-05-01T09:00:00Z", "recorded_at": "2026-06-01T12:00:00Z",
    }  # fmt: skip
    same: list[dict[str, Any]] = [ADA, {"external_id": "ada"}, {"external_id": "ada", "joined_at": None}]
    for body in same:
        again = api.post("members", body)
        assert (again.status, again.json["outcome"]) == (200, "repeated")
        assert again.json["member"] == first.json["member"]
    assert Member.objects.count() == TierPeriod.objects.count() == 1
    told = OutboxEvent.objects.get(topic="membership.members_enrolled")
    assert told.payload == {"members": [Member.objects.get().pk]}


@pytest.mark.parametrize(
    "changes",
    [
        {"country": "FR", "kind": "household"},
        {"joined_at": "2026-05-01T10:00:01+01:00"},
        {"birthday": None},
        {"locale": ""},
        {"consents": {"mail": False}},
    ],
    ids=str,
)
def test_told_otherwise_a_member_is_refused_with_the_fields_that_differ(api: Api, changes: dict[str, Any]) -> None:
    api.post("members", ADA)
    before = Member.objects.values().get()
    told = [ADA | changes, ADA, {"external_id": "ben"}, {"external_id": "ben", "country": "FR"}]
    reply = api.post("members", told[0])
    assert (reply.status, reply.code) == (409, "fact_conflict")
    assert {error["pointer"][1:] for error in reply.json["errors"]} == changes.keys()
    batch = api.post("members/batch", {"members": told}).json["results"]
    assert [result["outcome"] for result in batch] == ["refused", "repeated", "recorded", "refused"]
    assert batch[0]["problem"]["errors"] == reply.json["errors"]
    assert [error["pointer"] for error in batch[3]["problem"]["errors"]] == ["/country"]
    assert Member.objects.values().get(external_id="ada") == before
    assert Member.objects.get(external_id="ben").country == ""


def test_a_changed_member_is_told_as_they_are_now(api: Api) -> None:
    api.post("members", ADA)
    api.patch("members/ada", {"country": "FR"})
    assert api.post("members", ADA).code == "fact_conflict"
    assert api.post("members", ADA | {"country": "FR"}).json["outcome"] == "repeated"


def test_an_erased_member_told_again_is_repeated(api: Api) -> None:
    api.post("members", ADA)
    Member.objects.update(status=MemberStatus.ERASED, country="", birthday=None)
    assert api.post("members", ADA).json["outcome"] == "repeated"


def test_who_tells_no_date_joins_now(api: Api) -> None:
    enroll(api, "ben")
    assert Member.objects.get().joined_at == NOW


def test_a_dry_run_enrolls_nobody(api: Api) -> None:
    reply = api.post("members", ADA, query={"dry_run": "true"})
    assert (reply.status, reply.json["outcome"]) == (200, "recorded")
    assert not Member.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_enrolled_by_many_at_once_a_member_is_one(api: Api) -> None:
    replies = in_parallel([lambda: api.post("members", ADA) for _ in range(6)])
    assert sorted(reply.status for reply in replies) == [200] * 5 + [201]
    assert Member.objects.count() == TierPeriod.objects.count() == 1


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"external_id": ""}, "invalid_request"),
    "no zone": ({"joined_at": "2026-05-01T10:00:00"}, "invalid_request"),
    "in the future": ({"joined_at": "2026-06-01T12:06:00Z"}, "in_future"),
    "a placeholder": ({"joined_at": "0001-01-01T00:00:00Z"}, "invalid_value"),
    "a kind that there is not": ({"kind": "robot"}, "invalid_request"),
    "a country of three letters": ({"country": "GBR"}, "invalid_request"),
    "a country that there is not": ({"country": "UK"}, "invalid_value"),
    "an id that ends with a blank": ({"external_id": "ada "}, "invalid_value"),
    "an id that is a place": ({"external_id": ".."}, "invalid_value"),
    "no locale": ({"locale": "english!"}, "invalid_request"),
    "born tomorrow": ({"birthday": "2026-06-02"}, "invalid_value"),
    "a consent that is no yes or no": ({"consents": {"mail": "maybe"}}, "invalid_request"),
    "an unknown field": ({"name": "Ada"}, "invalid_request"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_member_is_refused_and_nobody_is_enrolled(api: Api, name: str) -> None:
    changes, code = BAD[name]
    reply = api.post("members", ADA | changes)
    assert (reply.status, reply.code) == (422, code)
    assert reply.json["errors"][0]["pointer"].startswith("/" + next(iter(changes)))
    assert not Member.objects.exists()


def test_of_a_batch_each_is_taken_or_refused_by_itself(api: Api) -> None:
    enroll(api, "old")
    told = [ADA, {"external_id": "old"}, {"external_id": "x", "kind": "robot"}, ADA, {"external_id": "y"} | {
        "joined_at": "2027-01-01T00:00:00Z"}, "nonsense"]  # fmt: skip
    reply = api.post("members/batch", {"members": told})
    assert reply.status == 200
    found = [(each["external_id"], each["outcome"]) for each in reply.json["results"]]
    assert found == [
        ("ada", "recorded"), ("old", "repeated"), ("x", "refused"), ("ada", "repeated"), ("y", "refused"),
        (None, "refused"),
    ]  # fmt: skip
    problems = [each["problem"] and each["problem"]["code"] for each in reply.json["results"]]
    assert problems == [None, None, "invalid_request", None, "in_future", "invalid_request"]
    assert reply.json["results"][2]["problem"]["errors"][0]["pointer"] == "/kind"
    assert set(Member.objects.values_list("external_id", flat=True)) == {"ada", "old"}


@pytest.mark.parametrize("count", [0, 1_001])
def test_a_batch_has_one_to_a_thousand_items(api: Api, count: int) -> None:
    reply = api.post("members/batch", {"members": [{"external_id": f"m{i}"} for i in range(count)]})
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert not Member.objects.exists()


def test_members_are_found_by_what_they_are(api: Api, program: Program) -> None:
    enroll(api, "a", "b", country="GB", joined_at="2026-01-05T00:00:00Z")
    enroll(api, "c", kind="household", joined_at="2026-03-05T00:00:00Z")
    tell(program, order("o1", (1, 20_000), member="b"))

    def found(**query: str) -> list[str]:
        reply = api.get("members", **query)
        assert reply.status == 200
        return [row["external_id"] for row in reply.json["results"]]

    assert found() == ["c", "b", "a"]
    assert found(external_id="b") == ["b"]
    assert found(country="GB") == ["b", "a"]
    assert found(kind="household") == ["c"]
    assert found(status="suspended") == []
    assert found(joined_from="2026-03-05T00:00:00Z") == ["c"]
    assert found(joined_before="2026-03-05T00:00:00Z") == ["b", "a"]
    assert found(tier="bronze") == found(tier="bronze", ladder="main") == ["b"]
    assert found(tier="ivory") == ["c", "a"]


def test_a_page_goes_on_where_the_last_one_ended(api: Api) -> None:
    enroll(api, "a", "b", "c")
    first = api.get("members", limit=2).json
    assert [row["external_id"] for row in first["results"]] == ["c", "b"]
    following = api.get(first["next"].removeprefix("http://testserver")).json
    assert ([row["external_id"] for row in following["results"]], following["next"]) == (["a"], None)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"kind": "robot"}, "invalid_parameter"),
        ({"joined_from": "2026-03-05T00:00:00"}, "invalid_parameter"),
        ({"tier": "tin"}, "unknown_tier"),
        ({"tier": "gold", "ladder": "club"}, "unknown_tier"),
        ({"ladder": "main"}, "invalid_parameter"),
        ({"name": "ada"}, "invalid_parameter"),
    ],
)
def test_a_list_asked_for_wrongly_is_refused(api: Api, query: dict[str, str], code: str) -> None:
    reply = api.get("members", **query)
    assert (reply.status, reply.code) == (400, code)


def test_another_programs_members_are_not_seen(api: Api, foreign_program: Program, make_key: MakeKey) -> None:
    enroll(Api(make_key(program=foreign_program)), "eve")
    assert api.get("members").json["results"] == []
    reply = api.patch("members/eve", {"country": "FR"})
    assert (reply.status, reply.code) == (404, "unknown_member")


def test_a_profile_is_changed_where_it_differs(api: Api) -> None:
    api.post("members", ADA)
    OutboxEvent.objects.all().delete()
    reply = api.patch("members/ada", {"country": "FR", "consents": {}, "locale": "en-GB"})
    assert (reply.status, reply.json["country"], reply.json["consents"]) == (200, "FR", {})
    assert reply.json["birthday"] == "1990-02-28"
    told = OutboxEvent.objects.get()
    assert (told.topic, told.payload["members"]) == ("membership.member_updated", [Member.objects.get().pk])
    entry = AuditEntry.objects.get(action="member.updated")
    # What the member has become is personal: it stands in the member's row alone.
    assert (entry.target, entry.after) == ("member ada", {"changed": ["country", "consents"], "status": "active"})
    assert api.patch("members/ada", {"country": "FR"}).status == 200
    assert OutboxEvent.objects.count() == AuditEntry.objects.filter(action="member.updated").count() == 1


def test_a_birthday_is_forgotten_on_request(api: Api) -> None:
    api.post("members", ADA)
    assert api.patch("members/ada", {"birthday": None}).json["birthday"] is None


def test_a_member_is_suspended_and_comes_back(api: Api) -> None:
    enroll(api, "ada")
    for status in ("suspended", "active"):
        assert api.patch("members/ada", {"status": status}).json["status"] == status
        assert Member.objects.get().status == status


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "erased"},
        {"country": None},
        {"country": "gb"},
        {"country": "UK"},
        {"birthday": "2026-06-02"},
        {"birthday": 0},
        {"consents": {"email": "yes"}},
        {"joined_at": "2026-01-01"},
    ],
    ids=str,
)
def test_a_bad_change_is_refused_and_changes_nothing(api: Api, changes: dict[str, Any]) -> None:
    api.post("members", ADA)
    before = Member.objects.values().get()
    reply = api.patch("members/ada", changes)
    assert (reply.status, reply.code in {"invalid_request", "invalid_value"}) == (422, True)
    assert Member.objects.values().get() == before


def test_an_erased_member_is_changed_no_more(api: Api) -> None:
    enroll(api, "ada")
    Member.objects.update(status=MemberStatus.ERASED)
    reply = api.patch("members/ada", {"country": "FR"})
    assert (reply.status, reply.code) == (409, "member_erased")
    assert Member.objects.get().country == ""


def test_writing_needs_its_scope(api: Api, make_key: MakeKey) -> None:
    enroll(api, "ada", joined_at=(NOW - timedelta(days=1)).isoformat())
    reader = Api(make_key(Scope.MEMBERS_READ))
    for reply in (
        reader.post("members", {"external_id": "x"}),
        reader.post("members/batch", {"members": [{"external_id": "x"}]}),
        reader.patch("members/ada", {"country": "FR"}),
    ):
        assert (reply.status, reply.code) == (403, "scope_missing")
    assert Member.objects.get().country == ""
