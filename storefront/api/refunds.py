"""Refunds: money given back, and what came back of orders."""

from typing import Annotated, Any, Literal

import django_filters
from django.db.models import QuerySet
from pydantic import Field, WrapValidator
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.batches import MAX_ITEMS, BatchAnswer, keep_mistakes
from core.api.filters import InstantFilter, TextFilter
from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.problems import Problem
from core.api.types import Body, DryRun, ExternalId
from core.api.views import idempotent
from core.models import Program
from membership.fact_inputs import RefundInput
from membership.field_checks import frame_of
from membership.models import Refund
from membership.refund_checks import check_refund
from storefront.api.answers import (
    RefundAnswer,
    RefundPage,
    RefundRecorded,
    show_refund,
    show_refund_whole,
)
from storefront.api.batches import Batch, Key, tell
from storefront.api.bodies import RefundBody
from storefront.api.facts import FactView
from storefront.effects import Traces, find_effect
from storefront.refund_splits import read_splits
from storefront.services import intake


class RefundBatchBody(Body):
    """Refunds to record; each is taken or refused by itself."""

    refunds: Annotated[
        list[Annotated[RefundBody, WrapValidator(keep_mistakes)]], Field(min_length=1, max_length=MAX_ITEMS)
    ]


class RefundQuery(Body):
    """Whose refund is meant, empty for a guest's: the id of a refund is its member's own."""

    member: ExternalId | Literal[""] | None = None


class RefundFilter(django_filters.FilterSet):  # type: ignore[misc]
    member = TextFilter(field_name="member__external_id")
    order = TextFilter(field_name="order__external_id")
    refunded_from = InstantFilter(field_name="refunded_at", lookup_expr="gte")
    refunded_before = InstantFilter(field_name="refunded_at", lookup_expr="lt")


class RefundsView(FactView):
    filterset_class = RefundFilter
    queryset = Refund.objects.all()

    @operation(summary="List refunds, the last recorded first", answers={200: RefundPage})
    def get(self, _request: Request) -> Response:
        refunds = Refund.objects.filter(program=self.program).select_related("member", "order").order_by("-id")
        return self.pages(refunds, show_refund)

    @operation(
        summary="Record a refund",
        description="Its lines say what came back of which orders; those are recorded before it. The external id is "
        "its key for ever, among its member's refunds.",
        body=RefundBody,
        query=DryRun,
        answers={201: RefundRecorded, 200: RefundRecorded},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request) -> Response:
        query, told = self.read_query(DryRun), self.read(RefundBody).told()
        with self.trying(dry_run=query.dry_run):
            recorded = intake.record(program=self.program, refunds=[told], last=self.latest, at=self.at)
            refund = _whole(self.program, told.external_id).get(member__external_id=told.member or None)
            traces = Traces(member_id=refund.member_id, at=refund.refunded_at, refund=refund)
            content = {"refund": _show(refund), "effect": find_effect(self.program, traces)}
        return self.answer(content, is_new=bool(recorded.refund_ids), dry_run=query.dry_run)


class RefundBatchView(FactView):
    @operation(
        summary="Record up to 1,000 refunds",
        description="Each is recorded, repeated or refused by itself; pointers are within the item.",
        body=RefundBatchBody,
        query=DryRun,
        answers={200: BatchAnswer},
    )
    def post(self, _request: Request) -> Response:
        query, body = self.read_query(DryRun), self.read(RefundBatchBody)
        batch = Batch(frame_of(self.program, last=self.latest), check_refund, self._record)
        with self.trying(dry_run=query.dry_run):
            return Response({"results": batch.take(tell(body.refunds))})

    def _record(self, refunds: list[RefundInput]) -> set[Key]:
        recorded = intake.record(program=self.program, refunds=refunds, names_all=True, last=self.latest, at=self.at)
        new = Refund.objects.filter(pk__in=recorded.refund_ids).values_list("external_id", "member__external_id")
        return {(name, member or "") for name, member in new}


class RefundView(FactView):
    @operation(summary="Read a refund with its lines", query=RefundQuery, answers={200: RefundAnswer})
    def get(self, _request: Request, refund: str) -> Response:
        member = self.read_query(RefundQuery).member
        found = _whole(self.program, refund)
        refunds = list(found if member is None else found.filter(member__external_id=member or None))
        if not refunds:
            raise Problem(404, "unknown_refund", "The program has no refund with this id.")
        if len(refunds) > 1:
            raise Problem(400, "ambiguous_refund", "Several members have a refund with this id; name the member.")
        return Response(_show(refunds[0]))


def _show(refund: Refund) -> dict[str, Any]:
    return show_refund_whole(refund, read_splits([refund]))


def _whole(program: Program, external_id: str) -> QuerySet[Refund]:
    refunds = Refund.objects.filter(program=program, external_id=external_id).select_related("member", "order")
    return refunds.prefetch_related("lines__order_line__order")
