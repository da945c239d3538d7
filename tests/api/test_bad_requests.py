"""What cannot be read or answered is refused as application/problem+json with a code, and nothing is written."""

import json
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client

from core.log_context import get_log_context
from core.models import Program
from tests.api import deeds
from tests.api.client import Api, Reply

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api.deeds")]


def _refused(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """Return the problem, which is whole, and shows nothing of the inside."""
    problem: dict[str, Any] = reply.json
    assert (reply.status, reply.code) == (status, code)
    assert (problem["status"], problem["type"]) == (status, f"urn:perennial:problem:{code}")
    assert problem["request_id"] == reply.headers["X-Request-ID"]
    assert problem["detail"].endswith((".", ";", "see errors."))
    assert "Traceback" not in reply.text
    assert 'File \\"' not in reply.text
    assert deeds.count_deeds() == 0
    return problem


# --- addresses and methods -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["nothing", "program/", "members//tokens", "members/a%00b/tokens", "members/a%0Ab/tokens", "members/a%7Fb/tokens",
     f"members/{'a' * 201}/tokens", "members/a/b/tokens", "%", "%FF", "/api/", "/api", "/api/v2/program", "/api/v1"],
)  # fmt: skip
def test_an_address_without_anything_is_not_found(api: Api, path: str) -> None:
    reply = api.post(path, {})
    if path == "/api":
        assert reply.headers["Content-Type"].startswith("text/plain")  # it is not below /api/
    else:
        _refused(reply, 404, "not_found")


def test_an_address_that_is_not_utf_8_names_no_member(api: Api) -> None:
    _refused(api.post("members/%FF/tokens"), 404, "unknown_member")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_a_method_that_an_address_does_not_know_is_refused(api: Api, method: str) -> None:
    reply = api.call(method, "program")
    _refused(reply, 405, "method_not_allowed")
    assert reply.headers["Allow"] == "GET, HEAD"


def test_head_is_get_without_the_body(api: Api) -> None:
    head, get = api.call("HEAD", "program"), api.get("program")
    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


@pytest.mark.parametrize("path", ["/api/openapi.json", "/api/docs/"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"Accept": "application/xml"}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer \x00"}],
)
def test_the_open_pages_answer_whatever_is_sent(path: str, headers: dict[str, str]) -> None:
    assert Api(None).call("GET", path, headers=headers).status == 200
    _refused(Api(None).call("POST", path, headers=headers), 405, "method_not_allowed")


# --- bodies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [b" ", b"{", b"what=wave", b"{'what': 'wave'}", b'{"what": "\xff"}', b"\xff\xfe{\x00}\x00", b'{"what": NaN',
     b"[" * 100_000, b'{"what": "\\ud800"}', b'{"what": "wave"} x', b"\x00"],
    ids=range(11),
)  # fmt: skip
def test_a_body_that_is_not_json(api: Api, raw: bytes) -> None:
    _refused(api.call("POST", "deeds", raw=raw, key="k"), 400, "invalid_json")


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ([], "", "model_type"),
        (None, "", "model_type"),
        ("wave", "", "model_type"),
        ({}, "/what", "missing"),
        ({"what": 1}, "/what", "string_type"),
        ({"what": None}, "/what", "string_type"),
        ({"what": {"a": 1}}, "/what", "string_type"),
        ({"what": "a\x00b"}, "/what", "string_pattern_mismatch"),
        ({"what": "a\x7fb"}, "/what", "string_pattern_mismatch"),
        ({"what": "a" * 201}, "/what", "string_too_long"),
        ({"what": "a", "is_refused": "x"}, "/is_refused", "bool_parsing"),
        ({"what": "a", "more/~": 1}, "/more~1~0", "extra_forbidden"),
    ],
)
def test_a_body_of_a_wrong_shape(api: Api, body: Any, pointer: str, code: str) -> None:
    problem = _refused(api.call("POST", "deeds", raw=json.dumps(body).encode(), key="k"), 422, "invalid_request")
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [(pointer, code)]


def test_a_body_with_a_huge_integer(api: Api) -> None:
    raw = b'{"what": ' + b"9" * 100_000 + b"}"
    assert api.call("POST", "deeds", raw=raw, key="k").status in {400, 422}
    assert deeds.count_deeds() == 0


def test_of_many_mistakes_the_first_are_told(api: Api) -> None:
    body = {"what": "a"} | {f"k{n}": n for n in range(5_000)}
    problem = _refused(api.post("deeds", body, key="k"), 422, "invalid_request")
    assert len(problem["errors"]) == 100
    assert problem["detail"].startswith("5000 ")


