"""Reads of tiers: who held what, when, as known when, why, and what is missing."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

from django.db import connection
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from psycopg2 import sql

from core.calendar import TICK, last_begun_day, local_date, next_period_start
from core.models import Program
from core.money import format_minor
from membership.composed_sql import SQL, array_text, flat, joined
from membership.definitions import AnyOf, CalendarWindow, Metric, Requirement, RollingWindow, Window
from membership.ladder_plans import LadderPlans, list_plans, load_plans
from membership.models import Ladder, Member, TierCause, TierPeriod
from membership.qualification import LadderPlan, member_day_metrics
from membership.rules import requirement_name, window_name

_MEMBER = "SELECT * FROM membership_member WHERE program_id = %s AND external_id = %s"


def find_member(*, program_id: int, external_id: str) -> Member | None:
    """Return the member whom a program knows by an id."""
    return next(iter(Member.objects.raw(_MEMBER, [program_id, external_id])), None)


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


def list_history(*, member_id: int, ladder_id: int, known_at: datetime | None = None) -> QuerySet[TierPeriod]:
    """Return a member's periods on a ladder, newest first, each with `valid_to`, where the next one begins."""
    following = _known(known_at).filter(member_id=member_id, ladder_id=ladder_id, valid_from__gt=OuterRef("valid_from"))
    periods = list_periods(member_id=member_id, ladder_id=ladder_id, known_at=known_at)
    valid_to = Subquery(following.order_by("valid_from").values("valid_from")[:1])
    return periods.annotate(valid_to=valid_to).order_by("-valid_from", "-id")


def _known(known_at: datetime | None) -> QuerySet[TierPeriod]:
    if known_at is None:
        return TierPeriod.objects.filter(superseded_at=None)
    alive = Q(superseded_at=None) | Q(superseded_at__gt=known_at)
    return TierPeriod.objects.filter(alive, recorded_at__lte=known_at)


# Known at infinity: what has not been superseded.
_PERIODS = """
    SELECT * FROM membership_tierperiod
    WHERE member_id = %(member)s AND valid_from <= %(at)s AND ladder_id = ANY(%(ladders)s)
        AND recorded_at <= %(known_at)s AND (superseded_at IS NULL OR superseded_at > %(known_at)s)
    ORDER BY valid_from, id"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member holds on one ladder: the period in force, and the one with which the tier began.

    They differ where a grace was given or ended since: then the period in force only moved the guarantee.
    before: the period before the tier began, None for the first one.
    """

    plans: LadderPlans
    period: TierPeriod
    began: TierPeriod
    before: TierPeriod | None


def list_standings(
    *, program: Program, member_id: int, at: datetime, known_at: datetime | None = None, ladder: str | None = None
) -> list[Standing]:
    """Return what a member holds at an instant on each ladder, or on one: the main ladder first.

    known_at: as it was known then. Costs one query beside the program's definitions, which are kept in memory.
    """
    plans = {each.ladder.pk: each for each in list_plans(program) if ladder in (None, each.ladder.code)}
    asked = {"member": member_id, "at": at, "known_at": known_at or "infinity", "ladders": list(plans)}
    rows: dict[int, list[TierPeriod]] = defaultdict(list)
    for period in TierPeriod.objects.raw(_PERIODS, asked):
        period.tier = plans[period.ladder_id].get_tier(period.tier_id)
        period.version = plans[period.ladder_id].get_version(period.version_id)
        rows[period.ladder_id].append(period)
    return [_standing(plans[pk], rows[pk]) for pk in plans if rows[pk]]


def _standing(plans: LadderPlans, rows: list[TierPeriod]) -> Standing:
    first = len(rows) - 1
    while first and rows[first].cause == TierCause.STAYED and rows[first - 1].tier_id == rows[first].tier_id:
        first -= 1
    return Standing(plans, rows[-1], rows[first], rows[first - 1] if first else None)


_HELD = """
    SELECT (SELECT p.tier_id FROM membership_tierperiod p
             WHERE p.member_id = asked.member_id AND p.ladder_id = %(ladder)s AND p.superseded_at IS NULL
               AND p.valid_from <= asked.at
             ORDER BY p.valid_from DESC LIMIT 1)
      FROM unnest(%(members)s::bigint[], %(instants)s::timestamptz[]) WITH ORDINALITY AS asked(member_id, at, position)
     ORDER BY asked.position"""


