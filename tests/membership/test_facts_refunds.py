from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import Program
from membership.field_checks import frame_of
from membership.models import MemberDay, Order, OrderLine, Refund, RefundLine
from membership.order_returns import read
from membership.refund_checks import check_refund
from membership.services.facts import (
    BadFact,
    FactConflict,
    OrderInput,
    OrderLineInput,
    RecordedFacts,
    RefundInput,
    RefundLineInput,
    record_facts,
)
from membership.services.rebuild import find_day_mismatches, find_line_mismatches

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

ORDER = OrderInput(
    external_id="o1",
    member="ada",
    paid_at=NOW,
    currency="GBP",
    amount_minor=3000,
    lines=(
        OrderLineInput(external_id="a", units=3, amount_minor=900),
        OrderLineInput(external_id="b", units=1, amount_minor=2100),
    ),
)


def refund(name: str, *lines: RefundLineInput, hours: int = 1, **fields: Any) -> RefundInput:
    told: dict[str, Any] = {"member": "ada", "order": "o1", "amount_minor": sum(line.amount_minor for line in lines)}
    return RefundInput(external_id=name, refunded_at=NOW + hours * HOUR, currency="GBP", lines=lines, **(told | fields))


def back(line: str, units: int | None, minor: int, name: str = "", order: str = "") -> RefundLineInput:
    return RefundLineInput(external_id=name or line, order=order, order_line=line, units=units, amount_minor=minor)


def tell(program: Program, *refunds: RefundInput, orders: Sequence[OrderInput] = ()) -> RecordedFacts:
    return record_facts(program=program, orders=orders, refunds=refunds, at=NOW)


def returned(order: str = "o1") -> list[tuple[str, int, int]]:
    """What came back of each line of an order: units, and of its amount."""
    found = read([Order.objects.get(external_id=order).pk]).popitem()[1].work_out()
    kept = dict(OrderLine.objects.filter(order__external_id=order).values_list("pk", "returned_units"))
    assert kept == {line_id: line.units for line_id, line in found.lines.items()}
    return [(line.line.external_id, line.units, line.returned_minor) for line in found.lines.values()]


def returned_at(external_id: str = "o1") -> datetime | None:
    return Order.objects.get(external_id=external_id).returned_at


def assert_reconciled(program: Program) -> None:
    assert find_day_mismatches(program) == []
    assert find_line_mismatches(program) == []


@pytest.fixture
def order(program: Program, ada: int) -> Order:
    record_facts(program=program, orders=[ORDER], at=NOW)
    return Order.objects.get()


def test_keeps_a_refund_as_told(program: Program, ada: int, order: Order) -> None:
    recorded = tell(program, refund("r1", back("a", 1, 350)))
    kept = Refund.objects.get()
    assert (recorded.refund_ids, recorded.first_fact_at) == ([kept.pk], {ada: NOW + HOUR})
    assert (kept.member_id, kept.order_id, kept.refunded_at) == (ada, order.pk, NOW + HOUR)
    assert (kept.local_date, kept.amount_minor, kept.program_amount_minor) == (date(2026, 6, 15), 350, 350)
    line = kept.lines.get()
    assert (line.member_id, line.order_line, line.units) == (ada, order.lines.get(external_id="a"), 1)
    assert (line.amount_minor, line.program_amount_minor) == (350, 350)
    assert (kept.counted_minor, line.counted_minor) == (350, 350)
    assert returned() == [("a", 1, 350), ("b", 0, 0)]
    assert_reconciled(program)


def test_each_refund_changes_what_those_before_it_gave(program: Program, order: Order) -> None:
    recorded = tell(
        program,
        refund("r2", back("a", 1, 300), hours=2),
        refund("r3", back("a", None, 50), hours=2),
        refund("r1", back("a", 1, 310, name="x"), back("a", None, 5, name="y"), hours=1),
    )
    names = dict(Refund.objects.values_list("pk", "external_id"))
    line_a = order.lines.get(external_id="a").pk
    assert [
        (names[refund_id], change.before.lines[line_a].returned_minor, change.after.lines[line_a].returned_minor)
        for refund_id, change in recorded.returns
    ] == [("r1", 0, 315), ("r2", 315, 615), ("r3", 615, 665)]
    assert returned() == [("a", 2, 665), ("b", 0, 0)]


