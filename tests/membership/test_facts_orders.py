from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import OutboxEvent, Program
from membership.models import MemberDay, Order, OrderKey, OrderLine
from membership.services.facts import BadFact, FactConflict, OrderInput, OrderLineInput, record_facts
from membership.services.members import MemberInput, enroll_members
from membership.services.rebuild import find_day_mismatches

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)

SOCKS = OrderLineInput(external_id="a", units=3, amount_minor=900, sku="SOCK", category="socks", discount_minor=100)
HAT = OrderLineInput(external_id="b", units=1, amount_minor=2100)
ORDER = OrderInput(
    external_id="o1", member="ada", paid_at=NOW, currency="GBP", amount_minor=3000, market="uk", country="GB",
    channel="web", device="phone", lines=(SOCKS, HAT),
)  # fmt: skip


def assert_nothing_recorded() -> None:
    for model in (Order, OrderKey, OrderLine, MemberDay):
        assert not model.objects.exists()
    assert not OutboxEvent.objects.filter(topic="membership.facts_recorded").exists()
    assert Program.objects.get().opened_at is None


def test_keeps_an_order_as_told(program: Program, ada: int) -> None:
    recorded = record_facts(program=program, orders=[ORDER], at=NOW)
    order = Order.objects.get()
    assert recorded.order_ids == [order.pk]
    assert (recorded.repeated, recorded.first_fact_at) == (0, {ada: NOW})
    assert OrderKey.objects.get().order_id == order.pk
    assert (order.member_id, order.paid_at, order.local_date) == (ada, NOW, date(2026, 6, 15))
    assert (order.currency, order.amount_minor, order.program_amount_minor) == ("GBP", 3000, 3000)
    assert (order.market, order.country, order.channel, order.device) == ("uk", "GB", "web", "phone")
    assert (order.recorded_at, order.returned_at) == (NOW, None)
    lines = order.lines.values_list(
        "member_id", "external_id", "position", "sku", "category", "units", "amount_minor", "program_amount_minor",
        "discount_minor", "paid_in_points_minor", "program_paid_in_points_minor", "returned_units",
    )  # fmt: skip
    assert list(lines) == [
        (ada, "a", 1, "SOCK", "socks", 3, 900, 900, 100, 0, 0, 0),
        (ada, "b", 2, "", "", 1, 2100, 2100, 0, 0, 0, 0),
    ]


def test_keeps_what_of_a_line_was_paid_in_points_and_its_share_of_the_program_amount(
    program: Program, ada: int
) -> None:
    in_points = replace(ORDER, lines=(replace(SOCKS, paid_in_points_minor=900), replace(HAT, paid_in_points_minor=700)))
    foreign = replace(in_points, external_id="f", currency="USD", program_amount_minor=2401)
    record_facts(program=program, orders=[in_points, foreign], at=NOW)
    lines = OrderLine.objects.order_by("order__external_id", "position")
    assert list(lines.values_list("program_amount_minor", "paid_in_points_minor", "program_paid_in_points_minor")) == [
        *((720, 900, 720), (1681, 700, 560)),
        *((900, 900, 900), (2100, 700, 700)),
    ]
    assert sum(day.spend_minor for day in MemberDay.objects.all()) == 3000 + 2401


def test_what_was_paid_in_points_is_part_of_an_orders_content(program: Program, ada: int) -> None:
    record_facts(program=program, orders=[ORDER], at=NOW)
    with pytest.raises(FactConflict):
        record_facts(
            program=program, orders=[replace(ORDER, lines=(replace(SOCKS, paid_in_points_minor=1), HAT))], at=NOW
        )
    assert OrderLine.objects.filter(paid_in_points_minor__gt=0).count() == 0


def test_texts_come_back_exactly(program: Program, ada: int) -> None:
    odd, name = 'a,"b"\r\nc\td\\N \\. 靴下', 'a,"b" d\\N \\. 靴下'
    line = OrderLineInput(external_id=name, units=1, amount_minor=1, sku=odd)
    record_facts(program=program, orders=[replace(ORDER, external_id=name, channel="\\N", lines=(line,))], at=NOW)
    order = Order.objects.get()
    assert (order.external_id, order.channel, order.lines.get().external_id, order.lines.get().sku) == (
        *(name, "\\N", name, odd),
    )


def test_an_order_without_lines_is_one_line(program: Program, ada: int) -> None:
    record_facts(program=program, orders=[replace(ORDER, lines=())], at=NOW)
    line = OrderLine.objects.get()
    assert (line.external_id, line.units, line.amount_minor, line.program_amount_minor) == ("1", 1, 3000, 3000)


def test_a_zero_amount_order_is_an_order(program: Program, ada: int) -> None:
    record_facts(program=program, orders=[replace(ORDER, amount_minor=0, lines=())], at=NOW)
    day = MemberDay.objects.get()
    assert (day.orders, day.spend_minor) == (1, 0)


