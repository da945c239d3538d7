"""The checks that any field of a fact must pass, and what all facts of a program have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NoReturn

from core.calendar import day_start
from core.external_ids import MOST_CHARACTERS, find_flaw
from core.models import Program
from core.places import Places, places_of
from membership.fact_inputs import BadFact, OrderInput, OrderLineInput, RefundInput, RefundLineInput

# Exact in every JSON reader, and a thousand of them still sum to a bigint.
MAX_AMOUNT = 2**53 - 1
MAX_COUNT = 2**31 - 1
MAX_QUALITY = 2**15 - 1

# Years in which something may have happened. What lies outside is a placeholder such as 9999-12-31, and would take its
# member through every evaluation until then.
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)

ID_LENGTH = MOST_CHARACTERS
CODE_LENGTH = 100
NAME_LENGTH = 63
LOCALE_LENGTH = 15
COUNTRY_LENGTH = 2

_Amounts = OrderInput | OrderLineInput | RefundInput | RefundLineInput


@dataclass(frozen=True, slots=True)
class Frame:
    """What all facts of a program have in common: its currency, and from when to when they may have happened.

    places: where new ones may come from; None: anywhere.
    """

    currency: str
    first: datetime = EARLIEST
    last: datetime = LATEST
    places: Places | None = None


def frame_of(program: Program, *, last: datetime | None = None) -> Frame:
    """Return the frame of a program's facts.

    last: what is dated after it is refused, as are places that there are not; None: any date and any place, as in data
    sets of other times.
    """
    first = day_start(program.start_date, program.time_zone) if program.start_date else EARLIEST
    return Frame(program.currency, first, last or LATEST, places_of(program) if last else None)


def member_frame(program: Program, *, last: datetime | None = None) -> Frame:
    """Return the frame of who joins: that of facts, but they may have been members before the program's first day."""
    return replace(frame_of(program, last=last), first=EARLIEST)


@dataclass(slots=True)
class Check:
    """Refuse what is wrong with one fact, naming the field: `lines.3.units` in its fourth line."""

    external_id: str
    frame: Frame = Frame("")
    first_objection: BadFact | None = None
    _place: str = ""

    def line(self, index: int | None) -> None:
        """Say which line the next checks are about; None for the fact itself."""
        self._place = "" if index is None else f"lines.{index}."

    def refuse(self, field: str, reason: str, code: str = "invalid_value") -> NoReturn:
        raise BadFact(field=f"{self._place}{field}", external_id=self.external_id, reason=reason, code=code)

    def objection(self, field: str, reason: str, code: str = "invalid_value") -> BadFact:
        """Note and return a refusal that holds unless the fact is recorded already."""
        found = BadFact(field=f"{self._place}{field}", external_id=self.external_id, reason=reason, code=code)
        self.first_objection = self.first_objection or found
        return found

    def new_id(self, value: str, *, is_derived: bool = False) -> None:
        """Check the fact's own id, or a line's. One that we made of another is as good as that one."""
        self.text("external_id", value, ID_LENGTH)
        flaw = "" if is_derived else find_flaw(value)
        if flaw:
            self.objection("external_id", flaw)

    def place(self, field: str, value: str) -> None:
        """Check where the fact comes from, if it is told as it happens."""
        flaw = self.frame.places.find_flaw(field, value) if self.frame.places else ""
        if flaw:
            self.objection(field, flaw)

    def text(self, field: str, value: str, length: int, *, empty: bool = False) -> None:
        if not value and not empty:
            self.refuse(field, "is empty")
        if len(value) > length:
            self.refuse(field, f"is longer than {length} characters")
        if not value.isascii() or "\0" in value:
            self._storable(field, value)

    def _storable(self, field: str, value: str) -> None:
        # PostgreSQL stores neither U+0000 nor halves of surrogate pairs, both of which JSON can carry.
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            self.refuse(field, "holds a character that cannot be stored")

    def number(self, field: str, value: int, least: int, most: int) -> None:
        if not least <= value <= most:
            self.refuse(field, f"{value} is not between {least} and {most}")

    def currency(self, value: str) -> None:
        if len(value) != 3 or not (value.isascii() and value.isalpha() and value.isupper()):
            self.refuse("currency", f"{value!r} is not an ISO 4217 code")

    def instant(self, field: str, value: datetime) -> str:
        """Return the instant in its canonical form."""
        if value.utcoffset() is None:
            self.refuse(field, "has no UTC offset")
        if not EARLIEST <= value < LATEST:
            self.refuse(field, f"is not between {EARLIEST:%Y} and {LATEST:%Y}")
        if value < self.frame.first:
            self.refuse(field, "is before the program began", code="before_program")
        if value > self.frame.last:
            self.refuse(field, "lies in the future", code="in_future")
        return value.astimezone(UTC).isoformat()

    def program_amount(self, told: _Amounts, told_currency: str, currency: str, line: int | None = None) -> int:
        """Return an amount in the program's currency."""
        self.line(line)
        self.number("amount_minor", told.amount_minor, 0, MAX_AMOUNT)
        amount = told.program_amount_minor
        if amount is None:
            if told_currency != currency:
                if self.first_objection:  # a currency that there is not says more
                    raise self.first_objection
                reason = f"{told_currency} needs the amount in {currency} told with it"
                self.refuse("currency", reason, code="wrong_currency")
            return told.amount_minor
        self.number("program_amount_minor", amount, 0, MAX_AMOUNT)
        if told_currency == currency and amount != told.amount_minor:
            self.refuse("program_amount_minor", f"differs from the amount, which is in {currency} too")
        return amount

    def distinct(self, field: str, external_ids: Sequence[str]) -> None:
        self.line(None)
        if len(set(external_ids)) != len(external_ids):
            twice = next(name for index, name in enumerate(external_ids) if name in external_ids[:index])
            self.refuse(field, f"line {twice} comes twice", code="duplicate_line")
