"""The storefront tells facts: record them, move tiers, earn and take back points, in one transaction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime

from django.db import transaction

from core.models import Program
from core.services import audit
from membership.refusals import Place, RefusedFacts, first_refusal
from membership.services import cancellations, edits, facts
from membership.services.facts import ActivityInput, CreditInput, OrderEditInput, OrderInput, RecordedFacts, RefundInput
from membership.services.tiers import follow_facts
from points.models import SourceKind
from points.services import earning, returned
from points.services.posting import InsufficientPoints, RefusedPostings
from storefront.services import day_close
from storefront.services.checkouts import giving_back, paying
from storefront.services.checkouts.paying import Payments

# An order that is told late takes the points that are there when it is read. If they are spent before it is written, it
# is read again; after so many times in a row it is refused, and can be sent again.
_ATTEMPTS = 3

_KINDS: dict[int, str] = {SourceKind.ORDER: "order", SourceKind.REFUND: "refund", SourceKind.ACTIVITY: "activity"}


def record(
    *,
    program: Program,
    orders: Sequence[OrderInput] = (),
    refunds: Sequence[RefundInput] = (),
    activities: Sequence[ActivityInput] = (),
    is_cancellation: bool = False,
    names_all: bool = False,
    last: datetime | None = None,
    at: datetime,
) -> RecordedFacts:
    """Take in paid orders, refunds and activities, one or thousands, with all that follows from them.

    What was told before with the same content has no effect. An order earns with the tier held before it. One that
    names its checkout uses the coupons and points that it holds; a refund of it gives them back.

    is_cancellation: the refunds are the shop's own, who cancelled the orders.
    names_all: raise RefusedFacts, with all facts that the checkouts refuse, or else all that what is recorded refuses,
    or else all that the ledger refuses.
    last: facts dated after it are refused; None: any date.
    Units: `at` is the recording instant.
    Raises: CheckoutRefused; BadFact; FactConflict; ClawbackRefused; PointsOverflow.
    Locks: the checkouts; then in layer order what `write_facts`, `follow_facts`, coupons and `earn` lock.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with nullcontext() if names_all else first_refusal(), transaction.atomic():
                payments = paying.match_orders(program=program, orders=orders, at=at)
                recorded = facts.write_facts(
                    program=program, orders=payments.orders, refunds=refunds, activities=activities, last=last, at=at
                )
                with _naming_facts(recorded):
                    return _follow(program, recorded, at, payments, is_cancellation=is_cancellation)
        except InsufficientPoints:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError


@transaction.atomic
def edit_order(*, program: Program, edit: OrderEditInput, last: datetime | None = None, at: datetime) -> RecordedFacts:
    """Take in a change of a paid order: added lines earn as of the edit, removed units are a refund.

    Raises, Locks, Idempotency: as `edits.record_edit` and `record`.
    """
    recorded = edits.record_edit(program=program, edit=edit, last=last, at=at)
    try:
        return _follow(program, recorded, at, Payments(()))
    except RefusedPostings as error:  # of the edit, or of the refund that it is too
        raise error.first from error


@transaction.atomic
def record_credit(
    *, program: Program, credit: CreditInput, actor: str, last: datetime | None = None, at: datetime
) -> RecordedFacts:
    """Take in qualifying credits of a member, and move tiers by them. They earn nothing.

    Raises: BadFact; FactConflict.
    Locks: as `facts.record_credits` and `follow_facts`.
    Idempotency: the member, the source and the rule.
    """
    recorded = facts.record_credits(program=program, credits=[credit], last=last, at=at)
    follow_facts(program=program, recorded=recorded, at=at)
    if not recorded.repeated:
        after = {name: getattr(credit, name) for name in ("source", "rule", "credits", "effective_at")}
        target = f"member {credit.member}"
        audit.record(action="credit.recorded", target=target, actor=actor, at=at, program=program, after=after)
    return recorded


@transaction.atomic
def cancel_order(
    *,
    program: Program,
    order: str,
    external_id: str = "",
    cancelled_at: datetime | None = None,
    last: datetime | None = None,
    at: datetime,
) -> RecordedFacts:
    """Refund all that is left of a paid order. A cancellation that is recorded already has no effect.

    Raises: as `cancellations.refund_rest` and `record`.
    Locks: the order, then as `record`.
    """
    refund = cancellations.refund_rest(
        program=program, order=order, external_id=external_id, cancelled_at=cancelled_at, at=at
    )
    if refund is None:
        return RecordedFacts(repeated=1)
    return record(program=program, refunds=[refund], is_cancellation=True, last=last, at=at)


@contextmanager
def _naming_facts(recorded: RecordedFacts) -> Iterator[None]:
    """Name the facts whose postings the ledger refuses.

    Raises: RefusedFacts.
    """
    try:
        yield
    except RefusedPostings as error:
        refused: dict[Place, Exception] = {}
        for (source, fact_id), reason in error.refusals.items():
            kind = _KINDS[source]
            refused |= {(kind, index): reason for index in recorded.places[kind, fact_id]}
        raise RefusedFacts(refused) from error


def _follow(
    program: Program, recorded: RecordedFacts, at: datetime, payments: Payments, *, is_cancellation: bool = False
) -> RecordedFacts:
    follow_facts(program=program, recorded=recorded, at=at)
    paying.use_coupons(program=program, paid=payments.paid, at=at)
    returns = giving_back.read_returns(recorded.returns)
    paying.flag_first_orders(program=program, order_ids=recorded.order_ids, at=at)
    giving_back.return_coupons(program=program, returns=returns, is_cancelled=is_cancellation, at=at)
    day_close.settle_before_late_facts(program=program, first_fact_at=recorded.first_fact_at, at=at)
    paying.use_points(program=program, paid=payments.paid, at=at)
    giving_back.return_points(program=program, returns=returns, at=at)
    returned.give_back(program=program, edit_ids=recorded.edit_ids, at=at)
    earning.earn(
        program=program,
        order_ids=recorded.order_ids,
        edit_ids=recorded.edit_ids,
        activity_ids=recorded.activity_ids,
        returns=recorded.returns,
        at=at,
    )
    returned.follow_edits(program=program, edit_ids=recorded.edit_ids, refund_ids=recorded.refund_ids, at=at)
    return recorded
