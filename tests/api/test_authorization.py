"""Every method of every address below /api/v1/, shown every kind of credential: refused by default, and then unchanged.

The addresses are read from the URL conf, so a new one is covered as soon as it is there. What names a thing in an
address names one that aurora has.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.urls import URLPattern, URLResolver, get_resolver

from core.api.credentials import MEMBER_SCOPES
from core.api.views import ApiView
from core.models import ApiKey, Program, Scope, WebhookEndpoint
from core.services import api_keys
from membership.models import Member, MemberStatus
from membership.services.members import MemberInput, enroll_members
from tests.api.client import Api, Reply
from tests.api.conftest import NOW, MakeKey
from tests.storefront import shop

pytestmark = pytest.mark.django_db

ENDPOINT = uuid.UUID(int=1)
THINGS = {
    "member": "ada",
    "order": "o1",
    "activity": "v1",
    "refund": "r1",
    "wallet": "points",
    "ladder": "main",
    "endpoint": str(ENDPOINT),
    "coupon": "welcome",
    "referral": "1",
    "claim": str(ENDPOINT),
    "batch": "1",
}
# For parameters that the list above does not know.
ANYTHING = {"IntConverter": "1", "UUIDConverter": str(ENDPOINT)}


@dataclass(frozen=True)
class Call:
    """One method of one address."""

    method: str
    path: str
    view: type[ApiView]
    parameters: frozenset[str]

    @property
    def scope(self) -> str | None:
        """The scope that the method needs; None if the address does not know it."""
        return self.view.scopes.get(self.method) if hasattr(self.view, self.method.lower()) else None

    def send(self, text: str | None) -> Reply:
        return Api(text).call(self.method, self.path, None if self.method == "GET" else {}, key=uuid.uuid4().hex)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _patterns(resolver: URLResolver, above: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in resolver.url_patterns:
        path = above + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern, path)
        elif path.startswith("api/v1/"):
            yield path, pattern


def _calls() -> list[Call]:
    found = []
    for route, pattern in _patterns(get_resolver()):
        path = route.removeprefix("api/v1/")
        for name, converter in pattern.pattern.converters.items():
            value = THINGS.get(name, ANYTHING.get(type(converter).__name__, "x"))
            path = path.replace(f"<{_converter(route, name)}{name}>", value)
        assert "<" not in path
        view = getattr(pattern.callback, "view_class")  # noqa: B009 Django sets it on the function
        parameters = frozenset(pattern.pattern.converters)
        found += [Call(method, path, view, parameters) for method in ("GET", "POST", "PUT", "PATCH", "DELETE")]
    return found


def _converter(route: str, name: str) -> str:
    """Return what stands before the parameter's name in its angle brackets."""
    return route.partition(f":{name}>")[0].rpartition("<")[2] + ":" if f":{name}>" in route else ""


ALL = _calls()
KNOWN = [call for call in ALL if call.scope]


@pytest.fixture(autouse=True)
def aurora(program: Program) -> Program:
    """Aurora with two members, an order, a refund and a webhook endpoint."""
    _enroll(program, "ada", "bob")
    shop.tell(program, shop.order("o1", (2, 5_000), member="ada"), shop.order("o2", (1, 1_000), member="bob"))
    shop.tell(program, shop.refund("r1", ("o1.1", 1, 2_500), member="ada"))
    WebhookEndpoint.objects.create(
        program=program, public_id=ENDPOINT, url="https://hooks.example/", secret="s", created_at=NOW
    )
    return program


def _enroll(program: Program, *names: str) -> None:
    members = [MemberInput(external_id=name, joined_at=shop.START) for name in names]
    enroll_members(program=program, members=members, at=NOW)


@pytest.fixture
def token(make_key: MakeKey) -> Mapping[str, str]:
    issuing = Api(make_key(Scope.TOKENS_ISSUE))
    return {name: issuing.post(f"members/{name}/tokens").json["token"] for name in ("ada", "bob")}


def _content() -> dict[str, Any]:
    """Return the number and a checksum of the rows of every table."""
    tables = connection.introspection.table_names()
    parts = [f"SELECT '{name}', count(*), sum(hashtext(t::text)::bigint) FROM {name} t" for name in tables]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts))
        return {name: (count, checksum) for name, count, checksum in cursor.fetchall()}


def _note(call: Call, reply: Reply) -> str:
    return f"{call}: {reply.status} {reply.code}"


def _refused(calls: list[Call], text: str | None, status: int, code: str) -> None:
    """Send all calls and require the refusal of each, and that none of them changed anything."""
    assert calls
    before = _content()
    replies = [(call, call.send(text)) for call in calls]
    assert [_note(call, reply) for call, reply in replies if (reply.status, reply.code) != (status, code)] == []
    assert _content() == before


def _not_refused(calls: list[Call], text: str) -> None:
    """Require that the credential opens all calls, whatever they then answer; what they write is taken back."""
    wrong = []
    for call in calls:
        before = transaction.savepoint()
        reply = call.send(text)
        transaction.savepoint_rollback(before)
        if reply.status in {401, 403, 405} or reply.status >= 500:
            wrong.append(_note(call, reply))
    assert wrong == []


# --- what is there ---------------------------------------------------------------------------------------------


def test_every_address_is_found_and_every_method_names_its_scope() -> None:
    assert {"program", "members/ada/tokens"} <= {call.path for call in ALL}
    for call in ALL:
        assert issubclass(call.view, ApiView), call
        assert (call.scope is not None) == hasattr(call.view, call.method.lower()), call
        assert call.view.permission_classes == ApiView.permission_classes, call
        assert call.view.authentication_classes == ApiView.authentication_classes, call


