"""Referrals of a program: who brought whom, what both had for it, and how many friends members bring."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

import django_filters
from django.db.models import QuerySet
from pydantic import Field, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.filters import FlagFilter, InstantFilter, TextFilter
from core.api.openapi import IDEMPOTENCY_KEY, operation
from core.api.pages import PageOf
from core.api.types import Answer, Body, Day, Instant, Text
from core.api.views import ApiView, Method, idempotent
from core.models import Scope
from membership.models import Member
from points.models import Wallet
from referrals.api.members import State
from referrals.api.problems import no_policy, unknown_referral
from referrals.k_factor import MONTHS, Cohort, horizon_days, list_cohorts
from referrals.models import Referral, ReferralReward, ReferralState
from referrals.selectors import WAITING_FOR_REVIEW, find_version, terms_of
from referrals.services import reviews

RewardStateName = Literal["pending", "flagged", "approved", "paid", "cancelled", "rejected", "clawed_back"]


class ReferralAnswer(Answer):
    """That `member` was brought by `referrer`. `due_at`: when the order that would count is settled.

    `awaits_review`: a person has to look at it, before it is paid or at new evidence afterwards.
    """

    id: str
    member: str
    referrer: str
    source: Literal["code", "touch"]
    state: State
    reason: str
    awaits_review: bool
    bound_at: Instant
    due_at: Instant | None
    decided_at: Instant | None
    qualified_at: Instant | None


class ReferralPage(PageOf):
    """Referrals, the last one first."""

    results: list[ReferralAnswer]


class SignalAnswer(Answer):
    """What spoke against a referral when it was decided, with its points of suspicion."""

    signal: str
    points: int


class RewardAnswer(Answer):
    """What a member has for a referral. `level`: 0 the referee, 1 the referrer, 2 who had brought the referrer.

    `round`: 1, and one more each time it was promised anew after it had been taken back or rejected. `reason`: why it
    was rejected (`monthly_cap`, `member_erased`, `suspension_lapsed`, `referrer_rejected`, `referral_rejected`), is not
    paid yet (`coupon_unavailable`, `member_suspended`), or could not be taken back, all or a part (`coupon_used`,
    `points_gone`).
    """

    id: str
    member: str
    level: int
    event: str = Field(description="`order`, `enrollment`, or `milestone:` and the number of friends")
    round: int
    wallet: str | None
    points: int | None
    coupon: str | None
    state: RewardStateName
    reason: str
    paid_at: Instant | None
    moved_at: Instant


class ReferralDetail(ReferralAnswer):
    """A referral with its rewards and what spoke against it."""

    upline: str | None
    policy_version: int
    order: str | None
    market: str
    score: int
    signals: list[SignalAnswer]
    reviewed_by: str
    reopened_at: Instant | None
    rewards: list[RewardAnswer]


class ReviewBody(Body):
    """Why a referral is decided so; kept with it and in the audit trail."""

    reason: Annotated[Text, StringConstraints(min_length=1, max_length=500)]


class CohortAnswer(Answer):
    """A month's invites. Ratios are texts with four places; null while the month is immature, or where nobody was."""

    month: Day
    state: Literal["immature", "mature"]
    members: int
    invites: int
    qualified: int | None
    qualified_net: int | None
    invites_per_member: str | None
    conversion: str | None
    k_gross: str | None
    k_net: str | None


class KFactorAnswer(Answer):
    """K by the month of the invite, newest first. An invite has `horizon_days` to become a qualified friend."""

    horizon_days: int
    results: list[CohortAnswer]


class KFactorQuery(Body):
    """How many months, the current one included."""

    months: int = Field(MONTHS, ge=1, le=36)


class ReferralFilter(django_filters.FilterSet):  # type: ignore[misc]
    """`member`: who was brought; `referrer`: by whom; `awaits_review`: what a person has to look at, or has not to."""

    awaits_review = FlagFilter(method="waiting_for_review")
    state = django_filters.ChoiceFilter(choices=ReferralState.choices)
    member = TextFilter(field_name="member__external_id")
    referrer = TextFilter(method="brought_by")
    bound_from = InstantFilter(field_name="bound_at", lookup_expr="gte")
    bound_before = InstantFilter(field_name="bound_at", lookup_expr="lt")

    def waiting_for_review(self, rows: QuerySet[Referral], _name: str, value: bool) -> QuerySet[Referral]:
        """Return the rows that wait for a person, or those that do not."""
        return rows.filter(WAITING_FOR_REVIEW) if value else rows.exclude(WAITING_FOR_REVIEW)

    def brought_by(self, rows: QuerySet[Referral], _name: str, value: str) -> QuerySet[Referral]:
        """Return the rows of one referrer."""
        view = self.request.parser_context["view"]
        referrer = Member.objects.filter(program=view.program, external_id=value).values("pk")
        return rows.filter(referrer_id__in=referrer)


class ReferralListView(ApiView):
    scopes = {"GET": Scope.REFERRALS_READ}
    filterset_class = ReferralFilter
    queryset = Referral.objects.all()

    @operation(summary="List referrals, the last one first", answers={200: ReferralPage})
    def get(self, _request: Request) -> Response:
        rows = Referral.objects.filter(program=self.program).select_related("member", "code__member").order_by("-id")
        return self.pages(rows, show_referral)


