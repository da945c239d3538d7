"""Keys and member tokens: what opens what, until when, and what every refusal says."""

import base64
from datetime import datetime, timedelta
from urllib.parse import quote

import pytest
from django.core import signing

from core.api.credentials import TOKEN_LIFETIME
from core.models import ApiKey, Program, Scope
from core.services import api_keys
from membership.models import Member, MemberStatus
from membership.services.members import MemberInput, enroll_members
from tests.api.client import Api
from tests.api.conftest import NOW, Clock, MakeKey

INSTANT = timedelta(microseconds=1)


def _member(program: Program, name: str = "ada") -> Member:
    ids = enroll_members(program=program, members=[MemberInput(external_id=name, joined_at=NOW)], at=NOW).ids
    return Member.objects.get(pk=ids[name])


def _refusal(text: str | None, path: str = "program") -> tuple[int, str | None]:
    reply = Api(text).get(path)
    if reply.status == 401:
        assert reply.headers["WWW-Authenticate"] == 'Bearer realm="perennial"'
    return reply.status, reply.code


# --- keys ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_key_reads_its_own_program(foreign_program: Program, make_key: MakeKey) -> None:
    assert Api(make_key()).get("program").json["code"] == "aurora"
    assert Api(make_key(program=foreign_program)).get("program").json["code"] == "borealis"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Token abc", base64.b64encode(b"x").decode()]
)
def test_a_caller_without_a_bearer_credential_is_unauthenticated(program: Program, header: str) -> None:
    reply = Api(None).call("GET", "program", headers={"Authorization": header} if header else {})
    assert (reply.status, reply.code) == (401, "unauthenticated")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "text",
    ["x", "pnl_test_", "pnl_test_aaaaaaaaaaaa", "pnl_test_aaaaaaaaaaaa.", "pnl_test_aaaaaaaaaaaa.secret", "\x00.\x00",
     "pnl_test_aaaaaaaaaaa\x00.x", "pnl_test_" + "a" * 10_000 + ".x", "schlüssel", "a b c", "pnl_test_'; --aaaaaaa.x"],
)  # fmt: skip
def test_what_has_not_the_form_of_a_key_is_none(program: Program, text: str) -> None:
    assert _refusal(text) == (401, "invalid_key")


@pytest.mark.django_db
def test_a_guessed_prefix_opens_nothing(make_key: MakeKey) -> None:
    head, _, secret = make_key().partition(".")
    other_secret = make_key().partition(".")[2]
    for text in [f"{head}.{other_secret}", f"{head}.{secret}x", f"{head}.{secret[:-1]}", f"{head}.", head]:
        assert _refusal(text) == (401, "invalid_key")


@pytest.mark.django_db
def test_a_sandbox_opens_to_test_keys_only_and_another_program_to_live_keys_only(program: Program) -> None:
    test_key = api_keys.issue(program=program, name="k", scopes=Scope.values, actor="test", at=NOW).text
    assert test_key.startswith("pnl_test_")
    assert _refusal(test_key.replace("pnl_test_", "pnl_live_")) == (401, "invalid_key")
    Program.objects.update(is_sandbox=False)
    assert _refusal(test_key) == (401, "invalid_key")
    assert _refusal(test_key.replace("pnl_test_", "pnl_live_")) == (200, None)


@pytest.mark.django_db
def test_a_key_works_until_it_expires_and_not_at_that_instant(make_key: MakeKey, clock: Clock) -> None:
    text = make_key(expires_at=NOW + timedelta(days=1))
    clock(NOW + timedelta(days=1) - INSTANT)
    assert _refusal(text) == (200, None)
    clock(NOW + timedelta(days=1))
    assert _refusal(text) == (401, "key_expired")


@pytest.mark.django_db
def test_a_revoked_key_works_no_longer_at_once(make_key: MakeKey) -> None:
    text = make_key()
    api_keys.revoke(key=ApiKey.objects.get(), actor="test", at=NOW)
    assert _refusal(text) == (401, "key_revoked")


@pytest.mark.django_db
def test_a_rotated_key_and_its_successor_work_side_by_side_until_the_overlap_ends(
    make_key: MakeKey, clock: Clock
) -> None:
    old = make_key(Scope.PROGRAMS_READ, allowed_origins=["https://shop.example"], rate_per_minute=77)
    new = api_keys.rotate(key=ApiKey.objects.get(), actor="test", at=NOW, overlap=timedelta(hours=2))
    kept = ("program_id", "name", "scopes", "allowed_origins", "rate_per_minute")
    before = ApiKey.objects.exclude(pk=new.key.pk).get()
    assert [getattr(new.key, name) for name in kept] == [getattr(before, name) for name in kept]
    clock(NOW + timedelta(hours=2) - INSTANT)
    assert (_refusal(old), _refusal(new.text)) == ((200, None), (200, None))
    clock(NOW + timedelta(hours=2))
    assert (_refusal(old), _refusal(new.text)) == ((401, "key_expired"), (200, None))