def test_one_by_one_and_in_one_call_are_the_same(program: Program, order: Order) -> None:
    orders = [replace(ORDER, external_id=name) for name in ("p", "q")]
    record_facts(program=program, orders=orders, at=NOW)
    told = [("1", ("a", 2, 600)), ("2", ("b", 1, 2100)), ("3", ("a", 1, 290)), ("4", ("a", None, 10))]
    tell(program, *(refund(f"p{n}", back(*line), hours=int(n), order="p") for n, line in reversed(told)))
    for n, line in told:
        tell(program, refund(f"q{n}", back(*line), hours=int(n), order="q"))
    p, q = ((returned(name), returned_at(name)) for name in ("p", "q"))
    assert p == q == ([("a", 3, 900), ("b", 1, 2100)], NOW + 3 * HOUR)
    assert_reconciled(program)


def test_an_order_and_its_refund_at_one_instant_in_one_call(program: Program, ada: int) -> None:
    tell(program, refund("r1", back("a", 3, 900), back("b", 1, 2100), hours=0), orders=[ORDER])
    assert returned_at() == NOW
    day = MemberDay.objects.get()
    assert (day.orders, day.orders_returned, day.spend_minor, day.refunds_minor) == (1, 1, 3000, 3000)
    assert_reconciled(program)


def test_a_refund_counts_on_its_own_day_without_any_order(program: Program, ada: int) -> None:
    tell(program, refund("r1", RefundLineInput(external_id="1", units=4, amount_minor=700, sku="S"), order=""))
    day = MemberDay.objects.get()
    assert (day.member_id, day.day, day.orders, day.spend_minor, day.refunds_minor) == (
        *(ada, date(2026, 6, 15), 0, 0, 700),
    )
    line = RefundLine.objects.get()
    assert (line.order_line_id, line.units, line.sku, line.counted_minor) == (None, 4, "S", 700)


def test_lines_name_their_orders_when_the_refund_names_none(program: Program, order: Order) -> None:
    record_facts(program=program, orders=[replace(ORDER, external_id="o2")], at=NOW)
    tell(program, refund("r1", back("a", 1, 300, "1", "o1"), back("b", 1, 2100, "2", "o2"), order=""))
    assert Refund.objects.get().order_id is None
    assert (returned("o1"), returned("o2")) == ([("a", 1, 300), ("b", 0, 0)], [("a", 0, 0), ("b", 1, 2100)])


def test_what_a_refund_tells_above_its_line_counts_against_spend_and_takes_nothing(
    program: Program, order: Order
) -> None:
    tell(program, refund("r1", back("a", 1, 5000)))
    assert returned() == [("a", 1, 900), ("b", 0, 0)]
    assert returned_at() is None  # b is still out
    assert MemberDay.objects.get().refunds_minor == 5000


def test_the_refund_of_the_last_unit_returns_the_order_on_its_own_day(program: Program, order: Order) -> None:
    tell(program, refund("r1", back("a", 3, 900), hours=1))
    assert returned_at() is None
    tell(program, refund("r2", back("b", 1, 0), hours=48))
    assert returned_at() == NOW + 48 * HOUR
    days = MemberDay.objects.order_by("day").values_list("day", "orders", "orders_returned", "refunds_minor")
    assert list(days) == [(date(2026, 6, 15), 1, 0, 900), (date(2026, 6, 17), 0, 1, 0)]
    tell(program, refund("r3", back("b", None, 100), hours=72))
    assert returned_at() == NOW + 48 * HOUR
    assert_reconciled(program)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("hours", [1, 72])
