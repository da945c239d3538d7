"""API keys: issue, rotate, revoke, and find the one that a request shows."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Q

from core.models import ApiKey, Program

PREFIX_LENGTH = 12
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
# Both keys work meanwhile, so that a storefront can be changed over without a gap.
ROTATION_OVERLAP = timedelta(days=1)
# Writing each use would cost a write per read.
USE_NOTED_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key and its text, which is shown once and cannot be read again."""

    key: ApiKey
    text: str


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key that is known, with its program; whether it still opens anything is `is_valid`."""

    id: int
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

    def is_valid(self, at: datetime) -> bool:
        """Tell whether the key works at an instant; it ends at `expires_at` and with its revocation."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


def digest(secret: str) -> bytes:
    """Return what is kept of a secret. 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def issue(
    *,
    program: Program,
    name: str,
    scopes: Sequence[str],
    at: datetime,
    allowed_origins: Sequence[str] = (),
    rate_per_minute: int | None = None,
    expires_at: datetime | None = None,
    rotated_from: ApiKey | None = None,
) -> IssuedKey:
    """Make a key of a program: a test key for a sandbox, a live key otherwise."""
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(PREFIX_LENGTH))
    secret = secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        program=program,
        name=name,
        prefix=prefix,
        secret_digest=digest(secret),
        scopes=sorted(scopes),
        allowed_origins=list(allowed_origins),
        rate_per_minute=rate_per_minute,
        expires_at=expires_at,
        rotated_from=rotated_from,
        created_at=at,
    )
    return IssuedKey(key, f"{text_prefix(program)}{prefix}.{secret}")


def text_prefix(program: Program) -> str:
    """Return how the keys of a program begin."""
    return "pnl_test_" if program.is_sandbox else "pnl_live_"


@transaction.atomic
def rotate(*, key: ApiKey, at: datetime, overlap: timedelta = ROTATION_OVERLAP) -> IssuedKey:
    """Issue a successor with the same rights and let the key expire after an overlap, or sooner if it would anyway."""
    issued = issue(
        program=key.program,
        name=key.name,
        scopes=key.scopes,
        at=at,
        allowed_origins=key.allowed_origins,
        rate_per_minute=key.rate_per_minute,
        rotated_from=key,
    )
    later = Q(expires_at=None) | Q(expires_at__gt=at + overlap)
    ApiKey.objects.filter(later, pk=key.pk).update(expires_at=at + overlap)
    return issued


def revoke(*, key: ApiKey, at: datetime) -> bool:
    """End a key at once; False if it was revoked before."""
    return ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=at) == 1


_PROGRAM_FIELDS = [field.attname for field in Program._meta.concrete_fields]
_FIND = f"""
    SELECT k.id, k.secret_digest, k.scopes, k.allowed_origins, k.rate_per_minute, k.expires_at, k.revoked_at,
        k.last_used_at, {", ".join(f"p.{name}" for name in _PROGRAM_FIELDS)}
    FROM core_apikey k JOIN core_program p ON p.id = k.program_id WHERE k.prefix = %s"""  # noqa: S608 own column names


def find(prefix: str) -> FoundKey | None:
    """Return the key of a prefix with its program, in one read."""
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [prefix])
        row = cursor.fetchone()
    if row is None:
        return None
    key_id, secret_digest, scopes, origins, rate, expires_at, revoked_at, last_used_at, *values = row
    program = Program.from_db("default", _PROGRAM_FIELDS, values)
    return FoundKey(
        key_id, program, bytes(secret_digest), frozenset(scopes), tuple(origins), rate, expires_at, revoked_at,
        last_used_at,
    )  # fmt: skip


def note_use(key: FoundKey, *, at: datetime) -> None:
    """Remember about when a key was last used."""
    if key.last_used_at is None or key.last_used_at < at - USE_NOTED_EVERY:
        ApiKey.objects.filter(pk=key.id).update(last_used_at=at)


def is_allowed_origin(origin: str, *, at: datetime) -> bool:
    """Tell whether any key that is valid allows browsers of this origin; a preflight shows no key."""
    valid = Q(expires_at=None) | Q(expires_at__gt=at)
    return ApiKey.objects.filter(valid, revoked_at=None, allowed_origins__contains=[origin]).exists()
