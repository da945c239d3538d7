"""Who was brought by whom: clicks, and the binding of a new member to a referrer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from core.models import Program
from membership.fingerprints import digest, is_same_person
from membership.models import Member, MemberStatus
from membership.services import fingerprints
from referrals.definitions import ReferralTerms
from referrals.models import (
    Referral,
    ReferralCode,
    ReferralPolicyVersion,
    ReferralSource,
    ReferralState,
    RefusedBinding,
    Touch,
)
from referrals.selectors import find_code, find_version, terms_of
from referrals.services.fraud import assess, note_signals
from referrals.services.moves import announce, move
from referrals.verdict import is_existing_customer


class BindingRefused(Exception):
    """A member cannot be bound to a referrer; nothing was written."""


class NoPolicy(BindingRefused):
    """The program has no referral policy in force."""


class UnknownCode(BindingRefused):
    """No active member has this code."""


class SelfReferral(BindingRefused):
    """Referrer and referee are one member, or share an e-mail address, a card or a device.

    referrer_id: whose code it was.
    """

    def __init__(self, referrer_id: int) -> None:
        super().__init__(referrer_id)
        self.referrer_id = referrer_id


class ExistingCustomer(BindingRefused):
    """The member has ordered before."""


class AlreadyBound(BindingRefused):
    """The member was brought by another one."""


class ReferralCycle(BindingRefused):
    """The referrer joined after the referee."""


class AttributionExpired(BindingRefused):
    """The click, or the enrollment, is too long ago."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The referral, and whether this call made it."""

    referral: Referral
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Attribution:
    """To whose code a member is bound, and by which click."""

    code: ReferralCode
    touched_at: datetime | None = None

    @property
    def source(self) -> ReferralSource:
        return ReferralSource.CODE if self.touched_at is None else ReferralSource.TOUCH


def record_touch(*, program: Program, code: str, visitor: str, at: datetime) -> Touch:
    """Note that a visitor came by a code.

    Raises: UnknownCode.
    """
    found = _require_code(program, code)
    return Touch.objects.create(
        program=program,
        member_id=found.member_id,
        code=found,
        visitor_digest=_visitor_digest(program, visitor),
        touched_at=at,
    )


@transaction.atomic
def bind(
    *,
    program: Program,
    member: Member,
    at: datetime,
    code: str = "",
    visitor: str = "",
    told: Mapping[str, str] | None = None,
) -> Bound:
    """Bind a new member to the referrer whose code was entered, or else whose link the visitor clicked last.

    Who was refused as one person with a referrer before is bound and goes to a review.
    told: what the member was seen with, by kind of fingerprint.
    Raises: NoPolicy; UnknownCode; SelfReferral; ExistingCustomer; AlreadyBound; ReferralCycle; AttributionExpired.
    Idempotency: bound to the same referrer again, it is the same referral. Of two at once the first stands.
    """
    version = find_version(program, at=at)
    if version is None:
        raise NoPolicy
    terms = terms_of(version, program.currency)
    found = _attribute(program, terms, code, visitor, at)
    fingerprints.record(member=member, seen_with=told or {}, at=at)
    referral, is_new = Referral.objects.filter(member=member).first(), False
    if referral is None:
        _check(member, found.code.member, terms, at)
        referral, is_new = _insert(member, version, terms, found, at)
    if referral.referrer_id != found.code.member_id:
        raise AlreadyBound
    if is_new:
        announce(referral, before=None, at=at)
        if _was_refused(member):
            note_signals(referral, assess(program=program, referral_ids=[referral.pk])[referral.pk], at)
            move(referral, ReferralState.FLAGGED, at)
    return Bound(referral, is_new)


@transaction.atomic
def keep_evidence(*, member: Member, told: Mapping[str, str], refusal: BindingRefused, at: datetime) -> None:
    """Keep what a refused try has shown: what the member was seen with, and that it was as one person with a referrer.

    The try itself was rolled back; this is for the transaction after it.
    Idempotency: what is known already stays as it is.
    """
    fingerprints.record(member=member, seen_with=told, at=at)
    if isinstance(refusal, SelfReferral) and refusal.referrer_id != member.pk:
        RefusedBinding.objects.bulk_create(
            [
                RefusedBinding(
                    program_id=member.program_id, member=member, referrer_id=refusal.referrer_id, refused_at=at
                )
            ],
            ignore_conflicts=True,
        )


def _was_refused(member: Member, *, referrer_id: int | None = None) -> bool:
    """Tell whether the member was refused as one person with a referrer, or with this one."""
    tries = RefusedBinding.objects.filter(member=member)
    return (tries if referrer_id is None else tries.filter(referrer_id=referrer_id)).exists()


def _attribute(program: Program, terms: ReferralTerms, code: str, visitor: str, at: datetime) -> _Attribution:
    """Return to whom a member belongs: an entered code beats a click, and of clicks the last one counts."""
    if code:
        return _Attribution(_require_code(program, code))
    touches = Touch.objects.filter(
        program=program,
        visitor_digest=_visitor_digest(program, visitor),
        touched_at__gt=at - timedelta(days=terms.attribution_days),
        code__member__status=MemberStatus.ACTIVE,
    )
    touch = touches.select_related("code__member").order_by("-touched_at", "-id").first()
    if touch is None:
        raise AttributionExpired
    return _Attribution(touch.code, touch.touched_at)


def _check(member: Member, referrer: Member, terms: ReferralTerms, at: datetime) -> None:
    """Refuse a referral that cannot be one."""
    if member.pk == referrer.pk:
        raise SelfReferral(referrer.pk)
    if is_same_person(member.pk, referrer.pk) and not _was_refused(member, referrer_id=referrer.pk):
        raise SelfReferral(referrer.pk)
    if is_existing_customer(member_id=member.pk, joined_at=member.joined_at, bound_at=at, terms=terms):
        raise ExistingCustomer
    if (referrer.joined_at, referrer.pk) > (member.joined_at, member.pk):
        raise ReferralCycle
    if member.joined_at <= at - timedelta(days=terms.attribution_days):
        raise AttributionExpired


def _insert(
    member: Member, version: ReferralPolicyVersion, terms: ReferralTerms, found: _Attribution, at: datetime
) -> tuple[Referral, bool]:
    """Write the referral, unless somebody does at this moment; return the one that stands, and whether it is ours."""
    upline = Referral.objects.filter(member_id=found.code.member_id).values_list("referrer_id", flat=True).first()
    told = {
        "program_id": member.program_id,
        "referrer_id": found.code.member_id,
        "upline_id": upline,
        "member_joined_at": member.joined_at,
        "referrer_joined_at": found.code.member.joined_at,
        "source": found.source,
        "code": found.code,
        "touched_at": found.touched_at,
        "version": version,
        "bound_at": at,
        "due_at": at if terms.pays_for_enrollment else None,
    }
    return Referral.objects.get_or_create(member=member, defaults=told)


def _require_code(program: Program, text: str) -> ReferralCode:
    code = find_code(program_id=program.pk, text=text)
    if code is None or code.member.status != MemberStatus.ACTIVE:
        raise UnknownCode
    return code


def _visitor_digest(program: Program, visitor: str) -> bytes:
    return digest(program_id=program.pk, kind="visitor", value=visitor)
