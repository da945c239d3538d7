"""Random small histories of a shop: orders, refunds of them, visits and redemptions, near the starts of local days."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from membership.fact_inputs import ActivityInput, OrderInput, OrderLineInput, RefundInput, RefundLineInput
from tests.oracle.local_days import ONE_DAY, day_start, local_day

# Zones with the first day of a stretch that has a month start and, where there is one, a change of the clock: over
# midnight forwards (Sao Paulo, Havana in March) and backwards (Havana in November), or at another hour (London).
STRETCHES = [
    ("UTC", date(2024, 2, 14)),
    ("Europe/London", date(2024, 3, 15)),
    ("America/Sao_Paulo", date(2018, 10, 22)),
    ("America/Havana", date(2024, 2, 24)),
    ("America/Havana", date(2024, 10, 22)),
    ("Asia/Shanghai", date(2023, 12, 20)),
]
MEMBERS = ("ada", "ben")
CURRENCY = "USD"


class Part(NamedTuple):
    """What came back of the order line (empty: nobody knows of which); without units only money did."""

    line: str
    units: int | None
    minor: int


@dataclass(frozen=True)
class Order:
    name: str
    member: str
    at: datetime
    lines: tuple[tuple[int, int], ...]  # (units, minor)

    @property
    def minor(self) -> int:
        return sum(minor for _, minor in self.lines)

    def told(self) -> OrderInput:
        lines = tuple(
            OrderLineInput(external_id=f"{self.name}.{n}", units=units, amount_minor=minor)
            for n, (units, minor) in enumerate(self.lines, 1)
        )
        return OrderInput(
            external_id=self.name, member=self.member, paid_at=self.at, currency=CURRENCY, amount_minor=self.minor,
            lines=lines,
        )  # fmt: skip


@dataclass(frozen=True)
class Refund:
    name: str
    member: str
    at: datetime
    parts: tuple[Part, ...]
    of: str = ""

    @property
    def minor(self) -> int:
        return sum(part.minor for part in self.parts)

    def told(self) -> RefundInput:
        lines = tuple(
            RefundLineInput(
                external_id=f"{self.name}.{n}", amount_minor=part.minor, units=part.units,
                order=part.line.rpartition(".")[0], order_line=part.line,
            )
            for n, part in enumerate(self.parts, 1)
        )  # fmt: skip
        return RefundInput(
            external_id=self.name, member=self.member, refunded_at=self.at, currency=CURRENCY, amount_minor=self.minor,
            lines=lines,
        )  # fmt: skip


@dataclass(frozen=True)
class Visit:
    name: str
    member: str
    at: datetime

    def told(self) -> ActivityInput:
        return ActivityInput(external_id=self.name, member=self.member, kind="visit", occurred_at=self.at)


@dataclass(frozen=True)
class Burn:
    name: str
    member: str
    at: datetime
    points: int


Fact = Order | Refund | Visit
RANK = {Order: 0, Refund: 1, Visit: 2, Burn: 3}


def in_order(events: Sequence[Fact | Burn]) -> list[Fact | Burn]:
    """Return events in the order of time; at one instant orders come before refunds."""
    return sorted(events, key=lambda event: (event.at, RANK[type(event)], event.name))


@dataclass(frozen=True)
class History:
    zone: str
    events: tuple[Fact | Burn, ...]

    @property
    def time_zone(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    @property
    def facts(self) -> list[Fact]:
        return [event for event in self.events if not isinstance(event, Burn)]

    def of(self, member: str) -> list[Fact]:
        return [fact for fact in self.facts if fact.member == member]

    def joined_at(self, member: str) -> datetime | None:
        return min((event.at for event in self.events if event.member == member), default=None)

    def arrivals(self, random: Random) -> Iterator[list[Fact | Burn]]:
        """Yield the events in any order, but a refund after its orders, and some of them together."""
        waiting = list(self.events)
        random.shuffle(waiting)
        known = {""}
        while waiting:
            ready = [event for event in waiting if _needs(event) <= known]
            group = ready[: random.choice([1, 1, 2, 4])]
            known |= {event.name for event in group}
            waiting = [event for event in waiting if event not in group]
            yield group


def _needs(event: Fact | Burn) -> set[str]:
    return {part.line.rpartition(".")[0] for part in event.parts} if isinstance(event, Refund) else set()


def day_zero(at: datetime, zone: ZoneInfo, days: int) -> datetime:
    """Return the first instant of the local day so many days after that of an instant."""
    return day_start(local_day(at, zone) + days * ONE_DAY, zone)


@st.composite
def instants(draw: st.DrawFn, zone: str, first: date, days: int) -> datetime:
    """Draw an instant at or beside the start of a local day, most often of a month's first, or anywhere."""
    day = first + timedelta(days=draw(st.integers(0, days)))
    if draw(st.integers(0, 3)) == 0:
        day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
    offset = draw(
        st.sampled_from([timedelta(0), timedelta(0), timedelta(microseconds=-1), timedelta(microseconds=1)])
        | st.integers(-90, 1440).map(lambda minutes: timedelta(minutes=minutes))
    )
    return (day_start(day, ZoneInfo(zone)) + offset).astimezone(UTC)


@st.composite
def histories(draw: st.DrawFn, *, days: int = 26, is_replayable: bool = False) -> History:
    """Draw a history. `is_replayable`: of orders and refunds of units alone, as a data set's files have them."""
    zone, first = draw(st.sampled_from(STRETCHES))
    at = instants(zone, first, days)
    lines = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 900)), min_size=1, max_size=3).map(tuple)
    orders = [
        Order(f"o{n:02}", draw(st.sampled_from(MEMBERS)), draw(at), draw(lines)) for n in range(draw(st.integers(1, 6)))
    ]
    events: list[Fact | Burn] = [*orders]
    for order in orders:
        by_units = is_replayable or draw(st.booleans())
        events += draw(_refunds(order, at, by_units=by_units))
    for n in range(draw(st.integers(0, 2))):
        events.append(
            Refund(f"u{n}", draw(st.sampled_from(MEMBERS)), draw(at), (Part("", 1, draw(st.integers(0, 900))),))
        )
    if not is_replayable:
        for n in range(draw(st.integers(0, 3))):
            events.append(Visit(f"v{n}", draw(st.sampled_from(MEMBERS)), draw(at)))
            events.append(Burn(f"b{n}", draw(st.sampled_from(MEMBERS)), draw(at), draw(st.integers(1, 12))))
    return History(zone, tuple(events))


@st.composite
def _refunds(draw: st.DrawFn, order: Order, at: st.SearchStrategy[datetime], *, by_units: bool) -> list[Refund]:
    """Draw up to three refunds of an order, none of more units than are left."""
    left = {f"{order.name}.{n}": units for n, (units, _) in enumerate(order.lines, 1)}
    refunds = []
    for n in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        parts = []
        for line, units in left.items():
            back = draw(st.integers(0, units if by_units else 2))
            if back:
                parts.append(Part(line, back if by_units else None, draw(st.integers(0, 500))))
                left[line] -= back if by_units else 0
        if parts:
            refunds.append(Refund(f"r{order.name}{n}", order.member, max(order.at, draw(at)), tuple(parts)))
    return refunds
