"""A member's referrals: the own page, the code, and who brought them."""

from typing import Annotated, Any, Literal, Self

from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils.translation import gettext, ngettext
from pydantic import Field, StringConstraints, model_validator
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.pages import PageOf
from core.api.types import Answer, Body, DryRun, Instant, Outcome, Text, TypedCode
from core.api.views import ApiView, idempotent
from core.calendar import local_date
from core.models import Scope
from membership.api.fingerprints import FingerprintsBody
from membership.api.members import MemberView
from referrals.models import Referral
from referrals.selectors import Standing, get_standing
from referrals.services import binding, codes

State = Literal["pending", "flagged", "qualified", "rejected", "reversed"]
Visitor = Annotated[
    Text,
    StringConstraints(min_length=8, max_length=200),
    Field(description="What you know the visitor by, such as a random value in a cookie; kept as a digest alone"),
]


class BindingBody(Body):
    """Who brought the member: a code that was entered, or the visitor whose last click counts. A code beats a click."""

    code: TypedCode | None = None
    visitor: Visitor | None = None
    fingerprints: FingerprintsBody = FingerprintsBody()

    @model_validator(mode="after")
    def _something_is_told(self) -> Self:
        if self.code is None and self.visitor is None:
            raise ValueError("tell a code or a visitor")
        return self


class TouchBody(Body):
    """A visitor came by a code."""

    code: TypedCode
    visitor: Visitor


class ReferralCodeBody(Body):
    """A code of the member's own choice; left out: the one that is made for each member."""

    code: TypedCode | None = None


class ReferralCodeAnswer(Answer):
    """The code to show. It is read without regard to case, separators, and letters that look like digits."""

    code: str


class TouchAnswer(Answer):
    """The click as it was noted."""

    code: str
    touched_at: Instant


class BoundAnswer(Answer):
    """The referral. `outcome`: `repeated`, if it was there."""

    outcome: Outcome
    referral: str
    referrer: str
    state: State
    bound_at: Instant


class FriendAnswer(Answer):
    """A friend who was brought: the state, and the month of the binding. `member` is for server keys alone."""

    member: str | None
    state: State
    month: str


class MemberReferralsPage(PageOf):
    """Where the member stands, and the friends, the last one first. `summary` says it in the asked language."""

    code: str | None
    invited: int
    qualified: int
    next_milestone: int | None
    to_next: int | None
    summary: str
    results: list[FriendAnswer]


class MemberReferralsView(MemberView):
    scopes = {"GET": Scope.REFERRALS_READ}
    is_open_to_members = True
    queryset: QuerySet[Any] | None = Referral.objects.all()

    @operation(summary="A member's code, friends, and what is missing", answers={200: MemberReferralsPage})
    def get(self, _request: Request, **_address: Any) -> Response:
        friends = Referral.objects.filter(referrer_id=self.member.pk).select_related("member").order_by("-id")
        page = self.pages(friends, self._show)
        standing = get_standing(program=self.program, member_id=self.member.pk, at=self.at)
        page.data = {
            "code": standing.code,
            "invited": standing.invited,
            "qualified": standing.qualified,
            "next_milestone": standing.next_milestone,
            "to_next": standing.to_next,
            "summary": summarize(standing),
        } | page.data
        return page

    def _show(self, referral: Referral) -> dict[str, Any]:
        """Return a friend: to the member nothing that says who it is, or that somebody is looking into it."""
        is_own = self.caller.member is not None
        state = "pending" if is_own and referral.state == "flagged" else referral.state
        month = local_date(referral.bound_at, self.program.time_zone).strftime("%Y-%m")
        return {"member": None if is_own else referral.member.external_id, "state": state, "month": month}


class ReferralCodeView(MemberView):
    scopes = {"POST": Scope.REFERRALS_WRITE}

    @operation(
        summary="Make a member's code, or give them one of their choice",
        body=ReferralCodeBody,
        query=DryRun,
        answers={200: ReferralCodeAnswer},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, **_address: Any) -> Response:
        query, body = self.read_query(DryRun), self.read(ReferralCodeBody)
        with self.writing(dry_run=query.dry_run):
            if body.code is None:
                code = codes.ensure_code(member=self.member, at=self.at)
            else:
                code = codes.add_vanity_code(member=self.member, text=body.code, actor=self.actor, at=self.at)
        return Response({"code": code.text})


class BindingView(MemberView):
    scopes = {"POST": Scope.REFERRALS_WRITE}

    @operation(
        summary="Say who brought a new member",
        description=(
            "Send it right after the enrollment. A member is brought once; the same again is `repeated`. Of a refused "
            "try the fingerprints are kept. Who was refused as one person with a referrer and tries again is bound, "
            "and waits for a review."
        ),
        body=BindingBody,
        query=DryRun,
        answers={201: BoundAnswer, 200: BoundAnswer},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    def post(self, request: Request, **_address: Any) -> HttpResponse:
        try:
            return self._bind(request)
        except binding.BindingRefused as refusal:
            if not self.read_query(DryRun).dry_run:
                # Here, where what the try wrote is rolled back.
                told = self.read(BindingBody).fingerprints.model_dump(exclude_none=True)
                binding.keep_evidence(member=self.member, told=told, refusal=refusal, at=self.at)
            raise

    @idempotent(is_required=False)
    def _bind(self, _request: Request) -> Response:
        query, body = self.read_query(DryRun), self.read(BindingBody)
        with self.writing(dry_run=query.dry_run):
            bound = binding.bind(
                program=self.program,
                member=self.member,
                code=body.code or "",
                visitor=body.visitor or "",
                told=body.fingerprints.model_dump(exclude_none=True),
                at=self.at,
            )
        content = {
            "outcome": "recorded" if bound.is_new else "repeated",
            "referral": str(bound.referral.pk),
            "referrer": bound.referral.code.member.external_id,
            "state": bound.referral.state,
            "bound_at": bound.referral.bound_at,
        }
        return Response(content, 201 if bound.is_new and not query.dry_run else 200)


class TouchesView(ApiView):
    scopes = {"POST": Scope.REFERRALS_WRITE}

    @operation(
        summary="Note that a visitor came by a code",
        body=TouchBody,
        answers={201: TouchAnswer},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request) -> Response:
        body = self.read(TouchBody)
        touch = binding.record_touch(program=self.program, code=body.code, visitor=body.visitor, at=self.at)
        return Response({"code": touch.code.text, "touched_at": touch.touched_at}, 201)


def summarize(standing: Standing) -> str:
    """Return where a member stands in a sentence: 3 invited, 1 qualified, 2 to the next reward."""
    told = gettext("%(invited)s invited, %(qualified)s qualified")
    parts = [told % {"invited": standing.invited, "qualified": standing.qualified}]
    if standing.to_next is not None:
        missing = ngettext("%(count)s to the next reward", "%(count)s to the next reward", standing.to_next)
        parts.append(missing % {"count": standing.to_next})
    return ", ".join(parts)
