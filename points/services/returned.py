"""Bring what the ledger took back of what orders had earned in line with what came back of them.

A refund asks for the growth of what came back (`points/services/earning.py`). What it cannot do is done here: an edit
that comes late shares the sums of refunds that were recorded before it over other lines, and orders of earlier releases
were asked for by other rules. What stands of each accrual is compared with the answer of `membership/returns.py`, and
the difference is posted as a correction, both ways.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from django.db import connection

from core.models import Program
from membership import order_returns
from membership.models import OrderEdit, OrderLine
from membership.order_returns import OrderRefunds
from membership.returns import OrderReturned, Share, work_out
from points.models import SourceKind, TransactionKind
from points.postings import Correction, Posting, Return
from points.rules import LineAccrual
from points.services.corrections import publish_corrections
from points.services.earning import Terms, terms_of
from points.services.posting import post

# Shortfall: what was asked back and not taken, because it had expired, or was spent and given up.
_STANDING = """
    SELECT a.id, a.member_id, a.wallet_id, l.order_id, l.id, l.external_id, l.edit_id,
        coalesce(e.edited_at, o.paid_at), a.rule_version_id, coalesce(k.basis, a.basis),
        coalesce(k.multiplier_bps, a.multiplier_bps), coalesce(k.reason, a.reason), s.points, s.stands,
        (SELECT coalesce(sum(r.points_due - r.points_taken), 0) FROM points_accrualreturn r WHERE r.accrual_id = a.id)
        + (SELECT coalesce(sum(c.points_due - c.points_taken), 0) FROM points_accrualcorrection c
            WHERE c.accrual_id = a.id)
    FROM membership_orderline l
    JOIN membership_order o ON o.id = l.order_id
    LEFT JOIN membership_orderedit e ON e.id = l.edit_id
    JOIN points_accrual a ON a.source_kind = %s AND a.source_id = l.id AND a.member_id = l.member_id
    CROSS JOIN LATERAL points_standing(a.id) s
    LEFT JOIN LATERAL (
        SELECT c.basis, c.multiplier_bps, c.reason FROM points_accrualcorrection c WHERE c.accrual_id = a.id
        ORDER BY c.id DESC LIMIT 1) k ON true
    WHERE l.order_id = ANY(%s) AND a.rule_version_id IS NOT NULL
    ORDER BY a.member_id, l.order_id, a.wallet_id, l.id, a.id"""


@dataclass(frozen=True, slots=True)
class Difference:
    """An accrual of an order line of which more (`change` < 0) or less (> 0) is to be taken back than was.

    `share`: what has come back of it, by which the change is posted. `earned_at`, `edit_id`: of the fact that earned.
    """

    accrual_id: int
    member_id: int
    wallet_id: int
    order_id: int
    line: str
    edit_id: int | None
    earned_at: datetime
    accrual: LineAccrual
    stands: int
    share: Share
    change: int

    @property
    def source(self) -> tuple[SourceKind, int]:
        """The fact that earned."""
        if self.edit_id is None:
            return SourceKind.ORDER, self.order_id
        return SourceKind.ORDER_EDIT, self.edit_id


@dataclass(frozen=True, slots=True)
class Cause:
    """Why differences are posted, and as of when. `key`: what makes a posting unique with its order.

    The fact is what changed what is known; SourceKind.NONE and None: no fact did.
    """

    key: str
    at: datetime
    fact_kind: SourceKind = SourceKind.NONE
    fact_id: int | None = None


def find_differences(returned: Mapping[int, OrderReturned]) -> Iterator[Difference]:
    """Yield, by order and wallet, where the ledger took back another share of what lines earned than came back.

    returned: what came back of orders, by id. What was asked and could not be taken is not given back.
    """
    if not returned:
        return
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, [SourceKind.ORDER_LINE, list(returned)])
        rows = cursor.fetchall()
    for accrual_id, member_id, wallet_id, order_id, line_id, name, edit_id, earned_at, rule, *worth in rows:
        basis, multiplier, reason, points, stands, shortfall = worth
        share, change = _compare(returned[order_id].lines[line_id].of_earned, points, stands, int(shortfall))
        if change:
            accrual = LineAccrual(SourceKind.ORDER_LINE, line_id, rule, basis, multiplier, points, reason)
            place = (accrual_id, member_id, wallet_id, order_id, name, edit_id, earned_at)
            yield Difference(*place, accrual, stands, share, change)


def _compare(share: Share, points: int, stands: int, shortfall: int) -> tuple[Share, int]:
    """Return the share by which an accrual is corrected, and by how much what stands of it changes."""
    due, asked = share.of(points), points - stands
    if due >= asked:
        return share, asked - due
    given = max(0, asked - shortfall - due)
    return (share if asked - given == due else Share(asked - given, points)), given


def settle(*, program: Program, differences: Iterable[Difference], cause: Cause, at: datetime) -> None:
    """Post differences, and tell the members of them before.

    Units: `at` is the recording instant.
    Idempotency: what is posted is no difference any more; the caller has locked the orders before reading them.
    Locks: the accounts of the orders' members.
    """
    groups: dict[tuple[int, int, tuple[SourceKind, int], bool], list[Difference]] = defaultdict(list)
    for one in differences:
        groups[one.member_id, one.wallet_id, one.source, one.change > 0].append(one)
    postings = [
        (_correct(terms_of(program), group, cause), sum(one.change for one in group)) for group in groups.values()
    ]
    publish_corrections(program, postings, at)
    post(program_id=program.pk, postings=[posting for posting, _ in postings], at=at)


def _correct(terms: Terms, differences: Sequence[Difference], cause: Cause) -> Posting:
    first = differences[0]
    kind, source_id = first.source
    is_upward = first.change > 0
    available_at, expires_at = terms.lot_span(first.wallet_id, first.earned_at) if is_upward else (None, None)
    effective_at = max(cause.at, first.earned_at)
    return Posting(
        kind=TransactionKind.EARN if is_upward else TransactionKind.CLAWBACK,
        member_id=first.member_id,
        wallet_id=first.wallet_id,
        key=f"correct:{cause.key}:{kind.name}:{source_id}:{'up' if is_upward else 'down'}",
        effective_at=effective_at,
        source_kind=kind,
        source_id=source_id,
        available_at=available_at,
        expires_at=expires_at,
        policy=_policy(terms, first.wallet_id, effective_at),
        corrections=[
            Correction(
                accrual_id=one.accrual_id,
                accrual=one.accrual,
                returned=one.share.part,
                whole=one.share.whole,
                fact_kind=cause.fact_kind,
                fact_id=cause.fact_id,
                evaluation_id=None,
            )
            for one in differences
        ],
    )


def _policy(terms: Terms, wallet_id: int, at: datetime) -> str:
    """Return how a wallet takes back. What comes back is recorded, nobody is there to refuse: the rest is given up."""
    policy = terms.policy_at(wallet_id, at).clawback
    return "write_off" if policy == "refuse" else policy


# --- edits that came after refunds -----------------------------------------------------------------------------------


def give_back(*, program: Program, edit_ids: Sequence[int], at: datetime) -> None:
    """Give back what refunds took too much of other lines, before new edits earn and members hear of that.

    Whatever the program's `corrections` say: it is no other worth of what was earned.

    Units, Locks, Idempotency: as `follow_edits`.
    """
    for edit, state, _ in _list_late(edit_ids):
        found = find_differences({edit.order_id: state.work_out()})
        settle(program=program, differences=(one for one in found if one.change > 0), cause=_cause(edit, state), at=at)


def follow_edits(*, program: Program, edit_ids: Sequence[int], refund_ids: Collection[int] = (), at: datetime) -> None:
    """Take back of what new edits earned what refunds that came before them would have taken after them.

    refund_ids: the refunds that were recorded with the edits, which have taken their share.
    Units: `at` is the recording instant.
    Locks: the accounts of the orders' members; the caller has locked the orders.
    Idempotency: as `settle`; each refund takes once of an edit.
    """
    for edit, state, line_ids in _list_late(edit_ids):
        taken = list(_take_added(terms_of(program), edit, state, line_ids, refund_ids))
        post(program_id=program.pk, postings=taken, at=at)
        differences = find_differences({edit.order_id: state.work_out()})
        settle(program=program, differences=differences, cause=_cause(edit, state), at=at)


def _list_late(edit_ids: Sequence[int]) -> Iterator[tuple[OrderEdit, OrderRefunds, list[int]]]:
    """Yield edits that added lines to members' orders that have refunds, with what came back and the lines' ids."""
    added: dict[int, list[int]] = defaultdict(list)
    if not edit_ids:
        return
    for edit_id, line_id in OrderLine.objects.filter(edit__in=edit_ids).order_by("pk").values_list("edit_id", "pk"):
        added[edit_id or 0].append(line_id)
    edits = list(OrderEdit.objects.filter(pk__in=added, member__isnull=False).order_by("pk"))
    orders = order_returns.read({edit.order_id for edit in edits})
    for edit in edits:
        if orders[edit.order_id].parts:
            yield edit, orders[edit.order_id], added[edit.pk]


def _cause(edit: OrderEdit, state: OrderRefunds) -> Cause:
    return Cause(f"edit:{edit.pk}", max(edit.edited_at, state.parts[-1].refunded_at), SourceKind.ORDER_EDIT, edit.pk)


def _take_added(
    terms: Terms, edit: OrderEdit, state: OrderRefunds, line_ids: Sequence[int], left_out: Collection[int]
) -> Iterator[Posting]:
    """Yield what each refund, in the order of their dates, takes back of what lines of an edit earned."""
    before = dict.fromkeys(line_ids, Share(0, 1))
    until = 0
    for refund_id, parts in groupby(state.parts, key=lambda part: part.refund_id):
        own = list(parts)
        until += len(own)
        found = work_out(state.order, state.parts[:until])
        after = {line_id: found.lines[line_id].of_earned for line_id in line_ids}
        grown = [line_id for line_id in line_ids if after[line_id].exceeds(before[line_id])]
        before |= {line_id: after[line_id] for line_id in grown}
        for wallet_id in terms.order_wallets if refund_id is not None and refund_id not in left_out and grown else ():
            yield Posting(
                kind=TransactionKind.CLAWBACK,
                member_id=edit.member_id or 0,
                wallet_id=wallet_id,
                key=f"clawback:{refund_id}:edit:{edit.pk}",
                effective_at=max(own[0].refunded_at, edit.edited_at),
                source_kind=SourceKind.REFUND,
                source_id=refund_id or 0,
                policy=_policy(terms, wallet_id, own[0].refunded_at),
                returns=[Return(line_id, refund_id or 0, *after[line_id]) for line_id in grown],
            )
