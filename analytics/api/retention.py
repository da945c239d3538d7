"""Retention over HTTP: the stored cells as JSON or CSV, what may be said of each, and what was restated."""

from dataclasses import asdict
from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from django.http.response import HttpResponseBase
from pydantic import Field, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from analytics import retention, rules
from analytics.exports import report_csv, restatements_csv, show_restatement, show_row
from analytics.models import Report, RestatementCause
from analytics.retention import Filters, Ground
from analytics.rules import State
from core.api.openapi import operation
from core.api.pages import PageOf
from core.api.problems import Problem
from core.api.types import Answer, Body, Code, Day, Instant, Name
from core.api.views import ApiView
from core.models import Scope

Month = Annotated[str, StringConstraints(pattern=r"^(19|20)[0-9]{2}-(0[1-9]|1[0-2])$")]
Format = Literal["json", "csv"]


class RetentionCuts(Body):
    """Whom to count, by what their first orders named. Empty: whose first order named none."""

    market: Name | None = Field(None, description="The market of the first order")
    country: Name | None = Field(None, description="The country of the first order")
    channel: Name | None = Field(None, description="The channel of the first order")
    format: Format = Field("json", description="`csv`: the same rows as text/csv, all of them")

    @property
    def cuts(self) -> dict[str, str]:
        """The cuts that were asked for."""
        told = {cut: getattr(self, cut) for cut in retention.CUTS}
        return {cut: value for cut, value in told.items() if value is not None}


class RetentionQuery(RetentionCuts):
    """Which cells to sum. Without months: the last 13."""

    since: Month | None = Field(None, alias="from", description="The first local month, such as 2026-01")
    until: Month | None = Field(None, alias="to", description="The last local month")
    tier: Code | None = Field(None, description="A tier of the main ladder; see the report for which one it is")


class FigureAnswer(Answer):
    """A cell. `n` members, `retained` of them, the rate and its Wilson interval at 95 % in basis points.

    `immature`: not over yet, so nothing is said. `provisional`: it is over, late facts may come. `final`: a change
    would be a restatement.
    """

    n: int | None
    retained: int | None
    rate_bps: int | None
    low_bps: int | None
    high_bps: int | None
    state: State


class RetentionAnswer(Answer):
    """Through which local day the facts are in (null: never counted), and by which definitions."""

    watermark: Day | None
    definition_version: int
    settle_days: int


class ActiveRateCell(FigureAnswer):
    """Of the members who held the tier as of the month's start, who ordered in the month."""

    month: str
    tier: str


class ActiveRateAnswer(RetentionAnswer):
    """Active rates by month and tier."""

    cells: list[ActiveRateCell]


class CohortCell(FigureAnswer):
    """Of the members who first ordered in a month, who ordered `months_later` months later."""

    entry_month: str
    months_later: int


class CohortsAnswer(RetentionAnswer):
    """Cohorts by month of the first order. `tier`: held at entry."""

    cells: list[CohortCell]


class DayNCell(FigureAnswer):
    """Who came back by day `day` after the first order's, on days `day` - 29 to `day`, or on it or later.

    `entry_month` null: all entry months of the query that are over for it.
    """

    entry_month: str | None
    measure: Literal["within", "within_with_day0", "bracket", "on_or_after", "on_or_after_so_far"]
    day: int


class DayNAnswer(RetentionAnswer):
    """Who came back by days. `on_or_after` follows every member for `follow_up_days`. `tier`: held at entry."""

    follow_up_days: int
    cells: list[DayNCell]


class SurvivalCell(FigureAnswer):
    """Who ordered on this day after the first order's, or later within the follow-up."""

    day: int


class SurvivalAnswer(RetentionAnswer):
    """The survival curve of the entry months that are over for it. `tier`: held at entry."""

    follow_up_days: int
    cells: list[SurvivalCell]


class MigrationCell(FigureAnswer):
    """Of the `n` members who held `from_tier` a month before, who holds `to_tier` as of the month's start.

    `from_tier` null: not a customer a month before, or without a tier. `to_tier` null: without a tier now.
    """

    month: str
    from_tier: str | None
    to_tier: str | None


class MigrationAnswer(RetentionAnswer):
    """Moves between tiers, month to month. `tier`: moved from."""

    cells: list[MigrationCell]


class RepurchaseCell(FigureAnswer):
    """Of the members who first ordered in a month, who ordered again within 90 days, the first day included."""

    entry_month: str | None


class CycleAnswer(Answer):
    """What is so far: members, those with two orders or more, the mean days between two orders of one member."""

    members: int
    members_2plus_orders: int
    mean_days_between_orders: float | None


class RepurchaseAnswer(RetentionAnswer):
    """Repurchase by entry month. `entry_month` null: all that are over. `tier`: held at entry."""

    cells: list[RepurchaseCell]
    so_far: CycleAnswer


