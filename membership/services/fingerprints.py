"""What members were seen with, kept for a while."""

from collections.abc import Mapping
from datetime import datetime

from core.services.cleanup import delete
from membership.fingerprints import digests
from membership.models import Fingerprint, Member


def record(*, member: Member, seen_with: Mapping[str, str], at: datetime) -> None:
    """Keep what a member was seen with, by kind of fingerprint.

    Idempotency: what is known already stays as it is.
    """
    Fingerprint.objects.bulk_create(
        (
            Fingerprint(program_id=member.program_id, member=member, kind=kind, digest=keyed, seen_at=at)
            for kind, keyed in sorted(digests(program_id=member.program_id, seen_with=seen_with).items())
        ),
        ignore_conflicts=True,
    )


def forget(*, before: datetime) -> int:
    """Remove fingerprints that were first seen before an instant, and return how many went.

    Idempotency: a second call finds nothing.
    """
    return delete(Fingerprint.objects.filter(seen_at__lt=before))
