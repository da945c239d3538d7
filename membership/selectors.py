"""Reads of tiers: who held what, when, as known when, why, and what is missing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Q, QuerySet
from psycopg2 import sql

from core.calendar import last_begun_day, local_date, next_period_start
from core.money import format_minor
from membership.composed_sql import among, array, fetch
from membership.definitions import AnyOf, CalendarWindow, Metric, Requirement, RollingWindow
from membership.ladder_plans import LadderPlans, load_plans
from membership.models import Ladder, MemberDay, TierPeriod
from membership.qualification import LadderPlan, member_day_metrics
from membership.rules import requirement_name, window_name, window_start

_COUNTED: Mapping[Metric, str] = {"order_count": "orders", "credits": "credits", "active_days": "active days"}


def tiers_at(
    *, ladder_id: int, at: datetime, known_at: datetime | None = None, member_ids: Iterable[int] | None = None
) -> QuerySet[TierPeriod]:
    """Return the period that each member holds at an instant, by member.

    known_at: as it was known then; rows recorded later do not count, rows superseded later still do.
    """
    periods = _known(known_at).filter(ladder_id=ladder_id, valid_from__lte=at)
    if member_ids is not None:
        periods = periods.filter(member_id__in=list(member_ids))
    return periods.order_by("member_id", "-valid_from", "-id").distinct("member_id")


def list_periods(*, member_id: int, ladder_id: int, known_at: datetime | None = None) -> QuerySet[TierPeriod]:
    """Return a member's periods on a ladder, oldest first."""
    periods = _known(known_at).filter(member_id=member_id, ladder_id=ladder_id)
    return periods.select_related("tier", "version").order_by("valid_from", "id")


def _known(known_at: datetime | None) -> QuerySet[TierPeriod]:
    if known_at is None:
        return TierPeriod.objects.filter(superseded_at=None)
    alive = Q(superseded_at=None) | Q(superseded_at__gt=known_at)
    return TierPeriod.objects.filter(alive, recorded_at__lte=known_at)


def tier_held(*, ladder_id: int, pairs: Sequence[tuple[int, datetime]]) -> list[int | None]:
    """Return, for each (member, instant), the id of the tier held then, or None before the first one."""
    query = sql.SQL("""
        SELECT (SELECT p.tier_id FROM membership_tierperiod p
                 WHERE p.member_id = asked.member_id AND p.ladder_id = {ladder} AND p.superseded_at IS NULL
                   AND p.valid_from <= asked.at
                 ORDER BY p.valid_from DESC LIMIT 1)
          FROM unnest({members}, {instants}) WITH ORDINALITY AS asked(member_id, at, position)
         ORDER BY asked.position
    """).format(
        ladder=sql.Literal(ladder_id),
        members=array((member_id for member_id, _ in pairs), "bigint"),
        instants=array((at for _, at in pairs), "timestamptz"),
    )
    return [tier_id for (tier_id,) in fetch(query)]


# --- why, and what is missing ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Need:
    """One requirement against what the member has: nothing is missing where it holds.

    by: the last local day on which what is missing can still come; None: no end.
    Units: minor units of the program's currency for net_spend, else counts.
    """

    metric: Metric
    window: str
    at_least: int
    has: int
    by: date | None

    @property
    def missing(self) -> int:
        return max(0, self.at_least - self.has)

    def describe(self, currency: str) -> str:
        """Return what is missing as shown to people: `GBP 12.00 by 2027-03-31`, `2 orders`."""
        amount = format_minor(self.missing, currency) if self.metric == "net_spend" else (
            f"{self.missing} {_COUNTED[self.metric]}"
        )  # fmt: skip
        return amount if self.by is None else f"{amount} by {self.by}"


@dataclass(frozen=True, slots=True)
class Step:
    """A tier and the ways to it or to keep it: all needs of any one branch. No branch: nothing is needed."""

    tier: str
    branches: tuple[tuple[Need, ...], ...]

    @property
    def holds(self) -> bool:
        return not self.branches or any(all(not need.missing for need in branch) for branch in self.branches)


