"""What explains a transaction, read whole: the rules and the tier of its time, its lots and where they came from."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from django.db.models import Max, QuerySet, Sum

from core.models import Program
from membership.models import OrderLine, RefundLine
from points.earned_stories import Corrected, Earned, RuleUsed, read_rule, tell_corrected, tell_earned
from points.models import (
    SEQ_BITS,
    Accrual,
    AccrualCorrection,
    AccrualReason,
    AccrualReturn,
    LedgerTransaction,
    Lot,
    LotAllocation,
    SourceKind,
    TransactionKind,
    Wallet,
)
from points.services.earning import Terms
from points.statement import (
    Moves,
    Source,
    read_moves,
    read_reason,
    read_source,
    seq_of,
    with_entries,
    with_source,
)


@dataclass(frozen=True, slots=True)
class LotOrigin:
    """A lot and what brought it."""

    seq: int
    source: Source
    points: int
    available_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Taken:
    """What a transaction took of a lot (points > 0) or gave back to it (points < 0)."""

    lot: LotOrigin
    points: int


Measure = Literal["units", "amount", "money"]


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What a refund asked back of an accrual: `returned` of `whole` has come back.

    measure: of the line's units, of its amount or of the part of it that was paid in money, in minor units of
    `currency`. Of a grant there is no rule, and neither order nor line; of an activity neither order nor line.
    `before`: what earlier refunds asked. `due`: what this one asks. `owed`: that without what had expired (None:
    recorded before this was kept). `taken`: what the account gave.
    """

    order: str
    line: str
    rule: RuleUsed | None
    measure: Measure
    currency: str
    returned: int
    whole: int
    earned: int
    before: int
    due: int
    owed: int | None
    taken: int
    lot: LotOrigin | None


@dataclass(frozen=True, slots=True)
class Story:
    """One transaction with all that explains it.

    `judged_at`: the instant by which its lots were judged. `clawback`: the wallet's policy for refunds then.
    """

    seq: int
    kind: TransactionKind
    wallet: str
    currency: str
    zone: str
    source: Source
    reason: str | None
    effective_at: datetime
    recorded_at: datetime
    judged_at: datetime
    clawback: str
    moves: Moves
    earned: tuple[Earned, ...]
    taken_back: tuple[TakenBack, ...]
    corrected: tuple[Corrected, ...]
    opened: tuple[LotOrigin, ...]
    taken: tuple[Taken, ...]


def find_transaction(account_id: int | None, seq: int) -> Any:
    """Return an account's transaction of this number as `list_statement` does, None if there is none."""
    if account_id is None or not 0 < seq < 1 << SEQ_BITS:
        return None
    found = LedgerTransaction.objects.filter(pk=account_id << SEQ_BITS | seq)
    return with_source(with_entries(found)).first()


def tell(transaction: Any, *, program: Program, wallet: Wallet) -> Story:
    """Return the story of a transaction of `find_transaction`, in a number of statements that does not grow with it."""
    ids = {"pk__gt": transaction.pk, "pk__lt": transaction.next_id}
    by_rules = Accrual.objects.filter(rule_version__isnull=False, **ids).exclude(reason=AccrualReason.NOT_COVERED)
    accruals = list(by_rules.select_related("rule_version__owner").order_by("pk"))
    returns = list(AccrualReturn.objects.filter(**ids).select_related("accrual__rule_version__owner").order_by("pk"))
    corrections = list(
        AccrualCorrection.objects.filter(**ids).select_related("accrual__rule_version__owner").order_by("pk")
    )
    taken = list(LotAllocation.objects.filter(**ids).order_by("pk"))
    opened = set(Lot.objects.filter(**ids).values_list("pk", flat=True))
    lot_ids = opened | {part.lot_id for part in taken} | {back.accrual.lot_id for back in returns}
    if transaction.source_kind == SourceKind.LOT:
        lot_ids.add(transaction.source_id)
    lots = _lots({lot_id for lot_id in lot_ids if lot_id is not None})
    return Story(
        seq=seq_of(transaction.pk),
        kind=TransactionKind(transaction.kind),
        wallet=wallet.name,
        currency=program.currency,
        zone=program.time_zone,
        source=read_source(transaction),
        reason=read_reason(transaction),
        effective_at=transaction.effective_at,
        recorded_at=transaction.recorded_at,
        judged_at=_judged_at(transaction) if returns or corrections else transaction.effective_at,
        clawback=Terms(program).policy_at(wallet.pk, transaction.effective_at).clawback,
        moves=read_moves(transaction),
        earned=tell_earned(accruals, [(transaction.effective_at, transaction.recorded_at)] * len(accruals), program),
        taken_back=_taken_back(returns, lots, program, transaction.pk),
        corrected=tuple(told for _, told in tell_corrected(corrections, program)),
        opened=tuple(lots[pk] for pk in sorted(opened)),
        taken=tuple(Taken(lots[part.lot_id], part.points) for part in taken),
    )


