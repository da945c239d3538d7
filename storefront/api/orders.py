"""Paid orders, their edits and cancellations."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import django_filters
from django.db.models import Q, QuerySet, Subquery
from pydantic import Field, WrapValidator
from rest_framework.request import Request
from rest_framework.response import Response

import storefront.api.problems  # noqa: F401 an order may be refused by its checkout
from core.api.batches import MAX_ITEMS, BatchAnswer, keep_mistakes
from core.api.filters import InstantFilter, TextFilter
from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.problems import Problem
from core.api.types import Body, DryRun
from core.api.views import idempotent
from core.models import Program
from membership.fact_checks import cancel_refund_id, check_order, edit_refund_id
from membership.fact_inputs import BadFact, OrderInput
from membership.field_checks import frame_of
from membership.models import Order, OrderEdit, OrderKey, OrderLine, Refund, RefundLine
from membership.services.facts import RecordedFacts
from membership.services.orders import get_new_order
from storefront.api.answers import (
    OrderAnswer,
    OrderPage,
    OrderRecorded,
    PaidOrderRecorded,
    show_order,
    show_order_whole,
)
from storefront.api.batches import Batch, Key, tell
from storefront.api.bodies import CancelBody, OrderBody, OrderEditBody
from storefront.api.facts import FactView
from storefront.effects import Traces, find_effect
from storefront.services import intake
from storefront.services.checkouts.shortfalls import find_shortfall


class OrderBatchBody(Body):
    """Orders to record; each is taken or refused by itself."""

    orders: Annotated[
        list[Annotated[OrderBody, WrapValidator(keep_mistakes)]], Field(min_length=1, max_length=MAX_ITEMS)
    ]


class OrderFilter(django_filters.FilterSet):  # type: ignore[misc]
    member = TextFilter(field_name="member__external_id")
    paid_from = InstantFilter(field_name="paid_at", lookup_expr="gte")
    paid_before = InstantFilter(field_name="paid_at", lookup_expr="lt")
    market = TextFilter()
    channel = TextFilter()
    status = django_filters.ChoiceFilter(choices=[("paid", "paid"), ("returned", "returned")], method="of_status")

    def of_status(self, orders: QuerySet[Order], _name: str, status: str) -> QuerySet[Order]:
        """Return the orders of which all has come back, or those of which something has not."""
        return orders.filter(returned_at__isnull=status == "paid")


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """An order with its lines, its edits, and the refunds that touch it with theirs."""

    order: Order
    lines: list[OrderLine]
    edits: list[OrderEdit]
    refunds: list[Refund]

    def show(self) -> dict[str, Any]:
        """Return the order whole."""
        return show_order_whole(self.order, self.lines, self.edits, self.refunds)

    def paid_effect(self, program: Program) -> dict[str, Any]:
        """Return what followed from its payment."""
        return self._effect(program, self.order.paid_at, order_id=self.order.pk)

    def edit_effect(self, program: Program, external_id: str) -> dict[str, Any]:
        """Return what followed from one of its edits, with the refund of what that took out."""
        edit = next(one for one in self.edits if one.external_id == external_id)
        removal = self._refund(edit_refund_id(self.order.external_id, external_id))
        return self._effect(program, edit.edited_at, order_id=self.order.pk, edit_id=edit.pk, refund=removal)

    def refund_effect(self, program: Program, external_id: str) -> dict[str, Any]:
        """Return what followed from one of its refunds."""
        refund = next(one for one in self.refunds if one.external_id == external_id)
        return self._effect(program, refund.refunded_at, refund=refund)

    def _refund(self, external_id: str) -> Refund | None:
        return next((one for one in self.refunds if one.external_id == external_id), None)

    def _effect(self, program: Program, at: datetime, **left: Any) -> dict[str, Any]:
        return find_effect(program, Traces(member_id=self.order.member_id, at=at, **left))


def read_order(program: Program, external_id: str) -> StoredOrder:
    """Return an order.

    Raises: Problem 404.
    """
    key = OrderKey.objects.filter(program=program, external_id=external_id).values("order_id")
    orders = Order.objects.filter(pk=Subquery(key)).select_related("member").prefetch_related("lines", "edits")
    order = orders.first()
    if order is None:
        raise Problem(404, "unknown_order", "The program has no order with this id.")
    lines = list(order.lines.all())
    touching = RefundLine.objects.filter(order_line__in=[line.pk for line in lines])
    refunds = Refund.objects.filter(Q(order=order) | Q(pk__in=set(touching.values_list("refund_id", flat=True))))
    refunds = refunds.select_related("member", "order").prefetch_related("lines__order_line__order")
    return StoredOrder(order, lines, list(order.edits.all()), list(refunds.order_by("refunded_at", "external_id")))


class OrdersView(FactView):
    filterset_class = OrderFilter
    queryset = Order.objects.all()

    @operation(summary="List orders, the last recorded first", answers={200: OrderPage})
    def get(self, _request: Request) -> Response:
        orders = Order.objects.filter(program=self.program).select_related("member").order_by("-id")
        return self.pages(orders, show_order)

    @operation(
        summary="Record a paid order",
        description="The external id is its key for ever: sent again, the order is repeated and nothing changes. An "
        "order that is not paid is none yet. One that names its checkout pays it, if it was paid before the checkout "
        "lapsed, however late it is told.",
        body=OrderBody,
        query=DryRun,
        answers={201: PaidOrderRecorded, 200: PaidOrderRecorded},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request) -> Response:
        query, told = self.read_query(DryRun), self.read(OrderBody).told()
        with self.trying(dry_run=query.dry_run):
            recorded = intake.record(program=self.program, orders=[told], last=self.latest, at=self.at)
            # What a checkout fills in is read from what was stored.
            is_as_told = recorded.order_ids and not told.checkout
            stored = self._new_order(told, recorded) if is_as_told else read_order(self.program, told.external_id)
            content: dict[str, Any] = {"order": stored.show(), "effect": stored.paid_effect(self.program)}
            content["shortfall"] = find_shortfall(stored.order.pk) if told.checkout else None
        return self.answer(content, is_new=bool(recorded.order_ids), dry_run=query.dry_run)

    def _new_order(self, told: OrderInput, recorded: RecordedFacts) -> StoredOrder:
        order, lines = get_new_order(
            program=self.program,
            told=told,
            order_id=recorded.order_ids[0],
            member_id=next(iter(recorded.first_fact_at), None),
            at=self.at,
        )
        return StoredOrder(order, lines, edits=[], refunds=[])


class OrderBatchView(FactView):
    @operation(
        summary="Record up to 1,000 paid orders",
        description="Each is recorded, repeated or refused by itself; pointers are within the item.",
        body=OrderBatchBody,
        query=DryRun,
        answers={200: BatchAnswer},
    )
    def post(self, _request: Request) -> Response:
        query, body = self.read_query(DryRun), self.read(OrderBatchBody)
        batch = Batch(frame_of(self.program, last=self.latest), check_order, self._record)
        with self.trying(dry_run=query.dry_run):
            return Response({"results": batch.take(tell(body.orders))})

    def _record(self, orders: list[OrderInput]) -> set[Key]:
        recorded = intake.record(program=self.program, orders=orders, names_all=True, last=self.latest, at=self.at)
        return set(Order.objects.filter(pk__in=recorded.order_ids).values_list("external_id"))


class OrderView(FactView):
    @operation(summary="Read an order with its lines, edits and refunds", answers={200: OrderAnswer})
    def get(self, _request: Request, order: str) -> Response:
        return Response(read_order(self.program, order).show())


class CancelOrderView(FactView):
    @operation(
        summary="Cancel a paid order: refund all that is left of it",
        body=CancelBody,
        query=DryRun,
        answers={201: OrderRecorded, 200: OrderRecorded},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, order: str) -> Response:
        query, body = self.read_query(DryRun), self.read(CancelBody)
        name = body.external_id or cancel_refund_id(order)
        with self.trying(dry_run=query.dry_run):
            with _of_address({"refunded_at": "cancelled_at"}):
                recorded = intake.cancel_order(
                    program=self.program,
                    order=order,
                    external_id=body.external_id or "",
                    cancelled_at=body.cancelled_at,
                    last=self.latest,
                    at=self.at,
                )
            stored = read_order(self.program, order)
            content = {"order": stored.show(), "effect": stored.refund_effect(self.program, name)}
        return self.answer(content, is_new=bool(recorded.refund_ids), dry_run=query.dry_run)


class OrderEditsView(FactView):
    @operation(
        summary="Edit a paid order: add lines, take units out",
        description="Added lines count and earn from the edit on; what is taken out is the refund `<order>:<edit>`.",
        body=OrderEditBody,
        query=DryRun,
        answers={201: OrderRecorded, 200: OrderRecorded},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, order: str) -> Response:
        query, told = self.read_query(DryRun), self.read(OrderEditBody).told(order)
        with self.trying(dry_run=query.dry_run):
            with _of_address({}):
                recorded = intake.edit_order(program=self.program, edit=told, last=self.latest, at=self.at)
            stored = read_order(self.program, order)
            content = {"order": stored.show(), "effect": stored.edit_effect(self.program, told.external_id)}
        return self.answer(content, is_new=bool(recorded.edit_ids), dry_run=query.dry_run)


@contextmanager
def _of_address(names: dict[str, str]) -> Iterator[None]:
    """Refuse an order that the address names as an address, and other fields by the names that the body has."""
    try:
        yield
    except BadFact as error:
        if error.code == "unknown_order":
            raise Problem(404, error.code, "The program has no order with this id.") from None
        error.field = names.get(error.field, error.field)
        raise
