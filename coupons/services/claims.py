"""Members get coupons: take one, are issued one, lose one that was not used."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import uuid_utils.compat as uuid
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.models import F

from core import typed_codes
from core.calendar import day_start, local_date
from core.models import Program
from core.services import audit, outbox
from coupons import codes
from coupons.definitions import CouponTerms
from coupons.models import Claim, ClaimState, CounterShard, CouponCode
from coupons.published import Offer, list_offers
from coupons.services import persons
from membership.locks import lock_members

# Two drawn texts of 65 bits in a row that are taken: something else is wrong.
DRAWS = 3


class CouponRefused(Exception):
    """The coupon cannot be had; nothing was written."""


class UnknownCoupon(CouponRefused):
    """The program has no coupon of this code in force."""


class NotClaimable(CouponRefused):
    """The coupon comes another way: `how` says which."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class NotYetValid(CouponRefused):
    """The coupon's window has not opened; it does at `starts_at`."""

    def __init__(self, starts_at: datetime) -> None:
        super().__init__(f"from {starts_at}")
        self.starts_at = starts_at


class CouponEnded(CouponRefused):
    """The coupon's window has closed, or its version is not in force."""


class LimitReached(CouponRefused):
    """All there were have been given out."""


class AlreadyClaimed(CouponRefused):
    """The member has had as many as one member may."""


class OncePerPerson(CouponRefused):
    """Another account that was seen with the same e-mail address, card or device has had the coupon."""


class CodeNotAvailable(CouponRefused):
    """The code is unknown, disabled, or somebody else's: whoever tries codes is told no more."""


class MemberNotActive(CouponRefused):
    """Only an active member of the program gets and uses coupons."""


class UnknownClaim(Exception):
    """The member has no such claim."""


class ClaimNotOpen(Exception):
    """Only a claim that is neither held nor used can be revoked."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


class _TextTaken(Exception):
    """The text drawn for a new code is another code's."""


_ERRORS: dict[str | None, type[Exception]] = {
    "CP001": LimitReached,
    "CP002": AlreadyClaimed,
    "CP003": CodeNotAvailable,
    "CP004": CouponEnded,
    "CP005": MemberNotActive,
    "CP006": _TextTaken,
}
_CLAIM = """
    SELECT (made.claim).*, made.is_new FROM coupons_claim_coupon(
        %(program)s, %(member)s, %(definition)s, %(version)s, %(code)s, %(new_code)s, %(public_id)s, %(source)s,
        %(is_automatic)s, %(per_member)s, %(valid_from)s, %(expires_at)s, %(at)s) made"""


def claim(
    *, program: Program, member_id: int, at: datetime, definition: str = "", code: str = "", source: str = ""
) -> Claim:
    """Let a member take a coupon: by its definition where members may, or by a code. `is_new`: this call made it.

    Raises: CouponRefused, as one of its kinds.
    Locks: the member; then, until the transaction ends, one counter of the definition.
    Idempotency: `source`, if there is one, names the claim for ever.
    """
    found = find_code(program=program, text=code) if code else None
    try:
        offer = _find_claimable(program, definition, code, found, at)
    except CouponRefused:
        named = {"definition": found.definition_id if found else None} if code else {"definition__code": definition}
        made = _find_made(program, member_id, source, **named)
        if made is None:
            raise
        return made
    return take(program=program, member_id=member_id, offer=offer, code_id=found.pk if found else None,
                source=source, at=at)  # fmt: skip


def issue(*, program: Program, member_id: int, definition_code: str, source: str, at: datetime) -> Claim:
    """Give a member a coupon, with a code of their own if it is used by code. `is_new`: this call made it.

    It may be given before its window opens. Raises: CouponRefused, as one of its kinds.
    Locks: as `claim`.
    Idempotency: the same source gives the same claim, with the same code.
    """
    try:
        offer = _find_offer(program, definition_code, at)
        if offer.terms.how == "automatic":
            raise NotClaimable(offer.terms.how)
    except CouponRefused:
        made = _find_made(program, member_id, source, definition__code=definition_code)
        if made is None:
            raise
        return made
    for draws_left in reversed(range(DRAWS)):
        new_code = codes.draw(1)[0] if offer.terms.how == "code" else None
        try:
            return take(program=program, member_id=member_id, offer=offer, new_code=new_code, source=source, at=at)
        except _TextTaken:
            if not draws_left:
                raise
    raise AssertionError


def take(
    *,
    program: Program,
    member_id: int,
    offer: Offer,
    at: datetime,
    code_id: int | None = None,
    new_code: str | None = None,
    source: str = "",
    is_automatic: bool = False,
) -> Claim:
    """Claim under a version: one statement, which takes all or nothing.

    Raises, Locks, Idempotency: as `claim`. Where a person may have it once, `persons.reserve` follows the member.
    """
    valid_from = max(at, offer.terms.starts_at or at)
    told: dict[str, Any] = {
        "program": program.pk,
        "member": member_id,
        "definition": offer.definition_id,
        "version": offer.version_id,
        "code": code_id,
        "new_code": new_code,
        "public_id": str(uuid.uuid7()),
        "source": source,
        "is_automatic": is_automatic,
        "per_member": offer.terms.per_member,
        "valid_from": valid_from,
        "expires_at": end_of(offer.terms, valid_from, program.time_zone),
        "at": at,
    }
    try:
        if not connection.in_atomic_block and not offer.terms.once_per_person:
            # A single statement is a transaction of its own: no round trips to begin and commit one.
            return Claim.objects.raw(_CLAIM, told)[0]
        with transaction.atomic():
            if offer.terms.once_per_person:
                _reserve_person(offer, member_id, source, at)
            return Claim.objects.raw(_CLAIM, told)[0]
    except DatabaseError as error:
        kind = _ERRORS.get(getattr(error.__cause__, "pgcode", None))
        if kind is None:
            raise
        raise kind from error


