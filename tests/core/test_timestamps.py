"""Instants and days are read in one form: what else looks like one is refused, and says what to write."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from core.timestamps import Day, Instant, parse_day, parse_instant

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

NO_INSTANTS = [
    "", " ", "2026", "20260301", "1772366400", "-1", "2026-03-01", "2026-03-01T12:00:00", "2026-03-01T12:00Z",
    "2026-03-01T12Z", "2026-03-01 12:00:00Z", "20260301T120000Z", "2026-03-01T120000Z", "2026-060T12:00:00Z",
    "2026-W09-7T12:00:00Z", "2026-3-1T12:00:00Z", "26-03-01T12:00:00Z", "+2026-03-01T12:00:00Z",
    "2026-03-01T12:00:00+0100", "2026-03-01T12:00:00+01", "2026-03-01T12:00:00 Z", "2026-03-01T12:00:00Z ",
    "2026-03-01T12:00:00Z\n", "2026-03-01T12:00:00,5Z", "2026-03-01T12:00:00.Z", "2026-03-01T24:00:00Z",
    "2026-03-01T12:60:00Z", "2026-03-01T23:59:60Z", "2026-03-01T12:00:00+24:00", "2026-03-01T12:00:00+01:60",
    "2026-03-01T12:00:00[Europe/London]", "2026-03-01T12:00:00GMT", "yesterday", "now", "infinity",
    "２０２６-03-01T12:00:00Z", "9999999999999999999999", "2026-03-01T12:00:00Z\0", "1e9", "2026-03-01T12:00:00.5",
]  # fmt: skip
NO_DAYS = [
    "", "2026", "20260301", "1772366400", "2026-03", "2026-3-1", "2026-060", "2026-W09-7", "2026-03-01T00:00:00Z",
    "2026-03-01 ", " 2026-03-01", "2026/03/01", "01.03.2026", "２０２６-03-01", "yesterday", "-2026-03-01",
]  # fmt: skip
NO_TEXTS: list[Any] = [None, 2026, 1772366400, 1772366400.5, True, [], {}, NOON]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01t12:00:00z", NOON),
        ("2026-03-01T13:00:00+01:00", NOON),
        ("2026-03-01T00:30:00-11:30", NOON),
        ("2026-03-01T12:00:00-00:00", NOON),
        ("2026-03-01T12:00:00.5Z", NOON.replace(microsecond=500_000)),
        ("2026-03-01T12:00:00.123456789Z", NOON.replace(microsecond=123_456)),
        ("2024-02-29T12:00:00Z", NOON.replace(2024, 2, 29)),
    ],
)
def test_an_instant_is_read_in_utc(text: str, expected: datetime) -> None:
    for read in (parse_instant(text), TypeAdapter(Instant).validate_python(text)):
        assert (read, read.tzinfo) == (expected, UTC)


@pytest.mark.parametrize("text", NO_INSTANTS)
def test_what_is_no_instant_of_rfc_3339_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="is not an instant of RFC 3339 with its zone, such as 2026-03-01T12:00:00Z"):
        parse_instant(text)


@pytest.mark.parametrize("text", NO_DAYS)
def test_what_is_no_day_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="is not a day such as 2026-03-01"):
        parse_day(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-02-30", "'2026-02-30' is no day of the calendar"),
        ("2026-02-30T12:00:00Z", "'2026-02-30T12:00:00Z' is on no day of the calendar"),
        ("0000-01-01T00:00:00Z", "is on no day of the calendar"),
        ("0001-01-01T00:00:00+01:00", "write an instant of the years 1 to 9999"),
        ("9999-12-31T23:59:59-01:00", "write an instant of the years 1 to 9999"),
    ],
)
def test_what_the_calendar_lacks_is_refused_for_that(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_instant(text) if "T" in text else parse_day(text)


@pytest.mark.parametrize("value", NO_TEXTS)
@pytest.mark.parametrize("kind", [Instant, Day])
def test_a_number_is_no_instant_and_no_day(value: Any, kind: Any) -> None:
    with pytest.raises(ValidationError, match="is not a"):
        TypeAdapter(kind).validate_python(value)


def test_a_day_is_read() -> None:
    assert parse_day("2026-03-01") == TypeAdapter(Day).validate_json('"2026-03-01"') == date(2026, 3, 1)


def test_a_long_text_is_shown_by_its_beginning() -> None:
    with pytest.raises(ValueError, match="is not an instant") as refused:
        parse_instant("9" * 5_000)
    assert len(str(refused.value)) < 200