def test_a_body_that_is_too_large(api: Api, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 200
    assert api.post("deeds", {"what": "a" * 100}, key="k").status == 201
    too_large = api.post("deeds", {"what": "a" * 200}, key="l")
    assert (too_large.status, too_large.code, deeds.count_deeds()) == (413, "body_too_large", 1)


@pytest.mark.parametrize("told", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"])
def test_a_body_of_another_type(api: Api, told: str) -> None:
    reply = api.call("POST", "deeds", raw=b'{"what": "a"}', content_type=told, key="k")
    _refused(reply, 415, "unsupported_media_type")


@pytest.mark.parametrize("told", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_json_however_it_is_written(api: Api, told: str) -> None:
    assert api.call("POST", "deeds", raw=b'{"what": "a"}', content_type=told, key="k").status == 201


# --- queries and pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=", "limit=1.5", "limit=%C2%B2", "limit=" + "9" * 5_000,
     "limit=1&limit=2", "unknown=1", "WHAT=x", "what=a%00b", "what=a&what=b", "after=yesterday", "after=%00",
     "after=999999-01-01", "cursor=a&cursor=b"],
)  # fmt: skip
def test_a_parameter_that_cannot_be_accepted(api: Api, query: str) -> None:
    _refused(api.get(f"deeds?{query}"), 400, "invalid_parameter")


@pytest.mark.parametrize(
    "cursor",
    ["x", "%00", "%FF", "cD0x", "cD14", "cD0lMDA=", "cj0xJnA9eA==", "bz0tMSZwPTE=", "a" * 5_000, "cD0yMDI2", "===",
     "cD05OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk="],
)  # fmt: skip
def test_a_made_up_cursor_is_refused_or_a_place_in_the_list(api: Api, cursor: str) -> None:
    reply = api.get(f"deeds?cursor={cursor}")
    assert (reply.status, reply.code) in {(400, "invalid_cursor"), (200, None)}


@pytest.mark.parametrize(
    "query", ["dry_run=1", "dry_run=True", "dry_run=", "dry_run=true&dry_run=false", "dryrun=true"]
)
def test_a_dry_run_is_asked_for_in_one_way(api: Api, query: str) -> None:
    _refused(api.post(f"deeds?{query}", {"what": "a"}, key="k"), 400, "invalid_parameter")


def test_pages_follow_each_other_and_lead_back(api: Api, program: Program) -> None:
    for n in range(5):
        api.post("deeds", {"what": f"d{n}"}, key=f"k{n}")
    first = api.get("deeds", limit=2).json
    second = api.get(first["next"]).json
    third = api.get(second["next"]).json
    told = [[row["what"] for row in page["results"]] for page in (first, second, third)]
    assert told == [["d0", "d1"], ["d2", "d3"], ["d4"]]
    assert (first["previous"], third["next"]) == (None, None)
    assert api.get(third["previous"]).json["results"] == second["results"]
    assert [row["what"] for row in api.get("deeds", what="d3").json["results"]] == ["d3"]


# --- mistakes of ours ------------------------------------------------------------------------------------------


def test_a_failure_outside_of_the_views_shows_no_traceback(api: Api) -> None:
    reply = api.get("failing")
    _refused(reply, 500, "internal_error")
    assert "secret" not in reply.text


def test_a_host_that_is_not_ours_is_a_bad_request(api: Api) -> None:
    reply = api.call("GET", "program", headers={"Host": "evil.example"})
    _refused(reply, 400, "bad_request")


def test_a_busy_database_says_so_and_frees_the_key(api: Api) -> None:
    def run_out_of_time() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 1")
            cursor.execute("SELECT pg_sleep(1)")

    deeds.during.append(run_out_of_time)
    try:
        reply = api.post("deeds", {"what": "a"}, key="k")
    finally:
        deeds.during.clear()
    _refused(reply, 503, "busy")
    assert reply.headers["Retry-After"] == "1"


# --- request ids -----------------------------------------------------------------------------------------------


def test_a_request_keeps_the_id_it_came_with(api: Api) -> None:
    assert api.call("GET", "program", headers={"X-Request-ID": "a.B-1_2"}).headers["X-Request-ID"] == "a.B-1_2"


def test_the_log_of_a_request_knows_its_id_and_its_program(api: Api) -> None:
    known: list[dict[str, str]] = []
    deeds.during.append(lambda: known.append(dict(get_log_context())))
    try:
        api.post("deeds", {"what": "a"}, key="k", headers={"X-Request-ID": "r-1"})
    finally:
        deeds.during.clear()
    assert known == [{"request_id": "r-1", "program": "aurora"}]


@pytest.mark.parametrize("told", ["", "a b", "ä", "x" * 65, "a\nb", "<script>"])
def test_an_id_of_another_form_is_replaced(api: Api, told: str) -> None:
    given = api.call("GET", "program", headers={"X-Request-ID": told}).headers["X-Request-ID"]
    assert UUID(given).version == 7


def test_answers_are_not_kept_by_caches(api: Api) -> None:
    reply = api.get("program")
    assert reply.headers["Cache-Control"] == "no-store"
    assert {"Origin", "Authorization"} <= {part.strip() for part in reply.headers["Vary"].split(",")}


def test_outside_of_the_api_refusals_are_plain_text() -> None:
    reply = Client(raise_request_exception=False).get("/nothing")
    assert (reply.status_code, reply.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
