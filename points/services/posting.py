"""Post to the ledger: one door for every kind, one posting or a batch."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import DatabaseError, connection, transaction
from psycopg2.errorcodes import NUMERIC_VALUE_OUT_OF_RANGE

from core.metrics import POSTING_SECONDS
from membership.models import Member
from points.models import LedgerTransaction, TransactionKind, Wallet
from points.postings import Posting, as_json, digest, request_digest


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


class PointsOverflow(PostingError):
    """The points, or a balance with them, would be more than the ledger can count."""


class RefusedPostings(PostingError):
    """What the ledger refuses of a batch: for each source (its kind, its id) why. Nothing of the batch was written."""

    def __init__(self, refusals: Mapping[tuple[int, int], PostingError]) -> None:
        self.refusals = refusals
        self.first = next(iter(refusals.values()))
        super().__init__(f"{len(refusals)} facts are refused, the first because: {self.first}")


class UnknownHold(PostingError):
    """The account has no hold under this reference."""


class HoldSettled(PostingError):
    """The hold has not so many points left for what is asked: they have been captured, released or given back."""

    def __init__(self, asked: int, left: int) -> None:
        super().__init__(f"{asked} points asked of a hold, {left} are left")
        self.asked, self.left = asked, left


class AccrualChanged(PostingError):
    """What stands of an accrual has changed since its correction was worked out."""


class UnknownAccount(PostingError):
    """The program has no such member, or no such wallet."""


class MemberSuspended(PostingError):
    """Only an active member spends points."""


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
        "key": digest(posting.key),
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
    return own.filter(key_digest=digest(key)).exists()


def post_batch(*, program_id: int, postings: Sequence[Posting], at: datetime) -> int:
    """Post a large batch with the same effect as `post`; answer how many postings were new or repeated.

    Accounts that only earn go through set-based statements, all others one posting after the other.
    Raises, Locks: as `post`.
    """
    if len(postings) < BULK_FROM:
        # One statement, and its caller's transaction: what refuses it takes back more than the statement.
        return len(_call(program_id, postings, at)) if postings else 0
    try:
        with transaction.atomic(), connection.wrap_database_errors:  # COPY goes past Django, which would do this
            return _post_large(program_id, postings, at)
    except DatabaseError as error:
        raise _translate(error) from error


def post_facts(*, program_id: int, postings: Sequence[Posting], at: datetime) -> int:
    """Post what several facts earn and take back; of those that are refused all are named, each for itself.

    Raises: RefusedPostings; what is no fact's own refusal as `post_batch`.
    Locks: as `post_batch`.
    """
    try:
        with transaction.atomic():
            return post_batch(program_id=program_id, postings=postings, at=at)
    except (ClawbackRefused, PointsOverflow) as error:
        refusals = _find_refused(program_id, postings, at)
        if not refusals:
            raise
        raise RefusedPostings(refusals) from error


def _find_refused(program_id: int, postings: Sequence[Posting], at: datetime) -> dict[tuple[int, int], PostingError]:
    """Return which sources the ledger refuses when their postings come one after the other, in their order."""
    body = json.dumps([as_json(posting) for posting in postings])
    with transaction.atomic(), connection.cursor() as cursor:
        accounts = sorted({(posting.member_id, posting.wallet_id) for posting in postings})
        cursor.execute("SELECT points_lock_accounts(%s, %s)", [list(ids) for ids in zip(*accounts, strict=True)])
        cursor.execute("SELECT * FROM points_find_refused(%s, %s, %s)", [program_id, body, at])
        found = cursor.fetchall()
        transaction.set_rollback(True)
    return {(kind, source_id): _refusal(code, reason) for kind, source_id, code, reason in found}


def _refusal(code: str, reason: str) -> PostingError:
    if code == NUMERIC_VALUE_OUT_OF_RANGE:
        return PointsOverflow("more points than the ledger can count")
    return ClawbackRefused(reason)


def _post_large(program_id: int, postings: Sequence[Posting], at: datetime) -> int:
    mixed = {
        (p.member_id, p.wallet_id) for p in postings if p.kind is not TransactionKind.EARN or p.note or p.corrections
    }
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
    body = json.dumps([as_json(posting) for posting in postings])
    with connection.cursor() as cursor:
        try:
            with POSTING_SECONDS.time():
                cursor.execute(sql, {"program": program_id, "postings": body, "at": at, **(told or {})})
        except DatabaseError as error:
            raise _translate(error) from error
        return [Posted(*row[1:]) for row in sorted(cursor.fetchall())]


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
        f"\t{points}\t{len(p.accruals)}\t\\\\x{digest(p.key).hex()}\t\\\\x{request_digest(p).hex()}\n"
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
    if code in (NUMERIC_VALUE_OUT_OF_RANGE, "PN004"):
        return _refusal(code, message)
    errors = {
        "PN002": IdempotencyKeyReused,
        "PN003": NotReversible,
        "PN006": UnknownHold,
        "PN008": AccrualChanged,
    }
    return errors[code](message) if code in errors else error
