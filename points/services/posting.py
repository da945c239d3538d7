"""Post to the ledger: one door for every kind, one posting or a batch."""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import DatabaseError, connection, transaction

from core.metrics import POSTING_SECONDS
from membership.models import Member
from points.models import LedgerTransaction, SourceKind, TransactionKind, Wallet
from points.rules import LineAccrual


class PostingError(Exception):
    """A posting was refused; nothing of its batch was written."""


class InsufficientPoints(PostingError):
    def __init__(self, asked: int, available: int) -> None:
        super().__init__(f"{asked} points asked, {available} available")
        self.asked, self.available = asked, available


class IdempotencyKeyReused(PostingError):
    """The key has already posted something else."""


class NotReversible(PostingError):
    """Only a redemption, an adjustment or what an activity earned can be reversed, and only once."""


class ClawbackRefused(PostingError):
    """The wallet's policy refuses a refund whose points have been spent."""


class UnknownHold(PostingError):
    """The account has no hold under this reference."""


class HoldSettled(PostingError):
    """The hold has not so many points left for what is asked: they have been captured, released or given back."""

    def __init__(self, asked: int, left: int) -> None:
        super().__init__(f"{asked} points asked of a hold, {left} are left")
        self.asked, self.left = asked, left


class UnknownAccount(PostingError):
    """The program has no such member, or no such wallet."""


class MemberSuspended(PostingError):
    """Only an active member spends points."""


@dataclass(frozen=True, slots=True)
class Return:
    """What has come back of what earned after a cause: of an order line after a refund line, as a rule.

    `returned` of `whole`: units or minor units.
    """

    line_id: int
    source_id: int
    returned: int
    whole: int
    line_kind: SourceKind = SourceKind.ORDER_LINE
    source_kind: SourceKind = SourceKind.REFUND_LINE


@dataclass(frozen=True, slots=True)
class Posting:
    """One change of one account. `key` identifies it for ever; which other fields count depends on the kind."""

    kind: TransactionKind
    member_id: int
    wallet_id: int
    key: str
    effective_at: datetime
    source_kind: SourceKind = SourceKind.NONE
    source_id: int = 0
    points: int = 0
    available_at: datetime | None = None
    expires_at: datetime | None = None
    accruals: Sequence[LineAccrual] = ()
    returns: Sequence[Return] = ()
    policy: str = ""
    debt: bool | None = None
    reverses_id: int | None = None
    reference: str = ""
    held_until: datetime | None = None
    note: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Posted:
    """The outcome: the transaction, whether this call made it, and the balances after the call (debt <= 0)."""

    transaction_id: int
    is_new: bool
    available: int
    pending: int
    held: int
    debt: int


class Settled(NamedTuple):
    """How many lots vested and how many expired."""

    vested: int
    expired: int


# What gives points by a decision of its own, and not by an earn rule.
GRANTS = (SourceKind.REFERRAL_REWARD,)
# In a decision's note: who made it.
DECIDED_BY = "decided_by"
# From here on filling temporary tables is cheaper than posting one by one.
BULK_FROM = 100
# Postings for one call of the posting function: bounds the memory of its JSON.
CALL_SIZE = 500


def post(*, program_id: int, postings: Sequence[Posting], at: datetime) -> list[Posted]:
    """Post a batch atomically and answer in its order. A key seen before gives its first posting.

    Postings of one account are posted in the order given; vests and expiries that fall due before a posting
    are posted first.

    Units: `at` is the recording instant.
    Raises: InsufficientPoints; IdempotencyKeyReused; NotReversible; ClawbackRefused.
    Locks: the accounts, ascending by (member, wallet).
    """
    if not postings:
        return []
    if not connection.in_atomic_block:
        # A single statement is a transaction of its own: no round trips to begin and commit one.
        return _call(program_id, postings, at)
    with transaction.atomic():
        return _call(program_id, postings, at)


def decide(*, program_id: int, posting: Posting, at: datetime, needs_active_member: bool) -> Posted:
    """Post what a member or an operator decided, if member and wallet are the program's: still one statement.

    What was posted before it is answered again, whatever has become of the member.

    Raises: UnknownAccount; MemberSuspended; as `post`.
    Locks: as `post`.
    """
    told = {
        "member": posting.member_id,
        "wallet": posting.wallet_id,
        "anyone": not needs_active_member,
        "key": _digest(posting.key),
    }
    with transaction.atomic() if connection.in_atomic_block else nullcontext():
        posted = _call(program_id, [posting], at, _DECIDE, told)
    if posted:
        return posted[0]
    if Member.objects.filter(pk=posting.member_id, program=program_id).exists() and (
        Wallet.objects.filter(pk=posting.wallet_id, program=program_id).exists()
    ):
        raise MemberSuspended("the member is not active")
    raise UnknownAccount(f"the program has no member {posting.member_id} or no wallet {posting.wallet_id}")


def has_posted(*, member_id: int, wallet_id: int, key: str) -> bool:
    """Tell whether a key has posted something."""
    own = LedgerTransaction.objects.filter(member_id=member_id, wallet_id=wallet_id)
    return own.filter(key_digest=_digest(key)).exists()