def _reserve_person(offer: Offer, member_id: int, source: str, at: datetime) -> None:
    """Take a coupon for the member's person, unless the source has made the claim before.

    Raises: OncePerPerson.
    """
    lock_members([member_id])
    made = Claim.objects.filter(member=member_id, definition=offer.definition_id, source=source)
    if source and made.exists():
        return
    if not persons.reserve(definition_id=offer.definition_id, member_id=member_id, at=at):
        raise OncePerPerson


def end_of(terms: CouponTerms, valid_from: datetime, zone: str) -> datetime | None:
    """Return the instant from which a claim can no longer be used: days after issue end with the local day."""
    if terms.valid_days is None:
        return terms.ends_at
    last_day = local_date(valid_from, zone) + timedelta(days=terms.valid_days)
    end = day_start(last_day + timedelta(days=1), zone)
    return min(end, terms.ends_at) if terms.ends_at is not None else end


@transaction.atomic
def revoke(
    *,
    program: Program,
    member_id: int,
    claim_id: int,
    reason: str,
    at: datetime,
    actor: str = "",
    user: User | None = None,
) -> Claim:
    """Take back a claim that was not used. Its place is free again, for the member and for all.

    Raises: UnknownClaim; ClaimNotOpen.
    Locks: the member; then the counter that the claim took from.
    Idempotency: revoking again changes nothing.
    """
    lock_members([member_id])
    found = (
        Claim.objects.filter(pk=claim_id, member=member_id, member__program=program).select_related("member").first()
    )
    if found is None:
        raise UnknownClaim
    if found.state == ClaimState.REVOKED:
        return found
    if found.state != ClaimState.OPEN:
        raise ClaimNotOpen(found.state)
    give_back([found], at=at)
    publish_revoked(program, [found.pk], at)
    audit.record(
        action="coupon.revoked",
        target=f"member {found.member.external_id}",
        actor=user.get_username() if user else actor,
        user=user,
        program=program,
        reason=reason,
        before={"claim": str(found.public_id), "state": ClaimState.OPEN},
        after={"state": found.state},
        at=at,
    )
    return found


def give_back(claims: list[Claim], *, at: datetime) -> None:
    """Revoke claims of a member who is locked, and give back what they took: number, counter, a checkout's own code."""
    for each in sorted(claims, key=lambda one: one.definition_id):
        each.state, each.revoked_at = ClaimState.REVOKED, at
        each.save(update_fields=["state", "revoked_at"])
        counters = CounterShard.objects.filter(definition=each.definition_id, used__gt=0)
        # Claims from before the limit were counted in the first counter, whatever counter they took from before that.
        if not counters.filter(shard=each.shard or 0).update(used=F("used") - 1) and each.shard:
            counters.filter(shard=0).update(used=F("used") - 1)
        if each.is_automatic and each.code_id is not None:
            CouponCode.objects.filter(pk=each.code_id, claimed_by=each.member_id).update(claimed_by=None)
        persons.free(definition_id=each.definition_id, member_ids=[each.member_id])


def publish_revoked(program: Program, claim_ids: Sequence[int], at: datetime) -> None:
    """Publish which claims of members were taken back, unless there are none."""
    if claim_ids:
        outbox.publish(program_id=program.pk, topic="coupons.revoked", payload={"claims": list(claim_ids)}, at=at)


def find_code(*, program: Program, text: str) -> CouponCode | None:
    """Return the code that a text means, whoever it belongs to."""
    return CouponCode.objects.filter(program=program, text=typed_codes.key(text)).first()


def _find_claimable(program: Program, definition: str, code: str, found: CouponCode | None, at: datetime) -> Offer:
    """Return what a member may take by a definition or a code.

    Raises: CouponRefused, as one of its kinds.
    """
    if code:
        offer = list_offers(program).find_by_id(found.definition_id, at) if found else None
        if offer is None:
            raise CodeNotAvailable
    else:
        offer = _find_offer(program, definition, at)
        if offer.terms.how != "claimed":
            raise NotClaimable(offer.terms.how)
    if offer.terms.starts_at is not None and at < offer.terms.starts_at:
        raise NotYetValid(offer.terms.starts_at)
    return offer


def _find_made(program: Program, member_id: int, source: str, **definition: Any) -> Claim | None:
    """Return the claim that a source made while the coupon was to be had."""
    made = Claim.objects.filter(member=member_id, member__program=program, source=source, **definition)
    found = made.first() if source else None
    if found is not None:
        found.is_new = False  # type: ignore[attr-defined]
    return found


def _find_offer(program: Program, code: str, at: datetime) -> Offer:
    offer = list_offers(program).find(code, at)
    if offer is None:
        raise UnknownCoupon
    return offer
