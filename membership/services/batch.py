"""One call's facts on their way in: whose they are, what they add to their members' days, what was new."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NoReturn

from django.db import DataError, connection

from core.calendar import local_date
from core.models import Program
from core.services import outbox
from membership.fact_checks import Checked
from membership.fact_inputs import BadFact
from membership.returns import ReturnChange

_MEMBERS = "SELECT external_id, id FROM membership_member WHERE program_id = %s AND external_id = ANY(%s)"
_OPEN_PROGRAM = "UPDATE core_program SET opened_at = %s WHERE id = %s AND opened_at IS NULL"

_ADD_TO_DAYS = """
    INSERT INTO membership_memberday AS kept
        (member_id, day, orders, orders_returned, spend_minor, refunds_minor, credits, activities)
    SELECT * FROM unnest(
        %s::bigint[], %s::date[], %s::int[], %s::int[], %s::bigint[], %s::bigint[], %s::int[], %s::int[])
    ON CONFLICT (member_id, day) DO UPDATE SET
        orders = kept.orders + excluded.orders,
        orders_returned = kept.orders_returned + excluded.orders_returned,
        spend_minor = kept.spend_minor + excluded.spend_minor,
        refunds_minor = kept.refunds_minor + excluded.refunds_minor,
        credits = kept.credits + excluded.credits,
        activities = kept.activities + excluded.activities"""


@dataclass(frozen=True, slots=True)
class RecordedFacts:
    """What a call wrote: ids of new rows only. `repeated` facts were recorded before with the same content.

    `places`: where each new fact stands among those of its kind in the call, by its kind ("order", "refund",
    "activity") and id.
    `returns`: what each new refund changed of an order, by the refund's id, in the order of dates.
    `first_fact_at` gives for each member id the earliest instant of a new fact, or of one that counts otherwise now.
    """

    order_ids: list[int] = field(default_factory=list)
    edit_ids: list[int] = field(default_factory=list)
    refund_ids: list[int] = field(default_factory=list)
    activity_ids: list[int] = field(default_factory=list)
    places: Mapping[tuple[str, int], Sequence[int]] = field(default_factory=dict)
    returns: Sequence[tuple[int, ReturnChange]] = ()
    repeated: int = 0
    first_fact_at: dict[int, datetime] = field(default_factory=dict)


@dataclass(slots=True)
class DaySums:
    """What is added to one member's day; the fields are MemberDay's."""

    orders: int = 0
    orders_returned: int = 0
    spend_minor: int = 0
    refunds_minor: int = 0
    credits: int = 0
    activities: int = 0


@dataclass(slots=True)
class Batch:
    """The state of one call, inside its transaction."""

    program: Program
    at: datetime
    member_ids: dict[str, int]
    order_ids: list[int] = field(default_factory=list)
    edit_ids: list[int] = field(default_factory=list)
    refund_ids: list[int] = field(default_factory=list)
    activity_ids: list[int] = field(default_factory=list)
    places: dict[tuple[str, int], Sequence[int]] = field(default_factory=dict)
    returns: list[tuple[int, ReturnChange]] = field(default_factory=list)
    new: int = 0
    first_fact_at: dict[int, datetime] = field(default_factory=dict)
    _days: dict[tuple[int, date], DaySums] = field(default_factory=dict)

    def member_of(self, fact: Checked[Any]) -> int | None:
        """Return the id of a checked fact's member, None for a guest.

        Raises: BadFact for a member who is not enrolled.
        """
        name = fact.told.member
        if name and name not in self.member_ids:
            reason = f"member {name} is not enrolled"
            raise BadFact(field="member", external_id=fact.name, reason=reason, code="unknown_member")
        return self.member_ids[name] if name else None

    def local_date(self, at: datetime) -> date:
        """Return the program's business day of an instant."""
        return local_date(at, self.program.time_zone)

    def note(self, member_id: int | None, at: datetime) -> DaySums:
        """Take note of a new fact and return the day it adds to."""
        self.new += 1
        return self.change(member_id, at)

    def change(self, member_id: int | None, at: datetime) -> DaySums:
        """Take note that what happened then counts otherwise from now on, and return the day it adds to.

        A guest's day is kept nowhere.
        """
        if member_id is None:
            return DaySums()
        self.first_fact_at[member_id] = min(at, self.first_fact_at.get(member_id, at))
        return self._days.setdefault((member_id, self.local_date(at)), DaySums())

    def finish(self, *, told: int) -> RecordedFacts:
        """Write the days and the event, and return what was recorded.

        The days come last: an evaluation that begins waits for them, and whoever writes them afterwards sees
        in a later statement that it has begun.
        Locks: the rows of the days, in ascending (member, day).
        """
        if self.new:
            self._write_days()
            self._publish()
        return RecordedFacts(
            order_ids=self.order_ids,
            edit_ids=self.edit_ids,
            refund_ids=self.refund_ids,
            activity_ids=self.activity_ids,
            places=self.places,
            returns=self.returns,
            repeated=told - self.new,
            first_fact_at=self.first_fact_at,
        )

    def _write_days(self) -> None:
        rows = [
            (member_id, day, s.orders, s.orders_returned, s.spend_minor, s.refunds_minor, s.credits, s.activities)
            for (member_id, day), s in sorted(self._days.items())
        ]
        if rows:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(_ADD_TO_DAYS, columns(rows))
            except DataError as error:
                self._refuse_sums(error)

    def _refuse_sums(self, error: DataError) -> NoReturn:
        """Refuse facts that are each in bounds but too much for one day: only credits can add up to that."""
        (member_id, day), _ = max(self._days.items(), key=lambda item: abs(item[1].credits))
        name = next(name for name, known in self.member_ids.items() if known == member_id)
        reason = f"the credits of member {name} add up to more than a day can hold"
        reason = f"{reason}, on {day}"
        raise BadFact(field="credits", external_id=name, reason=reason, code="invalid_value") from error

    def _publish(self) -> None:
        months: dict[str, set[int]] = {}
        for member_id, day in self._days:
            months.setdefault(day.replace(day=1).isoformat(), set()).add(member_id)
        payload = {
            "members": {month: sorted(ids) for month, ids in sorted(months.items())},
            "orders": self.order_ids,
            "edits": self.edit_ids,
            "refunds": self.refund_ids,
            "activities": self.activity_ids,
        }
        outbox.publish(program_id=self.program.pk, topic="membership.facts_recorded", payload=payload, at=self.at)


