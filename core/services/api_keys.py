"""API keys: issue, rotate, revoke, and find the one that a request shows."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Q

from core import locks
from core.models import ApiKey, Program, Scope
from core.services import audit

PREFIX_LENGTH = 12
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
# Both keys work meanwhile, so that a storefront can be changed over without a gap.
ROTATION_OVERLAP = timedelta(days=1)
# Writing each use would cost a write per read.
USE_NOTED_EVERY = timedelta(hours=1)
_TEXT = re.compile(rf"(pnl_(?:live|test)_)([{_ALPHABET}]{{{PREFIX_LENGTH}}})\.([\w-]{{1,100}})", re.ASCII)
# As browsers send it in the header Origin.
_ORIGIN = re.compile(r"https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


class KeyRefused(Exception):
    """The key cannot be made or rotated; the text says why."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key and its text, which is shown once and cannot be read again."""

    key: ApiKey
    text: str


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key that is known, with its program, valid or not."""

    id: int
    prefix: str
    program: Program
    secret_digest: bytes
    scopes: frozenset[str]
    allowed_origins: tuple[str, ...]
    rate_per_minute: int | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def has_secret(self, secret: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(digest(secret), self.secret_digest)


def digest(secret: str) -> bytes:
    """Return what is kept of a secret. 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def is_valid(key: ApiKey | FoundKey, at: datetime) -> bool:
    """Tell whether a key works at an instant; it ends at `expires_at` and with its revocation."""
    return key.revoked_at is None and (key.expires_at is None or at < key.expires_at)


def issue(
    *,
    program: Program,
    name: str,
    scopes: Collection[str],
    actor: str,
    at: datetime,
    allowed_origins: Collection[str] = (),
    rate_per_minute: int | None = None,
    expires_at: datetime | None = None,
    user: User | None = None,
    reason: str = "",
) -> IssuedKey:
    """Make a key of a program: a test key for a sandbox, a live key otherwise.

    Raises: KeyRefused.
    """
    key = ApiKey(
        program=program,
        name=name,
        scopes=sorted(set(scopes)),
        allowed_origins=sorted(set(allowed_origins)),
        rate_per_minute=rate_per_minute,
        expires_at=expires_at,
    )
    _check(key, at=at)
    return _create(key, action="api_key.issued", by=_By(actor, user, reason), at=at)


@transaction.atomic
def rotate(
    *,
    key: ApiKey,
    actor: str,
    at: datetime,
    overlap: timedelta = ROTATION_OVERLAP,
    expires_at: datetime | None = None,
    user: User | None = None,
    reason: str = "",
) -> IssuedKey:
    """Issue a successor with the same rights and let the key expire after an overlap, or sooner if it would anyway.

    expires_at: the successor's end; left out, it lives as long as the key was given, for ever if that was for ever.
    Raises: KeyRefused for a key that is not valid any more or has a successor: rotate that one.
    Locks: the key.
    """
    key = locks.lock_row(key)
    if not is_valid(key, at):
        raise KeyRefused(f"{key} is not valid any more: issue a new key")
    if ApiKey.objects.filter(rotated_from=key).exists():
        raise KeyRefused(f"{key} has a successor already: rotate that one, or issue a new key")
    if expires_at is None and key.expires_at is not None:
        expires_at = at + (key.expires_at - key.created_at)
    successor = ApiKey(
        program=key.program,
        name=key.name,
        scopes=key.scopes,
        allowed_origins=key.allowed_origins,
        rate_per_minute=key.rate_per_minute,
        expires_at=expires_at,
        rotated_from=key,
    )
    _check(successor, at=at)
    ends_at = at + max(overlap, timedelta())
    key.expires_at = ends_at if key.expires_at is None else min(key.expires_at, ends_at)
    key.save(update_fields=["expires_at"])
    return _create(successor, action="api_key.rotated", by=_By(actor, user, reason), at=at)


@transaction.atomic
def revoke(*, key: ApiKey, actor: str, at: datetime, user: User | None = None, reason: str = "") -> bool:
    """End a key at once; False if it was revoked before."""
    if not ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=at):
        return False
    _audit(key, action="api_key.revoked", by=_By(actor, user, reason), at=at, after={"revoked_at": at})
    return True


