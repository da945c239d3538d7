"""Checkouts: a basket is quoted and held; the order that names it pays it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

import django_filters
from django.db.models import Q, QuerySet
from pydantic import Field, StrictInt
from rest_framework.request import Request
from rest_framework.response import Response

import coupons.api.problems  # noqa: F401 coupons that a quote names
import storefront.api.problems  # noqa: F401 refusals of baskets, members and checkouts
from core.api.addresses import find_shopper_address
from core.api.filters import TextFilter
from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, SHOPPER_ADDRESS, operation
from core.api.pages import PageOf
from core.api.problems import Problem
from core.api.types import Answer, Body, Code, Currency, DryRun, ExternalId, Minor, Name, Points, TypedCodes
from core.api.views import ApiView, idempotent
from core.models import Scope
from coupons.api import guessing
from coupons.api.quotes import AllowedOnly, LeftOut
from membership.models import MemberStatus
from membership.selectors import find_member
from storefront import pricing
from storefront.api.answers import ShortfallAnswer
from storefront.api.bodies import ItemCode, Units
from storefront.api.prices import PriceAnswer
from storefront.checkout_inputs import CheckoutInput, CheckoutRefused
from storefront.models import Checkout, CheckoutState
from storefront.services.checkouts import holding, quoting
from storefront.services.checkouts.shortfalls import show_shortfall

Minutes = Annotated[StrictInt, Field(ge=1, le=525_600)]
ShownState = Literal["quoted", "held", "paid", "released", "lapsed"]

MAX_LINES = 500
MAX_CODES = 20


class CheckoutLineBody(Body):
    """A line of a basket. `list_minor`: the list price of all its units. `tax_minor`: tax that comes on top of it."""

    external_id: ExternalId
    units: Units
    list_minor: Minor
    tax_minor: Minor = 0
    sku: ItemCode = ""
    category: ItemCode = ""


class PointsToUseBody(Body):
    """Points of a wallet to pay with: at most so many, or as many as can be used."""

    wallet: Code
    points: Points | None = None


class CheckoutBody(Body):
    """A basket to be priced. Without a member it is a guest's: no benefits, no coupons, no points."""

    member: ExternalId | None = None
    market: Name = ""
    channel: Name = ""
    currency: Currency
    lines: Annotated[list[CheckoutLineBody], Field(min_length=1, max_length=MAX_LINES)]
    shipping_minor: Minor = 0
    codes: Annotated[TypedCodes, Field(max_length=MAX_CODES, description="Coupon codes that were typed in")] = []
    without: LeftOut = []
    only: AllowedOnly = None
    redeem: PointsToUseBody | None = None

    def told(self) -> CheckoutInput:
        """Return the basket as the domain takes it."""
        lines = tuple(
            pricing.Line(
                key=line.external_id,
                units=line.units,
                list_minor=line.list_minor,
                tax_minor=line.tax_minor,
                sku=line.sku,
                category=line.category,
            )
            for line in self.lines
        )
        return CheckoutInput(
            basket=pricing.Basket(self.currency, lines, self.shipping_minor, self.market),
            member=self.member or "",
            channel=self.channel,
            codes=tuple(self.codes),
            without=tuple(self.without),
            only=None if self.only is None else tuple(self.only),
            wallet=self.redeem.wallet if self.redeem else "",
            points=self.redeem.points if self.redeem else None,
        )


class CheckoutAnswer(Answer):
    """A checkout. `id` is null in a dry run. From `lapses_at` on it cannot be held; what was paid before it is taken.

    `shortfall`: what its order could not take any more; the price is without it.
    """

    id: UUID | None
    member: str | None
    market: str
    currency: str
    state: ShownState
    quoted_at: datetime
    held_at: datetime | None
    lapses_at: datetime
    closed_at: datetime | None
    order: str | None
    shortfall: ShortfallAnswer | None
    price: PriceAnswer


class CheckoutPage(PageOf):
    """The checkouts of a program, or of a member, the last quoted first."""

    results: list[CheckoutAnswer]


class HoldBody(Body):
    """For how long to hold: at most as long as the program allows; left out: the usual time."""

    minutes: Minutes | None = None


class ExtensionBody(Body):
    """For how long to hold from now on, within what the program allows from the beginning of the hold."""

    minutes: Minutes


class CheckoutFilter(django_filters.FilterSet):  # type: ignore[misc]
    member = TextFilter(field_name="member__external_id")
    state = django_filters.ChoiceFilter(choices=[(one, one) for one in get_args(ShownState)], method="of_state")

    def of_state(self, checkouts: QuerySet[Checkout], _name: str, state: str) -> QuerySet[Checkout]:
        """Return the checkouts that are shown in a state: one whose time is over has lapsed, closed or not."""
        at: datetime = self.request.parser_context["view"].at
        has_lapsed = Q(closed_at=None, lapses_at__lte=at)
        if state == CheckoutState.LAPSED:
            return checkouts.filter(Q(state=state) | has_lapsed)
        return checkouts.filter(Q(state=state) & ~has_lapsed)


