"""Local time: the only place where instants become business days and days become instants.

SQL never converts time zones; it receives days and boundaries computed here, so that one time zone
database decides everywhere.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

Period = Literal["month", "quarter", "half", "year"]
MONTHS_IN: dict[Period, int] = {"month": 1, "quarter": 3, "half": 6, "year": 12}

# An immediate tier move takes effect one tick after the fact that caused it, so the fact itself
# still sees the tier held before it. One microsecond is PostgreSQL's resolution.
TICK = timedelta(microseconds=1)

# How far the clock of whoever tells us something may be from ours.
CLOCK_TOLERANCE = timedelta(minutes=5)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local_date(at: datetime, zone: str) -> date:
    """Return the business day that contains the instant.

    Where the clock goes back over midnight, the day that has begun stays: no day begins twice.
    """
    day = at.astimezone(_zone(zone)).date()
    following = day + timedelta(days=1)
    return following if day_start(following, zone) <= at else day


@lru_cache(maxsize=16384)
def day_start(day: date, zone: str) -> datetime:
    """Return the first existing instant of a local day, in UTC.

    A midnight that occurs twice counts from its first occurrence; where the clock jumps over midnight the
    day begins at the jump.
    """
    tz = _zone(zone)
    midnight = datetime(day.year, day.month, day.day, tzinfo=tz)
    start = midnight.astimezone(UTC)
    if start.astimezone(tz).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return start
    # Midnight does not exist: find the jump, to the second, between the last instant of the day before and `start`.
    low, high = start - timedelta(hours=26), start
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(tz).date() < day:
            low = middle
        else:
            high = middle
    return high


def next_day_start(at: datetime, zone: str) -> datetime:
    """Return the first instant after the given one at which a local day begins."""
    day = local_date(at, zone)
    while day_start(day, zone) <= at:
        day += timedelta(days=1)
    return day_start(day, zone)


def last_begun_day(at: datetime, zone: str) -> date:
    """Return the last local day that began before the instant: at 00:00 that is the day before."""
    day = local_date(at, zone)
    # More than once where the day before was skipped: it has the same first instant, so it never began before.
    while day_start(day, zone) >= at:
        day -= timedelta(days=1)
    return day


def period_start(day: date, period: Period) -> date:
    """Return the first day of the calendar period that contains the day."""
    length = MONTHS_IN[period]
    return date(day.year, (day.month - 1) // length * length + 1, 1)


def add_months(month: date, count: int) -> date:
    """Return the first day of the month `count` months after the month that contains `month`."""
    index = month.year * 12 + month.month - 1 + count
    return date(index // 12, index % 12 + 1, 1)


def next_period_start(day: date, period: Period) -> date:
    """Return the first day of the calendar period after the one that contains the day."""
    return add_months(period_start(day, period), MONTHS_IN[period])
