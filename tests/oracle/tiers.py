"""One member's tiers from a list of facts, instant by instant.

Readings of the text, each one decided here:
- What holds at an instant is decided by the facts strictly before it and windows that end with the last local day
  that began before it. An evaluation is at the first instant of a local day; an immediate upgrade is one microsecond
  after the fact that caused it, so it sees that fact and everything else of the same instant, refunds too.
- Orders, credits and activities can cause an immediate upgrade; a refund cannot. A requirement that comes to hold
  because something old left its window is noticed at the next such fact or evaluation.
- An evaluation at the very instant of an immediate upgrade makes it itself. One at the instant of joining is skipped.
- A wholly returned order is no order of any window from the instant after the one at which its last unit came back.
  A refund is spend less on its own day, also when its order lies before the window.
- A tier is kept while its `stay` holds, or its `entry` where it has no `stay`.
- A failing evaluation does nothing before `guaranteed_until`. Then, with grace, the first one that fails grants the
  grace (`stayed`), and one that still fails at or after the end of the grace downgrades. One that holds while a grace
  runs or has run ends it (`stayed`, no guarantee): the next failure starts anew.
- A downgrade goes to the highest lower tier whose `entry` or `stay` holds, or one tier down.
- Each tier that is moved to, up or down, is guaranteed to the start of the local day `minimum_stay_days` after the
  local day of the move.
- An override only hides: whatever happens while it lasts happens underneath, and shows when it is over.
- Facts from before joining count as soon as the member joins: then they can cause an immediate upgrade.
- At the first instant of each local day every tier is asked what it rests on: the upgrades since the last downgrade (or
  joining), each with what it had counted, less what has come back since of the very orders that it had counted. Where
  they give less than the tier held, neither its stay nor the entry of it or a higher tier holds, and only a guarantee
  keeps it, the member falls to the best that they still give, of equals the oldest, with the guarantee that came with
  it; never above a tier held since. A guarantee is: downgrade `never`, an instant of guarantee that lies ahead;
  between evaluations a yearly one; at an evaluation a grace that could be given. An evaluation needs no guarantee for
  what came at once since the evaluation before it. It then decides from where the member fell, in the same row;
  between evaluations an immediate ladder moves up from there by what holds now. Such a row is itself something that a
  tier rests on.

Left out: paid plans and several versions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from tests.oracle.local_days import ONE_DAY, day_before, day_start, local_day

Period = Literal["month", "quarter", "half", "year"]
MONTHS: dict[str, int] = {"month": 1, "quarter": 3, "half": 6, "year": 12}
TICK = timedelta(microseconds=1)


class Fact(NamedTuple):
    """value: minor units of an order or refund, credits of a credit, nothing of a visit.

    returned_at: when the last unit of an order came back. back: what came back of an order when, in minor units.
    """

    kind: Literal["order", "refund", "credit", "visit"]
    at: datetime
    value: int = 0
    returned_at: datetime | None = None
    back: tuple[tuple[datetime, int], ...] = ()


class Requirement(NamedTuple):
    """window: so many rolling local days, a calendar period, or everything."""

    metric: Literal["net_spend", "order_count", "credits", "active_days"]
    at_least: int
    window: int | Period | Literal["lifetime"]


AnyOfAllOf = Sequence[Sequence[Requirement]]


@dataclass(frozen=True)
class Tier:
    code: str
    entry: AnyOfAllOf
    stay: AnyOfAllOf | None = None


@dataclass(frozen=True)
class Ladder:
    """Tiers from the lowest, whose requirements are not read. `on` is MM-DD, for yearly evaluation."""

    tiers: Sequence[Tier]
    upgrade: Literal["immediate", "at_evaluation"]
    every: Literal["day", "month", "year"]
    on: str = "01-01"
    downgrade: Literal["never", "at_evaluation", "after_grace"] = "at_evaluation"
    grace_days: int = 0
    drop_to: Literal["qualified", "one_tier"] = "qualified"
    minimum_stay_days: int = 0


class Row(NamedTuple):
    """From valid_from the member holds the tier, until the next row."""

    valid_from: datetime
    tier: str
    cause: Literal["enrolled", "upgraded", "stayed", "downgraded", "corrected"]
    guaranteed_until: datetime | None = None


class Override(NamedTuple):
    """From `since` until just before `until`, or just before `lifted_at`, the member is seen to hold the tier."""

    since: datetime
    until: datetime
    tier: str
    lifted_at: datetime | None = None


def held(rows: Sequence[Row], overrides: Sequence[Override], at: datetime) -> tuple[str, datetime | None]:
    """Return the tier that a member is seen to hold at an instant, and until when it is guaranteed."""
    for override in overrides:
        if override.since <= at < min(override.until, override.lifted_at or override.until):
            return override.tier, override.until
    row = [row for row in rows if row.valid_from <= at][-1]
    return row.tier, row.guaranteed_until


def tier_history(
    ladder: Ladder, facts: Sequence[Fact], *, time_zone: str, joined_at: datetime, until: datetime
) -> list[Row]:
    """Return the member's rows from joining up to and including an instant."""
    member = _Member(ladder, facts, ZoneInfo(time_zone), [Row(joined_at, ladder.tiers[0].code, "enrolled")])
    evaluations = set(_evaluations(ladder, member.zone, joined_at, until))
    days = set(_day_starts(member.zone, joined_at, until))
    upgrades = set()
    if ladder.upgrade == "immediate":
        occasions = {max(joined_at, fact.at) for fact in facts if fact.kind != "refund"}
        upgrades = {at + TICK for at in occasions if at < until}
    for at in sorted(evaluations | upgrades | days):
        if at in evaluations:
            if not member.undo(at, is_evaluation=True):
                member.evaluate(at)
        elif not (at in upgrades and member.upgrade(at)) and at in days:
            member.undo(at, is_evaluation=False)
        if at in evaluations:
            member.evaluated_at = at
    return member.rows


