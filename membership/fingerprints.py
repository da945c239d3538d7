"""Fingerprints: how accounts of one person are recognized. Only keyed digests are kept, never a value itself."""

import re
import unicodedata
from collections.abc import Mapping

from django.utils.crypto import salted_hmac

from membership.models import Fingerprint, FingerprintKind

# The name is that of the app that kept fingerprints first; with another one no digest of before would be recognized.
_SALT = "perennial.referrals"
# Two members who share one of these are one person, or as good as.
STRONG = (FingerprintKind.EMAIL, FingerprintKind.PAYMENT, FingerprintKind.DEVICE)
# A digest that more members share names nobody: a till, a kiosk.
PUBLIC = 100
_GMAIL = ("gmail.com", "googlemail.com")


def normalize(kind: str, value: str) -> str:
    """Return what two values of a kind have in common if they mean the same."""
    plain = " ".join(unicodedata.normalize("NFKC", value).split()).casefold()
    match kind:
        case "email":
            return _normalize_email(plain)
        case "address":
            return " ".join(re.sub(r"[^\w\s]", " ", plain).split())
        case _:
            return plain


def _normalize_email(plain: str) -> str:
    """Drop what a provider ignores: a +tag, and at Google the dots."""
    name, _, host = plain.rpartition("@")
    if not name:
        return plain
    name = name.partition("+")[0]
    if host in _GMAIL:
        name, host = name.replace(".", ""), _GMAIL[0]
    return f"{name}@{host}"


def digest(*, program_id: int, kind: str, value: str) -> bytes:
    """Return the HMAC-SHA256 of a value, with a key derived from the secret key; equal in one program alone."""
    return salted_hmac(_SALT, f"{program_id}:{kind}:{value}", algorithm="sha256").digest()


def digests(*, program_id: int, seen_with: Mapping[str, str]) -> dict[str, bytes]:
    """Return the digest of each value by its kind, of what is left of it when spelling does not count."""
    plain = {kind: normalize(kind, value) for kind, value in seen_with.items()}
    return {kind: digest(program_id=program_id, kind=kind, value=value) for kind, value in plain.items() if value}


def list_same_person(member_id: int) -> set[int]:
    """Return the other members who were seen with an e-mail address, card or device of this one.

    What more than `PUBLIC` members share says nothing about anybody and is left out.
    """
    return set().union(*_find_sharing(member_id).values()) - {member_id}


def list_telling_digests(member_id: int) -> list[bytes]:
    """Return the digests of a member's e-mail addresses, cards and devices, without those that name nobody."""
    return list(_find_sharing(member_id))


def _find_sharing(member_id: int) -> dict[bytes, set[int]]:
    """Return who was seen with each e-mail address, card and device of a member, public ones left out."""
    found: dict[bytes, set[int]] = {}
    for own in Fingerprint.objects.filter(member_id=member_id, kind__in=STRONG).values_list("digest", flat=True):
        sharing = Fingerprint.objects.filter(digest=own, kind__in=STRONG).values_list("member_id", flat=True)
        members = set(sharing.distinct()[: PUBLIC + 1])
        if len(members) <= PUBLIC:
            found[bytes(own)] = members
    return found


def is_same_person(member_id: int, other_id: int) -> bool:
    """Tell whether two members were seen with one e-mail address, card or device that is not everybody's."""
    return other_id in list_same_person(member_id)