def open_batch(*, program: Program, members: Iterable[str], at: datetime) -> Batch:
    """Begin a call: find its members, and open the program if this is its first fact.

    Locks: the program row, only while it has no fact.
    """
    named = {name for name in members if name}
    known: dict[str, int] = {}
    with connection.cursor() as cursor:
        if program.opened_at is None:
            cursor.execute(_OPEN_PROGRAM, [at, program.pk])
        if named:
            cursor.execute(_MEMBERS, [program.pk, list(named)])
            known = dict(cursor.fetchall())
    return Batch(program=program, at=at, member_ids=known)


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Turn rows into one array per column, the parameters of `unnest`."""
    return [list(column) for column in zip(*rows, strict=True)]


def copy_rows(table: str, names: Sequence[str], rows: Iterable[Sequence[Any]], *, texts: Sequence[str]) -> None:
    """Write rows by COPY: one statement whose cost hardly depends on their number being one.

    `texts` names the text columns, where empty means empty; in every other column it means NULL.
    """
    source = io.StringIO(newline="")
    csv.writer(source).writerows(rows)
    source.seek(0)
    options = f"FORMAT csv, FORCE_NOT_NULL ({', '.join(texts)})"
    with connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} ({', '.join(names)}) FROM STDIN WITH ({options})", source)
