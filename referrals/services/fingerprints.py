"""Fingerprints: by what accounts of one person are told, kept as keyed digests alone."""

from collections.abc import Mapping
from datetime import datetime

from django.utils.crypto import salted_hmac

from membership.models import Member
from referrals.models import Fingerprint, FingerprintKind
from referrals.rules import normalize

_SALT = "perennial.referrals"
# Two members who share one of these are one person, or as good as.
STRONG = (FingerprintKind.EMAIL, FingerprintKind.PAYMENT, FingerprintKind.DEVICE)


def digest(*, program_id: int, kind: str, value: str) -> bytes:
    """Return the HMAC-SHA256 of a value, with a key derived from the secret key; equal in one program alone."""
    return salted_hmac(_SALT, f"{program_id}:{kind}:{value}", algorithm="sha256").digest()


def digests(*, program_id: int, told: Mapping[str, str]) -> dict[str, bytes]:
    """Return the digest of each kind that is told, of what is left when spelling does not count."""
    plain = {kind: normalize(kind, value) for kind, value in told.items()}
    return {kind: digest(program_id=program_id, kind=kind, value=value) for kind, value in plain.items() if value}


def record(*, member: Member, told: Mapping[str, str], at: datetime) -> None:
    """Keep what a member was seen with.

    Idempotency: what is known already stays as it is.
    """
    Fingerprint.objects.bulk_create(
        (
            Fingerprint(program_id=member.program_id, member=member, kind=kind, digest=told_digest, seen_at=at)
            for kind, told_digest in sorted(digests(program_id=member.program_id, told=told).items())
        ),
        ignore_conflicts=True,
    )


def shares_strong(member_id: int, other_id: int) -> bool:
    """Tell whether two members were seen with one e-mail address, card or device."""
    own = Fingerprint.objects.filter(member_id=other_id, kind__in=STRONG).values("digest")
    return Fingerprint.objects.filter(member_id=member_id, kind__in=STRONG, digest__in=own).exists()
