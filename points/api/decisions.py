"""What is decided about points over HTTP: redeem, adjust, reverse."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field, StrictBool, StrictInt
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import IDEMPOTENCY_KEY, operation
from core.api.types import Answer, Body, DryRun, Outcome, Points, Reason, Text
from core.api.views import idempotent
from core.models import Scope
from points.api.balances import BalanceAnswer, show_balance
from points.api.problems import unknown_request, unknown_transaction
from points.api.statement import TransactionAnswer, show_transaction
from points.api.wallets import WalletView
from points.models import SEQ_BITS, AdjustmentRequest, RequestState
from points.selectors import list_standings
from points.services import approvals, operations
from points.services.posting import Posted
from points.statement import seq_of
from points.stories import find_transaction

MAX_ADJUSTMENT = operations.MAX_ADJUSTMENT


def _some(points: int) -> int:
    if not points:
        raise ValueError("give or take at least one point")
    return points


ShownReason = Annotated[Reason, Field(description="Shown to the member too")]


class RedemptionBody(Body):
    """Points to use, those that expire first first."""

    points: Points
    reason: Text = Field("", description="What they are used for; shown to the member too")


class AdjustmentBody(Body):
    """Points to give (> 0) or to take (< 0), and why."""

    points: Annotated[StrictInt, Field(ge=-MAX_ADJUSTMENT, le=MAX_ADJUSTMENT), AfterValidator(_some)]
    reason: ShownReason
    debt: StrictBool = Field(False, description="Points taken that are not there become debt; false: refused then")


class ReversalBody(Body):
    """The number of the posting to undo, and why: a redemption, an adjustment, or what an activity earned."""

    seq: Annotated[StrictInt, Field(ge=1, lt=1 << SEQ_BITS)]
    reason: ShownReason
    debt: StrictBool = Field(True, description="Points to take back that are spent become debt; false: given up then")


class PostingAnswer(Answer):
    """The posting and the balances after it, as reads see them now.

    `outcome`: `repeated`, if the key had posted this before. A dry run leaves no transaction.
    """

    outcome: Outcome
    transaction: TransactionAnswer | None
    balance: BalanceAnswer


class AdjustmentRequestAnswer(Answer):
    """An adjustment above the wallet's `approval_above`: it waits for a second person, then it is posted or rejected.

    `seq`: of the posting, once it is approved. `id`: null in a dry run, which leaves no request.
    """

    id: UUID | None
    state: RequestState
    points: int
    debt: bool
    reason: str
    requested_by: str
    requested_at: datetime
    decided_at: datetime | None
    decision_reason: str
    seq: int | None


def show_request(request: AdjustmentRequest) -> dict[str, Any]:
    """Return a request as the API shows it."""
    names = ("points", "debt", "reason", "requested_by", "requested_at", "state", "decided_at", "decision_reason")
    posted = request.transaction_id
    shown = {name: getattr(request, name) for name in names}
    return {"id": request.public_id, **shown, "seq": seq_of(posted) if posted else None}


class _DecisionView(WalletView):
    @property
    def posting_key(self) -> str:
        """The posting's own key: who sent the request and under which Idempotency-Key. It never lapses."""
        return f"{self.caller.name}:{self.request.headers.get('Idempotency-Key', '')}"

    @property
    def told(self) -> dict[str, Any]:
        """What every decision needs to know."""
        return {
            "program": self.program,
            "member_id": self.member.pk,
            "wallet_id": self.own.wallet.pk,
            "idempotency_key": self.posting_key,
            "at": self.at,
        }

    def answer(self, posted: Posted, *, dry_run: bool) -> Response:
        """Return the posting and what the member has now."""
        found = find_transaction(posted.transaction_id >> SEQ_BITS, seq_of(posted.transaction_id))
        standing = list_standings(member_id=self.member.pk, at=self.at, wallet_id=self.own.wallet.pk)[0]
        body = {
            "outcome": "recorded" if posted.is_new else "repeated",
            "transaction": None if dry_run else show_transaction(found),
            "balance": show_balance(standing),
        }
        return Response(body, 201 if posted.is_new and not dry_run else 200)


class RedemptionsView(_DecisionView):
    scopes = {"POST": Scope.POINTS_REDEEM}
    is_open_to_members = True

    @operation(
        summary="Redeem points",
        body=RedemptionBody,
        query=DryRun,
        answers={201: PostingAnswer, 200: PostingAnswer},
        parameters=[IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=True)
    def post(self, _request: Request, **_address: Any) -> Response:
        query, body = self.read_query(DryRun), self.read(RedemptionBody)
        with self.writing(dry_run=query.dry_run):
            posted = operations.redeem(**self.told, points=body.points, reason=body.reason, redeemed_by=self.actor)
            return self.answer(posted, dry_run=query.dry_run)


class AdjustmentsView(_DecisionView):
    scopes = {"POST": Scope.POINTS_ADJUST}

    @operation(
        summary="Give or take points by a decision",
        body=AdjustmentBody,
        query=DryRun,
        answers={201: PostingAnswer, 200: PostingAnswer, 202: AdjustmentRequestAnswer},
        parameters=[IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=True)
    def post(self, _request: Request, **_address: Any) -> Response:
        query, body = self.read_query(DryRun), self.read(AdjustmentBody)
        with self.writing(dry_run=query.dry_run):
            made = approvals.adjust(
                program=self.program, member=self.member, wallet_id=self.own.wallet.pk, points=body.points,
                reason=body.reason, debt=body.debt, decided_by=self.actor, idempotency_key=self.posting_key, at=self.at,
            )  # fmt: skip
            if isinstance(made, AdjustmentRequest):
                return Response(show_request(made) | ({"id": None} if query.dry_run else {}), 202)
            return self.answer(made, dry_run=query.dry_run)


class AdjustmentRequestView(WalletView):
    scopes = {"GET": Scope.POINTS_ADJUST}

    @operation(summary="Read an adjustment that waits for a second person", answers={200: AdjustmentRequestAnswer})
    def get(self, _request: Request, adjustment: UUID, **_address: Any) -> Response:
        own = AdjustmentRequest.objects.filter(member=self.member, wallet=self.own.wallet)
        found = own.filter(public_id=adjustment).first()
        if found is None:
            raise unknown_request()
        return Response(show_request(found))


class ReversalsView(_DecisionView):
    scopes = {"POST": Scope.POINTS_ADJUST}

    @operation(
        summary="Reverse a redemption, an adjustment or what an activity earned",
        body=ReversalBody,
        query=DryRun,
        answers={201: PostingAnswer, 200: PostingAnswer},
        parameters=[IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=True)
    def post(self, _request: Request, **_address: Any) -> Response:
        query, body = self.read_query(DryRun), self.read(ReversalBody)
        account_id = self.own.account_id
        found = find_transaction(account_id, body.seq)
        if found is None:
            raise unknown_transaction()
        with self.writing(dry_run=query.dry_run):
            posted = operations.reverse(
                **self.told, transaction_id=found.pk, reason=body.reason, decided_by=self.actor, debt=body.debt
            )
            return self.answer(posted, dry_run=query.dry_run)