class _OneReferralView(ApiView):
    """A view of one referral of the program, `<int:referral>` in its address."""

    def find(self, referral_id: int) -> Referral:
        """Return the referral.

        Raises: Problem 404.
        """
        rows = Referral.objects.filter(program=self.program, pk=referral_id)
        found = rows.select_related("program", "member", "code__member", "version").first()
        if found is None:
            raise unknown_referral()
        return found


class ReferralView(_OneReferralView):
    scopes = {"GET": Scope.REFERRALS_READ}

    @operation(summary="A referral with its rewards, and why", answers={200: ReferralDetail})
    def get(self, _request: Request, referral: int) -> Response:
        return Response(_show_detail(self.find(referral)))


class _ReviewView(_OneReferralView):
    """A decision about a referral. What follows for its rewards comes within seconds."""

    scopes = {"POST": Scope.REFERRALS_REVIEW}

    def decide(self, referral_id: int, review: Callable[..., Referral]) -> Response:
        """Let a review decide, and return the referral as it is then."""
        body, referral = self.read(ReviewBody), self.find(referral_id)
        review(referral=referral, reason=body.reason, actor=self.actor, at=self.at)
        return Response(_show_detail(self.find(referral_id)))


def _decision(summary: str, description: str) -> Callable[[Method], Method]:
    return operation(
        summary=summary,
        description=description,
        body=ReviewBody,
        answers={200: ReferralDetail},
        parameters=[IDEMPOTENCY_KEY],
    )


class ApprovalView(_ReviewView):
    @_decision("Let a referral pass", "For one that awaits a review: it qualifies, or waits for its order.")
    @idempotent(is_required=True)
    def post(self, _request: Request, referral: int) -> Response:
        return self.decide(referral, reviews.approve)


class RejectionView(_ReviewView):
    @_decision("Reject a referral", "Of any state: nobody has anything for it, and what was paid is taken back.")
    @idempotent(is_required=True)
    def post(self, _request: Request, referral: int) -> Response:
        return self.decide(referral, reviews.reject)


class ReopeningView(_ReviewView):
    @_decision("Reopen a rejected referral", "It is decided anew; orders from before it do not speak against it.")
    @idempotent(is_required=True)
    def post(self, _request: Request, referral: int) -> Response:
        return self.decide(referral, reviews.reopen)


class KFactorView(ApiView):
    scopes = {"GET": Scope.REFERRALS_READ}

    @operation(
        summary="How many customers a member brings: K by month", query=KFactorQuery, answers={200: KFactorAnswer}
    )
    def get(self, _request: Request) -> Response:
        query = self.read_query(KFactorQuery)
        version = find_version(self.program, at=self.at)
        if version is None:
            raise no_policy()
        terms = terms_of(version, self.program.currency)
        cohorts = list_cohorts(program=self.program, terms=terms, at=self.at, months=query.months)
        return Response({"horizon_days": horizon_days(terms), "results": [_show_cohort(cohort) for cohort in cohorts]})


def show_referral(referral: Referral) -> dict[str, Any]:
    """Return a referral as the API shows it."""
    return {
        "id": str(referral.pk),
        "member": referral.member.external_id,
        "referrer": referral.code.member.external_id,
        "source": referral.source,
        "state": referral.state,
        "reason": referral.reason,
        "awaits_review": reviews.is_waiting_for_review(referral),
        "bound_at": referral.bound_at,
        "due_at": referral.due_at,
        "decided_at": referral.decided_at,
        "qualified_at": referral.qualified_at,
    }


def _show_detail(referral: Referral) -> dict[str, Any]:
    upline = Member.objects.filter(pk__in=[referral.upline_id or 0]).values_list("external_id", flat=True).first()
    orders = referral.member.orders.filter(pk__in=[referral.order_id or 0]).values_list("external_id", flat=True)
    rewards = referral.rewards.select_related("member").order_by("level", "id")
    wallets = dict(Wallet.objects.filter(program_id=referral.program_id).values_list("pk", "code"))
    return show_referral(referral) | {
        "upline": upline,
        "policy_version": referral.version.number,
        "order": orders.first(),
        "market": referral.market,
        "score": referral.score,
        "signals": referral.signals,
        "reviewed_by": referral.reviewed_by,
        "reopened_at": referral.reopened_at,
        "rewards": [_show_reward(reward, wallets) for reward in rewards],
    }


def _show_reward(reward: ReferralReward, wallets: dict[int, str]) -> dict[str, Any]:
    return {
        "id": str(reward.pk),
        "member": reward.member.external_id,
        "level": reward.level,
        "event": "order" if reward.event.startswith("order:") else reward.event,
        "round": reward.round,
        "wallet": None if reward.wallet_id is None else wallets[reward.wallet_id],
        "points": reward.points,
        "coupon": reward.coupon or None,
        "state": reward.state,
        "reason": reward.reason,
        "paid_at": reward.paid_at,
        "moved_at": reward.moved_at,
    }


def _show_cohort(cohort: Cohort) -> dict[str, Any]:
    def text(ratio: Fraction | None) -> str | None:
        return None if ratio is None else f"{Decimal(ratio.numerator) / ratio.denominator:.4f}"

    return {
        "month": cohort.month,
        "state": "mature" if cohort.is_mature else "immature",
        "members": cohort.members,
        "invites": cohort.invites,
        "qualified": cohort.qualified if cohort.is_mature else None,
        "qualified_net": cohort.kept if cohort.is_mature else None,
        "invites_per_member": text(cohort.invites_per_member),
        "conversion": text(cohort.conversion),
        "k_gross": text(cohort.k_gross),
        "k_net": text(cohort.k_net),
    }
