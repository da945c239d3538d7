"""Corrections by two connections at once: they come one by one, and no intake deadlocks with them."""

from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from core.models import Program
from membership import locks
from membership.fact_inputs import BadFact, MemberInput
from membership.models import Activity, FactCorrection, MemberDay
from membership.services.fact_corrections import ActivityCorrection, correct_activity
from membership.services.facts import record_facts
from membership.services.members import enroll_members
from membership.services.order_corrections import OrderCorrection, correct_order
from membership.services.rebuild import find_day_mismatches
from tests.membership.two_connections import overlap
from tests.storefront.shop import DAY, NOW, START, order, review

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def program() -> Program:
    program = Program.objects.create(code="shop", name="Shop", currency="GBP", time_zone="Europe/London")
    enroll_members(program=program, members=[MemberInput(external_id="m0", joined_at=START)], at=NOW)
    record_facts(program=program, activities=[review("a1")], at=NOW)
    return program


def amend(program: Program, name: str, **right: Any) -> bool:
    correction = ActivityCorrection(member="m0", activity="a1", external_id=name, reason="wrong", **right)
    return correct_activity(program=program, correction=correction, decided_by="ann", at=NOW)


def test_the_activity_is_locked_before_its_corrections_are_read(program: Program) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        amend(program, "c1", kind="visit")
    told = [query["sql"] for query in queries]
    locked = next(n for n, sql in enumerate(told) if "FOR NO KEY UPDATE" in sql and "membership_activity" in sql)
    read = next(n for n, sql in enumerate(told) if sql.startswith("SELECT") and "membership_factcorrection" in sql)
    days = next(n for n, sql in enumerate(told) if "INSERT INTO membership_memberday" in sql)
    member = next(n for n, sql in enumerate(told) if "FROM membership_member WHERE" in sql and "FOR NO KEY" in sql)
    assert locked < read < days < member


def test_two_corrections_at_once_come_one_by_one(program: Program) -> None:
    assert overlap(lambda: amend(program, "c1", kind="visit"), lambda: amend(program, "c2", occurred_at=START + DAY))
    rows = FactCorrection.objects.order_by("number")
    assert [(row.number, row.external_id) for row in rows] == [(1, "c1"), (2, "c2")]
    assert rows[1].before == rows[0].after
    activity = Activity.objects.get()
    assert (activity.kind, activity.occurred_at) == ("visit", START + DAY)
    assert list(MemberDay.objects.values_list("activities", flat=True)) == [1]
    assert find_day_mismatches(program) == []


def test_the_same_correction_at_once_has_one_effect(program: Program) -> None:
    assert overlap(lambda: amend(program, "c1", is_void=True), lambda: amend(program, "c1", is_void=True))
    assert FactCorrection.objects.count() == 1
    assert find_day_mismatches(program) == []


def test_of_two_that_make_it_void_at_once_the_second_is_refused(program: Program) -> None:
    with pytest.raises(BadFact, match="is void"):
        overlap(lambda: amend(program, "c1", is_void=True), lambda: amend(program, "c2", is_void=True))
    assert FactCorrection.objects.count() == 1
    assert not MemberDay.objects.exists()


def test_control_without_the_lock_both_want_to_be_the_first(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "lock_activity", lambda pk: Activity.objects.get(pk=pk))
    with pytest.raises(IntegrityError, match="factcorrection_number"):
        overlap(lambda: amend(program, "c1", kind="visit"), lambda: amend(program, "c2", kind="share"))


def test_an_intake_beside_a_correction_waits_and_both_count(program: Program) -> None:
    more = review("a2", at=START)
    assert overlap(
        lambda: amend(program, "c1", kind="visit"), lambda: record_facts(program=program, activities=[more], at=NOW)
    )
    assert list(MemberDay.objects.values_list("activities", flat=True)) == [2]
    assert find_day_mismatches(program) == []


def test_two_corrections_of_an_order_at_once_come_one_by_one(program: Program) -> None:
    record_facts(program=program, orders=[order("o1", (1, 1_000))], at=NOW)

    def right(name: str, **told: Any) -> bool:
        correction = OrderCorrection(order="o1", external_id=name, reason="wrong", **told)
        return correct_order(program=program, correction=correction, decided_by="ann", at=NOW)

    assert overlap(lambda: right("c1", amount_minor=1_500), lambda: right("c2", paid_at=START - DAY))
    rows = FactCorrection.objects.order_by("number")
    assert [(row.number, row.external_id) for row in rows] == [(1, "c1"), (2, "c2")]
    assert rows[1].before == rows[0].after
    assert MemberDay.objects.get(orders=1).spend_minor == 1_500
    assert find_day_mismatches(program) == []
