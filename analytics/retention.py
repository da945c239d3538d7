"""Retention as it is shown: a program's stored cells, cut by what the filters say, each with what may be said of it.

A report is read by one statement and has rows of a key and a figure, the same on the page, in JSON and in CSV.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet, Sum

from analytics import rules
from analytics.models import Report, Restatement, RetentionCell, RetentionState, Segment
from analytics.rules import State
from analytics.selectors import MICROSECONDS_PER_DAY, list_main_tiers
from core.calendar import add_months, period_start
from core.models import Program
from membership.models import Ladder, Tier

CUTS = ("market", "country", "channel")
# Months that are shown unless others are asked for.
MONTHS_SHOWN = 13


@dataclass(frozen=True, slots=True)
class Filters:
    """Which cells are summed: local months from `since` through `until`, a tier and cuts; None: all.

    `tier` is the report's own: held at the month's start, moved from, or else held at entry. A cut is a value of the
    first order; an empty text is a value too: the first order named none.
    """

    since: date
    until: date
    tier: str | None = None
    cuts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ground:
    """What every report of a program stands on: how far its cells are (None: never counted) and its tiers, by id.

    Tiers from the lowest to the highest; those that are `in_force` no more come last.
    """

    program: Program
    state: RetentionState | None
    tiers: Mapping[int, Tier]
    in_force: Collection[int]

    @property
    def last_months(self) -> Filters:
        """The months that are shown unless others are asked for, the one of the watermark included."""
        until = period_start(self.state.watermark, "month") if self.state else date(2000, 1, 1)
        return Filters(add_months(until, 1 - MONTHS_SHOWN), until)


@dataclass(frozen=True, slots=True)
class Figure:
    """What is said of a cell: nothing while it is immature. Units: basis points."""

    n: int | None
    retained: int | None
    state: State

    @property
    def rate_bps(self) -> int | None:
        """The share that was retained; None where nothing is said or nobody is in the cell."""
        return rules.rate_bps(self.retained, self.n) if self.n and self.retained is not None else None

    @property
    def interval(self) -> rules.Interval | None:
        """Where the true share lies, at 95 %."""
        return rules.wilson(self.retained, self.n) if self.n and self.retained is not None else None


class Row(NamedTuple):
    """A line of a report. The keys of all its rows are the same."""

    key: dict[str, Any]
    figure: Figure


@dataclass(frozen=True, slots=True)
class Cycle:
    """Who ordered twice or more, and the mean time between consecutive orders, as it is so far."""

    members: int
    members_2plus_orders: int
    mean_days_between_orders: float | None


class _Sum(NamedTuple):
    """Cells of all segments asked for, summed."""

    report: str
    period: date
    step: int
    tier_id: int | None
    to_tier_id: int | None
    ends_on: date | None
    n: int
    retained: int
    span: Decimal | None


def get_ground(*, program: Program) -> Ground:
    """Return what the reports of a program stand on."""
    in_force = list(list_main_tiers(program_id=program.pk))
    ladder = Ladder.objects.filter(program=program).order_by("pk").first()
    tiers = {tier.pk: tier for tier in Tier.objects.filter(ladder=ladder).order_by("pk")}
    ordered = {pk: tiers[pk] for pk in in_force} | tiers
    return Ground(program, RetentionState.objects.filter(program=program).first(), ordered, in_force)


def list_cut_values(*, program: Program) -> dict[str, list[str]]:
    """Return the values that first orders named, by cut."""
    found = Segment.objects.filter(program=program).values_list(*CUTS).distinct()
    return {cut: sorted(set(values)) for cut, values in zip(CUTS, zip(*found, strict=True), strict=False)}


def list_active_rates(*, ground: Ground, filters: Filters) -> list[Row]:
    """Return for each month and tier who held it as of the month's start, and who of them ordered in the month."""
    reader = _Reader(ground, filters, Report.ACTIVE)
    by = _grouped(reader.sums, lambda one: (one.period, one.tier_id))
    rows = []
    for month, sums in sorted(_grouped(reader.sums, lambda one: one.period).items()):
        for tier_id, code in reader.shown_tiers().items():
            found = by.get((month, tier_id))
            # Where the month is over, nobody in a tier is a figure; before that nothing is.
            figure = reader.pooled(found or [sums[0]._replace(n=0, retained=0)])
            rows.append(Row({"month": month, "tier": code}, figure))
    return rows