def test_a_guest_order_is_kept_and_counts_for_nobody(program: Program) -> None:
    recorded = record_facts(program=program, orders=[replace(ORDER, member="")], at=NOW)
    assert Order.objects.get().member_id is None
    assert recorded.order_ids
    assert recorded.first_fact_at == {}
    assert not MemberDay.objects.exists()
    told = OutboxEvent.objects.get(topic="membership.facts_recorded").payload
    assert (told["members"], told["orders"]) == ({}, recorded.order_ids)


def test_the_day_is_the_programs_local_day(make_program: Callable[..., Program]) -> None:
    program = make_program(time_zone="Pacific/Auckland")
    enroll_members(program=program, members=[MemberInput(external_id="ada", joined_at=NOW)], at=NOW)
    record_facts(program=program, orders=[ORDER], at=NOW)  # noon UTC is midnight in Auckland
    record_facts(
        program=program,
        orders=[replace(ORDER, external_id="o2", paid_at=NOW - timedelta(microseconds=1))],
        at=NOW,
    )
    assert list(Order.objects.order_by("external_id").values_list("local_date", flat=True)) == [
        date(2026, 6, 16),
        date(2026, 6, 15),
    ]
    assert list(MemberDay.objects.order_by("day").values_list("day", "orders")) == [
        (date(2026, 6, 15), 1),
        (date(2026, 6, 16), 1),
    ]


def test_days_add_up_over_calls_and_equal_the_facts(program: Program, ada: int, ben: int) -> None:
    orders = [
        replace(ORDER, external_id=f"o{n}", member=("ada", "ben", "")[n % 3], paid_at=NOW + timedelta(hours=7 * n))
        for n in range(20)
    ]
    for start in (0, 1, 5):
        record_facts(program=program, orders=orders[start::6], at=NOW)
    record_facts(program=program, orders=orders, at=NOW)
    assert find_day_mismatches(program) == []
    assert sum(MemberDay.objects.values_list("orders", flat=True)) == 14  # 20, of which 6 by guests
    MemberDay.objects.filter(member_id=ben).update(spend_minor=1)
    assert {mismatch.member_id for mismatch in find_day_mismatches(program)} == {ben}


def test_the_same_order_again_has_no_effect(program: Program, ada: int) -> None:
    record_facts(program=program, orders=[ORDER], at=NOW)
    events = OutboxEvent.objects.count()
    later = NOW + timedelta(days=1)
    same = replace(ORDER, paid_at=NOW.astimezone(), program_amount_minor=3000)
    again = record_facts(program=program, orders=[same, same], at=later)
    assert (again.order_ids, again.repeated, again.first_fact_at) == ([], 2, {})
    assert (Order.objects.count(), OrderLine.objects.count(), OutboxEvent.objects.count()) == (1, 2, events)
    assert MemberDay.objects.get().orders == 1


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, amount_minor=3001),
        replace(ORDER, member=""),
        replace(ORDER, paid_at=NOW + timedelta(microseconds=1)),
        replace(ORDER, channel="app"),
        replace(ORDER, lines=(HAT, SOCKS)),
        replace(ORDER, lines=(SOCKS, replace(HAT, sku="HAT"))),
    ],
)
def test_the_same_id_with_other_content_is_refused(program: Program, ada: int, other: OrderInput) -> None:
    record_facts(program=program, orders=[ORDER], at=NOW)
    with pytest.raises(FactConflict) as refusal:
        record_facts(program=program, orders=[replace(ORDER, external_id="o0"), other], at=NOW)
    assert (refusal.value.kind, refusal.value.external_id) == ("order", "o1")
    assert Order.objects.get().external_id == "o1"
    assert MemberDay.objects.get().orders == 1


def test_one_id_with_two_contents_in_one_call_is_refused(program: Program, ada: int) -> None:
    with pytest.raises(FactConflict):
        record_facts(program=program, orders=[ORDER, replace(ORDER, device="")], at=NOW)
    assert_nothing_recorded()


