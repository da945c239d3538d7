"""Windows and schedules of a ladder: which days a requirement looks at, and at which instants everyone is evaluated."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from core.calendar import add_months, day_start, local_date, period_start
from membership.definitions import Evaluation, Requirement, RollingWindow, Window

ONE_DAY = timedelta(days=1)


def window_name(window: Window) -> str:
    """Return the window's name in evidence: `rolling_365`, `year`, `lifetime`."""
    if window == "lifetime":
        return window
    return f"rolling_{window.rolling_days}" if isinstance(window, RollingWindow) else window.calendar


def requirement_name(requirement: Requirement) -> str:
    """Return the key of a requirement's value in evidence, such as `net_spend:rolling_365`."""
    return f"{requirement.metric}:{window_name(requirement.window)}"


def window_start(window: Window, last_day: date) -> date:
    """Return the first day of the window that ends with a day. A lifetime begins with the first day there is."""
    if window == "lifetime":
        return date.min
    if isinstance(window, RollingWindow):
        return last_day - (window.rolling_days - 1) * ONE_DAY
    return period_start(last_day, window.calendar)


def iter_evaluations(evaluation: Evaluation, *, after: datetime, until: datetime, zone: str) -> Iterator[datetime]:
    """Yield the scheduled instants in (after, until]. Two days that begin at the same instant share one."""
    last = after
    for day in _iter_days(evaluation, local_date(after, zone)):
        instant = day_start(day, zone)
        if instant > until:
            return
        if instant > last:
            yield instant
            last = instant


def _iter_days(evaluation: Evaluation, first: date) -> Iterator[date]:
    """Yield the scheduled days without end, from one that is not after `first`."""
    month, day = map(int, evaluation.on.split("-"))
    for step in range(1_000_000):
        if evaluation.every == "day":
            yield first + step * ONE_DAY
        elif evaluation.every == "month":
            yield add_months(first, step)
        else:
            yield date(first.year - 1 + step, month, day)


def days_later(instant: datetime, days: int, zone: str) -> datetime:
    """Return the start of the local day that many days after the instant's."""
    return day_start(local_date(instant, zone) + days * ONE_DAY, zone)
