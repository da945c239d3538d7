"""What an operation does not read is refused: unknown parameters, and bodies where none is read."""

import uuid
from typing import Any

import pytest

from core.api.openapi import Takes
from core.models import Program
from tests.api.client import Api
from tests.api.test_authorization import KNOWN, Call, aurora  # noqa: F401 a fixture

pytestmark = pytest.mark.django_db


def takes(call: Call) -> Takes:
    found: Takes = getattr(call.view, call.method.lower()).takes
    return found


@pytest.mark.parametrize("query", [{"nonsense": "1"}, {"dryrun": "true"}, {"AT": "2026-05-01T00:00:00Z"}], ids=str)
def test_no_operation_has_an_unknown_parameter(api: Api, query: dict[str, str]) -> None:
    said = []
    for call in KNOWN:
        body: dict[str, Any] | None = {} if takes(call).body else None
        reply = api.call(call.method, call.path, body, key=uuid.uuid4().hex, query=query)
        if (reply.status, reply.code) == (400, "invalid_parameter"):
            assert next(iter(query)) in reply.text, call
        else:
            said.append((str(call), reply.status, reply.code))
    assert said == []


@pytest.mark.parametrize("raw", [b'{"a": 1}', b"[]", b"x"])
def test_an_operation_that_reads_no_body_has_none(api: Api, raw: bytes) -> None:
    calls = [call for call in KNOWN if not takes(call).body]
    assert any(call.method == "POST" for call in calls)
    for call in calls:
        reply = api.call(call.method, call.path, raw=raw, key=uuid.uuid4().hex)
        assert (reply.status, reply.code) == (400, "unexpected_body"), (call, reply.text)


def test_an_empty_object_is_no_body(api: Api) -> None:
    assert api.post("members/ada/tokens", {}).status == 201


def test_a_dry_run_where_there_is_none_does_nothing(api: Api, program: Program) -> None:
    before = api.get("members/ada/coupons").json
    reply = api.post("members/ada/coupons", {"coupon": "welcome"}, key="k", query={"dry_run": "true"})
    assert (reply.status, reply.code) == (400, "invalid_parameter")
    assert api.get("members/ada/coupons").json == before