def test_the_same_id_in_another_program_is_another_order(
    program: Program, ada: int, make_program: Callable[..., Program]
) -> None:
    record_facts(program=program, orders=[ORDER], at=NOW)
    other = make_program(code="other")
    recorded = record_facts(program=other, orders=[replace(ORDER, member="")], at=NOW)
    assert len(recorded.order_ids) == 1


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (replace(ORDER, external_id=""), "external_id"),
        (replace(ORDER, paid_at=datetime(9999, 12, 31, 23, tzinfo=UTC)), "paid_at"),
        (replace(ORDER, paid_at=datetime(1, 1, 1, tzinfo=UTC)), "paid_at"),
        (replace(ORDER, external_id="x" * 201), "external_id"),
        (replace(ORDER, external_id="x\0"), "external_id"),
        (replace(ORDER, external_id="x\ud800"), "external_id"),
        (replace(ORDER, member="eve"), "member"),
        (replace(ORDER, paid_at=NOW.replace(tzinfo=None)), "paid_at"),
        (replace(ORDER, currency="USD"), "currency"),
        (replace(ORDER, currency="pounds"), "currency"),
        (replace(ORDER, amount_minor=-1), "amount_minor"),
        (replace(ORDER, amount_minor=2**53), "amount_minor"),
        (replace(ORDER, program_amount_minor=2999), "program_amount_minor"),
        (replace(ORDER, currency="USD", program_amount_minor=-1), "program_amount_minor"),
        (replace(ORDER, lines=(SOCKS, replace(HAT, units=0))), "lines.1.units"),
        (replace(ORDER, lines=(replace(SOCKS, amount_minor=-1), HAT)), "lines.0.amount_minor"),
        (replace(ORDER, lines=(replace(SOCKS, discount_minor=-1), HAT)), "lines.0.discount_minor"),
        (replace(ORDER, lines=(replace(SOCKS, paid_in_points_minor=-1), HAT)), "lines.0.paid_in_points_minor"),
        (replace(ORDER, lines=(replace(SOCKS, paid_in_points_minor=901), HAT)), "lines.0.paid_in_points_minor"),
        (replace(ORDER, lines=(SOCKS, HAT, SOCKS)), "lines"),
        (
            replace(ORDER, currency="USD", program_amount_minor=5, lines=(replace(SOCKS, program_amount_minor=1), HAT)),
            "lines",
        ),
    ],
)
def test_a_bad_order_is_named_and_nothing_is_written(program: Program, ada: int, bad: OrderInput, field: str) -> None:
    good = replace(ORDER, external_id="good")
    with pytest.raises(BadFact) as refusal:
        record_facts(program=program, orders=[good, bad], at=NOW)
    assert (refusal.value.field, refusal.value.external_id) == (field, bad.external_id)
    assert_nothing_recorded()


def test_another_currency_counts_by_the_program_amount_told(program: Program, ada: int) -> None:
    foreign = replace(ORDER, currency="USD", program_amount_minor=2401)
    record_facts(program=program, orders=[foreign], at=NOW)
    assert MemberDay.objects.get().spend_minor == 2401
    # 2401 split by 900 : 2100 is 720.3 : 1680.7
    assert list(OrderLine.objects.order_by("position").values_list("amount_minor", "program_amount_minor")) == [
        (900, 720),
        (2100, 1681),
    ]


def test_the_first_fact_opens_the_program(program: Program, ada: int) -> None:
    record_facts(program=program, orders=[ORDER], at=NOW)
    record_facts(program=program, orders=[replace(ORDER, external_id="o2")], at=NOW + timedelta(days=1))
    program.refresh_from_db()
    assert program.opened_at == NOW


def test_one_event_tells_the_members_by_month(program: Program, ada: int, ben: int) -> None:
    orders = [
        ORDER,
        replace(ORDER, external_id="o2", member="ben"),
        replace(ORDER, external_id="o3", paid_at=datetime(2026, 6, 30, 23, tzinfo=UTC)),  # July in London
    ]
    recorded = record_facts(program=program, orders=orders, at=NOW)
    event = OutboxEvent.objects.get(topic="membership.facts_recorded")
    assert (event.program_id, event.recorded_at) == (program.pk, NOW)
    assert event.payload == {
        "members": {"2026-06-01": [ada, ben], "2026-07-01": [ada]},
        "orders": recorded.order_ids, "edits": [], "refunds": [], "activities": [],
    }  # fmt: skip


def test_nothing_told_is_nothing_done(program: Program) -> None:
    assert record_facts(program=program, at=NOW).order_ids == []
    assert_nothing_recorded()


def test_the_number_of_statements_does_not_depend_on_the_number_of_orders(program: Program, ada: int) -> None:
    counts = []
    for size in (1, 200):
        orders = [replace(ORDER, external_id=f"{size}-{n}") for n in range(size)]
        with CaptureQueriesContext(connection) as queries:
            record_facts(program=program, orders=orders, at=NOW)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 10


def test_days_are_written_after_all_else_and_in_order(program: Program, ada: int, ben: int) -> None:
    orders = [replace(ORDER, external_id=f"o{n}", member=name) for n, name in enumerate(("ben", "ada"))]
    with CaptureQueriesContext(connection) as queries:
        record_facts(program=program, orders=orders, at=NOW)
    writes = [q["sql"].split()[2] for q in queries if q["sql"].lstrip().startswith("INSERT")]
    assert writes == ["membership_orderkey", "membership_memberday", "core_outboxevent"]
    days = next(q["sql"] for q in queries if "membership_memberday" in q["sql"])
    assert f"ARRAY[{ada},{ben}]" in days