def _judged_at(transaction: LedgerTransaction) -> datetime:
    """Return the latest instant of the account when the transaction was posted: lots are never judged by an earlier."""
    first = transaction.pk >> SEQ_BITS << SEQ_BITS
    until = LedgerTransaction.objects.filter(pk__gt=first, pk__lte=transaction.pk)
    latest: datetime = until.aggregate(at=Max("effective_at"))["at"]
    return latest


def _measure(back: AccrualReturn, line: OrderLine, by_units: Collection[int]) -> Measure:
    """Return what the share of an order line is of. by_units: refund lines, which returns named in earlier releases."""
    if back.source_kind == SourceKind.REFUND_LINE:
        return "units" if back.source_id in by_units else "amount"
    amounts = {line.amount_minor, line.amount_minor - line.paid_in_points_minor}
    if back.whole == line.units and (back.whole not in amounts or back.returned <= line.returned_units):
        return "units"
    return "amount" if back.whole == line.amount_minor else "money"


def _lots(lot_ids: set[int]) -> dict[int, LotOrigin]:
    lots = list(Lot.objects.filter(pk__in=lot_ids))
    opened_by = with_source(LedgerTransaction.objects.filter(pk__in={lot.transaction_id for lot in lots}))
    sources = {transaction.pk: _origin(transaction) for transaction in opened_by}
    return {
        lot.pk: LotOrigin(seq_of(lot.pk), sources[lot.transaction_id], lot.points, lot.available_at, lot.expires_at)
        for lot in lots
    }


def _origin(transaction: LedgerTransaction) -> Source:
    """Return what a lot came from; one that no fact brought came from the transaction itself."""
    source = read_source(transaction)
    if source.kind is SourceKind.NONE:
        return Source(SourceKind.TRANSACTION, seq=seq_of(transaction.pk))
    return source


def _taken_back(
    returns: list[AccrualReturn], lots: dict[int, LotOrigin], program: Program, transaction_id: int
) -> tuple[TakenBack, ...]:
    if not returns:
        return ()
    accruals = (back.accrual for back in returns)
    line_ids = {accrual.source_id for accrual in accruals if accrual.source_kind == SourceKind.ORDER_LINE}
    lines = OrderLine.objects.select_related("order").in_bulk(line_ids)
    of_lines = [back.source_id for back in returns if back.source_kind == SourceKind.REFUND_LINE]
    by_units = set(RefundLine.objects.filter(pk__in=of_lines, units__isnull=False).values_list("pk", flat=True))
    earlier: QuerySet[Any] = AccrualReturn.objects.filter(
        accrual__in={back.accrual_id for back in returns}, pk__lt=transaction_id
    )
    before = dict(earlier.order_by().values_list("accrual_id").annotate(Sum("points_due")))
    told = []
    for back in returns:
        is_line = back.accrual.source_kind == SourceKind.ORDER_LINE
        line = lines[back.accrual.source_id] if is_line else None
        is_old = back.source_kind == SourceKind.REFUND_LINE
        told.append(
            TakenBack(
                order=line.order.external_id if line else "",
                line=line.external_id if line else "",
                rule=read_rule(back.accrual, program) if back.accrual.rule_version_id else None,
                measure=_measure(back, line, by_units) if line else "units",
                currency=line.order.currency if line and not is_old else program.currency,
                returned=back.returned,
                whole=back.whole,
                earned=back.accrual.points,
                before=before.get(back.accrual_id, 0),
                due=back.points_due,
                owed=back.points_owed,
                taken=back.points_taken,
                lot=lots.get(back.accrual.lot_id) if back.accrual.lot_id else None,
            )
        )
        before[back.accrual_id] = before.get(back.accrual_id, 0) + back.points_due
    return tuple(told)
