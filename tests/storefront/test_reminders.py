"""Members are reminded once of points that are about to expire."""

from datetime import date, datetime
from pathlib import Path

import pytest

from core.calendar import day_start
from core.models import OutboxEvent, Program
from points.models import ExpiryReminder
from points.services import reminders
from storefront.services import day_close
from tests.storefront.closing import DAY, MINUTE, Arrival, open_shop, run, tell
from tests.storefront.shop import order

pytestmark = pytest.mark.django_db

MONDAY = date(2026, 6, 1)


def end_of(day: date) -> datetime:
    return day_start(day + DAY, "Europe/London")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return open_shop(tmp_path, joined_at=end_of(MONDAY) - 3 * DAY)


def buy(program: Program, name: str, minor: int, at: datetime) -> None:
    tell(program, [Arrival(at, order(name, (2, minor), at=at))])


def test_members_are_reminded_once_of_points_that_expire_soon(program: Program) -> None:
    buy(program, "o1", 4_000, end_of(MONDAY) - 2 * DAY - MINUTE)
    run(program, [], [end_of(MONDAY + n * DAY) for n in range(3)], until=end_of(MONDAY + 3 * DAY))
    reminder = ExpiryReminder.objects.get()
    # Eight days after the day of the order; six days before that, the day was closed at the end of Monday.
    assert (reminder.expires_at, reminder.points) == (end_of(MONDAY + 6 * DAY), 40)
    told = OutboxEvent.objects.get(topic="points.expiring")
    assert told.payload == {"reminders": [reminder.pk]}
    through = end_of(MONDAY)
    assert reminders.remind(program=program, through=through, at=through) == 0


def test_nobody_is_reminded_of_what_has_expired_meanwhile(program: Program) -> None:
    buy(program, "o1", 4_000, end_of(MONDAY) - 2 * DAY - MINUTE)
    expires_at = end_of(MONDAY + 6 * DAY)
    assert reminders.remind(program=program, through=end_of(MONDAY), at=expires_at) == 0
    assert not ExpiryReminder.objects.exists()


def test_pending_points_are_not_reminded_of(program: Program) -> None:
    at = end_of(MONDAY) - MINUTE
    buy(program, "o1", 4_000, at)
    # As if points lived for two days: they expire soon and cannot be used yet.
    assert reminders.remind(program=program, through=end_of(MONDAY + 3 * DAY), at=at) == 0


def test_large_sets_are_told_in_parts(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reminders, "REMINDERS_PER_EVENT", 2)
    at = end_of(MONDAY) - 2 * DAY - MINUTE
    tell(program, [Arrival(at, order(f"o{n}", (1, 4_000), at=at, member=f"m{n}")) for n in range(5)])
    day_close.close_day(program=program, day=MONDAY, at=end_of(MONDAY))
    told = OutboxEvent.objects.filter(topic="points.expiring").order_by("pk")
    parts = [event.payload["reminders"] for event in told]
    assert [len(part) for part in parts] == [2, 2, 1]
    assert sorted(pk for part in parts for pk in part) == sorted(ExpiryReminder.objects.values_list("pk", flat=True))
