"""The ladders of a program: what each tier needs and gives."""

from typing import Any, Literal

from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import operation
from core.api.pages import PageOf
from core.api.problems import Problem
from core.api.types import Answer, Instant
from core.api.views import ApiView
from core.models import Program, Scope
from membership.definitions import AnyOf, Benefits, Metric
from membership.explain import show_requirement
from membership.ladder_plans import LadderPlans, list_plans
from membership.models import Ladder
from membership.rules import window_name


class RequirementAnswer(Answer):
    """`metric >= at_least` over the window. With a currency, `at_least` is in its minor units."""

    metric: Metric
    window: str
    at_least: int
    currency: str | None
    text: str


class BenefitsAnswer(Answer):
    """What a tier gives. `points_multiplier_bps` of rules that follow the tier: 12500 is 1.25.

    `discount_bps` off the list price of each line: 500 is 5%, null is none.
    """

    points_multiplier_bps: int
    discount_bps: int | None
    free_shipping: bool


class LadderTierAnswer(Answer):
    """A tier. One of the groups of `entry` reaches it, one of `stay` keeps it; within a group all must hold."""

    code: str
    name: str
    entry: list[list[RequirementAnswer]]
    stay: list[list[RequirementAnswer]]
    benefits: BenefitsAnswer


class LadderEvaluationAnswer(Answer):
    """When everybody is evaluated: each day, each month on the 1st, or each year `on` a date."""

    every: Literal["day", "month", "year"]
    on: str


class LadderDowngradeAnswer(Answer):
    """What an evaluation does with who does not qualify any more."""

    when: Literal["never", "at_evaluation", "after_grace"]
    grace_days: int
    to: Literal["qualified", "one_tier"]


class LadderAnswer(Answer):
    """A ladder by the version in force, its tiers from the lowest to the highest. The first ladder is the main one."""

    code: str
    name: str
    version: int
    effective_at: Instant | None
    upgrade: Literal["immediate", "at_evaluation"]
    evaluation: LadderEvaluationAnswer
    downgrade: LadderDowngradeAnswer
    minimum_stay_days: int
    next_evaluation_at: Instant | None
    tiers: list[LadderTierAnswer]


class LadderPage(PageOf):
    """The ladders that have a version in force, the main one first."""

    results: list[LadderAnswer]


class LaddersView(ApiView):
    scopes = {"GET": Scope.PROGRAMS_READ}
    is_open_to_members = True

    @operation(summary="List the ladders as they are in force", answers={200: LadderPage})
    def get(self, _request: Request) -> Response:
        plans = {each.ladder.pk: each for each in list_plans(self.program) if each.at(self.at)}
        ladders = Ladder.objects.filter(pk__in=plans).order_by("pk")
        return self.pages(ladders, lambda ladder: show_ladder(plans[ladder.pk], self))


class LadderView(ApiView):
    scopes = {"GET": Scope.PROGRAMS_READ}
    is_open_to_members = True

    @operation(summary="Read a ladder as it is in force", answers={200: LadderAnswer})
    def get(self, _request: Request, ladder: str) -> Response:
        plans = find_plans(self.program, ladder)
        if plans.at(self.at) is None:
            raise unknown_ladder()
        return Response(show_ladder(plans, self))


def find_plans(program: Program, code: str) -> LadderPlans:
    """Return the plans of a ladder.

    Raises: Problem 404.
    """
    for plans in list_plans(program):
        if plans.ladder.code == code:
            return plans
    raise unknown_ladder()


def unknown_ladder() -> Problem:
    """Return the refusal of a ladder that there is not."""
    return Problem(404, "unknown_ladder", "The program has no ladder with this code.")


def show_ladder(plans: LadderPlans, view: ApiView) -> dict[str, Any]:
    """Return a ladder by the version in force at the view's instant."""
    version, plan = plans.version_at(view.at), plans.at(view.at)
    if version is None or plan is None:
        raise unknown_ladder()
    definition, currency = plan.definition, view.program.currency
    return {
        "code": plans.ladder.code,
        "name": plans.ladder.name,
        "version": version.number,
        "effective_at": version.effective_at,
        "upgrade": definition.upgrade,
        "evaluation": definition.evaluation.model_dump(),
        "downgrade": definition.downgrade.model_dump(),
        "minimum_stay_days": definition.minimum_stay_days,
        "next_evaluation_at": plans.get_evaluation_after(view.at),
        "tiers": [
            {
                "code": tier.code,
                "name": tier.name,
                "entry": _show_any_of(tier.entry, currency),
                "stay": _show_any_of(tier.stay or tier.entry, currency),
                "benefits": show_benefits(tier.benefits),
            }
            for tier in definition.tiers
        ],
    }


def show_benefits(benefits: Benefits) -> dict[str, Any]:
    """Return what a tier gives."""
    return {
        "points_multiplier_bps": benefits.points_multiplier,
        "discount_bps": benefits.discount,
        "free_shipping": benefits.free_shipping,
    }


def _show_any_of(any_of: AnyOf | None, currency: str) -> list[list[dict[str, Any]]]:
    return [
        [
            {
                "metric": need.metric,
                "window": window_name(need.window),
                "at_least": need.at_least,
                "currency": currency if need.metric == "net_spend" else None,
                "text": show_requirement(need.metric, need.at_least, window_name(need.window), currency),
            }
            for need in branch.all_of
        ]
        for branch in (any_of.any_of if any_of else ())
    ]