def test_money_alone_does_not_move_the_day_on_which_the_last_unit_came_back(
    program: Program, order: Order, hours: int, together: bool
) -> None:
    parts = [
        refund("r1", back("a", None, 10), hours=hours),
        refund("r2", back("b", 1, 2100), hours=30),
        refund("r3", back("a", 3, 890), hours=5),
    ]
    for call in [parts] if together else [[part] for part in parts]:
        tell(program, *call)
    assert returned_at() == NOW + 30 * HOUR
    assert_reconciled(program)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([refund("r1", amount_minor=3000)], NOW + HOUR),
        ([refund("r1", amount_minor=2999)], None),
        ([refund("r1", amount_minor=2999), refund("r2", amount_minor=1, hours=2)], NOW + 2 * HOUR),
        ([refund("r1", back("a", None, 900), back("b", None, 2100))], NOW + HOUR),
        ([refund("r1", back("a", None, 900)), refund("r2", amount_minor=2100, hours=5)], NOW + 5 * HOUR),
        # All the money of a is back with one of its units; the rest is that of b.
        ([refund("r1", back("a", 1, 900)), refund("r2", amount_minor=2100, hours=5)], NOW + 5 * HOUR),
        # What is told above a line comes back of no other.
        ([refund("r1", back("a", None, 1000)), refund("r2", amount_minor=2000, hours=5)], None),
        # A line that names none of the order's is money of the order.
        ([refund("r1", RefundLineInput(external_id="1", amount_minor=3000))], NOW + HOUR),
        # A refund of nothing that is known, of no order either.
        ([refund("r1", RefundLineInput(external_id="1", units=1, amount_minor=3000), order="")], None),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_money_without_units_returns_the_order_when_it_reaches_its_amount(
    program: Program, order: Order, parts: list[RefundInput], expected: datetime | None, together: bool
) -> None:
    for call in [parts] if together else [[part] for part in parts]:
        tell(program, *call)
    assert returned_at() == expected
    assert_reconciled(program)


def test_no_money_does_not_return_a_free_order(program: Program, ada: int) -> None:
    free = replace(ORDER, amount_minor=0, lines=())
    tell(program, refund("r1", amount_minor=0), orders=[free])
    assert returned_at() is None
    tell(program, refund("r2", back("1", 1, 0)))
    assert returned_at() == NOW + HOUR


def test_a_guests_refund_is_kept_and_counts_for_nobody(program: Program) -> None:
    guest = replace(ORDER, member="")
    recorded = tell(program, refund("r1", back("a", 3, 900), back("b", 1, 2100), member=""), orders=[guest])
    assert Refund.objects.get().member_id is None
    assert returned_at() == NOW + HOUR
    assert (len(recorded.refund_ids), recorded.first_fact_at) == (1, {})
    assert not MemberDay.objects.exists()
    again = tell(program, refund("r1", back("a", 3, 900), back("b", 1, 2100), member=""), orders=[guest])
    assert (again.refund_ids, again.repeated) == ([], 2)
    assert_reconciled(program)


def test_the_same_refund_again_has_no_effect(program: Program, order: Order) -> None:
    told = refund("r1", back("a", 2, 600))
    first = tell(program, told)
    again = tell(program, told, told)
    assert (len(first.refund_ids), again.refund_ids, again.repeated) == (1, [], 2)
    assert returned() == [("a", 2, 600), ("b", 0, 0)]
    assert MemberDay.objects.get().refunds_minor == 600


def test_a_refund_id_belongs_to_its_member(program: Program, ada: int, ben: int) -> None:
    recorded = tell(program, *(refund("r1", order="", member=name, amount_minor=5) for name in ("ada", "ben", "")))
    assert len(recorded.refund_ids) == 3