def test_a_method_without_a_scope_is_refused(api: Api) -> None:
    api.get("program")  # its first use is noted
    _refused([call for call in ALL if call.scope is None], api.text, 405, "method_not_allowed")


# --- keys ------------------------------------------------------------------------------------------------------


def test_nobody_is_refused() -> None:
    _refused(ALL, None, 401, "unauthenticated")


def test_garbage_is_refused(api: Api) -> None:
    _refused(ALL, "pnl_test_abc.def", 401, "invalid_key")
    _refused(ALL, f"{api.text}x", 401, "invalid_key")


def test_a_live_key_is_refused_by_a_sandbox(api: Api) -> None:
    assert api.text is not None
    _refused(ALL, api.text.replace("pnl_test_", "pnl_live_"), 401, "invalid_key")


def test_a_lapsed_key_is_refused(make_key: MakeKey) -> None:
    _refused(ALL, make_key(at=NOW - timedelta(days=1), expires_at=NOW), 401, "key_expired")


def test_a_revoked_key_is_refused(make_key: MakeKey) -> None:
    text = make_key()
    api_keys.revoke(key=ApiKey.objects.latest("id"), actor="test", at=NOW)
    _refused(ALL, text, 401, "key_revoked")


@pytest.mark.parametrize("scope", Scope.values)
def test_a_key_with_every_scope_but_the_needed_one_is_refused(make_key: MakeKey, scope: str) -> None:
    calls = [call for call in KNOWN if call.scope == scope]
    text = make_key(*(other for other in Scope.values if other != scope))
    Api(text).get("program")  # its first use is noted
    if calls:
        _refused(calls, text, 403, "scope_missing")


@pytest.mark.parametrize("scope", Scope.values)
def test_the_needed_scope_is_enough(make_key: MakeKey, scope: str) -> None:
    _not_refused([call for call in KNOWN if call.scope == scope], make_key(scope))


def test_a_key_of_another_program_finds_nothing_of_this_one(foreign_program: Program, make_key: MakeKey) -> None:
    text = make_key(program=foreign_program)
    Api(text).get("program")  # its first use is noted
    before, wrong = _content(), []
    for call in KNOWN:
        reply = call.send(text)
        own = call.parameters - {"wallet", "ladder"}  # borealis has its own of these
        if own and reply.status != 404 and not (call.method != "GET" and reply.status in {400, 422}):
            wrong.append(_note(call, reply))
        if not own and call.method == "GET" and any(name in reply.text for name in ('"ada"', '"o1"', str(ENDPOINT))):
            wrong.append(f"{call} shows what is aurora's")
    assert wrong == []
    assert _content() == before


# --- tokens ----------------------------------------------------------------------------------------------------


def _open() -> list[Call]:
    return [call for call in KNOWN if call.view.is_open_to_members and call.scope in MEMBER_SCOPES]


def test_a_token_earns_adjusts_and_changes_nothing(token: Mapping[str, str]) -> None:
    calls = [call for call in KNOWN if call.scope not in MEMBER_SCOPES]
    _refused(calls, token["ada"], 403, "scope_missing")
    reads = {scope for scope in Scope if scope.endswith(":read")} - {Scope.EVENTS_READ, Scope.RETENTION_READ}
    assert reads | {Scope.POINTS_REDEEM, Scope.COUPONS_CLAIM} == MEMBER_SCOPES


def test_a_token_opens_no_address_that_is_not_for_members(token: Mapping[str, str]) -> None:
    calls = [call for call in KNOWN if call.scope in MEMBER_SCOPES and not call.view.is_open_to_members]
    _refused(calls, token["ada"], 403, "key_required")


def test_a_token_opens_what_is_its_members(token: Mapping[str, str]) -> None:
    _not_refused(_open(), token["ada"])


def test_a_token_of_another_member_does_not_see_that_there_is_one(token: Mapping[str, str]) -> None:
    calls = [call for call in _open() if "member" in call.parameters]
    if calls:
        _refused(calls, token["bob"], 404, "unknown_member")


def test_what_is_open_to_members_and_names_none_shows_none(token: Mapping[str, str]) -> None:
    for call in _open():
        if "member" not in call.parameters:
            assert call.method == "GET", call
            text = call.send(token["bob"]).text
            assert not any(name in text for name in ('"ada"', '"o1"', '"r1"')), call


@pytest.mark.parametrize("status", [MemberStatus.SUSPENDED, MemberStatus.ERASED])
def test_a_token_of_a_member_who_is_not_active_opens_nothing_of_theirs(
    token: Mapping[str, str], status: MemberStatus
) -> None:
    Member.objects.filter(external_id="ada").update(status=status)
    calls = [call for call in _open() if "member" in call.parameters]
    if calls:
        _refused(calls, token["ada"], 403, "member_not_active")


def test_a_lapsed_token_is_refused(token: Mapping[str, str], clock: Any) -> None:
    clock(NOW + timedelta(minutes=15))
    _refused(ALL, token["ada"], 401, "token_expired")


def test_a_token_of_another_programs_namesake_shows_nothing_of_this_ones(
    foreign_program: Program, make_key: MakeKey
) -> None:
    """Both programs have an ada; what is asked for is what the one of the token's program has."""
    _enroll(foreign_program, "ada")
    theirs = Api(make_key(program=foreign_program)).post("members/ada/tokens").json["token"]
    shown = [call.send(theirs).text for call in _open() if call.method == "GET"]
    assert not any(name in text for text in shown for name in ('"o1"', '"r1"', '"aurora"'))
