"""Who calls: a storefront's server by its key, or a member's browser by a short-lived token."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core import signing
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from core import log_context
from core.api.problems import Problem
from core.models import Program, Scope
from core.services import api_keys

TOKEN_LIFETIME = timedelta(minutes=15)
# What a member may do with a token: read what is theirs and spend, never earn, adjust or change.
MEMBER_SCOPES = frozenset({
    Scope.PROGRAMS_READ, Scope.MEMBERS_READ, Scope.FACTS_READ, Scope.TIERS_READ, Scope.POINTS_READ,
    Scope.POINTS_REDEEM, Scope.COUPONS_READ, Scope.COUPONS_CLAIM, Scope.REFERRALS_READ,
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
        caller = authenticate(text.decode("latin-1"), at=at)
        log_context.note(program=caller.program.code)
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
    found = api_keys.find(text)
    if found is None:
        raise _refused("invalid_key", "The key is not one of this installation.")
    _require_valid(found, at=at)
    api_keys.note_use(found, at=at)
    return Caller(found.program, found, found.scopes)


def issue_token(caller: Caller, *, member: str, at: datetime) -> tuple[str, datetime]:
    """Return a token with which the browser of a member may act, and when it lapses; it ends with its key, too."""
    expires_at = at + TOKEN_LIFETIME
    content = [caller.key.prefix, member, math.floor(expires_at.timestamp())]
    return _TOKEN_PREFIX + signing.Signer(salt=_SALT).sign_object(content), expires_at.replace(microsecond=0)


def _authenticate_token(text: str, *, at: datetime) -> Caller:
    try:
        prefix, member, expires = signing.Signer(salt=_SALT).unsign_object(text)
    except signing.BadSignature:
        raise _refused("invalid_token", "The member token is not one of this installation.") from None
    if at.timestamp() >= expires:
        raise _refused("token_expired", "The member token has lapsed; ask for a new one.")
    found = api_keys.find_by_prefix(prefix)
    if found is None:
        raise _refused("invalid_token", "The member token is not one of this installation.")
    _require_valid(found, at=at)
    return Caller(found.program, found, MEMBER_SCOPES, member)


def _require_valid(found: api_keys.FoundKey, *, at: datetime) -> None:
    if found.revoked_at is not None:
        raise _refused("key_revoked", "The key has been revoked.")
    if not api_keys.is_valid(found, at):
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
        scope = view.scopes.get("GET" if request.method == "HEAD" else request.method)
        if scope is None or request.method not in view.allowed_methods:
            raise MethodNotAllowed(str(request.method))
        if scope not in caller.scopes:
            raise Problem(403, "scope_missing", f"This needs the scope {scope}.")
        if caller.member is not None and not view.is_open_to_members:
            raise Problem(403, "key_required", "This needs a server key; a member token does not open it.")
        return True
