"""The coupons of a member: listed, claimed, issued, revoked."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Annotated, Any, Self, get_args
from uuid import UUID

import django_filters
from django.db.models import QuerySet
from pydantic import Field, model_validator
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.addresses import find_shopper_address
from core.api.openapi import IDEMPOTENCY_KEY, OPTIONAL_IDEMPOTENCY_KEY, SHOPPER_ADDRESS, operation
from core.api.pages import PageOf
from core.api.types import Answer, Body, Code, ExternalId, Instant, Outcome, Reason, TypedCode
from core.api.views import idempotent
from core.models import Program, Scope
from coupons.api import guessing
from coupons.api.definitions import show_terms
from coupons.api.problems import unknown_claim
from coupons.definitions import CouponTerms
from coupons.explain import describe_discount
from coupons.models import Claim
from coupons.published import get_offer
from coupons.services import claims, issuing
from coupons.wallet import ShownState, has_state, list_claims, state_of
from membership.api.members import MemberView


class ClaimBody(Body):
    """Which coupon the member takes: one that members may claim, by its code in the program, or by a code typed in."""

    coupon: Code | None = None
    code: TypedCode | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.coupon is None) == (self.code is None):
            raise ValueError("tell either coupon or code")
        return self


class IssueBody(Body):
    """Which coupon the member is given, and what for: the same source gives it once."""

    coupon: Code
    source: Annotated[ExternalId, Field(description="Such as `birthday:2026`")]


class RevocationBody(Body):
    """Why the coupon is taken back."""

    reason: Reason


class ClaimAnswer(Answer):
    """A member's coupon, with all that a wallet shows of it. It can be used once.

    `value`: what it takes off, in words. `code`: by which it can be typed in, if there is one. `state`: `held` by the
    checkout `held_by` until `held_until`; `expired` when it is open and its end is over. `terms`: of the version by
    which the member got it; a member token does not see how many there are and what decides between coupons.
    """

    id: UUID
    coupon: str
    version: int
    name: str
    value: str
    terms: CouponTerms
    code: str | None
    state: ShownState
    held_by: str | None
    held_until: Instant | None
    source: str | None
    claimed_at: Instant
    valid_from: Instant
    expires_at: Instant | None


class ClaimPage(PageOf):
    """A member's coupons in every state, the newest first; without those that a checkout took itself and gave up."""

    results: list[ClaimAnswer]


class ClaimRecorded(Answer):
    """The coupon that the member has now, or had before by the same key or source (`repeated`)."""

    outcome: Outcome
    coupon: ClaimAnswer


class ClaimFilter(django_filters.FilterSet):  # type: ignore[misc]
    state = django_filters.ChoiceFilter(choices=[(one, one) for one in get_args(ShownState)], method="filter_state")

    def filter_state(self, claims: QuerySet[Claim], _name: str, state: ShownState) -> QuerySet[Claim]:
        """Leave the claims that are shown in a state."""
        at: datetime = self.request.parser_context["view"].at
        return claims.filter(has_state(state, at=at))


class CouponsOfMemberView(MemberView):
    """A view that answers coupons of a member."""

    def show(self, claim: Claim) -> dict[str, Any]:
        """Return a claim as the caller may see it."""
        return show_claim(claim, self.program, is_member=self.caller.member is not None, at=self.at)

    def recorded(self, claim: Any) -> Response:
        """Return the claim that the member has now, or had before."""
        shown = self.show(list_claims(member_id=self.member.pk).get(pk=claim.pk))
        outcome, status = ("recorded", 201) if claim.is_new else ("repeated", 200)
        return Response({"outcome": outcome, "coupon": shown}, status)


class TypedCodesView(CouponsOfMemberView):
    """A view of a member that reads codes somebody typed."""

    def trying(self, codes: Sequence[str]) -> AbstractContextManager[guessing.Tries]:
        """Take a try for each code that is not known: see `guessing.reserve`."""
        address = find_shopper_address(self.request)
        return guessing.reserve(program=self.program, member_id=self.member.pk, address=address, codes=codes)


