"""Corrections of orders that were told wrong."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.problems import Problem
from core.api.types import Answer, Body, DryRun, ExternalId, Instant, Minor, Outcome, OwnId, Reason
from core.api.views import idempotent
from membership.fact_inputs import BadFact
from membership.models import FactCorrection, FactKind
from membership.services.order_corrections import LineCorrection, OrderCorrection
from storefront.api.answers import Effect, OrderAnswer
from storefront.api.bodies import MAX_LINES, ItemCode, ProgramMinor, Units
from storefront.api.facts import FactView
from storefront.api.orders import read_order
from storefront.services import correcting


class LineCorrectionBody(Body):
    """What is right about a line; what is left out stays as it is."""

    external_id: ExternalId
    units: Units | None = None
    amount_minor: Minor | None = None
    sku: ItemCode | None = None
    category: ItemCode | None = None


class OrderCorrectionBody(Body):
    """What is right about the order; what is left out, and lines that are not named, stay as they are."""

    external_id: OwnId
    reason: Reason
    paid_at: Instant | None = None
    amount_minor: Minor | None = None
    program_amount_minor: ProgramMinor = None
    lines: Annotated[list[LineCorrectionBody], Field(max_length=MAX_LINES)] = []

    def told(self, order: str) -> OrderCorrection:
        """Return the correction of an order."""
        lines = tuple(LineCorrection(**dict(line)) for line in self.lines)
        return OrderCorrection(order=order, **dict(self) | {"lines": lines})


class LineVersion(Answer):
    """What a line of an order said."""

    external_id: str
    sku: str
    category: str
    units: int
    amount_minor: int
    program_amount_minor: int


class OrderVersion(Answer):
    """What an order said."""

    paid_at: Instant
    amount_minor: int
    program_amount_minor: int
    lines: list[LineVersion]


class OrderCorrectionAnswer(Answer):
    """A correction: what the order said before it and after it."""

    external_id: str
    number: int
    reason: str
    decided_by: str
    recorded_at: datetime
    before: OrderVersion
    after: OrderVersion


class OrderCorrected(Answer):
    """The order as it is now, all corrections of it, and what followed from its payment so far."""

    outcome: Outcome
    order: OrderAnswer
    corrections: list[OrderCorrectionAnswer]
    effect: Effect


class OrderCorrectionsView(FactView):
    @operation(
        summary="Correct an order that was told wrong",
        description="Its instant, its amount and its lines. It has paid no checkout and has no edits. Tiers follow at "
        "once; the next close posts what differs in points, up and down.",
        body=OrderCorrectionBody,
        query=DryRun,
        answers={201: OrderCorrected, 200: OrderCorrected},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, order: str) -> Response:
        query, told = self.read_query(DryRun), self.read(OrderCorrectionBody).told(order)
        with self.trying(dry_run=query.dry_run):
            is_new = self._correct(told)
            stored = read_order(self.program, order)
            rows = FactCorrection.objects.filter(
                member=stored.order.member, fact_kind=FactKind.ORDER, fact_id=stored.order.pk
            )
            content = {
                "order": stored.show(),
                "corrections": [show_correction(row) for row in rows.order_by("number")],
                "effect": stored.paid_effect(self.program),
            }
        return self.answer(content, is_new=is_new, dry_run=query.dry_run)

    def _correct(self, told: OrderCorrection) -> bool:
        try:
            return correcting.correct_order(
                program=self.program, correction=told, decided_by=self.actor, last=self.latest, at=self.at
            )
        except BadFact as error:
            if error.code == "unknown_order":
                raise Problem(404, "unknown_order", "The program has no order with this id.") from None
            raise


def show_correction(row: FactCorrection) -> dict[str, Any]:
    """Return a correction of an order as the API shows it."""
    return {
        "external_id": row.external_id,
        "number": row.number,
        "reason": row.reason,
        "decided_by": row.decided_by,
        "recorded_at": row.recorded_at,
        "before": _show_version(row.before),
        "after": _show_version(row.after),
    }


def _show_version(content: dict[str, Any]) -> dict[str, Any]:
    return {
        "paid_at": datetime.fromisoformat(content["paid_at"]),
        "amount_minor": content["amount_minor"],
        "program_amount_minor": content["program_amount_minor"],
        "lines": [{name: line[name] for name in LineVersion.model_fields} for line in content["lines"]],
    }
