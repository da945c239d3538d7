"""Corrections of facts that were told wrong."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StrictBool
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.problems import Problem, translates
from core.api.types import Answer, Body, DryRun, ExternalId, Instant, Name, Outcome, OwnId, Reason
from core.api.views import idempotent
from membership.models import Activity, FactCorrection, FactKind
from membership.services import fact_corrections
from membership.services.fact_corrections import ActivityCorrection, UnknownFact
from storefront.api.answers import ActivityAnswer, Effect, show_activity
from storefront.api.bodies import Label
from storefront.api.facts import FactView
from storefront.effects import Traces, find_effect


class ActivityCorrectionBody(Body):
    """What is right about the activity of this member and source; what is left out stays as it is.

    `void`: it never happened. It has neither kind nor instant then.
    """

    external_id: OwnId
    member: ExternalId
    source: Name = ""
    reason: Reason
    kind: Annotated[Label | None, Field(description="The right kind")] = None
    occurred_at: Annotated[Instant | None, Field(description="The right instant")] = None
    void: StrictBool = False

    def told(self, activity: str) -> ActivityCorrection:
        """Return the correction of an activity."""
        return ActivityCorrection(
            member=self.member,
            source=self.source,
            activity=activity,
            external_id=self.external_id,
            reason=self.reason,
            kind=self.kind,
            occurred_at=self.occurred_at,
            is_void=self.void,
        )


class ActivityVersion(Answer):
    """What an activity said."""

    kind: str
    occurred_at: Instant
    voided_at: Instant | None


class ActivityCorrectionAnswer(Answer):
    """A correction: what the activity said before it and after it."""

    external_id: str
    number: int
    reason: str
    decided_by: str
    recorded_at: datetime
    before: ActivityVersion
    after: ActivityVersion


class ActivityCorrected(Answer):
    """The activity as it is now, all corrections of it, and what follows from it so far."""

    outcome: Outcome
    activity: ActivityAnswer
    corrections: list[ActivityCorrectionAnswer]
    effect: Effect


@translates(UnknownFact)
def _unknown(_error: UnknownFact) -> Problem:
    return Problem(404, "unknown_activity", "The member has no such activity of this source.")


class ActivityCorrectionsView(FactView):
    @operation(
        summary="Correct an activity that was told wrong",
        description="Its kind, its instant, or that it never happened. Tiers follow at once; the next close posts what "
        "differs in points, up and down. Told again as it was told first, the activity is still repeated.",
        body=ActivityCorrectionBody,
        query=DryRun,
        answers={201: ActivityCorrected, 200: ActivityCorrected},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, activity: str) -> Response:
        query, body = self.read_query(DryRun), self.read(ActivityCorrectionBody)
        with self.trying(dry_run=query.dry_run):
            is_new = fact_corrections.correct_activity(
                program=self.program,
                correction=body.told(activity),
                decided_by=self.actor,
                last=self.latest,
                at=self.at,
            )
            content = self._show(body, activity)
        return self.answer(content, is_new=is_new, dry_run=query.dry_run)

    def _show(self, body: ActivityCorrectionBody, name: str) -> dict[str, Any]:
        activity = Activity.objects.select_related("member").get(
            member__program=self.program, member__external_id=body.member, source=body.source, external_id=name
        )
        corrections = FactCorrection.objects.filter(
            member_id=activity.member_id, fact_kind=FactKind.ACTIVITY, fact_id=activity.pk
        )
        traces = Traces(member_id=activity.member_id, at=activity.occurred_at, activity_id=activity.pk)
        return {
            "activity": show_activity(activity),
            "corrections": [show_correction(row) for row in corrections.order_by("number")],
            "effect": find_effect(self.program, traces),
        }


def show_correction(row: FactCorrection) -> dict[str, Any]:
    """Return a correction of an activity as the API shows it."""
    return {
        "external_id": row.external_id,
        "number": row.number,
        "reason": row.reason,
        "decided_by": row.decided_by,
        "recorded_at": row.recorded_at,
        "before": _show_version(row.before),
        "after": _show_version(row.after),
    }


def _show_version(content: dict[str, Any]) -> dict[str, Any]:
    voided_at = content["voided_at"]
    return {
        "kind": content["kind"],
        "occurred_at": datetime.fromisoformat(content["occurred_at"]),
        "voided_at": datetime.fromisoformat(voided_at) if voided_at else None,
    }
