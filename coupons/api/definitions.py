"""The coupons of a program as they are in force."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import operation
from core.api.pages import PageOf
from core.api.types import Answer, Instant
from core.api.views import ApiView
from core.models import Scope
from coupons.definitions import CouponTerms
from coupons.models import CouponDefinitionVersion
from coupons.published import list_offers

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
        return self.pages(versions, lambda version: _show(version, without=_INTERNAL if is_member else set()))


def _show(version: CouponDefinitionVersion, *, without: set[str]) -> dict[str, Any]:
    return {
        "code": version.owner.code,
        "version": version.number,
        "effective_at": version.effective_at,
        "terms": {name: value for name, value in version.definition.items() if name not in without},
    }
