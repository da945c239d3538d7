"""Read instants and days as people and programs write them: the one parser for bodies, queries, files and commands.

An instant is one of RFC 3339 with its zone, a day is YYYY-MM-DD. What else ISO 8601 allows (a year alone, digits
without separators, weeks) is refused: it is more often a mistake than meant, and readers differ in what they make of
it.
"""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator

INSTANT_FORM = "an instant of RFC 3339 with its zone, such as 2026-03-01T12:00:00Z"
DAY_FORM = "a day such as 2026-03-01"

_SHOWN_CHARACTERS = 40
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HOUR, _SIXTIETH = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_INSTANT = re.compile(
    rf"{_DAY.pattern}T{_HOUR}:{_SIXTIETH}:{_SIXTIETH}(?:\.[0-9]{{1,32}})?(?:Z|[+-]{_HOUR}:{_SIXTIETH})",
    re.ASCII | re.IGNORECASE,
)


def parse_instant(text: str) -> datetime:
    """Return the instant that a text names, in UTC. Digits below the microsecond are dropped.

    Raises: ValueError with what to write.
    """
    if not _INSTANT.fullmatch(text):
        raise ValueError(f"{_shown(text)} is not {INSTANT_FORM}")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError("write an instant of the years 1 to 9999") from None
    except ValueError as error:
        raise ValueError(f"{_shown(text)} is on no day of the calendar: {error}") from None


def parse_day(text: str) -> date:
    """Return the day that a text names.

    Raises: ValueError with what to write.
    """
    if not _DAY.fullmatch(text):
        raise ValueError(f"{_shown(text)} is not {DAY_FORM}")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{_shown(text)} is no day of the calendar: {error}") from None


def _shown(value: Any) -> str:
    """Return a value that is refused as messages show it: one that is long by its beginning."""
    return repr(value[:_SHOWN_CHARACTERS] if isinstance(value, str) else value)


def _read_instant(value: Any) -> datetime:
    if not isinstance(value, str):  # pydantic would take seconds since 1970 as well
        raise ValueError(f"{_shown(value)} is not {INSTANT_FORM}")  # noqa: TRY004 pydantic wants ValueError
    return parse_instant(value)


def _read_day(value: Any) -> date:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is not {DAY_FORM}")  # noqa: TRY004 pydantic wants ValueError
    return parse_day(value)


Instant = Annotated[AwareDatetime, BeforeValidator(_read_instant)]
Day = Annotated[date, BeforeValidator(_read_day)]
