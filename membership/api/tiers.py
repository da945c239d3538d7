"""A member's tiers: held, history, and what is missing to stay and to rise."""

from datetime import datetime
from typing import Any, Literal

import django_filters
from django.db.models import QuerySet
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.filters import InstantFilter
from core.api.openapi import operation
from core.api.pages import PageOf
from core.api.types import Answer, Body, Day, Instant
from core.models import Scope
from membership.api.ladders import BenefitsAnswer, find_plans, show_benefits
from membership.api.members import MemberView
from membership.definitions import Metric
from membership.models import TierPeriod
from membership.selectors import Need, Path, Standing, Step, find_path, list_history, list_standings
from membership.stories import nearest

Cause = Literal[
    "enrolled", "upgraded", "stayed", "downgraded", "overridden", "restored", "paid", "corrected", "imported"
]


class NeedAnswer(Answer):
    """One requirement against what the member has, until `by`, the last day that counts (null: no end).

    With a currency the numbers are in its minor units. `text`: what is missing, such as `GBP 12.00 by 2027-03-31`.
    """

    metric: Metric
    window: str
    currency: str | None
    has: int
    at_least: int
    missing: int
    by: Day | None
    text: str


class StepAnswer(Answer):
    """A tier and the ways to it: all needs of one of `any_of`. None: nothing is needed.

    `is_met`: one of them has all it needs. `nearest`: which is closest.
    """

    tier: str
    name: str
    is_met: bool
    any_of: list[list[NeedAnswer]]
    nearest: int | None


class TierStandingAnswer(Answer):
    """The tier held on a ladder since an instant, why, and until when no evaluation takes it away.

    `stay` and `above` look at now: they are null in an answer about another instant. `benefits` of the tier in the
    version in force, null if that has no such tier.
    """

    ladder: str
    tier: str
    name: str
    since: Instant
    cause: Cause
    guaranteed_until: Instant | None
    version: int
    benefits: BenefitsAnswer | None
    next_evaluation_at: Instant | None
    stay: StepAnswer | None
    above: list[StepAnswer] | None


class MemberTiersAnswer(Answer):
    """What the member holds on each ladder, the main one first."""

    member: str
    at: Instant
    known_at: Instant | None
    ladders: list[TierStandingAnswer]


class TierPeriodAnswer(Answer):
    """From `valid_from` until before `valid_to` (null: still) the tier was held.

    `evidence`: what the member had when it was decided, by metric and window; amounts in minor units.
    """

    tier: str
    name: str
    cause: Cause
    valid_from: Instant
    valid_to: Instant | None
    guaranteed_until: Instant | None
    version: int
    evidence: dict[str, int]
    recorded_at: Instant
    superseded_at: Instant | None


class TierHistoryPage(PageOf):
    """The periods of a ladder, the latest first."""

    results: list[TierPeriodAnswer]


class StandingsQuery(Body):
    """At which instant, and as it was known when."""

    at: Instant | None = Field(None, description="The instant asked about; left out: now")
    known_at: Instant | None = Field(None, description="As it was known then; left out: as it is known now")


class HistoryFilter(django_filters.FilterSet):  # type: ignore[misc]
    known_at = InstantFilter(label="As it was known then; left out: as it is known now")

    def filter_queryset(self, _queryset: QuerySet[TierPeriod]) -> QuerySet[TierPeriod]:
        """Return the periods as they were known."""
        view = self.request.parser_context["view"]
        ladder = find_plans(view.program, view.kwargs["ladder"]).ladder
        known_at = self.form.cleaned_data["known_at"]
        return list_history(member_id=view.member.pk, ladder_id=ladder.pk, known_at=known_at)


class TiersView(MemberView):
    scopes = {"GET": Scope.TIERS_READ}
    is_open_to_members = True

    @operation(summary="Read a member's tiers", answers={200: MemberTiersAnswer}, query=StandingsQuery)
    def get(self, _request: Request, **_address: Any) -> Response:
        query = self.read_query(StandingsQuery)
        at, is_now = query.at or self.at, query.at is None and query.known_at is None
        standings = list_standings(program=self.program, member_id=self.member.pk, at=at, known_at=query.known_at)
        shown = [
            show_standing(
                standing,
                self.program.currency,
                at=at,
                path=find_path(plans=standing.plans, period=standing.period, at=at) if is_now else None,
            )
            for standing in standings
        ]
        answer = {"member": self.member.external_id, "at": at, "known_at": query.known_at, "ladders": shown}
        return Response(answer)


class TierHistoryView(MemberView):
    scopes = {"GET": Scope.TIERS_READ}
    is_open_to_members = True
    filterset_class = HistoryFilter
    queryset = TierPeriod.objects.all()

    @operation(summary="Read a member's history on a ladder", answers={200: TierHistoryPage})
    def get(self, _request: Request, ladder: str, **_address: Any) -> Response:
        find_plans(self.program, ladder)
        return self.pages(TierPeriod.objects.order_by("-valid_from", "-id"), show_period)


def show_standing(standing: Standing, currency: str, *, at: datetime, path: Path | None) -> dict[str, Any]:
    """Return what is held on a ladder; `path`: where to from here, None for an instant that is not now."""
    period, began = standing.period, standing.began
    plan = standing.plans.at(at)
    tiers = {tier.code: tier for tier in plan.definition.tiers} if plan else {}
    held, names = tiers.get(period.tier.code), {code: tier.name for code, tier in tiers.items()}
    return {
        "ladder": standing.plans.ladder.code,
        "tier": period.tier.code,
        "name": names.get(period.tier.code, period.tier.name),
        "since": began.valid_from,
        "cause": began.cause,
        "guaranteed_until": period.guaranteed_until,
        "version": began.version.number,
        "benefits": show_benefits(held.benefits) if held else None,
        "next_evaluation_at": path.next_evaluation_at if path else None,
        "stay": show_step(path.stay, names, currency) if path else None,
        "above": [show_step(step, names, currency) for step in path.above] if path else None,
    }


def show_period(period: Any) -> dict[str, Any]:
    """Return a period of `list_history`."""
    return {
        "tier": period.tier.code,
        "name": period.tier.name,
        "cause": period.cause,
        "valid_from": period.valid_from,
        "valid_to": period.valid_to,
        "guaranteed_until": period.guaranteed_until,
        "version": period.version.number,
        "evidence": period.evidence,
        "recorded_at": period.recorded_at,
        "superseded_at": period.superseded_at,
    }


def show_step(step: Step, names: dict[str, str], currency: str) -> dict[str, Any]:
    """Return a tier with the ways to it."""
    return {
        "tier": step.tier,
        "name": names.get(step.tier, step.tier),
        "is_met": step.holds,
        "any_of": [[show_need(need, currency) for need in branch] for branch in step.branches],
        "nearest": step.branches.index(nearest(step)) if step.branches else None,
    }


def show_need(need: Need, currency: str) -> dict[str, Any]:
    """Return a requirement against what the member has."""
    return {
        "metric": need.metric,
        "window": need.window,
        "currency": currency if need.metric == "net_spend" else None,
        "has": need.has,
        "at_least": need.at_least,
        "missing": need.missing,
        "by": need.by,
        "text": need.describe(currency),
    }
