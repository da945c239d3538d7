"""Decisions about a member's tier: override it, lift the override."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import IDEMPOTENCY_KEY, operation
from core.api.problems import FieldError, Problem
from core.api.types import Answer, Body, Code, DryRun, Instant, Outcome, Reason
from core.api.views import idempotent
from core.models import Scope
from membership.api.ladders import unknown_ladder
from membership.api.members import MemberView
from membership.models import Ladder, Tier, TierOverride
from membership.services import overrides


class OverrideBody(Body):
    """The tier to hold from now on until before `valid_until`, whatever the facts say."""

    tier: Code
    valid_until: Instant
    reason: Reason


class LiftQuery(Body):
    """Why the override ends before its time: in the query, because many proxies drop the body of a DELETE."""

    reason: Reason


class OverrideAnswer(Answer):
    """An override. It ended at `lifted_at` if that is set, otherwise it ends at `valid_until`."""

    ladder: str
    tier: str
    valid_from: Instant
    valid_until: Instant
    reason: str
    decided_by: str
    lifted_at: Instant | None


class OverrideRecorded(Answer):
    """The override as it is recorded."""

    outcome: Outcome
    override: OverrideAnswer


class OverrideView(MemberView):
    scopes = {"POST": Scope.TIERS_OVERRIDE, "DELETE": Scope.TIERS_OVERRIDE}

    @operation(
        summary="Let a member hold a tier until an instant",
        description="An override in force on this ladder ends. Neither upgrades nor evaluations move the member until "
        "then; afterwards the tier is the one that the facts have given meanwhile.",
        body=OverrideBody,
        query=DryRun,
        answers={201: OverrideRecorded, 200: OverrideRecorded},
        parameters=[IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=True)
    def post(self, _request: Request, ladder: str, **_address: Any) -> Response:
        query, body, found = self.read_query(DryRun), self.read(OverrideBody), self._find_ladder(ladder)
        tier = Tier.objects.filter(ladder=found, code=body.tier).first()
        if tier is None:
            errors = [FieldError(pointer="/tier", code="unknown_tier", detail="the ladder has no such tier")]
            raise Problem(422, "unknown_tier", "The ladder has no such tier.", errors=errors)
        with self.writing(dry_run=query.dry_run):
            override = overrides.override_tier(
                member=self.member,
                ladder=found,
                tier=tier,
                valid_until=body.valid_until,
                reason=body.reason,
                decided_by=self.actor,
                at=self.at,
            )
        content = {"outcome": "recorded", "override": show_override(override)}
        return Response(content, 200 if query.dry_run else 201)

    @operation(
        summary="Lift the override in force",
        description="The tier is then the one that the facts have given meanwhile.",
        query=LiftQuery,
        answers={200: OverrideAnswer},
    )
    def delete(self, _request: Request, ladder: str, **_address: Any) -> Response:
        query, found = self.read_query(LiftQuery), self._find_ladder(ladder)
        lifted = overrides.lift_override(
            member=self.member, ladder=found, reason=query.reason, decided_by=self.actor, at=self.at
        )
        return Response(show_override(lifted))

    def _find_ladder(self, code: str) -> Ladder:
        ladder = Ladder.objects.filter(program=self.program, code=code).first()
        if ladder is None:
            raise unknown_ladder()
        return ladder


def show_override(override: TierOverride) -> dict[str, Any]:
    """Return an override as the API shows it."""
    return {
        "ladder": override.ladder.code,
        "tier": override.tier.code,
        "valid_from": override.valid_from,
        "valid_until": override.valid_until,
        "reason": override.reason,
        "decided_by": override.decided_by,
        "lifted_at": override.lifted_at,
    }
