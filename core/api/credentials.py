"""Who calls: a storefront's server by its key, or a member's browser by a short-lived token."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core import signing
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from core.api.problems import Problem
from core.models import Program, Scope
from core.services import api_keys

TOKEN_LIFETIME = timedelta(minutes=15)
# What a member may do with a token: read what is theirs and spend, never earn, adjust or change.
MEMBER_SCOPES = frozenset({
    Scope.PROGRAMS_READ, Scope.MEMBERS_READ, Scope.FACTS_READ, Scope.TIERS_READ, Scope.POINTS_READ,
    Scope.POINTS_REDEEM,
})  # fmt: skip
_TOKEN_PREFIX = "pnl_member_"  # noqa: S105 not a secret
_SALT = "perennial.member-token"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling. `member`: the external id of the only member whom a token's bearer may see."""

    program: Program
    key: api_keys.FoundKey
    scopes: frozenset[str]
    member: str | None = None

    @property
    def name(self) -> str:
        """Return what tells one sender of idempotency keys from another."""
        return "key" if self.member is None else f"member:{self.member}"


class Credentials(BaseAuthentication):
    """`Authorization: Bearer <key or token>`."""

    def authenticate(self, request: Request) -> tuple[None, Caller]:
        """Return the caller.

        Raises: Problem 401.
        """
        scheme, _, text = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer" or not text:
            raise _refused("unauthenticated", "Send a key or a member token: Authorization: Bearer ...")
        at: datetime = request.parser_context["view"].at
        try:
            caller = authenticate(text.decode("ascii"), at=at)
        except UnicodeDecodeError:
            raise _refused("invalid_key", "The key is not one of this installation.") from None
        request._request.caller = caller  # type: ignore[attr-defined]
        return None, caller

    def authenticate_header(self, _request: Request) -> str:
        """Return the challenge of a 401."""
        return 'Bearer realm="perennial"'


def authenticate(text: str, *, at: datetime) -> Caller:
    """Return who shows this key or token.

    Raises: Problem 401, which says what is wrong with it.
    """
    if text.startswith(_TOKEN_PREFIX):
        return _authenticate_token(text.removeprefix(_TOKEN_PREFIX), at=at)
    head, _, secret = text.partition(".")
    found = api_keys.find(head.rpartition("_")[2])
    if found is None or head != f"{api_keys.text_prefix(found.program)}{head.rpartition('_')[2]}":
        raise _refused("invalid_key", "The key is not one of this installation.")
    if not found.has_secret(secret):
        raise _refused("invalid_key", "The key is not one of this installation.")
    _require_valid(found, at=at)
    api_keys.note_use(found, at=at)
    return Caller(found.program, found, found.scopes)


def issue_token(caller: Caller, *, member: str, key_prefix: str) -> str:
    """Return a token with which the browser of a member may act until it lapses, or its key does."""
    content = {"program": caller.program.pk, "key": key_prefix, "member": member}
    return _TOKEN_PREFIX + signing.dumps(content, salt=_SALT)


def _authenticate_token(text: str, *, at: datetime) -> Caller:
    try:
        content: dict[str, Any] = signing.loads(text, salt=_SALT, max_age=TOKEN_LIFETIME)
    except signing.SignatureExpired:
        raise _refused("token_expired", "The member token has lapsed; ask for a new one.") from None
    except signing.BadSignature:
        raise _refused("invalid_token", "The member token is not one of this installation.") from None
    found = api_keys.find(content["key"])
    if found is None or found.program.pk != content["program"]:
        raise _refused("invalid_token", "The member token is not one of this installation.")
    _require_valid(found, at=at)
    return Caller(found.program, found, MEMBER_SCOPES, content["member"])


def _require_valid(found: api_keys.FoundKey, *, at: datetime) -> None:
    if found.revoked_at is not None:
        raise _refused("key_revoked", "The key has been revoked.")
    if not found.is_valid(at):
        raise _refused("key_expired", "The key has expired.")


def _refused(code: str, detail: str) -> Problem:
    return Problem(401, code, detail, headers={"WWW-Authenticate": 'Bearer realm="perennial"'})


class HasScope(BasePermission):
    """Refuse by default: a method that names no scope is nobody's; a token reaches what is its member's own."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True.

        Raises: Problem 403; MethodNotAllowed.
        """
        caller: Any = request.auth
        scope = view.scopes.get(request.method)
        if scope is None:
            raise MethodNotAllowed(str(request.method))
        if scope not in caller.scopes:
            raise Problem(403, "scope_missing", f"This needs the scope {scope}.")
        if caller.member is not None and not view.is_open_to_members:
            raise Problem(403, "key_required", "This needs a server key; a member token does not open it.")
        return True
