"""Why a member has a tier, and why not another one."""

from datetime import datetime
from typing import Annotated, Any, Literal

from django.utils.translation import get_language
from pydantic import AfterValidator, Field
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import operation
from core.api.problems import Problem
from core.api.types import Answer, Body, Code, Instant
from core.models import Scope
from membership import explain
from membership.api.ladders import find_plans
from membership.api.members import MemberView
from membership.api.tiers import StepAnswer, TierStandingAnswer, show_standing, show_step
from membership.field_checks import LATEST
from membership.stories import (
    FactKind,
    TierFact,
    TierStory,
    find_story,
    list_facts_of_step,
    list_facts_that_decided,
    nearest,
)


def _in_reach(at: datetime | None) -> datetime | None:
    if at is not None and at >= LATEST:
        raise ValueError(f"ask about an instant before {LATEST:%Y}")
    return at


class ExplanationQuery(Body):
    """Without `tier`: why the tier held at `at`. With it: why not that one."""

    at: Annotated[Instant | None, AfterValidator(_in_reach)] = Field(
        None, description="The instant asked about; left out: now"
    )
    tier: Code | None = Field(None, description="A tier of the ladder")


class TierFactAnswer(Answer):
    """A fact that counts. `value`: minor units of the program's currency (a refund's are taken off), or credits.

    A credit's id is its source.
    """

    kind: FactKind
    external_id: str
    at: Instant
    value: int | None


class TierExplanation(Answer):
    """Why a tier is held or not, in sentences of the language asked for (Accept-Language: en, zh-hans).

    `step`: the tier asked about, or what keeps the one held; `facts`: the latest five of each kind that count toward
    it, or that counted when the tier held was decided. `upgrade` and `next_evaluation_at` of `standing`: what will be
    decided when. `ladder_version`: whose requirements these are.
    """

    ladder: str
    tier: str
    is_held: bool
    language: str
    sentences: list[str] = Field(min_length=1)
    ladder_version: int
    upgrade: Literal["immediate", "at_evaluation"]
    standing: TierStandingAnswer
    step: StepAnswer | None
    facts: list[TierFactAnswer]


class TierExplanationView(MemberView):
    scopes = {"GET": Scope.TIERS_READ}
    is_open_to_members = True

    @operation(
        summary="Explain a member's tier, or why it is not another one",
        answers={200: TierExplanation},
        query=ExplanationQuery,
    )
    def get(self, _request: Request, ladder: str, **_address: Any) -> Response:
        query = self.read_query(ExplanationQuery)
        find_plans(self.program, ladder)
        at = query.at or self.at
        story = find_story(program=self.program, member_id=self.member.pk, ladder=ladder, at=at)
        if story is None:
            raise Problem(404, "no_tier", "The member held no tier of this ladder at that instant.")
        return Response(show_story(story, query.tier or story.path.tier))


def show_story(story: TierStory, tier: str) -> dict[str, Any]:
    """Return why a tier is held or not.

    Raises: Problem 400 for a tier that the ladder does not have.
    """
    if tier not in story.names:
        raise Problem(400, "unknown_tier", "The ladder has no such tier.")
    version = story.standing.plans.version_at(story.at)
    sentences, step, facts = _told(story, tier)
    currency = story.program.currency
    return {
        "ladder": story.standing.plans.ladder.code,
        "tier": tier,
        "is_held": tier == story.path.tier,
        "language": get_language(),
        "sentences": sentences,
        "ladder_version": version.number if version else None,
        "upgrade": story.plan.definition.upgrade,
        "standing": show_standing(story.standing, currency, at=story.at, path=story.path),
        "step": step,
        "facts": [
            {"kind": fact.kind, "external_id": fact.external_id, "at": fact.at, "value": fact.value} for fact in facts
        ],
    }


def _told(story: TierStory, tier: str) -> tuple[list[str], dict[str, Any] | None, list[TierFact]]:
    currency = story.program.currency
    if tier == story.path.tier:
        step = show_step(story.path.stay, story.names, currency)
        return explain.explain_held(story), step, list_facts_that_decided(story)
    above = next((step for step in story.path.above if step.tier == tier), None)
    if above is None:
        return explain.explain_below(story, tier), None, []
    facts = list_facts_of_step(story, nearest(above))
    return explain.explain_not_held(story, tier), show_step(above, story.names, currency), facts
