"""Which web pages may read answers: those of the origins that the caller's key names, and no others."""

from datetime import timedelta

import pytest

from core.models import ApiKey, Program
from core.services import api_keys
from membership.services.members import MemberInput, enroll_members
from tests.api.client import Api, Reply
from tests.api.conftest import NOW, Clock, MakeKey

pytestmark = pytest.mark.django_db

SHOP, OTHER = "https://shop.example", "https://other.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


def _allowed(reply: Reply) -> str | None:
    assert "Origin" in reply.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in reply.headers
    return reply.headers.get("Access-Control-Allow-Origin")


def _from(origin: str, text: str | None, **headers: str) -> Reply:
    return Api(text).call("GET", "program", headers={"Origin": origin} | headers)


def _preflight(origin: str, path: str = "program") -> Reply:
    return Api(None).call("OPTIONS", path, headers={"Origin": origin} | PREFLIGHT)


def test_the_origins_of_the_key_may_read_the_answer(make_key: MakeKey) -> None:
    text = make_key(allowed_origins=[SHOP])
    reply = _from(SHOP, text)
    assert (reply.status, _allowed(reply)) == (200, SHOP)
    assert {"X-Request-ID", "Retry-After"} <= set(reply.headers["Access-Control-Expose-Headers"].split(", "))
    assert [_allowed(_from(origin, text)) for origin in (OTHER, f"{SHOP}:444", "null", "*", "")] == [None] * 5


def test_another_keys_origins_do_not_count(make_key: MakeKey) -> None:
    make_key(allowed_origins=[SHOP])
    assert _allowed(_from(SHOP, make_key(allowed_origins=[OTHER]))) is None


def test_a_token_goes_by_the_origins_of_the_key_that_issued_it(program: Program, make_key: MakeKey) -> None:
    enroll_members(program=program, members=[MemberInput(external_id="ada", joined_at=NOW)], at=NOW)
    token = Api(make_key(allowed_origins=[SHOP])).post("members/ada/tokens").json["token"]
    assert (_allowed(_from(SHOP, token)), _allowed(_from(OTHER, token))) == (SHOP, None)


def test_a_page_can_read_that_its_token_has_lapsed(program: Program, make_key: MakeKey, clock: Clock) -> None:
    enroll_members(program=program, members=[MemberInput(external_id="ada", joined_at=NOW)], at=NOW)
    token = Api(make_key(allowed_origins=[SHOP])).post("members/ada/tokens").json["token"]
    clock(NOW + timedelta(hours=1))
    reply = _from(SHOP, token)
    assert (reply.code, _allowed(reply)) == ("token_expired", SHOP)
    assert _allowed(_from(OTHER, token)) is None


def test_a_preflight_is_answered_for_the_origins_of_valid_keys(make_key: MakeKey) -> None:
    make_key(allowed_origins=[SHOP])
    reply = _preflight(SHOP)
    assert (reply.status, reply.text, _allowed(reply)) == (204, "", SHOP)
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    assert {"Authorization", "Idempotency-Key"} <= set(reply.headers["Access-Control-Allow-Headers"].split(", "))
    for origin in (OTHER, "null", "*", "nul\x00", "ä"):
        refused = _preflight(origin)
        assert (refused.status, _allowed(refused)) == (204, None)
        assert "Access-Control-Allow-Methods" not in refused.headers


def test_the_origins_of_a_key_that_is_not_valid_do_not_count(make_key: MakeKey, clock: Clock) -> None:
    make_key(allowed_origins=[SHOP], expires_at=NOW + timedelta(days=1))
    make_key(allowed_origins=[OTHER])
    assert (_allowed(_preflight(SHOP)), _allowed(_preflight(OTHER))) == (SHOP, OTHER)
    api_keys.revoke(key=ApiKey.objects.get(expires_at=None), actor="test", at=NOW)
    clock(NOW + timedelta(days=1))
    assert (_allowed(_preflight(SHOP)), _allowed(_preflight(OTHER))) == (None, None)


def test_options_without_an_origin_is_no_preflight(make_key: MakeKey) -> None:
    reply = Api(make_key()).call("OPTIONS", "program", headers=PREFLIGHT)
    assert (reply.status, reply.code) == (405, "method_not_allowed")
