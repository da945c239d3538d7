"""A wallet's statement, one transaction in full, and why it is as it is."""

from datetime import datetime
from typing import Any, Literal

import django_filters
from django.utils.translation import get_language
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.filters import InstantFilter
from core.api.openapi import operation
from core.api.pages import PageOf
from core.api.types import Answer
from core.models import Scope
from points.api.problems import unknown_transaction
from points.api.wallets import WalletView
from points.earned_stories import Corrected, Earned
from points.explain import explain
from points.models import LedgerTransaction, SourceKind, TransactionKind
from points.statement import list_statement, read_moves, read_reason, read_source, seq_of
from points.stories import LotOrigin, Story, TakenBack, find_transaction, tell

KIND_NAMES = {kind: kind.name.lower() for kind in TransactionKind} | {TransactionKind.BURN: "redeem"}
_KINDS = {name: kind for kind, name in KIND_NAMES.items()}


class SourceAnswer(Answer):
    """What a transaction came from: a fact by the storefront's id, or an earlier transaction of the wallet by `seq`.

    Of a vest and an expiry it is the transaction that brought the points, of a capture and a release the hold.
    """

    kind: Literal["none", "order", "order_edit", "refund", "activity", "lot", "transaction", "referral_reward"]
    external_id: str | None
    seq: int | None


class BucketsAnswer(Answer):
    """The balances that a transaction touched; what it did not touch is left out. Debt is shown positive."""

    available: int | None = None
    pending: int | None = None
    held: int | None = None
    debt: int | None = None


class TransactionAnswer(Answer):
    """One transaction of a wallet.

    `points`: what the member has more, or less, debt taken off; what only changes its place (a vest, a hold) is 0.
    `effective_at`: when it counts; `recorded_at`: when it became known.
    """

    seq: int
    kind: Literal[
        "earn", "redeem", "hold", "capture", "release", "reverse", "expire", "vest", "adjust", "transfer", "clawback",
        "give_back",
    ]  # fmt: skip
    points: int
    changes: BucketsAnswer
    balances_after: BucketsAnswer
    effective_at: datetime
    recorded_at: datetime
    source: SourceAnswer
    reason: str | None


class StatementPage(PageOf):
    """A page of a wallet's transactions, newest first."""

    results: list[TransactionAnswer]


class AccrualAnswer(Answer):
    """What an order line (or an activity: `order_line` is null) earned by a version of a rule, and why.

    `basis`: minor units of the program's currency, or 1. `multiplier_bps`: of the tier held then.
    """

    order_line: str | None
    rule: str
    rule_version: int
    basis: int
    multiplier_bps: int
    points: int
    capped_points: int
    reason: Literal["earned", "below_one_point", "below_minimum", "nothing_paid", "not_covered", "paid_that_day"]


class LotAnswer(Answer):
    """Points that came together, with what brought them; usable from `available_at` until before `expires_at`."""

    lot: int
    points: int
    available_at: datetime
    expires_at: datetime | None
    source: SourceAnswer


class AllocationAnswer(Answer):
    """What the transaction took of a lot (points > 0) or gave back to it (points < 0)."""

    points: int
    lot: LotAnswer


class ReturnAnswer(Answer):
    """What a refund asked back of what an order line had earned by a rule, and what was taken.

    `returned` of `whole` has come back with it: of the line's units, or in minor units of the order's currency of its
    amount or of the part of that which was paid in money. Of what a referral had given, order, line and rule are null.
    """

    order: str | None
    order_line: str | None
    rule: str | None
    rule_version: int | None
    unit: Literal["units", "minor"]
    returned: int
    whole: int
    points_due: int
    points_taken: int


class CorrectionAnswer(Answer):
    """What an order line or an activity counts for since a correction, by a version of a rule; before: `points_before`.

    `fact` is what changed what was known: it came late, or was corrected. `points_added`, or `points_due` and
    `points_taken`, are what that changed.
    """

    order_line: str | None
    rule: str
    rule_version: int
    basis: int
    multiplier_bps: int
    points_before: int
    points: int
    points_added: int
    points_due: int
    points_taken: int
    fact: SourceAnswer | None


class TransactionDetailAnswer(TransactionAnswer):
    """One transaction with all that was posted with it."""

    accruals: list[AccrualAnswer]
    returns: list[ReturnAnswer]
    corrections: list[CorrectionAnswer]
    opened: list[LotAnswer]
    allocations: list[AllocationAnswer]


class TransactionExplanation(Answer):
    """Why a transaction is as it is, in sentences of the language asked for (Accept-Language: en, zh-hans)."""

    seq: int
    language: str
    sentences: list[str] = Field(min_length=1)


class StatementFilter(django_filters.FilterSet):  # type: ignore[misc]
    """`kind`, and instants: from `effective_from` until before `effective_before`."""

    kind = django_filters.ChoiceFilter(choices=[(name, name) for name in _KINDS], method="of_kind")
    effective_from = InstantFilter(field_name="effective_at", lookup_expr="gte")
    effective_before = InstantFilter(field_name="effective_at", lookup_expr="lt")

    def of_kind(self, rows: Any, _name: str, value: str) -> Any:
        """Return the rows of a kind."""
        return rows.filter(kind=_KINDS[value])


