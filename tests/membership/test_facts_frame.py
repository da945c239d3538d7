"""When facts may have happened: not before their program began and, where the caller says so, not in the future."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from core.models import Program
from membership.fact_inputs import (
    ActivityInput,
    BadFact,
    CreditInput,
    OrderEditInput,
    OrderInput,
    OrderLineInput,
    RefundInput,
)
from membership.models import Activity, MemberDay, Order, OrderEdit, QualifyingCredit, Refund
from membership.services.edits import record_edit
from membership.services.facts import record_credits, record_facts

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
# London's 1 June begins at 23:00 UTC.
BEGAN = datetime(2026, 5, 31, 23, tzinfo=UTC)
TICK = timedelta(microseconds=1)
Tell = Callable[..., Any]


def order(program: Program, at: datetime, **more: Any) -> None:
    told = OrderInput(external_id="o1", member="ada", paid_at=at, currency="GBP", amount_minor=100)
    record_facts(program=program, orders=[told], at=NOW, **more)


def refund(program: Program, at: datetime, **more: Any) -> None:
    told = RefundInput(external_id="r1", member="ada", refunded_at=at, currency="GBP", amount_minor=100)
    record_facts(program=program, refunds=[told], at=NOW, **more)


def activity(program: Program, at: datetime, **more: Any) -> None:
    told = ActivityInput(external_id="v1", member="ada", kind="visit", occurred_at=at)
    record_facts(program=program, activities=[told], at=NOW, **more)


def edit(program: Program, at: datetime, **more: Any) -> None:
    lines = (OrderLineInput(external_id="2", units=1, amount_minor=50),)
    told = OrderEditInput(order="o0", external_id="e1", edited_at=at, currency="GBP", lines=lines)
    record_edit(program=program, edit=told, at=NOW, **more)


def qualifying_credit(program: Program, at: datetime) -> None:
    told = CreditInput(member="ada", source="test", rule="r", credits=1, effective_at=at)
    record_credits(program=program, credits=[told], at=NOW)


def count() -> list[int]:
    return [table.objects.count() for table in (Order, OrderEdit, Refund, Activity, QualifyingCredit, MemberDay)]


@pytest.fixture
def old_order(program: Program, ada: int) -> None:
    """An order from before the program was given a start."""
    told = OrderInput(external_id="o0", member="ada", paid_at=BEGAN - TICK, currency="GBP", amount_minor=100)
    record_facts(program=program, orders=[told], at=NOW)


@pytest.mark.parametrize("tell", [order, refund, activity, edit, qualifying_credit])
def test_nothing_is_from_before_the_program(program: Program, old_order: None, tell: Tell) -> None:
    program.start_date = date(2026, 6, 1)
    before = count()
    with pytest.raises(BadFact) as refused:
        tell(program, BEGAN - TICK)
    assert (refused.value.code, count()) == ("before_program", before)
    tell(program, BEGAN)
    assert count() != before


@pytest.mark.parametrize("tell", [order, refund, activity, edit])
def test_nothing_is_from_after_the_last_instant_that_the_caller_allows(
    program: Program, old_order: None, tell: Tell
) -> None:
    before = count()
    with pytest.raises(BadFact) as refused:
        tell(program, NOW + TICK, last=NOW)
    assert (refused.value.code, count()) == ("in_future", before)
    tell(program, NOW, last=NOW)
    assert count() != before


def test_data_sets_of_any_time_are_taken_where_the_caller_says_nothing(program: Program, ada: int) -> None:
    order(program, NOW + timedelta(days=900))
    assert Order.objects.count() == 1
