"""Reads of coupons: what may apply to a basket, and what a member has."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db.models import Count, F, QuerySet, Sum

from core import typed_codes
from core.models import Program
from coupons.models import Claim, ClaimState, CounterShard, CouponCode
from coupons.published import Offer, get_offer, list_offers
from coupons.rules import Candidate

# unknown: the member can have nothing by this code, and is not told why. too_many_codes: it was not read.
CodeRefusal = Literal["unknown", "already_used", "all_given_out", "too_many_codes", "member_suspended"]
_CODE_KEY = "code:"


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """What may apply, and why a code that was typed gives nothing, by its text."""

    candidates: tuple[Candidate, ...]
    unknown_codes: dict[str, CodeRefusal]


def list_candidates(
    *,
    program: Program,
    member_id: int,
    codes: Sequence[str],
    at: datetime,
    skus: Collection[str],
    categories: Collection[str],
) -> CandidateSet:
    """Return what applies by itself, the member's open claims, and what the typed codes give.

    What the member or all have had enough of is left out: an automatic coupon silently, a code with its reason.
    One query for the claims, one for codes, one or two where there are limits.
    """
    offers = list_offers(program)
    claims = list(_open_claims(member_id, at))
    typed = _find_codes(program, codes)
    automatic = offers.list_automatic(at, skus, categories)
    by_code = {
        code.pk: offer for code in typed.values() if (offer := offers.find_by_id(code.definition_id, at)) is not None
    }
    spent = list_spent(member_id, [*automatic, *by_code.values()])
    found = [_of_claim(claim, get_offer(program, claim.version_id)) for claim in claims]
    found += [of_offer(offer, f"offer:{offer.version_id}") for offer in automatic if offer.definition_id not in spent]
    refused: dict[str, CodeRefusal] = {}
    for text in codes:
        code = typed.get(typed_codes.key(text))
        offer = by_code.get(code.pk) if code else None
        reason = _refuse_code(code, offer, member_id, claims, spent)
        if reason is not None:
            refused[text] = reason
        elif offer is not None and code is not None and _adds(code, offer, claims, spent):
            found.append(of_offer(offer, f"{_CODE_KEY}{code.pk}"))
    return CandidateSet(tuple({one.key: one for one in found}.values()), refused)


def code_of(candidate: Candidate) -> int | None:
    """Return the id of the code by which a candidate without a claim is to be claimed."""
    return int(candidate.key.removeprefix(_CODE_KEY)) if candidate.key.startswith(_CODE_KEY) else None


def _open_claims(member_id: int, at: datetime) -> QuerySet[Claim]:
    claims = Claim.objects.filter(member=member_id, state=ClaimState.OPEN)
    return claims.exclude(expires_at__lte=at).order_by("expires_at", "id")


def _find_codes(program: Program, texts: Iterable[str]) -> dict[str, CouponCode]:
    wanted = {typed_codes.key(text) for text in texts}
    if not wanted:
        return {}
    return {code.text: code for code in CouponCode.objects.filter(program=program, text__in=wanted)}


def list_spent(member_id: int, offers: Iterable[Offer]) -> dict[int, CodeRefusal]:
    """Return the definitions of which the member, or everybody, has had as many as there may be."""
    per_member = {one.definition_id: one.terms.per_member for one in offers if one.terms.per_member is not None}
    limited = [one.definition_id for one in offers if one.terms.limit is not None]
    spent: dict[int, CodeRefusal] = {}
    if limited:
        counters = CounterShard.objects.filter(definition__in=limited).order_by().values("definition_id")
        full = counters.annotate(free=Sum(F("limit") - F("used"))).filter(free__lte=0)
        spent |= dict.fromkeys(full.values_list("definition_id", flat=True), "all_given_out")
    if per_member:
        claims = Claim.objects.filter(member=member_id, definition__in=per_member).exclude(state=ClaimState.REVOKED)
        counts = claims.order_by().values_list("definition_id").annotate(number=Count("id"))
        spent |= {pk: "already_used" for pk, number in counts if number >= per_member[pk]}
    return spent


def _refuse_code(
    code: CouponCode | None,
    offer: Offer | None,
    member_id: int,
    claims: Sequence[Claim],
    spent: dict[int, CodeRefusal],
) -> CodeRefusal | None:
    """Return why a typed code gives nothing; None if it gives a candidate, or an open claim stands for it."""
    if code is None or offer is None or code.disabled_at is not None or code.claimed_by not in {None, member_id}:
        return "unknown"
    if code.claimed_by is None:
        has_claim = any(one.definition_id == code.definition_id for one in claims)
        return None if has_claim else spent.get(code.definition_id)
    return None if any(one.code_id == code.pk for one in claims) else "already_used"


def _adds(code: CouponCode, offer: Offer, claims: Sequence[Claim], spent: dict[int, CodeRefusal]) -> bool:
    """Tell whether a code gives more than the open claims do: a claim of an older version may be worth less."""
    is_claimed = code.claimed_by is not None or any(one.version_id == offer.version_id for one in claims)
    return not is_claimed and offer.definition_id not in spent


def _of_claim(claim: Claim, offer: Offer) -> Candidate:
    return Candidate(
        key=f"claim:{claim.pk}",
        definition_id=claim.definition_id,
        version_id=claim.version_id,
        code=offer.code,
        terms=offer.terms,
        claim_id=claim.pk,
        valid_from=claim.valid_from,
        expires_at=claim.expires_at,
    )


def of_offer(offer: Offer, key: str) -> Candidate:
    """Return what an offer is as a candidate."""
    return Candidate(
        key=key,
        definition_id=offer.definition_id,
        version_id=offer.version_id,
        code=offer.code,
        terms=offer.terms,
    )