def post_batch(*, program_id: int, postings: Sequence[Posting], at: datetime) -> int:
    """Post a large batch with the same effect as `post`; answer how many postings were new or repeated.

    Accounts that only earn go through set-based statements, all others one posting after the other.
    Raises, Locks: as `post`.
    """
    if len(postings) < BULK_FROM:
        # One statement, and its caller's transaction: what refuses it takes back more than the statement.
        return len(_call(program_id, postings, at)) if postings else 0
    with transaction.atomic():
        return _post_large(program_id, postings, at)


def _post_large(program_id: int, postings: Sequence[Posting], at: datetime) -> int:
    mixed = {(p.member_id, p.wallet_id) for p in postings if p.kind is not TransactionKind.EARN or p.note}
    with connection.cursor() as cursor:
        if mixed:
            accounts = sorted({(p.member_id, p.wallet_id) for p in postings})
            cursor.execute("SELECT points_lock_accounts(%s, %s)", [list(ids) for ids in zip(*accounts, strict=True)])
        stage = [p for p in postings if (p.member_id, p.wallet_id) not in mixed] if mixed else postings
        _fill_stage(cursor, stage)
        cursor.execute("SELECT points_post_earnings(%s, %s)", [program_id, at])
        cursor.execute("SELECT n FROM posting_stage")
        left = {(stage[n].member_id, stage[n].wallet_id) for (n,) in cursor.fetchall()}
        cursor.execute("DROP TABLE posting_stage, accrual_stage")
    one_by_one = mixed | left
    rest = [p for p in postings if (p.member_id, p.wallet_id) in one_by_one] if one_by_one else []
    rest.sort(key=lambda p: (p.member_id, p.wallet_id))
    for start in range(0, len(rest), CALL_SIZE):
        _call(program_id, rest[start : start + CALL_SIZE], at)
    return len(postings)


