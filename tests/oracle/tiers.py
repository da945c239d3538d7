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
Left out: paid plans, several versions, and the undoing of an upgrade whose own orders are refunded.
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

    returned_at: when the last unit of an order came back.
    """

    kind: Literal["order", "refund", "credit", "visit"]
    at: datetime
    value: int = 0
    returned_at: datetime | None = None


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
    cause: Literal["enrolled", "upgraded", "stayed", "downgraded"]
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
    upgrades = set()
    if ladder.upgrade == "immediate":
        upgrades = {fact.at + TICK for fact in facts if fact.kind != "refund" and joined_at <= fact.at < until}
    for at in sorted(evaluations | upgrades):
        if at in evaluations:
            member.evaluate(at)
        else:
            member.upgrade(at)
    return member.rows


def _evaluations(ladder: Ladder, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the evaluation instants in (after, until]."""
    day = local_day(after, zone)
    while day_start(day, zone) <= until:
        is_due = {"day": True, "month": day.day == 1, "year": f"{day:%m-%d}" == ladder.on}[ladder.every]
        if is_due and day_start(day, zone) > after:
            yield day_start(day, zone)
        day += ONE_DAY


@dataclass
class _Member:
    ladder: Ladder
    facts: Sequence[Fact]
    zone: ZoneInfo
    rows: list[Row]
    rank: int = 0
    guaranteed_until: datetime | None = None
    has_had_grace: bool = field(default=False)

    def upgrade(self, at: datetime) -> bool:
        """Move up to the highest tier whose entry holds, if that is up."""
        best = max((rank for rank in range(len(self.ladder.tiers)) if self._enters(rank, at)), default=0)
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

    def _drop(self, at: datetime) -> int:
        if self.ladder.drop_to == "one_tier":
            return self.rank - 1
        return max(rank for rank in range(self.rank) if self._enters(rank, at) or self._stays(rank, at))

    def _move(self, at: datetime, rank: int, cause: Literal["upgraded", "downgraded"]) -> None:
        days = self.ladder.minimum_stay_days
        self.rank, self.has_had_grace = rank, False
        self.guaranteed_until = self._days_later(at, days) if days else None
        self.rows.append(Row(at, self.ladder.tiers[rank].code, cause, self.guaranteed_until))

    def _stay(self, at: datetime, guaranteed_until: datetime | None) -> None:
        self.guaranteed_until, self.has_had_grace = guaranteed_until, guaranteed_until is not None
        self.rows.append(Row(at, self.ladder.tiers[self.rank].code, "stayed", guaranteed_until))

    def _days_later(self, at: datetime, days: int) -> datetime:
        return day_start(local_day(at, self.zone) + days * ONE_DAY, self.zone)

    def _enters(self, rank: int, at: datetime) -> bool:
        return rank == 0 or self._holds(self.ladder.tiers[rank].entry, at)

    def _stays(self, rank: int, at: datetime) -> bool:
        stay = self.ladder.tiers[rank].stay
        return self._enters(rank, at) if stay is None else rank == 0 or self._holds(stay, at)

    def _holds(self, any_of: AnyOfAllOf, at: datetime) -> bool:
        return any(all(self._metric(need, at) >= need.at_least for need in all_of) for all_of in any_of)

    def _metric(self, need: Requirement, at: datetime) -> int:
        """Return the metric's value over the window that ends just before an instant."""
        first = _first_day(need.window, day_before(at, self.zone))

        def is_in(moment: datetime | None) -> bool:
            return moment is not None and moment < at and local_day(moment, self.zone) >= first

        seen = [fact for fact in self.facts if is_in(fact.at)]
        if need.metric == "net_spend":
            spent = sum(fact.value for fact in seen if fact.kind == "order")
            return spent - sum(fact.value for fact in seen if fact.kind == "refund")
        if need.metric == "order_count":
            return sum(fact.kind == "order" and not (fact.returned_at and fact.returned_at < at) for fact in seen)
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