def tier_held(*, ladder_id: int, pairs: Sequence[tuple[int, datetime]]) -> list[int | None]:
    """Return, for each (member, instant), the id of the tier held then, or None before the first one."""
    members, instants = (array_text(column) for column in zip(*pairs, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(_HELD, {"ladder": ladder_id, "members": members, "instants": instants})
        return [tier_id for (tier_id,) in cursor.fetchall()]


_AROUND = """
    SELECT ladder_id, tier_id, valid_from FROM membership_tierperiod
    WHERE member_id = %s AND superseded_at IS NULL AND valid_from <= %s ORDER BY valid_from"""


def list_tiers_around(*, program: Program, member_id: int, at: datetime) -> list[tuple[str, str | None, str | None]]:
    """Return each ladder's code with the tier held at an instant and the one held from just after it on."""
    with connection.cursor() as cursor:
        cursor.execute(_AROUND, [member_id, at + TICK])
        rows = cursor.fetchall()
    found = []
    for plans in list_plans(program):
        before = after = None
        for ladder_id, tier_id, valid_from in rows:
            if ladder_id == plans.ladder.pk:
                after = plans.get_tier(tier_id).code
                before = after if valid_from <= at else before
        found.append((plans.ladder.code, before, after))
    return found


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
        amount = show_value(self.metric, self.missing, currency)
        if self.by is None:
            return amount
        return _("%(amount)s by %(day)s") % {"amount": amount, "day": date_format(self.by, "DATE_FORMAT")}


def show_value(metric: Metric, value: int, currency: str) -> str:
    """Return the value of a metric as shown to people: `GBP 12.00`, `1 order`."""
    told = {"count": f"{value:,}"}
    if metric == "net_spend":
        return format_minor(value, currency)
    if metric == "order_count":
        return ngettext("%(count)s order", "%(count)s orders", value) % told
    if metric == "credits":
        return ngettext("%(count)s credit", "%(count)s credits", value) % told
    return ngettext("%(count)s active day", "%(count)s active days", value) % told


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
    """Return what a member needs to keep the tier and to reach those above; None without a tier at the instant."""
    plans = load_plans(ladder)
    period = tiers_at(ladder_id=ladder.pk, at=at, member_ids=[member_id]).first()
    return None if period is None else find_path(plans=plans, period=period, at=at)


def find_path(*, plans: LadderPlans, period: TierPeriod, at: datetime) -> Path | None:
    """Return the path of who holds a period at an instant, by the version in force then; None without one.

    Keeping is decided by the next evaluation, reaching too unless upgrades are immediate: then the windows are
    those of the instant, and a rolling window's `by` is the last day before something counted leaves it.
    Costs one query, whatever the ladder asks for.
    """
    plan = plans.at(at)
    if plan is None:
        return None
    rank = plan.ranks[period.tier_id]
    instant = plans.get_evaluation_after(at)
    values = _Values(plan, period.member_id, keep=_last_day(plans, instant, at), reach=local_date(at, plan.zone))
    return Path(
        tier=plan.definition.tiers[rank].code,
        guaranteed_until=period.guaranteed_until,
        next_evaluation_at=instant,
        stay=Step(plan.definition.tiers[rank].code, _needs(plan.stay(rank), values.to_keep)),
        above=tuple(
            Step(plan.definition.tiers[higher].code, _needs(plan.entry(higher), values.to_reach))
            for higher in range(rank + 1, len(plan.tier_ids))
        ),
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


_ONE_MEMBER = sql.SQL("member_id = %(member)s")


class _Values:
    """A member's metrics over windows that end with the day that decides about keeping, or about reaching, a tier.

    Where upgrades are not immediate the same day decides about both.
    """

    def __init__(self, plan: LadderPlan, member_id: int, *, keep: date, reach: date) -> None:
        self.plan, self.keep, self.reach = plan, keep, reach
        with connection.cursor() as cursor:
            cursor.execute(_compose_values(plan, keep, reach), {"member": member_id})
            found = cursor.fetchone()
        names = [requirement_name(column) for column in plan.columns]
        width = len(names)
        self.kept, self.reached, self.oldest = (
            dict(zip(names, found[first : first + width], strict=False)) for first in (0, width, 2 * width)
        )

    def to_keep(self, requirement: Requirement) -> tuple[int, date | None]:
        """Return what the member has when it is decided about keeping, and the last day that counts."""
        return self.kept[requirement_name(requirement)] or 0, self.keep

    def to_reach(self, requirement: Requirement) -> tuple[int, date | None]:
        """Return what the member has toward a higher tier, and the last day on which all of it still counts."""
        if not self.plan.is_immediate:
            return self.to_keep(requirement)
        name = requirement_name(requirement)
        return self.reached[name] or 0, self._last_day(requirement.window, self.oldest[name])

    def _last_day(self, window: Window, oldest: date | None) -> date | None:
        if isinstance(window, CalendarWindow):
            return next_period_start(self.reach, window.calendar) - timedelta(days=1)
        if not isinstance(window, RollingWindow) or oldest is None:
            return None
        return oldest + timedelta(days=window.rolling_days - 1)


@lru_cache(maxsize=256)
def _compose_values(plan: LadderPlan, keep: date, reach: date) -> str:
    """Return the statement of `_Values` for any `member`: the same for all of them on one day."""
    parts = [member_day_metrics(plan, _ONE_MEMBER, keep)]
    if plan.is_immediate:
        parts += [member_day_metrics(plan, _ONE_MEMBER, reach), _oldest_days(plan, reach)]
    columns = (f"p{part}.m{i}" for part in range(len(parts)) for i in range(len(plan.columns)))
    joins = (
        sql.SQL(" LEFT JOIN ({}) {} USING (member_id)").format(part, sql.SQL(f"p{i}")) for i, part in enumerate(parts)
    )
    query = sql.SQL("SELECT {} FROM (SELECT %(member)s AS member_id) of{}").format(
        sql.SQL(", ".join(columns)), joined(joins, "")
    )
    return flat(query).string


def _oldest_days(plan: LadderPlan, last_day: date) -> SQL:
    """Return a query of (member_id, m0, ...): the first day with a fact in each column's window."""
    starts = plan.window_starts(last_day)
    firsts = (
        sql.SQL(", min(day) FILTER (WHERE day >= {}) AS {}").format(sql.Literal(start), sql.SQL(f"m{i}"))
        for i, start in enumerate(starts)
    )
    return sql.SQL(
        "SELECT member_id{} FROM membership_memberday WHERE {} AND day BETWEEN {} AND {} GROUP BY member_id"
    ).format(
        joined(firsts, ""),
        _ONE_MEMBER,
        sql.Literal(min(starts, default=last_day)),
        sql.Literal(last_day),
    )
