"""How a member stands: balances, what expires next, and the open lots of every wallet."""

from datetime import date, datetime
from typing import Any

from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import operation
from core.api.types import Answer, Body, Instant
from core.calendar import TICK, local_date
from core.models import Program, Scope
from membership.api.members import MemberView
from points.past import list_standings_at
from points.selectors import LOTS_SHOWN, Standing, list_standings


class BalanceAnswer(Answer):
    """Points as of the request: what has fallen due counts as done, whether or not it has been posted yet.

    `available` can be used now, `pending` later, `held` is reserved. `debt` was spent before its order came back; new
    points repay it first.
    """

    available: int
    pending: int
    held: int
    debt: int
    lifetime_earned: int
    lifetime_redeemed: int


class NextExpiryAnswer(Answer):
    """What expires first, unless it is used: gone from `expires_at` on; `last_day` is the last day to use it."""

    points: int
    expires_at: datetime
    last_day: date


class OpenLotAnswer(Answer):
    """What is left of points that were earned together. Usable from `available_at` until before `expires_at`."""

    lot: int = Field(description="The number by which explanations name the lot")
    points: int
    is_pending: bool
    available_at: datetime
    expires_at: datetime | None


class WalletStandingAnswer(Answer):
    """A member in one wallet."""

    wallet: str
    name: str
    balance: BalanceAnswer
    next_expiry: NextExpiryAnswer | None
    lots: list[OpenLotAnswer] = Field(description=f"What expires first comes first; at most {LOTS_SHOWN}")
    lot_count: int


class MemberPointsAnswer(Answer):
    """A member's points in every wallet of the program."""

    member: str
    at: datetime
    wallets: list[WalletStandingAnswer]


class PointsQuery(Body):
    """At which instant."""

    at: Instant | None = Field(None, description="The instant asked about; left out: now")


class MemberPointsView(MemberView):
    scopes = {"GET": Scope.POINTS_READ}
    is_open_to_members = True

    @operation(
        summary="Read a member's balances, next expiries and open lots",
        description="Of an instant before the last posting: what had taken effect by then, as it is known now.",
        query=PointsQuery,
        answers={200: MemberPointsAnswer},
    )
    def get(self, _request: Request, **_address: Any) -> Response:
        told = self.read_query(PointsQuery).at
        at = told or self.at
        find = list_standings if told is None else list_standings_at
        standings = find(member_id=self.member.pk, at=at)
        return Response({
            "member": self.member.external_id,
            "at": at,
            "wallets": [show_standing(standing, self.program) for standing in standings],
        })  # fmt: skip


def show_standing(standing: Standing, program: Program) -> dict[str, Any]:
    """Return a standing as the API shows it."""
    expiry = standing.next_expiry
    return {
        "wallet": standing.code,
        "name": standing.name,
        "balance": show_balance(standing),
        "next_expiry": expiry and {
            "points": expiry.points,
            "expires_at": expiry.expires_at,
            "last_day": local_date(expiry.expires_at - TICK, program.time_zone),
        },
        "lots": [
            {
                "lot": lot.seq,
                "points": lot.remaining,
                "is_pending": lot.is_pending,
                "available_at": lot.available_at,
                "expires_at": lot.expires_at,
            }
            for lot in standing.lots
        ],
        "lot_count": standing.lot_count,
    }  # fmt: skip


def show_balance(standing: Standing) -> dict[str, int]:
    """Return the balances of a standing."""
    balance = standing.balance
    return {name: getattr(balance, name) for name in BalanceAnswer.model_fields}
