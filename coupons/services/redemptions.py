"""Coupons used by orders: held at checkout, committed when it is paid, released when it is not, reversed by refunds."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, Min, Q

from core.models import Program
from core.services import outbox
from coupons import locks
from coupons.models import Claim, ClaimState, Redemption, RedemptionLine, RedemptionState, ReturnOutcome
from coupons.persons import PersonClaims
from coupons.published import get_offer
from coupons.recalled import is_recalled
from coupons.rules import Applied, Basket, Candidate
from coupons.selectors import code_of
from coupons.services import restoring
from coupons.services.claims import CouponRefused, MemberNotActive, give_back, publish_revoked, take
from coupons.services.first_orders import find_first_order_hold
from membership.locks import lock_members
from membership.models import Member, MemberStatus

# About ten seconds of work: the next sweep, due by then, takes over what is left.
SWEEP = 1_000


class CouponUnavailable(Exception):
    """A coupon of the quote can no longer be had: `code` is its definition's. Nothing was held."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class ReferenceReused(Exception):
    """The reference has held other coupons, or other discounts."""


class HoldEnded(Exception):
    """What the reference held has been released."""


class AlreadyCommitted(Exception):
    """What the reference held has been used by an order."""


@transaction.atomic
def hold(
    *,
    program: Program,
    member_id: int,
    reference: str,
    currency: str,
    applied: Sequence[Applied],
    basket: Basket,
    held_until: datetime,
    at: datetime,
) -> list[Redemption]:
    """Reserve the coupons of a quote for a checkout; those that need no claim before are claimed on the way.

    Raises: CouponUnavailable; ReferenceReused; HoldEnded; MemberNotActive.
    Locks: the member; then a counter of each definition that is claimed, ascending.
    Idempotency: the reference; held again with the same discounts, it gives the same redemptions.
    """
    lock_members([member_id])
    present = list_redemptions(member_id=member_id, reference=reference)
    if present:
        return _repeat(present, applied)
    if not Member.objects.filter(pk=member_id, program=program, status=MemberStatus.ACTIVE).exists():
        raise MemberNotActive
    _refuse_second_first_order(member_id, applied, at)
    made = []
    for use in sorted(applied, key=lambda one: (one.candidate.definition_id, one.candidate.key)):
        if use.candidate.claim_id is not None and use.candidate.terms.once_per_person:
            _refuse_second_account(member_id, use.candidate)
        claim_id = use.candidate.claim_id or _take(program, member_id, use.candidate, reference, at)
        _reserve(member_id, claim_id, use.candidate, at)
        made.append(_write(member_id, claim_id, reference, currency, use, basket, held_until, at))
    publish(program, "coupons.held", made, at)
    return made


@transaction.atomic
def commit(*, program: Program, member_id: int, reference: str, order_id: int, at: datetime) -> list[Redemption]:
    """Let the order that was paid use what its checkout held; a hold that has lapsed and was not swept still counts.

    Raises: HoldEnded; AlreadyCommitted, by another order.
    Locks: the member.
    Idempotency: the reference; committed again for the same order, nothing changes.
    """
    lock_members([member_id])
    present = list_redemptions(member_id=member_id, reference=reference)
    if any(each.state == RedemptionState.RELEASED for each in present):
        raise HoldEnded
    if any(each.order_id not in {None, order_id} for each in present):
        raise AlreadyCommitted
    held = [each for each in present if each.state == RedemptionState.HELD]
    for each in held:
        each.state, each.order_id, each.committed_at = RedemptionState.COMMITTED, order_id, at
        each.save(update_fields=["state", "order_id", "committed_at"])
    move_claims(held, ClaimState.HELD, ClaimState.USED)
    publish(program, "coupons.redeemed", held, at)
    return present


@transaction.atomic
def release(*, program: Program, member_id: int, reference: str, at: datetime) -> list[Redemption]:
    """Give back what a checkout held: claims are open again, those that it made itself are gone.

    Raises: AlreadyCommitted.
    Locks: the member; then the counters that are given back to, ascending by definition.
    Idempotency: released again, nothing changes.
    """
    lock_members([member_id])
    present = list_redemptions(member_id=member_id, reference=reference)
    if any(each.state in {RedemptionState.COMMITTED, RedemptionState.REVERSED} for each in present):
        raise AlreadyCommitted
    held = [each for each in present if each.state == RedemptionState.HELD]
    for each in held:
        each.state, each.released_at = RedemptionState.RELEASED, at
        each.save(update_fields=["state", "released_at"])
    _open_again(program, held, ClaimState.HELD, at)
    publish(program, "coupons.released", held, at)
    return held


