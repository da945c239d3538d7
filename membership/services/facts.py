"""The intake of facts: one set-based mechanism for one fact and for thousands.

Every call is one transaction: all of it is written or nothing. A fact that was recorded before with the same
content has no effect, so a call can be repeated, also while the first one is still running.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from core.models import Program
from membership.fact_checks import check_activity, check_credit, check_order
from membership.fact_inputs import (
    ActivityInput,
    BadFact,
    CreditInput,
    FactConflict,
    OrderEditInput,
    OrderInput,
    OrderLineInput,
    RefundInput,
    RefundLineInput,
    RemovedLineInput,
)
from membership.field_checks import frame_of
from membership.refund_checks import check_refund
from membership.refusals import Submitted, first_refusal
from membership.services.activities import record_activities, record_qualifying_credits
from membership.services.batch import RecordedFacts, open_batch
from membership.services.orders import record_orders
from membership.services.refunds import record_refunds

__all__ = [
    "ActivityInput",
    "BadFact",
    "CreditInput",
    "FactConflict",
    "OrderEditInput",
    "OrderInput",
    "OrderLineInput",
    "RecordedFacts",
    "RefundInput",
    "RefundLineInput",
    "RemovedLineInput",
    "record_credits",
    "record_facts",
    "write_facts",
]


@transaction.atomic
def record_facts(
    *,
    program: Program,
    orders: Sequence[OrderInput] = (),
    refunds: Sequence[RefundInput] = (),
    activities: Sequence[ActivityInput] = (),
    last: datetime | None = None,
    at: datetime,
) -> RecordedFacts:
    """Record facts in a transaction of their own; else as `write_facts`. The first refusal is raised as itself."""
    with first_refusal():
        return write_facts(program=program, orders=orders, refunds=refunds, activities=activities, last=last, at=at)


def write_facts(
    *,
    program: Program,
    orders: Sequence[OrderInput] = (),
    refunds: Sequence[RefundInput] = (),
    activities: Sequence[ActivityInput] = (),
    last: datetime | None = None,
    at: datetime,
) -> RecordedFacts:
    """Record what the storefront tells, orders before the refunds of them, in the caller's transaction.

    last: facts dated after it are refused, and refunds of more than is left; None: any, as in data sets of other times.
    Raises: BadFact for a fact that cannot be true in itself; RefusedFacts, with all facts of one kind that are refused
    by what is recorded: BadFact for what is not there, FactConflict for a known id with other content.
    Locks: see membership.locks.
    """
    frame = frame_of(program, last=last)
    new_orders = Submitted("order", (check_order(order, frame) for order in orders))
    new_refunds = Submitted("refund", (check_refund(refund, frame) for refund in refunds))
    new_activities = Submitted("activity", (check_activity(activity, frame) for activity in activities))
    facts: tuple[OrderInput | RefundInput | ActivityInput, ...] = (*orders, *refunds, *activities)
    if not facts:
        return RecordedFacts()
    batch = open_batch(program=program, members=(fact.member for fact in facts), at=at)
    if orders:
        record_orders(batch, new_orders)
    if refunds:
        record_refunds(batch, new_refunds, is_bounded=last is not None)
    if activities:
        record_activities(batch, new_activities)
    return batch.finish(told=len(facts))


@transaction.atomic
def record_credits(
    *,
    program: Program,
    credits: Sequence[CreditInput],  # noqa: A002 nobody wants the interpreter's license text here
    last: datetime | None = None,
    at: datetime,
) -> RecordedFacts:
    """Record qualifying credits, each once by its member, source and rule.

    last: credits dated after it are refused; None: any date.
    Raises: BadFact; FactConflict for a known (member, source, rule) with another number or instant.
    Locks: see membership.locks.
    """
    frame = frame_of(program, last=last)
    new_credits = Submitted("credit", (check_credit(credit, frame) for credit in credits))
    if not credits:
        return RecordedFacts()
    batch = open_batch(program=program, members=(credit.member for credit in credits), at=at)
    with first_refusal():
        record_qualifying_credits(batch, new_credits)
    return batch.finish(told=len(credits))
