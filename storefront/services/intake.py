"""The storefront tells facts: record them, move tiers, earn and take back points, in one transaction."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from core.models import Program
from membership.services import facts
from membership.services.facts import ActivityInput, OrderInput, RecordedFacts, RefundInput
from membership.services.tiers import follow_facts
from points.services import earning


@transaction.atomic
def record(
    *,
    program: Program,
    orders: Sequence[OrderInput] = (),
    refunds: Sequence[RefundInput] = (),
    activities: Sequence[ActivityInput] = (),
    at: datetime,
) -> RecordedFacts:
    """Take in paid orders, refunds and activities, one or thousands, with all that follows from them.

    What was told before with the same content has no effect. An order earns with the tier held before it.

    Units: `at` is the recording instant.
    Raises: BadFact; FactConflict; ClawbackRefused.
    Locks: in layer order, what `record_facts`, `follow_facts` and `earn` lock.
    """
    recorded = facts.record_facts(program=program, orders=orders, refunds=refunds, activities=activities, at=at)
    follow_facts(program=program, recorded=recorded, at=at)
    earning.earn(
        program=program,
        order_ids=recorded.order_ids,
        activity_ids=recorded.activity_ids,
        refund_ids=recorded.refund_ids,
        at=at,
    )
    return recorded
