"""Qualifying credits: what counts toward a tier beside spend, orders and active days."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StrictInt
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.pages import PageOf
from core.api.types import Answer, Body, Code, DryRun, ExternalId, Instant, Outcome
from core.api.views import idempotent
from core.models import Scope
from membership.api.members import MemberView
from membership.fact_inputs import CreditInput
from membership.field_checks import MAX_COUNT
from membership.models import QualifyingCredit
from storefront.api.answers import Effect
from storefront.api.facts import FactView
from storefront.effects import Traces, find_effect
from storefront.services import intake


class CreditBody(Body):
    """Credits toward a tier. `source`: what they are for, such as `event:42`; `rule`: why, such as `host`.

    Together they are the key for ever. What was too much is taken off by a negative number under a key of its own.
    """

    source: ExternalId
    rule: Code
    credits: Annotated[StrictInt, Field(ge=-MAX_COUNT, le=MAX_COUNT)]
    effective_at: Instant


class CreditAnswer(Answer):
    """Credits of a member, from their instant on."""

    member: str
    source: str
    rule: str
    credits: int
    effective_at: datetime
    recorded_at: datetime


class CreditPage(PageOf):
    """Credits, the last recorded first."""

    results: list[CreditAnswer]


class CreditRecorded(Answer):
    """The credits as they are stored, and what followed from them."""

    outcome: Outcome
    credit: CreditAnswer
    effect: Effect


class CreditsView(FactView, MemberView):
    scopes = {"GET": Scope.FACTS_READ, "POST": Scope.FACTS_WRITE}
    queryset = QualifyingCredit.objects.all()

    @operation(summary="List a member's qualifying credits, the last recorded first", answers={200: CreditPage})
    def get(self, _request: Request, **_address: Any) -> Response:
        credits_of = QualifyingCredit.objects.filter(member=self.member).select_related("member")
        return self.pages(credits_of.order_by("-id"), _show)

    @operation(
        summary="Record qualifying credits of a member",
        description="They count toward tiers whose requirements name `credits`. Their key for ever is source and rule.",
        body=CreditBody,
        query=DryRun,
        answers={201: CreditRecorded, 200: CreditRecorded},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, **_address: Any) -> Response:
        query, body = self.read_query(DryRun), self.read(CreditBody)
        told = CreditInput(member=self.member.external_id, **dict(body))
        with self.trying(dry_run=query.dry_run):
            recorded = intake.record_credit(
                program=self.program, credit=told, actor=self.actor, last=self.latest, at=self.at
            )
            credit = QualifyingCredit.objects.select_related("member").get(
                member=self.member, source=told.source, rule=told.rule
            )
            traces = Traces(member_id=self.member.pk, at=credit.effective_at)
            content = {"credit": _show(credit), "effect": find_effect(self.program, traces)}
        return self.answer(content, is_new=not recorded.repeated, dry_run=query.dry_run)


def _show(credit: QualifyingCredit) -> dict[str, Any]:
    return {
        "member": credit.member.external_id,
        "source": credit.source,
        "rule": credit.rule,
        "credits": credit.credits,
        "effective_at": credit.effective_at,
        "recorded_at": credit.recorded_at,
    }