@transaction.atomic
def extend(*, member_id: int, reference: str, held_until: datetime) -> None:
    """Hold what a checkout holds until another instant.

    Locks: the member.
    """
    lock_members([member_id])
    held = Redemption.objects.filter(member=member_id, reference=reference, state=RedemptionState.HELD)
    held.update(held_until=held_until)


def release_lapsed(*, at: datetime, limit: int = SWEEP) -> int:
    """Release what has been held for too long, checkout by checkout, and return how many checkouts that were.

    One that is paid meanwhile is left alone: whoever locks the member first decides.
    """
    lapsed = Redemption.objects.filter(state=RedemptionState.HELD, held_until__lte=at)
    due = lapsed.values_list("member_id", "reference").annotate(first=Min("held_until")).order_by("first", "member_id")
    rows = list(due[:limit])
    members = Member.objects.select_related("program").in_bulk({member_id for member_id, _, _ in rows})
    released = 0
    for member_id, reference, _first in rows:
        program = members[member_id].program
        try:
            released += bool(release(program=program, member_id=member_id, reference=reference, at=at))
        except AlreadyCommitted:
            continue
    return released


@transaction.atomic
def reverse(
    *,
    program: Program,
    member_id: int,
    order_id: int,
    lines: Mapping[str, tuple[int, int]],
    is_whole: bool,
    is_cancelled: bool = False,
    at: datetime,
) -> int:
    """Take back the part of an order's discounts that its refunds return; answer how much more than before.

    is_cancelled: the shop cancelled what was left of the order, the member returned nothing now.

    `lines`: every line of the order by its key in the basket, with how much of it has come back in all (`returned` of
    `whole`, units or minor units). Of each line's discount, `floor(discount x returned / whole)` is reversed.
    `is_whole`: the order has come back. So has a redemption then, if all of its discounts have; what becomes of the
    claim its version says.

    Units: minor units of the order's currency.
    Locks: the member; then the counters that are given back to, ascending by definition.
    Idempotency: cumulative; the same again reverses nothing more.
    """
    lock_members([member_id])
    used = Redemption.objects.filter(member=member_id, order_id=order_id, state=RedemptionState.COMMITTED)
    total = 0
    restored = []
    for redemption in used.select_related("claim").order_by("pk"):
        back = _reverse_lines(redemption, lines)
        total += back
        # What it made free is back with its units alone, while the order is back without them.
        is_back = is_whole and not redemption.lines.filter(reversed_minor__lt=F("discount_minor")).exists()
        if is_back:
            redemption.state, redemption.reversed_at = RedemptionState.REVERSED, at
            redemption.outcome = restoring.give_back_use(
                program=program, redemption=redemption, is_cancelled=is_cancelled, at=at
            )
            redemption.save(update_fields=["state", "reversed_at", "outcome"])
            if redemption.outcome != ReturnOutcome.KEPT:
                restored.append(redemption)
        if back or is_back:
            payload = {
                "redemption": redemption.pk,
                "reversed_minor": back,
                "is_whole": is_back,
                "at": at.isoformat(),
            }
            outbox.publish(program_id=program.pk, topic="coupons.reversed", payload=payload, at=at)
    _open_again(program, restored, ClaimState.USED, at)
    return total


def lock_counters(*, orders: Collection[tuple[int, int]]) -> None:
    """Lock the counters to which reversals of these orders may give back, ascending, before the first one does.

    orders: each with its member first.
    Locks: the counters, behind the members.
    """
    members, order_ids = {member for member, _ in orders}, {order for _, order in orders}
    used = Claim.objects.filter(member__in=members, version__definition__on_refund="restore")
    used = used.filter(Q(is_automatic=True) | Q(is_recalled()))
    used = used.filter(redemptions__member=F("member"), redemptions__order_id__in=order_ids)
    for definition_id in sorted(set(used.values_list("definition", flat=True))):
        locks.lock_shards(definition_id)


def list_redemptions(*, member_id: int, reference: str) -> list[Redemption]:
    """Return what a reference holds or has held, in the order in which it was written."""
    rows = Redemption.objects.filter(member=member_id, reference=reference)
    return list(rows.select_related("claim").order_by("pk"))


def _repeat(present: list[Redemption], applied: Sequence[Applied]) -> list[Redemption]:
    before = sorted((each.claim.version_id, each.discount_minor, each.shipping_discount_minor) for each in present)
    asked = sorted((use.candidate.version_id, use.discount_minor, use.shipping_minor) for use in applied)
    if before != asked:
        raise ReferenceReused
    if any(each.state == RedemptionState.RELEASED for each in present):
        raise HoldEnded
    return present