def text_prefix(program: Program) -> str:
    """Return how the keys of a program begin."""
    return "pnl_test_" if program.is_sandbox else "pnl_live_"


class _By(NamedTuple):
    actor: str
    user: User | None
    reason: str


@transaction.atomic
def _create(key: ApiKey, *, action: str, by: _By, at: datetime) -> IssuedKey:
    secret = secrets.token_urlsafe(32)
    key.prefix = "".join(secrets.choice(_ALPHABET) for _ in range(PREFIX_LENGTH))
    key.secret_digest, key.created_at = digest(secret), at
    key.save(force_insert=True)
    told = {
        "name": key.name,
        "scopes": key.scopes,
        "allowed_origins": key.allowed_origins,
        "rate_per_minute": key.rate_per_minute,
        "expires_at": key.expires_at,
        "rotated_from": key.rotated_from and key.rotated_from.prefix,
    }
    _audit(key, action=action, by=by, at=at, after=told)
    return IssuedKey(key, f"{text_prefix(key.program)}{key.prefix}.{secret}")


def _audit(key: ApiKey, *, action: str, by: _By, at: datetime, after: dict[str, Any]) -> None:
    target = f"api_key {key.prefix}"
    audit.record(action=action, target=target, at=at, program=key.program, after=after, **by._asdict())


def _check(key: ApiKey, *, at: datetime) -> None:
    if unknown := set(key.scopes) - set(Scope.values):
        raise KeyRefused(f"there is no scope {', '.join(sorted(unknown))}")
    for origin in key.allowed_origins:
        if not _ORIGIN.fullmatch(origin):
            raise KeyRefused(f"{origin} is no web origin such as https://shop.example: lower case, no path")
    if not key.name.strip() or not key.scopes:
        raise KeyRefused("a key needs a name and at least one scope")
    if key.expires_at is not None and key.expires_at <= at:
        raise KeyRefused("a key must expire in the future")
    if key.rate_per_minute is not None and key.rate_per_minute < 1:
        raise KeyRefused("a key may send at least one request a minute")


_PROGRAM_FIELDS = [field.attname for field in Program._meta.concrete_fields]
_FIND = f"""
    SELECT k.id, k.prefix, k.secret_digest, k.scopes, k.allowed_origins, k.rate_per_minute, k.expires_at, k.revoked_at,
        k.last_used_at, {", ".join(f"p.{name}" for name in _PROGRAM_FIELDS)}
    FROM core_apikey k JOIN core_program p ON p.id = k.program_id WHERE k.prefix = %s"""  # noqa: S608 own column names


def find(text: str) -> FoundKey | None:
    """Return the key of which this is the text, whether or not it is still valid; None if there is none."""
    form = _TEXT.fullmatch(text)
    found = find_by_prefix(form[2]) if form else None
    if form is None or found is None or form[1] != text_prefix(found.program) or not found.has_secret(form[3]):
        return None
    return found


def find_by_prefix(prefix: str) -> FoundKey | None:
    """Return the key of a prefix with its program, in one read."""
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [prefix])
        row = cursor.fetchone()
    if row is None:
        return None
    key_id, prefix, secret_digest, scopes, origins, rate, expires_at, revoked_at, last_used_at, *values = row
    program = Program.from_db("default", _PROGRAM_FIELDS, values)
    return FoundKey(
        key_id, prefix, program, bytes(secret_digest), frozenset(scopes), tuple(origins), rate, expires_at, revoked_at,
        last_used_at,
    )  # fmt: skip


def note_use(key: FoundKey, *, at: datetime) -> None:
    """Remember about when a key was last used."""
    if key.last_used_at is None or key.last_used_at < at - USE_NOTED_EVERY:
        ApiKey.objects.filter(pk=key.id).update(last_used_at=at)


def is_allowed_origin(origin: str, *, at: datetime) -> bool:
    """Tell whether any key that is valid allows browsers of this origin; a preflight shows no key."""
    if not _ORIGIN.fullmatch(origin):
        return False
    valid = Q(expires_at=None) | Q(expires_at__gt=at)
    return ApiKey.objects.filter(valid, revoked_at=None, allowed_origins__contains=[origin]).exists()