class StatementView(WalletView):
    scopes = {"GET": Scope.POINTS_READ}
    is_open_to_members = True
    queryset = LedgerTransaction.objects.none()
    filterset_class = StatementFilter

    @operation(
        summary="List a wallet's transactions, newest first",
        description="What has been posted. A vest or an expiry that fell due a moment ago may not be posted yet: it is "
        "not in the statement then, and the balances of GET members/{member}/points count it all the same.",
        answers={200: StatementPage},
    )
    def get(self, _request: Request, **_address: Any) -> Response:
        return self.pages(list_statement(self.own.account_id), show_transaction)


class _TransactionView(WalletView):
    scopes = {"GET": Scope.POINTS_READ}
    is_open_to_members = True

    def find(self, seq: int) -> Any:
        """Return the transaction.

        Raises: Problem 404.
        """
        found = find_transaction(self.own.account_id, seq)
        if found is None:
            raise unknown_transaction()
        return found

    def tell(self, found: Any) -> Story:
        """Return its story."""
        return tell(found, program=self.program, wallet=self.own.wallet)


class TransactionView(_TransactionView):
    @operation(
        summary="Read a transaction with its rules and lots",
        answers={200: TransactionDetailAnswer},
        operation_id="get_member_wallet_transaction",
    )
    def get(self, _request: Request, seq: int, **_address: Any) -> Response:
        found = self.find(seq)
        story = self.tell(found)
        return Response({
            **show_transaction(found),
            "accruals": [show_accrual(earned) for earned in story.earned],
            "returns": [_show_return(back) for back in story.taken_back],
            "corrections": [_show_correction(part) for part in story.corrected],
            "opened": [_show_lot(lot) for lot in story.opened],
            "allocations": [{"points": part.points, "lot": _show_lot(part.lot)} for part in story.taken],
        })  # fmt: skip


class TransactionExplanationView(_TransactionView):
    @operation(
        summary="Explain a transaction in sentences",
        answers={200: TransactionExplanation},
        operation_id="get_member_wallet_transaction_explain",
    )
    def get(self, _request: Request, seq: int, **_address: Any) -> Response:
        story = self.tell(self.find(seq))
        return Response({"seq": seq, "language": get_language(), "sentences": explain(story)})


def show_transaction(row: Any) -> dict[str, Any]:
    """Return a transaction of the statement as the API shows it."""
    moves, source = read_moves(row), read_source(row)
    return {
        "seq": seq_of(row.pk),
        "kind": KIND_NAMES[TransactionKind(row.kind)],
        "points": moves.points,
        "changes": moves.changes,
        "balances_after": moves.balances_after,
        "effective_at": row.effective_at,
        "recorded_at": row.recorded_at,
        "source": _show_source(source.kind, source.external_id, source.seq),
        "reason": read_reason(row),
    }


def show_accrual(earned: Earned) -> dict[str, Any]:
    """Return an accrual as the API shows it."""
    return {
        "order_line": earned.line or None,
        "rule": earned.rule.code,
        "rule_version": earned.rule.version,
        "basis": earned.basis,
        "multiplier_bps": earned.multiplier_bps,
        "points": earned.points,
        "capped_points": earned.capped_points,
        "reason": earned.reason.name.lower(),
    }


def _show_source(kind: SourceKind, external_id: str | None, seq: int | None) -> dict[str, Any]:
    return {"kind": kind.name.lower(), "external_id": external_id, "seq": seq}


def _show_lot(lot: LotOrigin) -> dict[str, Any]:
    return {
        "lot": lot.seq,
        "points": lot.points,
        "available_at": lot.available_at,
        "expires_at": lot.expires_at,
        "source": _show_source(lot.source.kind, lot.source.external_id, lot.source.seq),
    }


def _show_return(back: TakenBack) -> dict[str, Any]:
    return {
        "order": back.order or None,
        "order_line": back.line or None,
        "rule": back.rule.code if back.rule else None,
        "rule_version": back.rule.version if back.rule else None,
        "unit": "units" if back.measure == "units" else "minor",
        "returned": back.returned,
        "whole": back.whole,
        "points_due": back.due,
        "points_taken": back.taken,
    }


def _show_correction(part: Corrected) -> dict[str, Any]:
    fact = part.fact
    return {
        "order_line": part.earned.line or None,
        "rule": part.earned.rule.code,
        "rule_version": part.earned.rule.version,
        "basis": part.earned.basis,
        "multiplier_bps": part.earned.multiplier_bps,
        "points_before": part.before,
        "points": part.earned.points,
        "points_added": part.added,
        "points_due": part.due,
        "points_taken": part.taken,
        "fact": _show_source(fact.kind, fact.external_id, fact.seq) if fact else None,
    }
