"""The events feed: numbers without a gap in the order of commits, deliveries for those who asked, what is kept."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from core import locks
from core.event_types import EventType
from core.models import Event, EventFeed, Program, WebhookDelivery, WebhookEndpoint
from core.services import feed
from core.services.feed import EventsAhead, EventsGone, News
from tests.core.conftest import NOW
from tests.membership.two_connections import overlap


def news(*names: str, kind: EventType = EventType.MEMBER_UPDATED) -> list[News]:
    return [News(kind, name, {"member": name}, NOW) for name in names]


def announce(program: Program, *names: str, kind: EventType = EventType.MEMBER_UPDATED) -> None:
    feed.announce(program_id=program.pk, news=news(*names, kind=kind), at=NOW)


def endpoint(program: Program, **told: Any) -> WebhookEndpoint:
    values = {"url": "https://shop.example/hook", "secret": "whsec_", "created_at": NOW} | told
    return WebhookEndpoint.objects.create(program=program, **values)


def make_program(code: str = "aurora") -> Program:
    return Program.objects.create(code=code, name=code, currency="GBP", time_zone="UTC")


def test_numbers_follow_each_other_in_the_order_told_and_by_program(program: Program) -> None:
    other = make_program("borealis")
    announce(program, "a", "b")
    announce(other, "x")
    announce(program, "c")
    announce(program)
    assert list(Event.objects.filter(program=program).values_list("number", "subject")) == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
    ]
    assert list(Event.objects.filter(program=other).values_list("number", "subject")) == [(1, "x")]
    assert dict(EventFeed.objects.values_list("program", "last_number")) == {program.pk: 3, other.pk: 1}


def test_what_is_rolled_back_leaves_no_gap(program: Program) -> None:
    with transaction.atomic():
        announce(program, "gone")
        transaction.set_rollback(True)
    announce(program, "a")
    assert list(Event.objects.values_list("number", "subject")) == [(1, "a")]


def test_the_number_of_statements_does_not_depend_on_the_number_of_events(program: Program) -> None:
    endpoint(program)
    announce(program, "first")
    counts = []
    for size in (1, 1_000):
        with CaptureQueriesContext(connection) as queries:
            announce(program, *(f"{size}-{n}" for n in range(size)))
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 6
    assert WebhookDelivery.objects.count() == 1_002


def test_deliveries_are_made_for_enabled_endpoints_of_the_program_that_want_the_type(program: Program) -> None:
    everything = endpoint(program)
    orders = endpoint(program, event_types=["order.paid", "order.edited"])
    endpoint(program, disabled_at=NOW)
    endpoint(make_program("borealis"))
    announce(program, "a", kind=EventType.ORDER_PAID)
    announce(program, "b", kind=EventType.MEMBER_ENROLLED)
    made = WebhookDelivery.objects.order_by("id").values_list(
        "endpoint", "event__subject", "next_attempt_at", "attempts"
    )
    assert list(made) == [(everything.pk, "a", NOW, 0), (orders.pk, "a", NOW, 0), (everything.pk, "b", NOW, 0)]


def test_the_feed_is_locked_before_its_number_is_read(program: Program) -> None:
    announce(program, "first")
    with CaptureQueriesContext(connection) as queries:
        announce(program, "a")
    lock, *rest = (q["sql"] for q in queries if not q["sql"].startswith(("SAVEPOINT", "RELEASE")))
    assert '"core_eventfeed"' in lock
    assert lock.endswith("FOR NO KEY UPDATE")
    assert not any(sql.startswith("SELECT") and "core_eventfeed" in sql for sql in rest)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_first", [True, False])
def test_who_announces_waits_for_who_announces(is_first: bool) -> None:
    """Also when the feed has no row yet. A reader never sees a number before the one below it."""
    program = make_program()
    if not is_first:
        announce(program, "first")
    assert overlap(lambda: announce(program, "a"), lambda: announce(program, "b"))
    told = list(Event.objects.order_by("number").values_list("subject", flat=True))
    assert told[-2:] == ["a", "b"]
    assert list(Event.objects.order_by("number").values_list("number", flat=True)) == list(range(1, len(told) + 1))


@pytest.mark.django_db(transaction=True)
def test_control_without_the_lock_two_events_want_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program()
    announce(program, "first")
    monkeypatch.setattr(locks, "lock_feed", lambda program_id: EventFeed.objects.get(pk=program_id))
    with pytest.raises(IntegrityError, match="event_number"):
        overlap(lambda: announce(program, "a"), lambda: announce(program, "b"))


def read(program: Program, after: int | None, **told: Any) -> tuple[list[int], int]:
    events, next_after = feed.list_events(program_id=program.pk, after=after, **({"limit": 3} | told))
    return [event.number for event in events], next_after


def test_a_reader_goes_on_after_what_it_has_seen(program: Program) -> None:
    announce(program, *"abcde")
    announce(make_program("borealis"), "x")
    assert read(program, None) == ([1, 2, 3], 3)
    assert read(program, 0) == ([1, 2, 3], 3)
    assert read(program, 3) == ([4, 5], 5)
    assert read(program, 5) == ([], 5)


def test_a_reader_that_filters_skips_what_it_does_not_want(program: Program) -> None:
    announce(program, "a", "b", "a")
    announce(program, "a", kind=EventType.ORDER_PAID)
    assert read(program, 0, subject="a") == ([1, 3, 4], 4)
    assert read(program, 0, subject="b") == ([2], 4)
    assert read(program, 1, type_="order.paid") == ([4], 4)
    assert read(program, 4, type_="order.paid") == ([], 4)


def test_a_feed_without_events_is_at_zero(program: Program) -> None:
    assert read(program, None) == read(program, 0) == ([], 0)


def test_what_is_no_longer_kept_is_gone_and_said_to_be(program: Program) -> None:
    announce(program, *"abcde")
    Event.objects.filter(number__lte=3).delete()
    for after in (0, 2):
        with pytest.raises(EventsGone) as gone:
            read(program, after)
        assert gone.value.first_kept == 4
    assert read(program, 3) == read(program, None) == ([4, 5], 5)


def test_a_feed_of_which_nothing_is_kept_remembers_its_number(program: Program) -> None:
    announce(program, *"abc")
    Event.objects.all().delete()
    with pytest.raises(EventsGone) as gone:
        read(program, 2)
    assert gone.value.first_kept == 4
    assert read(program, 3) == read(program, None) == ([], 3)
    announce(program, "d")
    assert read(program, 3) == ([4], 4)


def test_what_goes_while_it_is_read_is_not_passed_over(program: Program) -> None:
    """The clean-up removes the old end after the first of the reader's statements, or the second, and so on."""
    announce(program, *"abcde")
    for place in range(1, 4):
        statements = 0

        def clean_up_before(execute: Any, sql: str, params: Any, many: bool, context: Any, place: int = place) -> Any:
            nonlocal statements
            statements += 1
            if statements == place:
                with connection.cursor() as cursor:
                    cursor.execute("DELETE FROM core_event WHERE number <= 3")
            return execute(sql, params, many, context)

        with transaction.atomic():
            with connection.execute_wrapper(clean_up_before):
                try:
                    numbers, _ = read(program, 0)
                except EventsGone:
                    numbers = []
            assert numbers in ([], [1, 2, 3]), place
            assert not Event.objects.filter(number=1).exists()
            transaction.set_rollback(True)


def test_a_number_that_the_feed_has_not_reached_is_refused(program: Program) -> None:
    announce(program, "a")
    with pytest.raises(EventsAhead) as ahead:
        read(program, 2)
    assert ahead.value.last_number == 1


def test_an_event_is_shown_with_zone_and_without_internal_ids(program: Program) -> None:
    announce(program, "a")
    feed.announce(program_id=program.pk, news=[News(EventType.ORDER_PAID, "", {}, NOW - timedelta(seconds=1))], at=NOW)
    shown = [feed.show(event) for event in Event.objects.order_by("number")]
    assert shown[0] == {
        "id": str(Event.objects.get(number=1).public_id),
        "number": 1,
        "type": "member.updated",
        "timestamp": "2026-03-01T09:30:00Z",
        "recorded_at": "2026-03-01T09:30:00Z",
        "subject": "a",
        "data": {"member": "a"},
    }
    assert (shown[1]["subject"], shown[1]["timestamp"]) == (None, "2026-03-01T09:29:59Z")
