"""What an explanation of a tier is made of: who holds it, what decided, what is missing, and the facts that count."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from core.calendar import TICK, last_begun_day, local_date
from core.models import Program
from membership.definitions import Metric, Requirement
from membership.engagement import engaging
from membership.models import Activity, Order, OrderEdit, QualifyingCredit, Refund, TierCause
from membership.qualification import LadderPlan
from membership.rules import requirement_name, window_name, window_start
from membership.selectors import Need, Path, Standing, Step, find_path, list_standings

# So many of the facts of each kind are named, the latest ones.
FACTS_SHOWN = 5

FactKind = Literal["order", "order_edit", "refund", "credit", "activity"]
_KINDS: dict[Metric, tuple[FactKind, ...]] = {
    "net_spend": ("order", "order_edit", "refund"),
    "order_count": ("order",),
    "credits": ("credit",),
    "active_days": ("order", "activity"),
}


@dataclass(frozen=True, slots=True)
class TierFact:
    """A fact that counts: what the storefront calls it, when it was, and what it adds.

    Units of `value`: minor units of the program's currency, credits; None of an activity.
    """

    kind: FactKind
    external_id: str
    at: datetime
    value: int | None


@dataclass(frozen=True, slots=True)
class TierStory:
    """Where a member stands on a ladder at an instant, and what decided it.

    reached: the requirement of the tier held against the values that decided; None where no values did.
    missed: after a downgrade, what the tier before would have needed.
    """

    program: Program
    at: datetime
    standing: Standing
    plan: LadderPlan
    path: Path
    reached: Step | None
    missed: Step | None

    @property
    def names(self) -> dict[str, str]:
        """The tiers' names by code."""
        return {tier.code: tier.name for tier in self.plan.definition.tiers}


def find_story(*, program: Program, member_id: int, ladder: str, at: datetime) -> TierStory | None:
    """Return the story of a member on a ladder; None where nothing is held at the instant."""
    for standing in list_standings(program=program, member_id=member_id, at=at, ladder=ladder):
        plan, path = standing.plans.at(at), find_path(plans=standing.plans, period=standing.period, at=at)
        if plan is not None and path is not None:
            reached, missed = _decided(standing)
            return TierStory(program, at, standing, plan, path, reached, missed)
    return None


def nearest(step: Step) -> tuple[Need, ...]:
    """Return the branch of which the smallest part is missing; of equals the first. A step has branches."""

    def gap(branch: Sequence[Need]) -> tuple[float, float]:
        shares = [need.missing / max(1, need.at_least) for need in branch]
        return max(shares), sum(shares)

    return min(step.branches, key=gap)


def list_facts_of_step(story: TierStory, needs: Iterable[Need]) -> list[TierFact]:
    """Return the latest facts that count toward needs of the path, at the instant of the story."""
    days = [need.by for need in needs if not story.plan.is_immediate and need.by]
    last_day = max([*days, local_date(story.at, story.plan.zone)])
    return _list_facts(story.standing.period.member_id, story.plan, needs, last_day=last_day, until=story.at + TICK)


def list_facts_that_decided(story: TierStory) -> list[TierFact]:
    """Return the latest facts that counted when the tier held began; none where facts did not decide."""
    began = story.standing.began
    plan = story.standing.plans.at(began.valid_from)
    step = story.missed or story.reached
    if plan is None or step is None:
        return []
    needs = [need for branch in step.branches for need in branch]
    last_day = last_begun_day(began.valid_from, plan.zone)
    return _list_facts(began.member_id, plan, needs, last_day=last_day, until=began.valid_from)


def _decided(standing: Standing) -> tuple[Step | None, Step | None]:
    """Return the requirements against the values that decided, of the tier reached and of the tier lost."""
    began, before = standing.began, standing.before
    plan = standing.plans.at(began.valid_from)
    if plan is None or not began.evidence:
        return None, None
    rank = plan.ranks[began.tier_id]
    reached = _step(plan, rank, began.evidence, keeps=False) if began.cause == TierCause.UPGRADED else None
    lost = before is not None and began.cause == TierCause.DOWNGRADED and before.tier_id in plan.ranks
    missed = _step(plan, plan.ranks[before.tier_id], began.evidence, keeps=True) if lost and before else None
    return reached, missed


def _step(plan: LadderPlan, rank: int, evidence: dict[str, int], *, keeps: bool) -> Step:
    any_of = plan.stay(rank) if keeps else plan.entry(rank)
    branches = tuple(
        tuple(_need(requirement, evidence) for requirement in branch.all_of)
        for branch in (any_of.any_of if any_of else ())
    )
    return Step(plan.definition.tiers[rank].code, branches)


def _need(requirement: Requirement, evidence: dict[str, int]) -> Need:
    has = evidence.get(requirement_name(requirement), 0)
    return Need(requirement.metric, window_name(requirement.window), requirement.at_least, has, None)


def _list_facts(
    member_id: int, plan: LadderPlan, needs: Iterable[Need], *, last_day: date, until: datetime
) -> list[TierFact]:
    """Return the latest facts of each kind that a need counts, within the widest window that counts it."""
    windows = {window_name(column.window): column.window for column in plan.columns}
    first: dict[FactKind, date] = {}
    for need in needs:
        start = window_start(windows[need.window], last_day)
        for kind in _KINDS[need.metric]:
            first[kind] = min(start, first.get(kind, start))
    facts = [fact for kind, day in first.items() for fact in _read(kind, member_id, day, last_day, until)]
    return sorted(facts, key=lambda fact: fact.at, reverse=True)


# Of each kind: the model, and the names of its id, instant and value.
_SOURCES: dict[FactKind, tuple[Any, str, str, str | None]] = {
    "order": (Order, "external_id", "paid_at", "program_amount_minor"),
    "order_edit": (OrderEdit, "external_id", "edited_at", "program_amount_minor"),
    "refund": (Refund, "external_id", "refunded_at", "counted_minor"),
    "credit": (QualifyingCredit, "source", "effective_at", "credits"),
    "activity": (Activity, "external_id", "occurred_at", None),
}


def _read(kind: FactKind, member_id: int, first: date, last: date, until: datetime) -> list[TierFact]:
    model, name, instant, value = _SOURCES[kind]
    rows = model.objects.filter(member_id=member_id, local_date__range=(first, last), **{f"{instant}__lt": until})
    if kind == "activity":
        rows = rows.filter(engaging(), voided_at=None)
    latest = rows.order_by(f"-{instant}", "-id")[:FACTS_SHOWN]
    return [
        TierFact(kind, getattr(row, name), getattr(row, instant), getattr(row, value) if value else None)
        for row in latest
    ]
