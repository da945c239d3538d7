"""What a code gives a member, asked without a basket: nothing is written."""

from typing import Any, Literal

from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import SHOPPER_ADDRESS, operation
from core.api.types import Answer, Body, Name, TypedCode
from core.models import Scope
from coupons.api import guessing
from coupons.api.claims import TypedCodesView
from coupons.api.definitions import OfferedCoupon, show_standing
from coupons.wallet import check_code


class CodeCheckBody(Body):
    """A code that was typed, and the market in which it would be used, if that is known."""

    code: TypedCode
    market: Name | None = Field(None, description="Left out: markets are not asked")


class CodeCheckAnswer(Answer):
    """The coupon behind the code, null for one that gives nothing. `reason` and `text` say why it cannot be used."""

    code: str
    offer: OfferedCoupon | None
    state: Literal["available", "unavailable"]
    reason: str | None
    text: str | None


class CodeCheckView(TypedCodesView):
    scopes = {"POST": Scope.COUPONS_READ}
    is_open_to_members = True

    @operation(
        summary="Ask what a code gives, without a basket",
        description="Whether this member can use it now; what depends on the basket, such as a threshold, is in the "
        "terms. A code that is unknown, disabled or another member's is `unknown`. Who tries many has to wait before "
        "another one is read (`too_many_codes`).",
        body=CodeCheckBody,
        answers={200: CodeCheckAnswer},
        parameters=[SHOPPER_ADDRESS],
    )
    def post(self, _request: Request, **_address: Any) -> Response:
        body = self.read(CodeCheckBody)
        with self.trying([body.code]) as tries:
            guessing.refuse_unread(tries)
            standing = check_code(
                program=self.program, member=self.member, code=body.code, market=body.market, at=self.at
            )
            tries.note_read(wrong=[body.code] if standing.reason == "unknown" else [])
        return Response({"code": body.code} | show_standing(standing, self.program, self.caller))
