"""What a member's coupons would take off a basket: nothing is written."""

from typing import Annotated, Any

from django.utils.translation import get_language
from pydantic import AfterValidator, Field, StrictInt
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import SHOPPER_ADDRESS, operation
from core.api.types import Answer, Body, Code, Currency, ExternalId, Minor, Name, Text, TypedCodes
from core.models import Scope
from coupons.api.claims import TypedCodesView
from coupons.explain import explain_applied, explain_code, explain_refused
from coupons.own_claims import CodeRefusal, RefusedCode
from coupons.rules import Applied, Basket, Line, RefusalReason, Refused
from coupons.services import quotes

MOST_LINES = 500
MOST_CODES = 10
MOST_CHOSEN = 100


LeftOut = Annotated[
    list[Code], Field(max_length=MOST_CHOSEN, description="Coupons not to use, by their codes in the program")
]
AllowedOnly = Annotated[
    list[Code] | None,
    Field(max_length=MOST_CHOSEN, description="The only coupons that may be used; empty: none; null: all"),
]


class QuoteLineBody(Body):
    """A line: what its units cost now. Thresholds read `original_minor`, the list price for all of them."""

    line: ExternalId
    sku: Text = ""
    category: Text = ""
    units: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1
    amount_minor: Minor
    original_minor: Minor | None = Field(None, description="`amount_minor`, unless told")


def _different(lines: list[QuoteLineBody]) -> list[QuoteLineBody]:
    if len({line.line for line in lines}) < len(lines):
        raise ValueError("a line is there twice")
    return lines


class QuoteBody(Body):
    """A basket, and the codes that the member has typed in."""

    currency: Currency
    market: Name = ""
    lines: Annotated[list[QuoteLineBody], Field(min_length=1, max_length=MOST_LINES), AfterValidator(_different)]
    shipping_minor: Minor = 0
    codes: Annotated[TypedCodes, Field(max_length=MOST_CODES)] = []
    without: LeftOut = []
    only: AllowedOnly = None


class LineDiscountAnswer(Answer):
    """What comes off a line."""

    line: str
    discount_minor: int


class AppliedAnswer(Answer):
    """A coupon that applies: what it takes off, line by line and off shipping, and how, in a sentence."""

    coupon: str
    claim: str | None
    discount_minor: int
    shipping_discount_minor: int
    lines: list[LineDiscountAnswer]
    sentence: str


class RefusedAnswer(Answer):
    """A coupon that does not apply, and why. `details` are the figures of the reason."""

    coupon: str
    claim: str | None
    reason: RefusalReason
    details: dict[str, Any]
    sentence: str


class RefusedCodeAnswer(Answer):
    """A code that gives nothing: `unknown` may also be disabled or somebody else's.

    `too_many_codes`: it was not read, because too many were wrong; quote again a little later.
    """

    code: str
    reason: CodeRefusal
    details: dict[str, Any]
    sentence: str


class QuoteAnswer(Answer):
    """The combination of coupons that takes most off. Not `exact`: another could take off up to `gap_minor` more."""

    language: str
    discount_minor: int
    shipping_discount_minor: int
    applied: list[AppliedAnswer]
    refused: list[RefusedAnswer]
    refused_codes: list[RefusedCodeAnswer]
    exact: bool
    gap_minor: int


class CouponQuoteView(TypedCodesView):
    scopes = {"POST": Scope.COUPONS_READ}
    is_open_to_members = True

    @operation(
        summary="Work out what coupons take off a basket",
        description="Sentences are in the language asked for (Accept-Language: en, zh-hans). Nothing is reserved: a "
        "checkout does that.",
        body=QuoteBody,
        answers={200: QuoteAnswer},
        parameters=[SHOPPER_ADDRESS],
    )
    def post(self, _request: Request, **_address: Any) -> Response:
        body = self.read(QuoteBody)
        self.refuse_unknown_places(body)
        basket = _basket(body)
        choice = quotes.Choice(body.without, body.only)
        with self.trying(body.codes) as tries:
            found = quotes.quote_basket(
                program=self.program,
                member=self.member,
                basket=basket,
                codes=tries.readable,
                at=self.at,
                choice=choice,
            )
            tries.note_read(wrong=[code for code, one in found.unknown_codes.items() if one.reason == "unknown"])
        found.unknown_codes.update(dict.fromkeys(tries.refused, RefusedCode("too_many_codes")))
        return Response(_show(found, basket, self.program.time_zone))


def _basket(body: QuoteBody) -> Basket:
    lines = tuple(
        Line(
            key=line.line,
            sku=line.sku,
            category=line.category,
            units=line.units,
            original_minor=line.amount_minor if line.original_minor is None else line.original_minor,
            amount_minor=line.amount_minor,
        )
        for line in body.lines
    )
    return Basket(body.currency, lines, body.shipping_minor, body.market)


def _show(found: quotes.BasketQuote, basket: Basket, zone: str) -> dict[str, Any]:
    evaluation = found.evaluation
    return {
        "language": get_language(),
        "discount_minor": sum(one.discount_minor for one in evaluation.applied),
        "shipping_discount_minor": sum(one.shipping_minor for one in evaluation.applied),
        "applied": [_show_applied(one, basket) for one in evaluation.applied],
        "refused": [_show_refused(one, zone) for one in evaluation.refused],
        "refused_codes": [
            {"code": code, "reason": one.reason, "details": one.details, "sentence": explain_code(one, zone)}
            for code, one in found.unknown_codes.items()
        ],
        "exact": evaluation.exact,
        "gap_minor": evaluation.gap_minor,
    }


def _show_applied(applied: Applied, basket: Basket) -> dict[str, Any]:
    lines = zip(basket.lines, applied.line_minor, strict=True)
    return {
        "coupon": applied.candidate.code,
        "claim": applied.candidate.claim or None,
        "discount_minor": applied.discount_minor,
        "shipping_discount_minor": applied.shipping_minor,
        "lines": [{"line": line.key, "discount_minor": minor} for line, minor in lines if minor],
        "sentence": explain_applied(applied, basket.currency),
    }


def _show_refused(refused: Refused, zone: str) -> dict[str, Any]:
    return {
        "coupon": refused.candidate.code,
        "claim": refused.candidate.claim or None,
        "reason": refused.reason.value,
        "details": refused.details,
        "sentence": explain_refused(refused, zone),
    }