@pytest.mark.django_db
def test_a_key_reaches_what_its_scopes_name(make_key: MakeKey) -> None:
    assert _refusal(make_key(Scope.PROGRAMS_READ)) == (200, None)
    others = [scope for scope in Scope if scope != Scope.PROGRAMS_READ]
    assert _refusal(make_key(*others)) == (403, "scope_missing")


@pytest.mark.django_db
def test_a_use_is_noted_once_an_hour(make_key: MakeKey, clock: Clock) -> None:
    api = Api(make_key())
    for minutes, noted in [(0, 0), (60, 0), (61, 61)]:
        clock(NOW + timedelta(minutes=minutes))
        api.get("program")
        assert ApiKey.objects.get().last_used_at == NOW + timedelta(minutes=noted)


# --- member tokens ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_token_opens_what_is_its_members_for_a_quarter_of_an_hour(program: Program, api: Api, clock: Clock) -> None:
    _member(program)
    told = api.post("members/ada/tokens").json
    lapse = NOW + TOKEN_LIFETIME
    assert datetime.fromisoformat(told["expires_at"]) == lapse
    clock(lapse - INSTANT)
    assert _refusal(told["token"]) == (200, None)
    clock(lapse)
    assert _refusal(told["token"]) == (401, "token_expired")


@pytest.mark.django_db
def test_a_token_ends_with_its_key(program: Program, make_key: MakeKey) -> None:
    _member(program)
    token = Api(make_key(Scope.TOKENS_ISSUE)).post("members/ada/tokens").json["token"]
    assert _refusal(token) == (200, None)
    api_keys.revoke(key=ApiKey.objects.get(), actor="test", at=NOW)
    assert _refusal(token) == (401, "key_revoked")


@pytest.mark.django_db
def test_a_forged_token_is_none(program: Program, api: Api) -> None:
    _member(program)
    token = api.post("members/ada/tokens").json["token"]
    content, _, signature = token.removeprefix("pnl_member_").rpartition(":")
    prefix = ApiKey.objects.get().prefix
    for text in [
        "", "x", "\x00", f"{content}:", f"{content}:{signature}x", f"{content}x:{signature}",
        signing.dumps([prefix, "ada", 9_999_999_999]),
        signing.Signer(salt="another").sign_object([prefix, "ada", 9_999_999_999]),
        signing.Signer(key="guessed", salt="perennial.member-token").sign_object([prefix, "ada", 9_999_999_999]),
    ]:  # fmt: skip
        assert _refusal(f"pnl_member_{text}") == (401, "invalid_token")


@pytest.mark.django_db
def test_a_token_issues_no_token(program: Program, api: Api) -> None:
    _member(program)
    token = api.post("members/ada/tokens").json["token"]
    reply = Api(token).post("members/ada/tokens")
    assert (reply.status, reply.code) == (403, "scope_missing")


@pytest.mark.django_db
@pytest.mark.parametrize("status", [MemberStatus.SUSPENDED, MemberStatus.ERASED])
def test_a_member_who_is_not_active_gets_no_token(program: Program, api: Api, status: MemberStatus) -> None:
    _member(program)
    Member.objects.update(status=status)
    reply = api.post("members/ada/tokens")
    assert (reply.status, reply.code) == (409, "member_not_active")


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["nobody", "ADA", "ada ", "only-there", "a" * 200, "%F0%9F%98%80", "..%2fada"])
def test_a_token_is_for_a_member_of_the_program(
    program: Program, foreign_program: Program, api: Api, name: str
) -> None:
    _member(program)
    _member(foreign_program, "only-there")
    reply = api.post(f"members/{name}/tokens")
    assert (reply.status, reply.code) in {(404, "unknown_member"), (404, "not_found")}


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["ada", "a b", "Ä", "10%", "名前", "a?b", "a#b", "a;b=c,d", "-._~", "a+b", "A@x.y"])
def test_a_members_own_id_goes_into_addresses_as_it_is(program: Program, api: Api, name: str) -> None:
    _member(program, name)
    token = api.post(f"members/{quote(name, safe='')}/tokens").json["token"]
    assert _refusal(token) == (200, None)
