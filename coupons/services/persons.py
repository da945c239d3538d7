"""Coupons that a person has once: of accounts of one person that claim at the same time the first one gets it."""

from collections.abc import Collection
from datetime import datetime

from django.db.models import Exists, OuterRef

from core.services.cleanup import delete
from coupons.models import Claim, ClaimState, PersonClaim
from coupons.persons import PersonClaims
from membership.fingerprints import list_telling_digests


def reserve(*, definition_id: int, member_id: int, at: datetime) -> bool:
    """Take a coupon for the person whose account a member is; False if another account has it, or is getting it.

    Locks: a row for each digest, ascending, by its unique key: of two accounts that take it at once, one waits.
    Idempotency: what the member has taken stays taken.
    """
    if PersonClaims(member_id, [definition_id]).had:
        return False
    digests = sorted(list_telling_digests(member_id))
    PersonClaim.objects.bulk_create(
        (
            PersonClaim(definition_id=definition_id, digest=digest, member_id=member_id, claimed_at=at)
            for digest in digests
        ),
        ignore_conflicts=True,
    )
    taken = PersonClaim.objects.filter(definition=definition_id, digest__in=digests)
    return not taken.exclude(member=member_id).exists()


def free(*, definition_id: int, member_ids: Collection[int]) -> None:
    """Let another account have a coupon again, where these members have no claim of it any more."""
    standing = Claim.objects.filter(member=OuterRef("member"), definition=definition_id)
    standing = standing.exclude(state=ClaimState.REVOKED)
    PersonClaim.objects.filter(~Exists(standing), definition=definition_id, member__in=member_ids).delete()


def forget(*, before: datetime) -> int:
    """Remove what was noted of persons before an instant, and return how many rows went.

    Idempotency: a second call finds nothing.
    """
    return delete(PersonClaim.objects.filter(claimed_at__lt=before))
