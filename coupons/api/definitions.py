"""The coupons of a program as they are in force."""

from collections.abc import Mapping
from typing import Any, Literal

from rest_framework.request import Request
from rest_framework.response import Response

from core.api.credentials import Caller
from core.api.openapi import operation
from core.api.pages import PageOf
from core.api.types import Answer, Instant
from core.api.views import ApiView
from core.definitions import as_written
from core.models import Program, Scope
from coupons.definitions import CouponTerms
from coupons.explain import describe_discount
from coupons.models import CouponDefinitionVersion
from coupons.published import Offer, list_offers
from coupons.wallet import Standing, list_standings
from membership.api.members import MemberView

# How many there are and what goes with what is the shop's own business.
_INTERNAL = {"limit", "shards", "priority", "stack_group"}
_SHOWN_TO_MEMBERS = {"automatic", "claimed"}


class CouponAnswer(Answer):
    """A coupon as it is in force: which version, since when (null: from the beginning), and its terms."""

    code: str
    version: int
    effective_at: Instant | None
    terms: CouponTerms


class CouponPage(PageOf):
    """The coupons of the program."""

    results: list[CouponAnswer]


class OfferedCoupon(Answer):
    """A coupon as it is in force. `value`: what it takes off, in words."""

    coupon: str
    name: str
    how: Literal["automatic", "code", "claimed", "issued"]
    value: str
    terms: CouponTerms


class OfferAnswer(Answer):
    """A coupon that the member could have. `reason` and `text` say why they cannot; null if they can."""

    offer: OfferedCoupon
    state: Literal["available", "unavailable"]
    reason: str | None
    text: str | None


class OfferPage(PageOf):
    """The coupons that the member could have."""

    results: list[OfferAnswer]


class CouponListView(ApiView):
    scopes = {"GET": Scope.COUPONS_READ}
    is_open_to_members = True

    @operation(
        summary="List the coupons whose window is open",
        description="A member token sees those that apply by themselves or can be claimed, without their limits and "
        "without what decides between coupons.",
        answers={200: CouponPage},
    )
    def get(self, _request: Request) -> Response:
        is_member = self.caller.member is not None
        shown = [
            offer.version_id
            for offer in list_offers(self.program).list_open(self.at)
            if not is_member or offer.terms.how in _SHOWN_TO_MEMBERS
        ]
        versions = CouponDefinitionVersion.objects.filter(pk__in=shown).select_related("owner").order_by("owner_id")
        return self.pages(versions, lambda version: _show(version, is_member=is_member))


class OffersView(MemberView):
    scopes = {"GET": Scope.COUPONS_READ}
    is_open_to_members = True

    @operation(
        summary="List the coupons that a member could have",
        description="Those that apply by themselves or can be claimed, their window open, and whether the member can "
        "have them. What depends on the basket, such as a threshold, and the market are not asked: a quote does that. "
        "Sentences are in the language asked for (Accept-Language: en, zh-hans).",
        answers={200: OfferPage},
    )
    def get(self, _request: Request, **_address: Any) -> Response:
        found = list_standings(program=self.program, member=self.member, at=self.at)
        standings = {standing.offer.version_id: standing for standing in found if standing.offer}
        versions = CouponDefinitionVersion.objects.filter(pk__in=list(standings)).order_by("owner_id")
        return self.pages(versions, lambda version: show_standing(standings[version.pk], self.program, self.caller))


def _show(version: CouponDefinitionVersion, *, is_member: bool) -> dict[str, Any]:
    return {
        "code": version.owner.code,
        "version": version.number,
        "effective_at": version.effective_at,
        "terms": show_terms(version.definition, is_member=is_member),
    }


def show_standing(standing: Standing, program: Program, caller: Caller) -> dict[str, Any]:
    """Return a coupon, if there is one, and whether its member can have it, as the caller may see it."""
    return {
        "offer": _show_offer(standing.offer, program, is_member=caller.member is not None) if standing.offer else None,
        "state": "available" if standing.reason is None else "unavailable",
        "reason": standing.reason,
        "text": standing.explain(time_zone=program.time_zone),
    }


def _show_offer(offer: Offer, program: Program, *, is_member: bool) -> dict[str, Any]:
    return {
        "coupon": offer.code,
        "name": offer.terms.name,
        "how": offer.terms.how,
        "value": describe_discount(offer.terms, program.currency),
        "terms": show_terms(as_written(offer.terms, program.currency), is_member=is_member),
    }


def show_terms(definition: Mapping[str, Any], *, is_member: bool) -> dict[str, Any]:
    """Return a definition without what is the shop's own business, where a member sees it."""
    return {name: value for name, value in definition.items() if not is_member or name not in _INTERNAL}