def _take(program: Program, member_id: int, candidate: Candidate, reference: str, at: datetime) -> int:
    """Claim for this checkout what needs no claim before."""
    offer = get_offer(program, candidate.version_id)
    source = f"checkout:{reference}"
    try:
        code_id = code_of(candidate)
        made = take(
            program=program, member_id=member_id, offer=offer, code_id=code_id, source=source, is_automatic=True, at=at
        )
    except CouponRefused as error:
        raise CouponUnavailable(candidate.code, type(error).__name__) from error
    return made.pk


def _refuse_second_first_order(member_id: int, applied: Sequence[Applied], at: datetime) -> None:
    """Let one checkout of a member at a time hold coupons for the first order."""
    code = next((use.candidate.code for use in applied if use.candidate.terms.first_order), None)
    if code is not None and find_first_order_hold(member_id, at=at) is not None:
        raise CouponUnavailable(code, "another checkout holds a coupon for the first order")


def _refuse_second_account(member_id: int, candidate: Candidate) -> None:
    """Refuse a claim of what a person has once, where that of another account of theirs goes before it."""
    claim = Claim.objects.filter(pk=candidate.claim_id or 0, member=member_id).first()
    if claim is not None and PersonClaims(member_id, [claim.definition_id]).goes_before(claim):
        raise CouponUnavailable(candidate.code, "another account of the person has had it")


def _reserve(member_id: int, claim_id: int, candidate: Candidate, at: datetime) -> None:
    """Let a claim be held, if it is open and within its time: one conditional UPDATE."""
    usable = Claim.objects.filter(
        ~is_recalled(), pk=claim_id, member=member_id, state=ClaimState.OPEN, valid_from__lte=at
    )
    if not usable.exclude(expires_at__lte=at).update(state=ClaimState.HELD):
        found = Claim.objects.filter(pk=claim_id, member=member_id).first()
        state = "unknown" if found is None else found.state
        raise CouponUnavailable(candidate.code, "expired" if state == ClaimState.OPEN else state)


def _write(
    member_id: int,
    claim_id: int,
    reference: str,
    currency: str,
    use: Applied,
    basket: Basket,
    held_until: datetime,
    at: datetime,
) -> Redemption:
    redemption = Redemption.objects.create(
        member_id=member_id,
        claim_id=claim_id,
        reference=reference,
        currency=currency,
        discount_minor=use.discount_minor,
        shipping_discount_minor=use.shipping_minor,
        held_at=at,
        held_until=held_until,
    )
    RedemptionLine.objects.bulk_create(
        RedemptionLine(redemption=redemption, member_id=member_id, line=line.key, discount_minor=minor)
        for line, minor in zip(basket.lines, use.line_minor, strict=True)
        if minor
    )
    return redemption


def _reverse_lines(redemption: Redemption, lines: Mapping[str, tuple[int, int]]) -> int:
    back = 0
    for line in redemption.lines.filter(member=redemption.member_id, line__in=list(lines)):
        returned, whole = lines[line.line]
        reached = line.discount_minor * min(returned, whole) // whole if whole else 0
        if reached > line.reversed_minor:
            back += reached - line.reversed_minor
            line.reversed_minor = reached
            line.save(update_fields=["reversed_minor"])
    return back


def move_claims(redemptions: Sequence[Redemption], before: ClaimState, after: ClaimState) -> None:
    """Move the claims of redemptions from a state to the next; whoever holds the member's lock knows the state."""
    for each in redemptions:
        claims = Claim.objects.filter(pk=each.claim_id, member=each.member_id, state=before)
        if not claims.update(state=after):
            raise AssertionError(f"claim {each.claim_id} of redemption {each.pk} is not {before}")


def _open_again(program: Program, redemptions: Sequence[Redemption], before: ClaimState, at: datetime) -> None:
    """Let the claims of members be open, and give back those of checkouts and those that were called back meanwhile."""
    claims = [each.claim for each in redemptions]
    recalled = set(Claim.objects.filter(is_recalled(), pk__in=[one.pk for one in claims]).values_list("pk", flat=True))
    kept = [each for each in redemptions if not each.claim.is_automatic and each.claim_id not in recalled]
    move_claims(kept, before, ClaimState.OPEN)
    gone = [one for one in claims if one.is_automatic or one.pk in recalled]
    give_back(gone, at=at)
    publish_revoked(program, [one.pk for one in gone if not one.is_automatic], at)


def publish(program: Program, topic: str, redemptions: Sequence[Redemption], at: datetime) -> None:
    """Publish what became of redemptions, unless there are none."""
    if redemptions:
        payload: dict[str, Any] = {"redemptions": [each.pk for each in redemptions]}
        outbox.publish(program_id=program.pk, topic=topic, payload=payload, at=at)