class CheckoutsView(ApiView):
    scopes = {"GET": Scope.CHECKOUTS_WRITE, "POST": Scope.CHECKOUTS_WRITE}
    filterset_class = CheckoutFilter
    queryset = Checkout.objects.all()

    @operation(summary="List checkouts, of a member for instance, the last quoted first", answers={200: CheckoutPage})
    def get(self, _request: Request) -> Response:
        checkouts = Checkout.objects.filter(program=self.program).select_related("member", "order").order_by("-id")
        return self.pages(checkouts, lambda checkout: show_checkout(checkout, self.at))

    @operation(
        summary="Quote a basket: what it costs, line by line, and why",
        description="Nothing is set aside. A quote can be held or, where it uses no coupon and no points, paid until "
        "`lapses_at`. Wrong codes never cost the price: after too many of them further ones are not read "
        "(`too_many_codes` in `coupons.refused`).",
        body=CheckoutBody,
        query=DryRun,
        answers={201: CheckoutAnswer, 200: CheckoutAnswer},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY, SHOPPER_ADDRESS],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request) -> Response:
        query, body = self.read_query(DryRun), self.read(CheckoutBody)
        self.refuse_unknown_places(body)
        basket = body.told()
        member = find_member(program_id=self.program.pk, external_id=basket.member) if basket.codes else None
        if member is None or member.status != MemberStatus.ACTIVE:  # their codes are not read
            checkout = self._quote(basket, dry_run=query.dry_run)
        else:
            checkout = self._try_codes(basket, member.pk, dry_run=query.dry_run)
        shown = show_checkout(checkout, self.at)
        return Response(shown | {"id": None}, 200) if query.dry_run else Response(shown, 201)

    def _try_codes(self, basket: CheckoutInput, member_id: int, *, dry_run: bool) -> Checkout:
        """Quote a basket with those of its codes for which a try is left."""
        address = find_shopper_address(self.request)
        with guessing.reserve(program=self.program, member_id=member_id, address=address, codes=basket.codes) as tries:
            basket = replace(basket, codes=tuple(tries.readable), unread_codes=tuple(tries.refused))
            checkout = self._quote(basket, dry_run=dry_run)
            refused = checkout.price["coupons"]["refused"]
            tries.note_read(wrong=[one["code"] for one in refused if one["reason"] == "unknown"])
        return checkout

    def _quote(self, basket: CheckoutInput, *, dry_run: bool) -> Checkout:
        with self.writing(dry_run=dry_run):
            return quoting.quote(program=self.program, told=basket, at=self.at)


class CheckoutView(ApiView):
    scopes = {"GET": Scope.CHECKOUTS_WRITE}

    @operation(summary="Read a checkout", answers={200: CheckoutAnswer})
    def get(self, _request: Request, checkout: UUID) -> Response:
        found = Checkout.objects.filter(program=self.program, public_id=checkout).select_related("member", "order")
        one = found.first()
        if one is None:
            raise _unknown()
        return Response(show_checkout(one, self.at))


class CheckoutHoldView(ApiView):
    scopes = {"POST": Scope.CHECKOUTS_WRITE}

    @operation(
        summary="Hold the coupons and points of a checkout until it is paid",
        description="The coupons and points that were quoted are priced again; if the basket does not cost any more "
        "what was quoted, nothing is held (`quote_changed`). Held again, it is answered as it is. The body may be left "
        "out.",
        body=HoldBody,
        answers={200: CheckoutAnswer},
    )
    def post(self, _request: Request, checkout: UUID) -> Response:
        minutes = self.read(HoldBody).minutes if self.request._request.body else None
        with _of_address():
            moved = holding.hold(program=self.program, public_id=checkout, minutes=minutes, at=self.at)
        return Response(show_checkout(moved.checkout, self.at))


class CheckoutExtensionView(ApiView):
    scopes = {"POST": Scope.CHECKOUTS_WRITE}

    @operation(
        summary="Hold a checkout for longer",
        description="Until so many minutes from now, unless it is held for longer already.",
        body=ExtensionBody,
        answers={200: CheckoutAnswer},
    )
    def post(self, _request: Request, checkout: UUID) -> Response:
        minutes = self.read(ExtensionBody).minutes
        with _of_address():
            moved = holding.extend(program=self.program, public_id=checkout, minutes=minutes, at=self.at)
        return Response(show_checkout(moved.checkout, self.at))


class CheckoutReleaseView(ApiView):
    scopes = {"POST": Scope.CHECKOUTS_WRITE}

    @operation(summary="Give up a checkout that is not paid, and free what it holds", answers={200: CheckoutAnswer})
    def post(self, _request: Request, checkout: UUID) -> Response:
        with _of_address():
            moved = holding.release(program=self.program, public_id=checkout, at=self.at)
        return Response(show_checkout(moved.checkout, self.at))


def show_checkout(checkout: Checkout, at: datetime) -> dict[str, Any]:
    """Return a checkout as it stands at an instant. It has its member and order selected."""
    has_lapsed = checkout.closed_at is None and checkout.lapses_at <= at
    return {
        "id": checkout.public_id,
        "member": checkout.member.external_id if checkout.member else None,
        "market": checkout.market,
        "currency": checkout.currency,
        "state": CheckoutState.LAPSED if has_lapsed else checkout.state,
        "quoted_at": checkout.quoted_at,
        "held_at": checkout.held_at,
        "lapses_at": checkout.lapses_at,
        "closed_at": checkout.closed_at,
        "order": checkout.order.external_id if checkout.order else None,
        "shortfall": show_shortfall(checkout),
        "price": checkout.price,
    }


def _unknown() -> Problem:
    return Problem(404, "unknown_checkout", "The program has no checkout with this id.")


@contextmanager
def _of_address() -> Iterator[None]:
    """Refuse a checkout that the address names as an address."""
    try:
        yield
    except CheckoutRefused as error:
        if error.code == "unknown_checkout":
            raise _unknown() from None
        raise
