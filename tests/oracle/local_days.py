"""Local days from the standard library alone, so that the oracles share no time arithmetic with the project."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)


@cache
def day_start(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant, in UTC, at which the zone's clocks show the day (or a later one, if it was skipped)."""
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - the wall clock, before any zone
    # fold=0 is the first of two midnights. In a gap it reads the clock as it ran before the gap: after the jump.
    first = midnight.replace(tzinfo=zone).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == midnight:
        return first
    # Midnight was skipped: fold=1 reads it with the offset after the gap, an instant before the jump. The jump is
    # the first second between the two that shows the new day.
    before, after = midnight.replace(tzinfo=zone, fold=1).astimezone(UTC), first
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(zone).date() < day:
            before = middle
        else:
            after = middle
    return after


def local_day(at: datetime, zone: ZoneInfo) -> date:
    """Return the last local day that began at or before the instant.

    A clock set back over midnight shows the old date a second time; the new day, once begun, goes on.
    """
    day = at.astimezone(zone).date()
    return day + ONE_DAY if day_start(day + ONE_DAY, zone) <= at else day


def day_before(at: datetime, zone: ZoneInfo) -> date:
    """Return the last local day that began strictly before the instant: at 00:00, the day that just ended."""
    day = local_day(at, zone)
    while day_start(day, zone) >= at:
        day -= ONE_DAY
    return day


def add_months(month: date, count: int) -> date:
    """Return the first day of the month `count` months after the month that holds `month`."""
    index = month.year * 12 + month.month - 1 + count
    return date(index // 12, index % 12 + 1, 1)
