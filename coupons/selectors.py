"""Reads of coupons: what may apply to a basket, and what a member has."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, F, Sum

from core import typed_codes
from core.models import Program
from coupons.models import Claim, ClaimState, CounterShard, CouponCode
from coupons.own_claims import CodeRefusal, OwnClaims, RefusedCode, as_code, read_own_claims
from coupons.persons import PersonClaims
from coupons.published import Offer, get_offer, list_offers
from coupons.rules import Candidate, RefusalReason, Refused

_CODE_KEY = "code:"


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """What may apply, the member's coupons that cannot and why, and why a typed code gives nothing, by its text."""

    candidates: tuple[Candidate, ...]
    refused: tuple[Refused, ...]
    unknown_codes: dict[str, RefusedCode]


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

    Refused are the member's claims that are held, used or expired, and what applies by itself but was had as often as
    a member may; of what all have had enough, an automatic coupon is left out silently, a code with its reason.
    Two queries for the claims, one for codes, one or two where there are limits, one for what is held or used; and
    some more where a person may have a coupon once.
    """
    offers = list_offers(program)
    own = read_own_claims(member_id=member_id, at=at)
    typed = _find_codes(program, codes)
    automatic = offers.list_automatic(at, skus, categories)
    by_code = {
        code.pk: offer for code in typed.values() if (offer := offers.find_by_id(code.definition_id, at)) is not None
    }
    persons = _read_persons(program, member_id, own, [*automatic, *by_code.values()])
    beaten = persons.list_beaten(own.open)
    spent = list_spent(member_id, [*automatic, *by_code.values()], persons)
    found = [_of_claim(one, get_offer(program, one.version_id)) for one in own.open if one.pk not in beaten]
    found += [of_offer(offer, f"offer:{offer.version_id}") for offer in automatic if offer.definition_id not in spent]
    refused_codes: dict[str, RefusedCode] = {}
    for text in codes:
        code = typed.get(typed_codes.key(text))
        offer = by_code.get(code.pk) if code else None
        reason = _refuse_code(code, offer, member_id, own, spent, beaten)
        if reason is not None:
            refused_codes[text] = reason
        elif offer is not None and code is not None and _adds(code, offer, own.open, spent):
            found.append(of_offer(offer, f"{_CODE_KEY}{code.pk}"))
    refused = (*_refuse_claims(program, own, beaten), *_refuse_automatic(automatic, own, spent))
    return CandidateSet(tuple({one.key: one for one in found}.values()), refused, refused_codes)


def _read_persons(program: Program, member_id: int, own: OwnClaims, offers: Iterable[Offer]) -> PersonClaims:
    """Return what other accounts of the member's person have of the coupons that a person may have once."""
    asked = [*offers, *(get_offer(program, claim.version_id) for claim in own.open)]
    return PersonClaims(member_id, {offer.definition_id for offer in asked if offer.terms.once_per_person})


def _refuse_claims(program: Program, own: OwnClaims, beaten: Collection[int]) -> Iterator[Refused]:
    """Yield the member's own coupons that cannot be used; what a checkout claimed by itself is none of theirs."""
    for claim in own.open:
        if claim.pk in beaten:
            candidate = _of_claim(claim, get_offer(program, claim.version_id))
            yield Refused(candidate, RefusalReason.ONCE_PER_PERSON, {})
    for claim in (*own.held, *own.ended):
        if not claim.is_automatic:
            yield Refused(_of_claim(claim, get_offer(program, claim.version_id)), *own.refuse(claim))


def _refuse_automatic(offers: Iterable[Offer], own: OwnClaims, spent: Mapping[int, str]) -> Iterator[Refused]:
    """Yield what applies by itself, but was had as often as a member, or a person, may."""
    for offer in offers:
        if spent.get(offer.definition_id) == "once_per_person":
            yield Refused(of_offer(offer, f"offer:{offer.version_id}"), RefusalReason.ONCE_PER_PERSON, {})
        elif spent.get(offer.definition_id) == "already_used":
            yield Refused(of_offer(offer, f"offer:{offer.version_id}"), *own.refuse_spent(offer.definition_id))


def code_of(candidate: Candidate) -> int | None:
    """Return the id of the code by which a candidate without a claim is to be claimed."""
    return int(candidate.key.removeprefix(_CODE_KEY)) if candidate.key.startswith(_CODE_KEY) else None


def _find_codes(program: Program, texts: Iterable[str]) -> dict[str, CouponCode]:
    wanted = {typed_codes.key(text) for text in texts}
    if not wanted:
        return {}
    return {code.text: code for code in CouponCode.objects.filter(program=program, text__in=wanted)}


def list_spent(member_id: int, offers: Iterable[Offer], persons: PersonClaims | None = None) -> dict[int, CodeRefusal]:
    """Return the definitions of which the member, their person, or everybody has had as many as there may be.

    persons: of the offers' definitions; read where it is left out.
    """
    offers = list(offers)
    if persons is None:
        persons = PersonClaims(member_id, {one.definition_id for one in offers if one.terms.once_per_person})
    per_member = {one.definition_id: one.terms.per_member for one in offers if one.terms.per_member is not None}
    limited = [one.definition_id for one in offers if one.terms.limit is not None]
    spent: dict[int, CodeRefusal] = {}
    if limited:
        counters = CounterShard.objects.filter(definition__in=limited).order_by().values("definition_id")
        full = counters.annotate(free=Sum(F("limit") - F("used"))).filter(free__lte=0)
        for definition_id in full.values_list("definition_id", flat=True):
            spent[definition_id] = "all_given_out"
    if per_member:
        claims = Claim.objects.filter(member=member_id, definition__in=per_member).exclude(state=ClaimState.REVOKED)
        counts = claims.order_by().values_list("definition_id").annotate(number=Count("id"))
        for definition_id, number in counts:
            if number >= per_member[definition_id]:
                spent[definition_id] = "already_used"
    return spent | dict.fromkeys(persons.had, "once_per_person")


def _refuse_code(
    code: CouponCode | None,
    offer: Offer | None,
    member_id: int,
    own: OwnClaims,
    spent: Mapping[int, CodeRefusal],
    beaten: Collection[int],
) -> RefusedCode | None:
    """Return why a typed code gives nothing; None if it gives a candidate, or an open claim stands for it."""
    if code is not None and code.claimed_by == member_id:
        return own.refuse_code(code) or _refuse_beaten(code.definition_id, own, beaten)
    if code is None or offer is None or code.disabled_at is not None or code.claimed_by is not None:
        return RefusedCode("unknown")
    if any(one.definition_id == code.definition_id for one in own.open):
        return _refuse_beaten(code.definition_id, own, beaten)
    reason = spent.get(code.definition_id)
    if reason == "already_used":
        return as_code(*own.refuse_spent(code.definition_id))
    return RefusedCode(reason) if reason else None


def _refuse_beaten(definition_id: int, own: OwnClaims, beaten: Collection[int]) -> RefusedCode | None:
    """Say that another account has what a code gave, if that goes before the member's open claims of it."""
    claims = [one for one in own.open if one.definition_id == definition_id]
    return RefusedCode("once_per_person") if all(one.pk in beaten for one in claims) else None


def _adds(code: CouponCode, offer: Offer, claims: Sequence[Claim], spent: Mapping[int, CodeRefusal]) -> bool:
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
        claim=str(claim.public_id),
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