def list_cohorts(*, ground: Ground, filters: Filters) -> list[Row]:
    """Return by month of the first order who ordered k months later. Who left stays in the denominator."""
    reader = _Reader(ground, filters, Report.COHORT)
    return [
        Row({"entry_month": one.period, "months_later": one.step}, reader.pooled([one]))
        for one in sorted(reader.sums, key=lambda one: (one.period, one.step))
    ]


DAY_MEASURES = {
    Report.WITHIN: "within",
    Report.SAME_DAY: "within_with_day0",
    Report.BRACKET: "bracket",
    Report.AFTER: "on_or_after",
    Report.EVER: "on_or_after_so_far",
}


def list_day_n(*, ground: Ground, filters: Filters) -> list[Row]:
    """Return by measure and N who came back: all entry months that are over for it, then each entry month.

    `on_or_after` follows everybody for the same time; `on_or_after_so_far` for as long as the facts reach.
    """
    reader = _Reader(ground, filters, *DAY_MEASURES)
    by = _grouped(reader.sums, lambda one: (one.report, one.step))
    rows = []
    for report, measure in DAY_MEASURES.items():
        for step in rules.BRACKETS if report == Report.BRACKET else rules.DAY_N:
            sums = sorted(by.get((report, step), []), key=lambda one: one.period)
            key = {"measure": measure, "day": step}
            rows.append(Row({"entry_month": None, **key}, reader.pooled(sums)))
            rows += [Row({"entry_month": one.period, **key}, reader.pooled([one])) for one in sums]
    return rows


def list_survival(*, ground: Ground, filters: Filters) -> list[Row]:
    """Return for day 0 to 90 who ordered on that day or later within the follow-up, of the entry months it is over for.

    On day 0 everybody did.
    """
    reader = _Reader(ground, filters, Report.SURVIVAL)
    over = [one for one in reader.sums if reader.state_of(one) != State.IMMATURE]
    state = reader.pooled(over).state
    left = n = sum(one.n for one in over)
    last_on = _grouped(over, lambda one: one.step)
    rows = []
    for day in range(rules.SURVIVAL_DAYS + 1):
        figure = Figure(n, left, state) if over else Figure(None, None, State.IMMATURE)
        rows.append(Row({"day": day}, figure))
        left -= sum(one.n for one in last_on.get(day, []))
    return rows


def list_migration(*, ground: Ground, filters: Filters) -> list[Row]:
    """Return the moves at each month's start: of the members of `from_tier` a month before, who holds `to_tier` now.

    `from_tier` None: they had not ordered before the month before, or held no tier. `to_tier` None: they hold none.
    """
    reader = _Reader(ground, filters, Report.MIGRATION)
    whole = {key: sum(one.n for one in sums) for key, sums in _grouped(reader.sums, _moved_from).items()}
    ranks = {tier_id: rank for rank, tier_id in enumerate(reader.tiers, 1)}

    def rank(tier_id: int | None) -> int:
        return ranks.get(tier_id, 0) if tier_id else 0

    def code(tier_id: int | None) -> str | None:
        return reader.tiers.get(tier_id) if tier_id else None

    rows = []
    for one in sorted(reader.sums, key=lambda one: (one.period, rank(one.tier_id), rank(one.to_tier_id))):
        state = reader.state_of(one)
        figure = Figure(whole[_moved_from(one)], one.n, state) if state != State.IMMATURE else _NOTHING
        key = {"month": one.period, "from_tier": code(one.tier_id), "to_tier": code(one.to_tier_id)}
        rows.append(Row(key, figure))
    return rows


def list_repurchases(*, ground: Ground, filters: Filters) -> list[Row]:
    """Return who ordered again within 90 days, the first day included: all months that are over, then each one."""
    reader = _Reader(ground, filters, Report.REPURCHASE)
    sums = sorted(reader.sums, key=lambda one: one.period)
    months = [Row({"entry_month": one.period}, reader.pooled([one])) for one in sums]
    return [Row({"entry_month": None}, reader.pooled(sums)), *months]