class ClaimsView(TypedCodesView):
    scopes = {"GET": Scope.COUPONS_READ, "POST": Scope.COUPONS_CLAIM}
    is_open_to_members = True
    filterset_class = ClaimFilter
    queryset = Claim.objects.all()

    @operation(summary="List a member's coupons, the newest first", answers={200: ClaimPage})
    def get(self, _request: Request, **_address: Any) -> Response:
        return self.pages(list_claims(member_id=self.member.pk), self.show)

    @operation(
        summary="Claim a coupon",
        description="A code that is unknown, disabled or another member's is refused alike (`code_not_available`); who "
        "tries many has to wait before another one is read (`too_many_codes`).",
        body=ClaimBody,
        answers={201: ClaimRecorded, 200: ClaimRecorded},
        parameters=[IDEMPOTENCY_KEY, SHOPPER_ADDRESS],
    )
    @idempotent(is_required=True)
    def post(self, request: Request, **_address: Any) -> Response:
        body = self.read(ClaimBody)
        # The key's digest names the claim for ever; the record of the key lapses.
        key = hashlib.sha256(f"{self.caller.name}:{request.headers['Idempotency-Key']}".encode()).hexdigest()
        with self.trying([body.code] if body.code else []) as tries:
            guessing.refuse_unread(tries)
            try:
                claim = issuing.claim(
                    member=self.member,
                    definition=body.coupon or "",
                    code=body.code or "",
                    source=f"{_CLIENT}{key}",
                    actor=self.actor,
                    at=self.at,
                )
            except claims.CodeNotAvailable:
                tries.note_read(wrong=tries.readable)
                raise
            tries.note_read(wrong=())
        return self.recorded(claim)


class IssueView(CouponsOfMemberView):
    scopes = {"POST": Scope.COUPONS_ISSUE}

    @operation(
        summary="Give a coupon to a member",
        description="The source names it for ever: told again, the same coupon with the same code is answered.",
        body=IssueBody,
        answers={201: ClaimRecorded, 200: ClaimRecorded},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, **_address: Any) -> Response:
        body = self.read(IssueBody)
        claim = issuing.issue(
            member=self.member, definition_code=body.coupon, source=body.source, actor=self.actor, at=self.at
        )
        return self.recorded(claim)


class RevocationView(CouponsOfMemberView):
    scopes = {"POST": Scope.COUPONS_ISSUE}

    @operation(
        summary="Take back a coupon that was not used",
        body=RevocationBody,
        answers={200: ClaimAnswer},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, claim: UUID, **_address: Any) -> Response:
        body = self.read(RevocationBody)
        found = Claim.objects.filter(member=self.member, public_id=claim).first()
        if found is None:
            raise unknown_claim()
        claims.revoke(
            program=self.program,
            member_id=self.member.pk,
            claim_id=found.pk,
            reason=body.reason,
            actor=self.actor,
            at=self.at,
        )
        return Response(self.show(list_claims(member_id=self.member.pk).get(pk=found.pk)))


_CLIENT = "client:"


def show_claim(claim: Any, program: Program, *, is_member: bool, at: datetime) -> dict[str, Any]:
    """Return a claim of `list_claims` as the API shows it. What only tells one request from another is no source."""
    terms = get_offer(program, claim.version_id).terms
    hold = claim.holds[0] if claim.holds else None
    return {
        "id": str(claim.public_id),
        "coupon": claim.definition.code,
        "version": claim.version.number,
        "name": terms.name,
        "value": describe_discount(terms, program.currency),
        "terms": show_terms(claim.version.definition, is_member=is_member),
        "code": claim.code.shown if claim.code else None,
        "state": state_of(claim, at=at),
        "held_by": hold.reference if hold else None,
        "held_until": hold.held_until if hold else None,
        "source": None if claim.source.startswith(_CLIENT) else claim.source or None,
        "claimed_at": claim.claimed_at,
        "valid_from": claim.valid_from,
        "expires_at": claim.expires_at,
    }