class _ReportView(ApiView):
    """A report: reads the query, sums the cells, answers JSON or CSV."""

    scopes = {"GET": Scope.RETENTION_READ}
    report: ClassVar[str]

    def answer(self, **more: Any) -> HttpResponseBase:
        query, ground = self.read_query(RetentionQuery), retention.get_ground(program=self.program)
        filters = find_filters(query, ground)
        rows = retention.REPORTS[self.report].read(ground=ground, filters=filters)
        if query.format == "csv":
            return report_csv(self.report, rows)
        state = ground.state
        head = {
            "watermark": state.watermark if state else None,
            "definition_version": state.definition_version if state else rules.DEFINITION_VERSION,
            "settle_days": rules.SETTLE_DAYS,
        }
        told = {name: value(ground, filters) if callable(value) else value for name, value in more.items()}
        return Response(head | told | {"cells": [show_row(row) for row in rows]})


def find_filters(query: RetentionQuery, ground: Ground) -> Filters:
    """Return what the query asks for.

    Raises: Problem 400 for months in the wrong order and for a tier that there is not.
    """
    shown = ground.last_months
    until = _month(query.until) or shown.until
    since = _month(query.since) or min(shown.since, until)
    if since > until:
        raise Problem(400, "invalid_parameter", "from: a month that is not after `to`.")
    if query.tier is not None and query.tier not in {tier.code for tier in ground.tiers.values()}:
        raise Problem(400, "invalid_parameter", "tier: a tier of the main ladder.")
    return Filters(since, until, query.tier, query.cuts)


def _month(told: str | None) -> date | None:
    return date.fromisoformat(f"{told}-01") if told else None


class ActiveRateView(_ReportView):
    report = "active-rate"

    @operation(
        summary="Read the active rate by tier and month",
        query=RetentionQuery,
        answers={200: ActiveRateAnswer},
        has_csv=True,
    )
    def get(self, _request: Request) -> HttpResponseBase:
        return self.answer()


class CohortsView(_ReportView):
    report = "cohorts"

    @operation(
        summary="Read cohorts by month of the first order",
        query=RetentionQuery,
        answers={200: CohortsAnswer},
        has_csv=True,
    )
    def get(self, _request: Request) -> HttpResponseBase:
        return self.answer()


class DayNView(_ReportView):
    report = "day-n"

    @operation(summary="Read who came back by days", query=RetentionQuery, answers={200: DayNAnswer}, has_csv=True)
    def get(self, _request: Request) -> HttpResponseBase:
        return self.answer(follow_up_days=rules.FOLLOW_UP_DAYS)


class SurvivalView(_ReportView):
    report = "survival"

    @operation(summary="Read the survival curve", query=RetentionQuery, answers={200: SurvivalAnswer}, has_csv=True)
    def get(self, _request: Request) -> HttpResponseBase:
        return self.answer(follow_up_days=rules.FOLLOW_UP_DAYS)


class MigrationView(_ReportView):
    report = "migration"

    @operation(
        summary="Read the moves between tiers", query=RetentionQuery, answers={200: MigrationAnswer}, has_csv=True
    )
    def get(self, _request: Request) -> HttpResponseBase:
        return self.answer()


class RepurchaseView(_ReportView):
    report = "repurchase"

    @operation(
        summary="Read who ordered again, and how soon",
        query=RetentionQuery,
        answers={200: RepurchaseAnswer},
        has_csv=True,
    )
    def get(self, _request: Request) -> HttpResponseBase:
        return self.answer(
            so_far=lambda ground, filters: asdict(retention.get_cycle(ground=ground, filters=filters)),
        )


class RestatementFilter(RetentionCuts):
    """Without a cut: whole cells. With one: the parts of cells that it names."""

    report: Report | None = Field(None, description="The cells of one report")


class RestatementQuery(RestatementFilter):
    """The filters, and what pages take."""

    cursor: str | None = None
    limit: str | None = None


class RestatementAnswer(Answer):
    """A final cell that changed: which one, from what to what, when and why."""

    report: Report
    period: str
    step: int
    tier: str | None
    to_tier: str | None
    market: str | None
    country: str | None
    channel: str | None
    device: str | None
    n_before: int
    retained_before: int
    n_after: int
    retained_after: int
    cause: RestatementCause
    definition_version: int
    recorded_at: Instant


class RestatementPage(PageOf):
    """Restatements, the last one first."""

    results: list[RestatementAnswer]


class RestatementsView(ApiView):
    scopes = {"GET": Scope.RETENTION_READ}

    @operation(
        summary="List final cells that changed", query=RestatementFilter, answers={200: RestatementPage}, has_csv=True
    )
    def get(self, _request: Request) -> HttpResponseBase:
        query = self.read_query(RestatementQuery)
        found = retention.list_restatements(program=self.program, cuts=query.cuts)
        if query.report is not None:
            found = found.filter(report=query.report)
        rows = self.paginate_queryset(found) or []
        if query.format == "csv":
            return restatements_csv(found)
        return self.get_paginated_response([show_restatement(row) for row in rows])
