"""Referrals of a program: who brought whom, what both had for it, and how many friends members bring."""

from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import django_filters
from django.db.models import QuerySet
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.filters import InstantFilter, TextFilter
from core.api.openapi import operation
from core.api.pages import PageOf
from core.api.types import Answer, Body, Day, Instant
from core.api.views import ApiView
from core.models import Scope
from membership.models import Member
from points.models import Wallet
from referrals.api.members import State
from referrals.api.problems import no_policy, unknown_referral
from referrals.k_factor import MONTHS, Cohort, horizon_days, list_cohorts
from referrals.models import Referral, ReferralReward, ReferralState
from referrals.selectors import find_version, terms_of

RewardStateName = Literal["pending", "flagged", "approved", "paid", "cancelled", "rejected", "clawed_back"]


class ReferralAnswer(Answer):
    """That `member` was brought by `referrer`. `due_at`: when the order that would count is settled."""

    id: str
    member: str
    referrer: str
    source: Literal["code", "touch"]
    state: State
    reason: str
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

    `reason`: why it was rejected (`monthly_cap`, `member_erased`, `referrer_rejected`), is not paid yet
    (`coupon_unavailable`), or could not be taken back, all or a part (`coupon_used`, `points_gone`).
    """

    id: str
    member: str
    level: int
    event: str = Field(description="`order`, `enrollment`, or `milestone:` and the number of friends")
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
    rewards: list[RewardAnswer]


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
    """`member`: who was brought; `referrer`: by whom."""

    state = django_filters.ChoiceFilter(choices=ReferralState.choices)
    member = TextFilter(field_name="member__external_id")
    referrer = TextFilter(method="brought_by")
    bound_from = InstantFilter(field_name="bound_at", lookup_expr="gte")
    bound_before = InstantFilter(field_name="bound_at", lookup_expr="lt")

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


class ReferralView(ApiView):
    scopes = {"GET": Scope.REFERRALS_READ}

    @operation(summary="A referral with its rewards, and why", answers={200: ReferralDetail})
    def get(self, _request: Request, referral: int) -> Response:
        rows = Referral.objects.filter(program=self.program, pk=referral)
        found = rows.select_related("member", "code__member", "version").first()
        if found is None:
            raise unknown_referral()
        return Response(_show_detail(found))


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
        "rewards": [_show_reward(reward, wallets) for reward in rewards],
    }


def _show_reward(reward: ReferralReward, wallets: dict[int, str]) -> dict[str, Any]:
    return {
        "id": str(reward.pk),
        "member": reward.member.external_id,
        "level": reward.level,
        "event": "order" if reward.event.startswith("order:") else reward.event,
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
