"""A member's transactions as people read them: what moved, what it came from, what was said about it."""

from dataclasses import dataclass
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import BigIntegerField, Case, CharField, F, Model, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce, JSONObject

from core.models import Program
from membership.models import Activity, Order, OrderEdit, QualifyingCredit, Refund
from points.models import SEQ_BITS, Account, Bucket, LedgerEntry, LedgerNote, LedgerTransaction, Lot, SourceKind, Wallet

_FACTS: dict[SourceKind, type[Model]] = {
    SourceKind.ORDER: Order,
    SourceKind.REFUND: Refund,
    SourceKind.ACTIVITY: Activity,
    SourceKind.ORDER_EDIT: OrderEdit,
}
# By kind: the rows of facts that can change what is known, and the column by which the storefront knows one.
FACT_NAMES: dict[int, tuple[type[Model], str]] = {
    **{kind.value: (model, "external_id") for kind, model in _FACTS.items()},
    SourceKind.CREDIT.value: (QualifyingCredit, "source"),
}
BALANCES = (Bucket.AVAILABLE, Bucket.PENDING, Bucket.HELD, Bucket.DEBT)


@dataclass(frozen=True, slots=True)
class OwnWallet:
    """A wallet of a program and the member's account in it, if there is one yet."""

    wallet: Wallet
    account_id: int | None


@dataclass(frozen=True, slots=True)
class Source:
    """What a transaction came from: a fact by the storefront's id, or an earlier transaction by its number."""

    kind: SourceKind
    external_id: str | None = None
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Moves:
    """What a transaction did to the balances it touched; debt is shown positive.

    `points`: what the member has more or less, debt taken off; what only changes its place (a vest, a hold) is 0.
    """

    points: int
    changes: dict[str, int]
    balances_after: dict[str, int]


def find_wallet(*, program: Program, member_id: int, code: str) -> OwnWallet | None:
    """Return the program's wallet of this code, None if there is none."""
    account = Account.objects.filter(member_id=member_id, wallet=OuterRef("pk")).values("pk")
    found = Wallet.objects.filter(program=program, code=code).annotate(account_id=Subquery(account)).first()
    return None if found is None else OwnWallet(found, found.account_id)


def list_statement(account_id: int | None) -> QuerySet[LedgerTransaction]:
    """Return an account's transactions, newest first, each with `moves`, `note_body`, `source_name` and `source_row`.

    What is due and not yet posted is not among them. One statement, whatever the number of rows.
    """
    if account_id is None:
        return LedgerTransaction.objects.none().order_by("-pk")
    first = account_id << SEQ_BITS
    own = LedgerTransaction.objects.filter(pk__gte=first, pk__lt=first + (1 << SEQ_BITS))
    return with_source(with_entries(own)).order_by("-pk")


def with_entries(transactions: QuerySet[LedgerTransaction]) -> QuerySet[LedgerTransaction]:
    """Add `moves`, the entries of each transaction, and `note_body`.

    All rows of a transaction have ids between its own and the next transaction's: the primary key finds them.
    """
    following = LedgerTransaction.objects.filter(pk__gt=OuterRef("pk")).order_by("pk").values("pk")[:1]
    end = Value((1 << 63) - 1, output_field=BigIntegerField())
    entries = LedgerEntry.objects.filter(pk__gt=OuterRef("pk"), pk__lt=OuterRef("next_id"), transaction=OuterRef("pk"))
    fields = {name: name for name in ("points", "from_bucket", "to_bucket", "from_balance_after", "to_balance_after")}
    note = LedgerNote.objects.filter(pk=OuterRef("pk"), member_id=OuterRef("member_id")).values("body")
    return transactions.annotate(next_id=Coalesce(Subquery(following), end)).annotate(
        moves=ArraySubquery(entries.order_by("pk").values(entry=JSONObject(**fields))), note_body=Subquery(note)
    )


def with_source(transactions: QuerySet[LedgerTransaction]) -> QuerySet[LedgerTransaction]:
    """Add `source_name`, the storefront's id of the fact, and `source_row`, the transaction that opened the lot."""
    names = [
        When(source_kind=kind, then=Subquery(
            model._default_manager.filter(pk=OuterRef("source_id"), member_id=OuterRef("member_id"))
            .order_by().values("external_id")[:1]
        ))
        for kind, model in _FACTS.items()
    ]  # fmt: skip
    opened = Lot.objects.filter(pk=OuterRef("source_id")).order_by().values("transaction_id")[:1]
    return transactions.annotate(
        source_name=Case(*names, default=None, output_field=CharField(null=True)),
        source_row=Case(
            When(source_kind=SourceKind.LOT, then=Subquery(opened)),
            When(source_kind=SourceKind.TRANSACTION, then=F("source_id")),
            default=None,
            output_field=BigIntegerField(null=True),
        ),
    )


def read_source(transaction: Any) -> Source:
    """Return the source of a transaction of `with_source`."""
    row = transaction.source_row
    return Source(SourceKind(transaction.source_kind), transaction.source_name, None if row is None else seq_of(row))


def read_moves(transaction: Any) -> Moves:
    """Return what a transaction of `with_entries` did, from its entries in their order."""
    points = 0
    changes: dict[str, int] = {}
    after: dict[str, int] = {}
    for entry in transaction.moves:
        for side, sign in (("from", -1), ("to", 1)):
            bucket = entry[f"{side}_bucket"]
            if bucket not in BALANCES:
                continue
            name = Bucket(bucket).name.lower()
            shown = -1 if bucket == Bucket.DEBT else 1
            points += sign * entry["points"]
            changes[name] = changes.get(name, 0) + shown * sign * entry["points"]
            after[name] = shown * entry[f"{side}_balance_after"]
    return Moves(points, changes, after)


def read_reason(transaction: Any) -> str | None:
    """Return the reason in a transaction's note: None if none was given or it has been erased."""
    return None if transaction.note_body is None else transaction.note_body.get("reason") or None


def seq_of(row_id: int) -> int:
    """Return a ledger row's number in its account."""
    return row_id & ((1 << SEQ_BITS) - 1)