def _day_starts(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the first instants of local days in (after, until]."""
    day = local_day(after, zone)
    while day_start(day, zone) <= until:
        if day_start(day, zone) > after:
            yield day_start(day, zone)
        day += ONE_DAY


def _evaluations(ladder: Ladder, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the evaluation instants in (after, until]."""
    day = local_day(after, zone)
    while day_start(day, zone) <= until:
        is_due = {"day": True, "month": day.day == 1, "year": f"{day:%m-%d}" == ladder.on}[ladder.every]
        if is_due and day_start(day, zone) > after:
            yield day_start(day, zone)
        day += ONE_DAY


@dataclass
class _Support:
    """What a tier rests on: the facts seen at an instant (None: nothing that can come back), and its guarantee.

    given: the guarantee that came with it; guaranteed_until, has_had_grace: what evaluations have made of it.
    """

    seen_at: datetime | None
    rank: int
    given: datetime | None
    guaranteed_until: datetime | None
    has_had_grace: bool = False
    at_once: bool = False


@dataclass
class _Member:
    ladder: Ladder
    facts: Sequence[Fact]
    zone: ZoneInfo
    rows: list[Row]
    rank: int = 0
    guaranteed_until: datetime | None = None
    has_had_grace: bool = field(default=False)
    evaluated_at: datetime | None = None
    supports: list[_Support] = field(default_factory=lambda: [_Support(None, 0, None, None)])

    def upgrade(self, at: datetime) -> bool:
        """Move up to the highest tier whose entry holds, if that is up."""
        best = self._best(at)
        if best > self.rank:
            self._move(at, best, "upgraded")
            return True
        return False

    def evaluate(self, at: datetime) -> None:
        """Decide what a scheduled evaluation does."""
        if self.upgrade(at):
            return
        if self._stays(self.rank, at):
            if self.has_had_grace:
                self._stay(at, None)
            return
        if self.ladder.downgrade == "never":
            return
        if self.guaranteed_until is not None and at < self.guaranteed_until:
            return
        if self.ladder.downgrade == "after_grace" and not self.has_had_grace:
            self._stay(at, self._days_later(at, self.ladder.grace_days))
            return
        self._move(at, self._drop(at), "downgraded")

    def undo(self, at: datetime, *, is_evaluation: bool) -> bool:
        """Take away what rests on orders that came back, and tell whether that was so."""
        left, rank = self._left(at)
        if rank >= self.rank or not self._only_guaranteed(at, is_evaluation=is_evaluation):
            return False
        if self._best(at) >= self.rank or self._stays(self.rank, at):
            return False
        is_whole = rank == left.rank
        self.rank, self.has_had_grace = rank, is_whole and left.has_had_grace
        self.guaranteed_until = left.guaranteed_until if is_whole else left.given
        if self._best(at) > self.rank and (is_evaluation or self.ladder.upgrade == "immediate"):
            self.rank, self.guaranteed_until = self._best(at), self._minimum_stay(at)
        elif is_evaluation:
            self._settle(at)
        self.has_had_grace = False
        self.rows.append(Row(at, self.ladder.tiers[self.rank].code, "corrected", self.guaranteed_until))
        self.supports.append(_Support(at, self.rank, self.guaranteed_until, self.guaranteed_until))
        return True

    def _settle(self, at: datetime) -> None:
        """Decide at an evaluation about the tier that a member has just fallen to."""
        if self._stays(self.rank, at):
            self.guaranteed_until = None if self.has_had_grace else self.guaranteed_until
        elif self.ladder.downgrade != "never" and not (self.guaranteed_until and at < self.guaranteed_until):
            if self.ladder.downgrade == "after_grace" and not self.has_had_grace:
                self.guaranteed_until = self._days_later(at, self.ladder.grace_days)
            else:
                self.rank, self.guaranteed_until = self._drop(at), self._minimum_stay(at)

    def _left(self, at: datetime) -> tuple[_Support, int]:
        """Return the best that the member's supports still give without what came back before an instant."""
        left, most, ceiling = self.supports[0], -1, len(self.ladder.tiers)
        for support in reversed(self.supports):
            ceiling = min(ceiling, support.rank)
            rank = support.rank if support.seen_at is None else self._best(support.seen_at, less_until=at)
            if min(rank, ceiling) >= most:
                left, most = support, min(rank, ceiling)
        return left, most

    def _only_guaranteed(self, at: datetime, *, is_evaluation: bool) -> bool:
        if self.ladder.downgrade == "never" or (self.guaranteed_until is not None and at < self.guaranteed_until):
            return True
        if not is_evaluation:
            return self.ladder.every == "year"
        if self.ladder.downgrade == "after_grace" and not self.has_had_grace:
            return True
        return any(
            s.at_once and s.seen_at and s.seen_at > (self.evaluated_at or s.seen_at - TICK) for s in self.supports
        )

    def _best(self, at: datetime, less_until: datetime | None = None) -> int:
        """Return the highest rank whose entry holds at an instant."""
        return max(rank for rank in range(len(self.ladder.tiers)) if self._enters(rank, at, less_until))

    def _drop(self, at: datetime) -> int:
        if self.rank == 0:
            return 0
        if self.ladder.drop_to == "one_tier":
            return self.rank - 1
        return max(rank for rank in range(self.rank) if self._enters(rank, at) or self._stays(rank, at))

    def _move(self, at: datetime, rank: int, cause: Literal["upgraded", "downgraded"]) -> None:
        self.rank, self.has_had_grace = rank, False
        self.guaranteed_until = self._minimum_stay(at)
        self.rows.append(Row(at, self.ladder.tiers[rank].code, cause, self.guaranteed_until))
        if cause == "downgraded":
            self.supports = [_Support(None, rank, self.guaranteed_until, self.guaranteed_until)]
        else:
            self.supports.append(_Support(at, rank, self.guaranteed_until, self.guaranteed_until, at_once=True))

    def _stay(self, at: datetime, guaranteed_until: datetime | None) -> None:
        self.guaranteed_until, self.has_had_grace = guaranteed_until, guaranteed_until is not None
        self.rows.append(Row(at, self.ladder.tiers[self.rank].code, "stayed", guaranteed_until))
        last = self.supports[-1]
        last.guaranteed_until, last.has_had_grace = self.guaranteed_until, self.has_had_grace

    def _minimum_stay(self, at: datetime) -> datetime | None:
        days = self.ladder.minimum_stay_days
        return self._days_later(at, days) if days else None

    def _days_later(self, at: datetime, days: int) -> datetime:
        return day_start(local_day(at, self.zone) + days * ONE_DAY, self.zone)

    def _enters(self, rank: int, at: datetime, less_until: datetime | None = None) -> bool:
        return rank == 0 or self._holds(self.ladder.tiers[rank].entry, at, less_until)

    def _stays(self, rank: int, at: datetime) -> bool:
        stay = self.ladder.tiers[rank].stay
        return self._enters(rank, at) if stay is None else rank == 0 or self._holds(stay, at)

    def _holds(self, any_of: AnyOfAllOf, at: datetime, less_until: datetime | None = None) -> bool:
        return any(all(self._metric(need, at, less_until) >= need.at_least for need in all_of) for all_of in any_of)

    def _metric(self, need: Requirement, at: datetime, less_until: datetime | None) -> int:
        """Return the metric's value over the window that ends just before an instant.

        less_until: without what came back, from then until just before this instant, of the orders that it counts.
        """
        first = _first_day(need.window, day_before(at, self.zone))

        def is_in(moment: datetime | None) -> bool:
            return moment is not None and moment < at and local_day(moment, self.zone) >= first

        seen = [fact for fact in self.facts if is_in(fact.at)]
        orders = [fact for fact in seen if fact.kind == "order"]
        if need.metric == "net_spend":
            given_back = sum(fact.value for fact in seen if fact.kind == "refund")
            later = [minor for order in orders for when, minor in order.back if less_until and at <= when < less_until]
            return sum(order.value for order in orders) - given_back - sum(later)
        if need.metric == "order_count":
            return sum(not (order.returned_at and order.returned_at < (less_until or at)) for order in orders)
        if need.metric == "credits":
            return sum(fact.value for fact in seen if fact.kind == "credit")
        return len({local_day(fact.at, self.zone) for fact in seen if fact.kind in ("order", "visit")})


def _first_day(window: int | str, last: date) -> date:
    """Return the first local day of a window that ends with the given one."""
    if isinstance(window, int):
        return last - (window - 1) * ONE_DAY
    if window == "lifetime":
        return date.min
    return date(last.year, (last.month - 1) // MONTHS[window] * MONTHS[window] + 1, 1)
