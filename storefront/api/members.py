"""A member whole in one call: who they are, what they hold, what the next tier needs, and what they can spend."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import operation
from core.api.types import Instant
from core.models import Scope
from membership import selectors as tiers
from membership.api.members import MemberAnswer, ProfileView, show_member
from membership.api.tiers import TierStandingAnswer, show_standing
from points import selectors as points
from points.api.balances import WalletStandingAnswer
from points.api.balances import show_standing as show_wallet


class MemberSummaryAnswer(MemberAnswer):
    """A member with their tier on every ladder, the way up and what keeps it, and their points in every wallet."""

    at: Instant
    ladders: list[TierStandingAnswer]
    wallets: list[WalletStandingAnswer]


class MemberSummaryView(ProfileView):
    scopes = ProfileView.scopes | {"GET": Scope.MEMBERS_READ}
    is_open_to_members = True

    @operation(summary="Read a member with tiers, path and points", answers={200: MemberSummaryAnswer})
    def get(self, _request: Request, **_address: Any) -> Response:
        at, member_id, program = self.at, self.member.pk, self.program
        standings = tiers.list_standings(program=program, member_id=member_id, at=at)
        return Response({
            **show_member(self.member),
            "at": at,
            "ladders": [
                show_standing(
                    standing,
                    program.currency,
                    at=at,
                    path=tiers.find_path(plans=standing.plans, period=standing.period, at=at),
                )
                for standing in standings
            ],
            "wallets": [
                show_wallet(standing, program) for standing in points.list_standings(member_id=member_id, at=at)
            ],
        })  # fmt: skip