def settle(*, account_ids: Sequence[int], through: datetime, at: datetime) -> Settled:
    """Post all vests and expiries that fall due by an instant on these accounts, and publish them; answer how many.

    Locks: the accounts, ascending.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM points_settle_accounts(%s, %s, %s)", [list(account_ids), through, at])
        return Settled(*cursor.fetchone())


_POST = "SELECT posted.* FROM points_post(%(program)s, %(postings)s, %(at)s) posted"
# MATERIALIZED: the function must not be called before it is known that it may be.
_DECIDE = """
    WITH allowed AS MATERIALIZED (
        SELECT m.program_id FROM membership_member m JOIN points_wallet w ON w.program_id = m.program_id
        WHERE m.id = %(member)s AND w.id = %(wallet)s AND m.program_id = %(program)s
            AND (%(anyone)s OR m.status = 'active' OR EXISTS (
                SELECT FROM points_ledgertransaction t
                WHERE t.member_id = m.id AND t.wallet_id = w.id AND t.key_digest = %(key)s))
    )
    SELECT posted.* FROM allowed, LATERAL points_post(allowed.program_id, %(postings)s, %(at)s) posted"""


def _call(
    program_id: int, postings: Sequence[Posting], at: datetime, sql: str = _POST, told: dict[str, Any] | None = None
) -> list[Posted]:
    body = json.dumps([_as_json(posting) for posting in postings])
    with connection.cursor() as cursor:
        try:
            with POSTING_SECONDS.time():
                cursor.execute(sql, {"program": program_id, "postings": body, "at": at, **(told or {})})
        except DatabaseError as error:
            raise _translate(error) from error
        return [Posted(*row[1:]) for row in sorted(cursor.fetchall())]


def _as_json(posting: Posting) -> dict[str, Any]:
    body: dict[str, Any] = {
        "member": posting.member_id,
        "wallet": posting.wallet_id,
        "kind": posting.kind,
        "key": _digest(posting.key).hex(),
        "request": request_digest(posting).hex(),
        "source_kind": posting.source_kind,
        "source_id": posting.source_id,
        "effective_at": posting.effective_at.isoformat(),
    }
    if posting.kind is TransactionKind.EARN:
        names = ("source_kind", "source_id", "rule", "basis", "multiplier", "points", "reason")
        body["accruals"] = [
            dict(zip(names, _accrual_values(accrual), strict=True), capped=0) for accrual in posting.accruals
        ]
    elif posting.kind is TransactionKind.CLAWBACK:
        body["policy"] = posting.policy
        body["returns"] = [
            {"line_kind": r.line_kind, "line": r.line_id, "source_kind": r.source_kind, "source_id": r.source_id,
             "returned": r.returned, "whole": r.whole}
            for r in posting.returns
        ]  # fmt: skip
    elif posting.kind is TransactionKind.REVERSE:
        body["reverses"] = posting.reverses_id
    elif posting.points:
        body["points"] = posting.points
    optional = {
        "debt": posting.debt,
        "reference": posting.reference or None,
        "held_until": posting.held_until and posting.held_until.isoformat(),
        "available_at": posting.available_at and posting.available_at.isoformat(),
        "expires_at": posting.expires_at and posting.expires_at.isoformat(),
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    if posting.note:
        salt = os.urandom(16)
        body["note"] = {"salt": salt.hex(), "body": posting.note}
        body["note_digest"] = note_digest(salt, posting.note).hex()
    return body


def note_digest(salt: bytes, body: dict[str, Any]) -> bytes:
    """Return the salted digest by which the ledger knows a note without containing it."""
    return hashlib.sha256(salt + json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def _accrual_values(accrual: LineAccrual) -> tuple[int | None, ...]:
    return (
        int(accrual.source_kind), accrual.source_id, accrual.rule_version_id, accrual.basis, accrual.multiplier_bps,
        accrual.points, int(accrual.reason),
    )  # fmt: skip


def request_digest(posting: Posting) -> bytes:
    """Return what tells a repetition from another use of the same key.

    The effective instant counts only for facts: a decision that is sent again is dated later, and by whoever sends it.
    """
    is_fact = posting.kind in (TransactionKind.EARN, TransactionKind.CLAWBACK) and posting.source_kind not in GRANTS
    note = {name: text for name, text in posting.note.items() if name != DECIDED_BY}
    return _digest(
        repr((
            int(posting.kind), int(posting.source_kind), posting.source_id, posting.points, posting.reverses_id,
            posting.effective_at.isoformat() if is_fact else "", [_accrual_values(a) for a in posting.accruals],
            [(r.line_id, r.source_id, r.returned, r.whole) for r in posting.returns], note,
        ))
    )  # fmt: skip


# What `points_post_earnings` reads, and the columns that are filled in.
CREATE_STAGE = """
    CREATE TEMP TABLE posting_stage (
        n int, member_id bigint, wallet_id bigint, source_kind smallint, source_id bigint, effective_at timestamptz,
        available_at timestamptz, expires_at timestamptz, points bigint, accruals int, key_digest bytea,
        request_digest bytea) ON COMMIT DROP;
    CREATE TEMP TABLE accrual_stage (
        n int, position int, source_kind smallint, source_id bigint, rule_version_id bigint, basis bigint,
        multiplier_bps int, points bigint, reason smallint, capped_points bigint DEFAULT 0) ON COMMIT DROP"""
ACCRUAL_STAGE = """accrual_stage
    (n, position, source_kind, source_id, rule_version_id, basis, multiplier_bps, points, reason)"""


def _fill_stage(cursor: Any, postings: Sequence[Posting]) -> None:
    """Put earnings where `points_post_earnings` reads them."""
    cursor.execute(CREATE_STAGE)
    rows, accruals = stage_texts(postings)
    cursor.copy_expert("COPY posting_stage FROM STDIN", io.StringIO(rows))
    cursor.copy_expert(f"COPY {ACCRUAL_STAGE} FROM STDIN", io.StringIO(accruals))
    cursor.execute("ANALYZE posting_stage; ANALYZE accrual_stage")


def stage_texts(postings: Sequence[Posting]) -> tuple[str, str]:
    """Return the rows of posting_stage and accrual_stage in COPY's text format."""
    rows, accruals = [], []
    for n, posting in enumerate(postings):
        rows.append(_stage_row(n, posting))
        for position, a in enumerate(posting.accruals):
            accruals.append(
                f"{n}\t{position}\t{int(a.source_kind)}\t{a.source_id}\t{_null(a.rule_version_id)}\t{a.basis}"
                f"\t{a.multiplier_bps}\t{a.points}\t{int(a.reason)}\n"
            )
    return "".join(rows), "".join(accruals)


def _stage_row(n: int, p: Posting) -> str:
    points = sum([accrual.points for accrual in p.accruals])
    return (
        f"{n}\t{p.member_id}\t{p.wallet_id}\t{int(p.source_kind)}\t{p.source_id}\t{_text(p.effective_at)}"
        f"\t{_text(p.available_at or p.effective_at)}\t{_text(p.expires_at)}"
        f"\t{points}\t{len(p.accruals)}\t\\\\x{_digest(p.key).hex()}\t\\\\x{request_digest(p).hex()}\n"
    )


def _null(number: int | None) -> str:
    return "\\N" if number is None else str(number)


# A batch has many more postings than instants. Any text of an instant serves to copy it.
@lru_cache(maxsize=10_000)
def _text(at: datetime | None) -> str:
    return "\\N" if at is None else at.isoformat()


def _translate(error: DatabaseError) -> Exception:
    cause: Any = error.__cause__
    code = getattr(cause, "pgcode", None)
    message = cause.diag.message_primary if code and code.startswith("PN") else ""
    if code == "PN001":
        detail = json.loads(cause.diag.message_detail)
        return InsufficientPoints(detail["asked"], detail["available"])
    if code == "PN007":
        detail = json.loads(cause.diag.message_detail)
        return HoldSettled(detail["asked"], detail["left"])
    errors = {"PN002": IdempotencyKeyReused, "PN003": NotReversible, "PN004": ClawbackRefused, "PN006": UnknownHold}
    return errors[code](message) if code in errors else error
