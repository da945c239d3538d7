"""A coupon is called back: ended, and what members had been given and not used is revoked."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.problems import Problem
from core.api.types import Answer, Body, Instant, Reason
from core.api.views import idempotent
from core.models import Scope
from coupons.api.codes import CouponView
from coupons.models import CouponRecall
from coupons.services import recalls


class RecallBody(Body):
    """Why the coupon is called back."""

    reason: Reason


class RecallAnswer(Answer):
    """A recall and how far it is. `revoked`: how many claims; more follow until `finished_at`."""

    coupon: str
    reason: str
    recalled_at: Instant
    revoked: int
    finished_at: Instant | None


class RecallView(CouponView):
    scopes = {"GET": Scope.COUPONS_ISSUE, "POST": Scope.COUPONS_ISSUE}

    @operation(summary="Read the last recall of a coupon", answers={200: RecallAnswer})
    def get(self, _request: Request, coupon: str) -> Response:
        found = self.find_coupon(coupon).recalls.order_by("-id").first()
        if found is None:
            raise Problem(404, "unknown_recall", "This coupon has not been called back.")
        return Response(show_recall(found))

    @operation(
        summary="Call a coupon back",
        description="It ends, and from now on no claim of it that is open can be used; a worker revokes them. What a "
        "checkout holds can still be paid. Called back again, it is the same recall until something of it is in force.",
        body=RecallBody,
        answers={200: RecallAnswer},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, coupon: str) -> Response:
        definition, body = self.find_coupon(coupon), self.read(RecallBody)
        made = recalls.recall(
            program=self.program, definition=definition, reason=body.reason, actor=self.actor, at=self.at
        )
        return Response(show_recall(made))


def show_recall(recall: CouponRecall) -> dict[str, Any]:
    """Return a recall as the API shows it."""
    return {
        "coupon": recall.definition.code,
        "reason": recall.reason,
        "recalled_at": recall.recalled_at,
        "revoked": recall.revoked,
        "finished_at": recall.finished_at,
    }