@pytest.mark.parametrize(
    "other",
    [
        refund("r1", back("a", 2, 601)),
        refund("r1", back("a", 1, 600)),
        refund("r1", back("b", 1, 600)),
        refund("r1", back("a", 2, 600), hours=2),
        refund("r1", back("a", 2, 600, order="o1"), order=""),
    ],
)
def test_the_same_refund_id_with_other_content_is_refused(program: Program, order: Order, other: RefundInput) -> None:
    tell(program, refund("r1", back("a", 2, 600)))
    with pytest.raises(FactConflict) as refusal:
        tell(program, refund("r0", back("a", 1, 300)), other)
    assert (refusal.value.kind, refusal.value.external_id) == ("refund", "r1")
    assert Refund.objects.count() == 1
    assert returned() == [("a", 2, 600), ("b", 0, 0)]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (refund("bad", amount_minor=1, order="o9"), "order"),
        (refund("bad", back("a", 1, 1, order="o9")), "lines.0.order"),
        (refund("bad", back("a", 1, 1), back("c", 1, 1)), "lines.1.order_line"),
        (refund("bad", back("a", 1, 1), order=""), "lines.0.order"),
        (refund("bad", back("a", 1, 1), member="ben"), "order"),
        (refund("bad", back("a", 1, 1, order="o1"), member="ben", order=""), "lines.0.order"),
        (refund("bad", back("a", 1, 1), member=""), "order"),
        (refund("bad", back("a", 1, 1), member="eve"), "member"),
        (refund("bad", back("a", 1, 1), hours=-1), "refunded_at"),
        (refund("bad", back("a", 4, 1)), "lines.0.units"),
        (refund("bad", back("a", 2, 1, "1"), back("a", 2, 1, "2")), "lines.1.units"),
        (refund("bad", back("a", 0, 1)), "lines.0.units"),
        (refund("bad", back("a", 1, -1), amount_minor=1), "lines.0.amount_minor"),
        (refund("bad", amount_minor=-1), "amount_minor"),
        (refund("bad", back("a", 1, 1), back("a", 1, 1)), "lines"),
        (refund("bad", back("a", 1, 2), amount_minor=1), "lines"),
        (refund("bad", RefundLineInput(external_id="1", units=1, amount_minor=1)), "lines.0.order_line"),
        (replace(refund("bad", amount_minor=1), currency="EUR", program_amount_minor=1), "currency"),
        (replace(refund("bad", amount_minor=1), currency="EUR"), "currency"),
        (replace(refund("bad", amount_minor=1), refunded_at=datetime(2026, 7, 1)), "refunded_at"),  # noqa: DTZ001
    ],
)
def test_a_bad_refund_is_named_and_nothing_is_written(
    program: Program, order: Order, ben: int, bad: RefundInput, field: str
) -> None:
    with pytest.raises(BadFact) as refusal:
        tell(program, refund("good", back("b", 1, 2100)), bad, orders=[replace(ORDER, external_id="o2")])
    assert (refusal.value.field, refusal.value.external_id) == (field, "bad")
    assert not Refund.objects.exists()
    assert Order.objects.count() == 1
    assert returned() == [("a", 0, 0), ("b", 0, 0)]
    assert MemberDay.objects.get().refunds_minor == 0


def test_the_unit_too_many_may_come_in_a_later_call(program: Program, order: Order) -> None:
    tell(program, refund("r1", back("a", 2, 600)))
    with pytest.raises(BadFact) as refusal:
        tell(program, refund("r2", back("a", 2, 600)))
    assert refusal.value.reason == "2 come back, but only 1 are left"
    assert returned() == [("a", 2, 600), ("b", 0, 0)]


def test_facts_recorded_before_they_were_refused_stay_repeated(program: Program, order: Order, ada: int) -> None:
    """A refund whose lines sum above it, of units without a line, in another currency than its order's."""
    told = [
        refund("r1", back("a", 1, 500), amount_minor=400),
        refund("r2", RefundLineInput(external_id="1", units=1, amount_minor=10)),
        replace(refund("r3", amount_minor=10, program_amount_minor=7), currency="USD"),
    ]
    frame = frame_of(program)
    Refund.objects.bulk_create(
        Refund(
            program=program, member_id=ada, order=order, external_id=one.external_id, refunded_at=one.refunded_at,
            local_date=NOW.date(), currency=one.currency, amount_minor=one.amount_minor,
            program_amount_minor=one.amount_minor, counted_minor=one.amount_minor,
            content_digest=check_refund(one, frame).digest, recorded_at=NOW,
        )
        for one in told
    )  # fmt: skip
    assert tell(program, *told).repeated == 3
    with pytest.raises(FactConflict):
        tell(program, replace(told[0], amount_minor=401))


def test_the_orders_are_locked_before_they_are_read(program: Program, order: Order) -> None:
    with CaptureQueriesContext(connection) as queries:
        tell(program, refund("r1", back("a", 1, 300)))
    statements = [query["sql"] for query in queries]
    lock = next(n for n, sql in enumerate(statements) if "FOR NO KEY UPDATE" in sql)
    assert '"membership_order"' in statements[lock]
    assert "ORDER BY" in statements[lock]
    readers = [n for n, sql in enumerate(statements) if "returned_units" in sql]
    assert readers
    assert lock < min(readers)


def test_the_number_of_statements_does_not_depend_on_the_number_of_refunds(program: Program, order: Order) -> None:
    counts = []
    for size in (1, 100):
        orders = [replace(ORDER, external_id=f"{size}-{n}") for n in range(size)]
        record_facts(program=program, orders=orders, at=NOW)
        refunds = [refund(f"r{o.external_id}", back("a", 1, 300), order=o.external_id) for o in orders]
        with CaptureQueriesContext(connection) as queries:
            tell(program, *refunds)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 13
