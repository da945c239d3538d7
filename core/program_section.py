"""core's part of a program file: the program itself and its markets."""

from datetime import date
from functools import lru_cache
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, StrictBool, StringConstraints

from core import locks
from core.countries import COUNTRIES
from core.models import Market, Program
from core.money import CURRENCIES
from core.sections import Coded, Journal, Reader, apply_fields
from core.services.markets import MarketInUse, require_unused
from core.timestamps import Day


def _read_first_day(value: date) -> date:
    """Refuse placeholders: the ends of the calendar are no instants in every zone."""
    if not 1900 <= value.year < 2100:
        raise ValueError("write a day of the years 1900 to 2099")
    return value


def _read_currency(value: str) -> str:
    if value not in CURRENCIES:
        raise ValueError(f"{value!r} is no currency code of ISO 4217, such as GBP")
    return value


def _read_country(value: str) -> str:
    if value not in COUNTRIES:
        raise ValueError(f"{value!r} is no country code of ISO 3166, such as GB")
    return value


def _read_time_zone(value: str) -> str:
    if value not in _time_zones():
        raise ValueError(f"{value!r} is no time zone of the IANA database, such as Europe/London or UTC")
    return value


@lru_cache(maxsize=1)
def _time_zones() -> set[str]:
    return available_timezones()


Currency = Annotated[str, AfterValidator(_read_currency)]
Country = Annotated[str, AfterValidator(_read_country)]
TimeZone = Annotated[str, AfterValidator(_read_time_zone)]
FirstDay = Annotated[Day, AfterValidator(_read_first_day)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class ProgramEntry(Coded):
    """The program: its currency and zone give every amount and every day their meaning.

    `channels`: by which orders may come; left out: any.
    `corrections`: when facts come late, which differences to what had been earned are posted.
    """

    name: Name
    currency: Currency
    time_zone: TimeZone
    start_date: FirstDay | None = None
    sandbox: StrictBool = False
    channels: tuple[Annotated[str, StringConstraints(min_length=1, max_length=63)], ...] = ()
    corrections: Literal["both", "upward", "never"] = "upward"

    def row(self) -> dict[str, Any]:
        """Return the fields of the program's row."""
        return {
            "name": self.name,
            "currency": self.currency,
            "time_zone": self.time_zone,
            "start_date": self.start_date,
            "is_sandbox": self.sandbox,
            "channels": list(self.channels),
            "corrections": self.corrections,
        }


class MarketEntry(Coded):
    """Where the program sells."""

    currency: Currency
    time_zone: TimeZone
    locales: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=15)], ...]
    countries: tuple[Country, ...]


# By the file's keys.
_FIXED = {"currency": "currency", "time_zone": "time_zone", "sandbox": "is_sandbox"}


def parse_program(reader: Reader) -> ProgramEntry | None:
    """Read the program and make its currency that of every amount read after it."""
    program = reader.read("program", ProgramEntry)
    if program is not None:
        reader.currency = program.currency
    return program


def parse_markets(reader: Reader) -> list[MarketEntry]:
    """Read the markets."""
    return reader.read_list("markets", MarketEntry)


def open_program(entry: ProgramEntry) -> tuple[Program, bool]:
    """Return the program that the entry names, locked until the transaction ends, and whether it is new.

    Locks: the program's row, so that two files are applied one after the other.
    """
    program, is_new = Program.objects.get_or_create(code=entry.code, defaults=entry.row())
    return locks.lock_row(program), is_new


def apply_program(journal: Journal, entry: ProgramEntry, *, is_new: bool) -> None:
    """Bring the program's own fields in line; those that are fixed only before the first fact."""
    program, values = journal.program, entry.row()
    if program.opened_at is not None:
        fixed = {key: getattr(program, name) for key, name in _FIXED.items() if getattr(program, name) != values[name]}
        journal.problems.extend(
            f"program.{key}: is fixed at {value} since the first fact was recorded" for key, value in fixed.items()
        )
        if fixed:
            return
    apply_fields(journal, f"program {program.code}", program, values, is_new=is_new)


def apply_markets(journal: Journal, entries: list[MarketEntry]) -> None:
    """Make the program's markets those of the file; one that the file does not name goes."""
    present = {market.code: market for market in Market.objects.filter(program=journal.program)}
    for entry in entries:
        values = entry.model_dump(mode="json", exclude={"code"})
        market = present.pop(entry.code, None)
        is_new = market is None
        if market is None:
            market = Market.objects.create(program=journal.program, code=entry.code, **values)
        apply_fields(journal, f"market {entry.code}", market, values, is_new=is_new)
    for market in present.values():
        try:
            require_unused(market, by_file=True)
        except MarketInUse as error:
            journal.problems.append(f"markets: {market.code} cannot be left out: {error.by} name it")
            continue
        journal.removed(f"market {market.code}", {"currency": market.currency, "time_zone": market.time_zone})
        market.delete()
