"""Who was brought by whom: clicks, and the binding of a new member to a referrer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from core.models import Program
from core.services import outbox
from membership.fingerprints import digest, shares_strong
from membership.models import Member, MemberStatus, Order
from membership.services import fingerprints
from referrals.definitions import ReferralTerms
from referrals.models import Referral, ReferralCode, ReferralPolicyVersion, ReferralSource, Touch
from referrals.selectors import find_code, find_version, terms_of

MOVED = "referrals.referral_moved"


class BindingRefused(Exception):
    """A member cannot be bound to a referrer; nothing was written."""


class NoPolicy(BindingRefused):
    """The program has no referral policy in force."""


class UnknownCode(BindingRefused):
    """No active member has this code."""


class SelfReferral(BindingRefused):
    """Referrer and referee are one member, or share an e-mail address, a card or a device."""


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
        payload = {"referral": referral.pk, "state": referral.state}
        outbox.publish(program_id=program.pk, topic=MOVED, payload=payload, at=at)
    return Bound(referral, is_new)


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
    if member.pk == referrer.pk or shares_strong(member.pk, referrer.pk):
        raise SelfReferral
    if Order.objects.filter(member=member).exists():
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
        "due_at": at if terms.trigger == "enrollment" else None,
    }
    return Referral.objects.get_or_create(member=member, defaults=told)


def _require_code(program: Program, text: str) -> ReferralCode:
    code = find_code(program_id=program.pk, text=text)
    if code is None or code.member.status != MemberStatus.ACTIVE:
        raise UnknownCode
    return code


def _visitor_digest(program: Program, visitor: str) -> bytes:
    return digest(program_id=program.pk, kind="visitor", value=visitor)