def get_cycle(*, ground: Ground, filters: Filters) -> Cycle:
    """Return the repurchase cycle of the members of these entry months, as it is so far."""
    reader = _Reader(ground, filters, Report.CYCLE, Report.REPURCHASE)
    cycles = [one for one in reader.sums if one.report == Report.CYCLE]
    pairs, span = sum(one.n for one in cycles), sum(int(one.span or 0) for one in cycles)
    return Cycle(
        members=sum(one.n for one in reader.sums if one.report == Report.REPURCHASE),
        members_2plus_orders=sum(one.retained for one in cycles),
        mean_days_between_orders=span / (pairs * MICROSECONDS_PER_DAY) if pairs else None,
    )


class ReportOf(NamedTuple):
    """How a report is read, and what its rows are named by."""

    read: Callable[..., list[Row]]
    keys: tuple[str, ...]


REPORTS: Mapping[str, ReportOf] = {
    "active-rate": ReportOf(list_active_rates, ("month", "tier")),
    "cohorts": ReportOf(list_cohorts, ("entry_month", "months_later")),
    "day-n": ReportOf(list_day_n, ("entry_month", "measure", "day")),
    "survival": ReportOf(list_survival, ("day",)),
    "migration": ReportOf(list_migration, ("month", "from_tier", "to_tier")),
    "repurchase": ReportOf(list_repurchases, ("entry_month",)),
}


def list_restatements(*, program: Program, cuts: Mapping[str, str]) -> QuerySet[Restatement]:
    """Return the final cells that changed, the last one first: whole ones, or the parts that the cuts name."""
    is_part = Q(**{f"segment__{cut}": value for cut, value in cuts.items()}) if cuts else Q(segment=None)
    found = Restatement.objects.filter(is_part, program=program)
    return found.select_related("tier", "to_tier", "segment").order_by("-id")


_NOTHING = Figure(None, None, State.IMMATURE)


class _Reader:
    """The sums of one or more reports, and what their state lets one say."""

    def __init__(self, ground: Ground, filters: Filters, *reports: Report) -> None:
        self.watermark = ground.state.watermark if ground.state else date.min
        self.tiers = {pk: tier.code for pk, tier in ground.tiers.items()}
        self.sums = _sum_cells(ground, filters, reports)
        self._in_force, self._asked = ground.in_force, filters.tier

    def shown_tiers(self) -> dict[int, str]:
        """Return the tier asked for, else all that are in force or have members, lowest first."""
        if self._asked:
            return {pk: code for pk, code in self.tiers.items() if code == self._asked}
        seen = {one.tier_id for one in self.sums}
        return {pk: code for pk, code in self.tiers.items() if pk in self._in_force or pk in seen}

    def state_of(self, one: _Sum) -> State:
        """Return the state of a cell; one without an end is never final."""
        if one.ends_on is None:
            return State.PROVISIONAL
        return rules.find_state(ends_on=one.ends_on, watermark=self.watermark)

    def pooled(self, sums: list[_Sum]) -> Figure:
        """Return the figure of the cells that are not immature, together; provisional if one of them is."""
        over = [(one, state) for one in sums if (state := self.state_of(one)) != State.IMMATURE]
        if not over:
            return _NOTHING
        state = State.PROVISIONAL if any(state == State.PROVISIONAL for _, state in over) else State.FINAL
        return Figure(sum(one.n for one, _ in over), sum(one.retained for one, _ in over), state)


def _sum_cells(ground: Ground, filters: Filters, reports: Iterable[Report]) -> list[_Sum]:
    cells = RetentionCell.objects.filter(
        program=ground.program, report__in=list(reports), period__gte=filters.since, period__lte=filters.until
    )
    if filters.cuts:
        cells = cells.filter(**{f"segment__{cut}": value for cut, value in filters.cuts.items()})
    if filters.tier is not None:
        tier_id = next((pk for pk, tier in ground.tiers.items() if tier.code == filters.tier), 0)
        is_own = set(reports) <= {Report.ACTIVE, Report.MIGRATION}
        cells = cells.filter(**{"tier" if is_own else "segment__tier": tier_id})
    names = ("report", "period", "step", "tier_id", "to_tier_id", "ends_on")
    sums = cells.values_list(*names).annotate(Sum("n"), Sum("retained"), Sum("span")).order_by()
    return [_Sum(*one) for one in sums]


def _grouped(sums: Iterable[_Sum], key: Callable[[_Sum], Any]) -> dict[Any, list[_Sum]]:
    found: dict[Any, list[_Sum]] = defaultdict(list)
    for one in sums:
        found[key(one)].append(one)
    return found


def _moved_from(one: _Sum) -> tuple[date, int | None]:
    return one.period, one.tier_id
