"""Coupons that a person has once: of several accounts seen with one e-mail address, card or device, one has it."""

from collections.abc import Collection, Iterable

from coupons.models import Claim, ClaimState
from membership.fingerprints import list_same_person


class PersonClaims:
    """The claims that other accounts of a member's person have of some coupons, those that were revoked left out."""

    def __init__(self, member_id: int, definition_ids: Collection[int]) -> None:
        """Read them: nothing where no coupon is asked for."""
        others = list_same_person(member_id) if definition_ids else set[int]()
        claims = Claim.objects.filter(member__in=others, definition__in=definition_ids) if others else ()
        self._claims = [claim for claim in claims if claim.state != ClaimState.REVOKED]

    @property
    def had(self) -> set[int]:
        """Return the coupons that another account has had: this one gets none of them."""
        return {claim.definition_id for claim in self._claims}

    def goes_before(self, claim: Claim) -> bool:
        """Tell whether another account's claim counts instead of this one: it is in use, or was made earlier."""
        return any(
            other.definition_id == claim.definition_id and (other.state != ClaimState.OPEN or other.pk < claim.pk)
            for other in self._claims
        )

    def list_beaten(self, claims: Iterable[Claim]) -> set[int]:
        """Return those of the member's claims that do not count."""
        return {claim.pk for claim in claims if self.goes_before(claim)}
