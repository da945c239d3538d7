"""What explains a transaction, read whole: the rules and the tier of its time, its lots and where they came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Max, QuerySet, Sum

from core.models import Program
from membership.models import Ladder, OrderLine, RefundLine
from membership.selectors import tiers_at
from points.definitions import EarnRuleDefinition
from points.models import (
    SEQ_BITS,
    Accrual,
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
from points.statement import Moves, Source, read_moves, read_reason, read_source, seq_of, with_entries, with_source


@dataclass(frozen=True, slots=True)
class RuleUsed:
    """The version of an earn rule that was applied."""

    code: str
    version: int
    definition: EarnRuleDefinition


@dataclass(frozen=True, slots=True)
class Earned:
    """An accrual: what one line or activity earned by one rule.

    `line`: the storefront's id of the order line, empty for an activity. `tier`: the name of the tier held then, as it
    was known when the points were posted; empty without one.
    """

    line: str
    rule: RuleUsed
    basis: int
    multiplier_bps: int
    tier: str
    points: int
    capped_points: int
    reason: AccrualReason
    floors_order: bool


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


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What a refund line asked back of an accrual: `returned` of `whole` has come back, in units or minor units.

    Of a grant there is no rule, and neither order nor line; of an activity neither order nor line. `before`: what
    earlier refunds asked. `due`: what this one asks. `owed`: that without what had expired (None: recorded before this
    was kept). `taken`: what the account gave.
    """

    order: str
    line: str
    rule: RuleUsed | None
    is_units: bool
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
    by_rules = Accrual.objects.filter(rule_version__isnull=False, **ids)
    accruals = list(by_rules.select_related("rule_version__owner").order_by("pk"))
    returns = list(AccrualReturn.objects.filter(**ids).select_related("accrual__rule_version__owner").order_by("pk"))
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
        judged_at=_judged_at(transaction) if returns else transaction.effective_at,
        clawback=Terms(program).policy_at(wallet.pk, transaction.effective_at).clawback,
        moves=read_moves(transaction),
        earned=tell_earned(accruals, [(transaction.effective_at, transaction.recorded_at)] * len(accruals), program),
        taken_back=_taken_back(returns, lots, program, transaction.pk),
        opened=tuple(lots[pk] for pk in sorted(opened)),
        taken=tuple(Taken(lots[part.lot_id], part.points) for part in taken),
    )


def _judged_at(transaction: LedgerTransaction) -> datetime:
    """Return the latest instant of the account when the transaction was posted: lots are never judged by an earlier."""
    first = transaction.pk >> SEQ_BITS << SEQ_BITS
    until = LedgerTransaction.objects.filter(pk__gt=first, pk__lte=transaction.pk)
    latest: datetime = until.aggregate(at=Max("effective_at"))["at"]
    return latest


def tell_earned(
    accruals: list[Accrual], instants: list[tuple[datetime, datetime]], program: Program
) -> tuple[Earned, ...]:
    """Return accruals with what explains them; `instants`: when each took effect and when it was recorded."""
    if not accruals:
        return ()
    terms = Terms(program)
    lines = _line_names(accrual.source_id for accrual in accruals if accrual.source_kind == SourceKind.ORDER_LINE)
    tiers = {told: tier_known(program, accruals[0].member_id, *told)[1] for told in set(instants)}
    return tuple(
        Earned(
            line=lines.get(accrual.source_id, ("", ""))[1] if accrual.source_kind == SourceKind.ORDER_LINE else "",
            rule=_rule(accrual, program),
            basis=accrual.basis,
            multiplier_bps=accrual.multiplier_bps,
            tier=tiers[told],
            points=accrual.points,
            capped_points=accrual.capped_points,
            reason=AccrualReason(accrual.reason),
            floors_order=terms.policy_at(accrual.wallet_id, told[0]).rounding == "order",
        )
        for accrual, told in zip(accruals, instants, strict=True)
    )


def tier_known(program: Program, member_id: int, at: datetime, known_at: datetime) -> tuple[str, str]:
    """Return code and name of the tier that rules looked at: the one held at an instant, as it was known later."""
    ladder = Ladder.objects.filter(program=program).first()
    if ladder is None:
        return "", ""
    held = tiers_at(ladder_id=ladder.pk, at=at, known_at=known_at, member_ids=[member_id])
    period = held.select_related("tier").first()
    return (period.tier.code, period.tier.name) if period else ("", "")


def _rule(accrual: Accrual, program: Program) -> RuleUsed:
    version = accrual.rule_version
    if version is None:
        raise LookupError("no rule gave a grant")
    definition = EarnRuleDefinition.model_validate(version.definition, context={"currency": program.currency})
    return RuleUsed(version.owner.code, version.number, definition)


def _line_names(line_ids: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Return the storefront's ids of order and line."""
    rows = OrderLine.objects.filter(pk__in=set(line_ids)).order_by()
    return {pk: (order, line) for pk, order, line in rows.values_list("pk", "order__external_id", "external_id")}


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
    lines = _line_names(back.accrual.source_id for back in returns if back.accrual.rule_version_id)
    refund_lines = RefundLine.objects.filter(pk__in={back.source_id for back in returns}, units__isnull=False)
    by_units = set(refund_lines.values_list("pk", flat=True))
    earlier: QuerySet[Any] = AccrualReturn.objects.filter(
        accrual__in={back.accrual_id for back in returns}, pk__lt=transaction_id
    )
    before = dict(earlier.order_by().values_list("accrual_id").annotate(Sum("points_due")))
    told = []
    for back in returns:
        is_grant = back.accrual.rule_version_id is None
        is_line = back.accrual.source_kind == SourceKind.ORDER_LINE
        order, line = lines[back.accrual.source_id] if is_line else ("", "")
        told.append(
            TakenBack(
                order=order,
                line=line,
                rule=None if is_grant else _rule(back.accrual, program),
                is_units=is_grant or back.source_id in by_units,
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