@dataclass(frozen=True, slots=True)
class Path:
    """Where a member stands: the tier held, what keeps it, the tiers above it, lowest first, and the next evaluation.

    guaranteed_until: no evaluation before it takes the tier away.
    """

    tier: str
    guaranteed_until: datetime | None
    next_evaluation_at: datetime | None
    stay: Step
    above: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a period has its tier: the values that decided against its requirement and that of the next tier."""

    period: TierPeriod
    reached: Step
    above: Step | None


def get_path(*, member_id: int, ladder: Ladder, at: datetime) -> Path | None:
    """Return what a member needs to keep the tier and to reach those above; None without a tier at the instant.

    Keeping is decided by the next evaluation, reaching too unless upgrades are immediate: then the windows are
    those of the instant, and a rolling window's `by` is the last day before something counted leaves it.
    """
    plans = load_plans(ladder)
    plan = plans.at(at)
    period = tiers_at(ladder_id=ladder.pk, at=at, member_ids=[member_id]).first()
    if plan is None or period is None:
        return None
    rank = plan.ranks[period.tier_id]
    instant = plans.get_evaluation_after(at)
    keep = _Values(plan, member_id, _last_day(plans, instant, at), immediate=False)
    reach = _Values(plan, member_id, local_date(at, plan.zone), immediate=True) if plan.is_immediate else keep
    return Path(
        tier=plan.definition.tiers[rank].code,
        guaranteed_until=period.guaranteed_until,
        next_evaluation_at=instant,
        stay=keep.step(rank, plan.stay(rank)),
        above=tuple(reach.step(higher, plan.entry(higher)) for higher in range(rank + 1, len(plan.tier_ids))),
    )


def explain(*, period: TierPeriod, ladder: Ladder) -> Explanation:
    """Return the values that gave a period its tier, with what they were short of for the next one."""
    plan = load_plans(ladder).at(period.valid_from)
    if plan is None:
        raise LookupError(f"no version of ladder {ladder.code} was in force at {period.valid_from.isoformat()}")
    rank = plan.ranks[period.tier_id]
    found: dict[str, int] = period.evidence

    def step(of_rank: int) -> Step:
        needs = _needs(plan.entry(of_rank), lambda r: (found.get(requirement_name(r), 0), None))
        return Step(plan.definition.tiers[of_rank].code, needs)

    return Explanation(period, step(rank), step(rank + 1) if rank + 1 < len(plan.tier_ids) else None)


def _last_day(plans: LadderPlans, instant: datetime | None, at: datetime) -> date:
    return local_date(at, plans.zone) if instant is None else last_begun_day(instant, plans.zone)


def _needs(
    any_of: AnyOf | None, measure: Callable[[Requirement], tuple[int, date | None]]
) -> tuple[tuple[Need, ...], ...]:
    return tuple(
        tuple(Need(r.metric, window_name(r.window), r.at_least, *measure(r)) for r in branch.all_of)
        for branch in (any_of.any_of if any_of else ())
    )


class _Values:
    """A member's metrics over windows that end with a day."""

    def __init__(self, plan: LadderPlan, member_id: int, last_day: date, *, immediate: bool) -> None:
        self.plan, self.member_id, self.last_day, self.immediate = plan, member_id, last_day, immediate
        rows = fetch(member_day_metrics(plan, among([member_id]), last_day))
        values = rows[0][1:] if rows else [0] * len(plan.columns)
        self.values = dict(zip(map(requirement_name, plan.columns), values, strict=True))

    def step(self, rank: int, any_of: AnyOf | None) -> Step:
        return Step(self.plan.definition.tiers[rank].code, _needs(any_of, self._measure))

    def _measure(self, requirement: Requirement) -> tuple[int, date | None]:
        return self.values[requirement_name(requirement)], self._by(requirement)

    def _by(self, requirement: Requirement) -> date | None:
        window = requirement.window
        if not self.immediate:
            return self.last_day
        if isinstance(window, CalendarWindow):
            return next_period_start(self.last_day, window.calendar) - timedelta(days=1)
        if not isinstance(window, RollingWindow):
            return None
        first = window_start(window, self.last_day)
        days = MemberDay.objects.filter(member_id=self.member_id, day__range=(first, self.last_day))
        oldest = days.order_by("day").values_list("day", flat=True).first()
        return None if oldest is None else oldest + timedelta(days=window.rolling_days - 1)
