"""Correct what was earned where the past is known differently now: after late facts and after corrected ones.

The close of a day takes the notes of `membership/services/past_changes.py` and works out again what the facts of those
stretches of time earn, by the rules and with the tier of their own instants. What an accrual is worth then, less the
share of it that has come back, less what stands of it, is posted as the program's `corrections` say: what is missing
as an earning with the dates of the first, what is too much as a clawback. What was spent, held or expired meanwhile
stays.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction

from core.models import Corrections, Program
from core.services import outbox
from membership import locks, order_returns
from membership.models import Evaluation, OrderEdit, PastChange
from membership.returns import Share
from membership.services import past_changes
from points.models import AccrualReason, SourceKind, TransactionKind
from points.postings import Correction, Posting
from points.rules import LineAccrual
from points.services.daily_pay import free_days
from points.services.earning import Fact, Terms, terms_of, work_out
from points.services.posting import post

# Members whose notes are taken in one transaction: their locks and their facts are held until its end.
MEMBERS_PER_BATCH = 200

# The facts of the members in their stretches of time that may have earned.
_FACTS = """
    WITH stretch AS (
        SELECT * FROM unnest(%(members)s::bigint[], %(since)s::timestamptz[], %(until)s::timestamptz[])
            AS s (member_id, since, until))
    SELECT %(order)s, o.id FROM stretch s JOIN membership_order o ON o.member_id = s.member_id
        AND o.paid_at >= s.since AND o.paid_at < s.until
    UNION ALL SELECT %(edit)s, e.id FROM stretch s JOIN membership_orderedit e ON e.member_id = s.member_id
        AND e.edited_at >= s.since AND e.edited_at < s.until
    UNION ALL SELECT %(activity)s, a.id FROM stretch s JOIN membership_activity a ON a.member_id = s.member_id
        AND a.occurred_at >= s.since AND a.occurred_at < s.until"""

# What stands of the accruals of facts. Grants are of no rule: nothing late changes them.
_STANDING = """
    WITH sources AS (
        SELECT %(order)s AS kind, o.id AS fact_id, l.member_id, %(line)s AS source_kind, l.id AS source_id
        FROM membership_order o JOIN membership_orderline l ON l.order_id = o.id AND l.edit_id IS NULL
        WHERE o.id = ANY (%(orders)s)
        UNION ALL
        SELECT %(edit)s, e.id, l.member_id, %(line)s, l.id
        FROM membership_orderedit e JOIN membership_orderline l ON l.order_id = e.order_id AND l.edit_id = e.id
        WHERE e.id = ANY (%(edits)s)
        UNION ALL
        SELECT %(activity)s, a.id, a.member_id, %(activity)s, a.id
        FROM membership_activity a WHERE a.id = ANY (%(activities)s))
    SELECT s.kind, s.fact_id, a.wallet_id, a.source_kind, a.source_id, a.rule_version_id, a.id, a.basis,
        a.multiplier_bps, standing.points, standing.stands, back.returned, back.whole
    FROM sources s
    JOIN points_accrual a ON a.source_id = s.source_id AND a.source_kind = s.source_kind AND a.member_id = s.member_id
    CROSS JOIN LATERAL points_standing(a.id) standing
    LEFT JOIN LATERAL (
        SELECT r.returned, r.whole FROM points_accrualreturn r WHERE r.accrual_id = a.id
        ORDER BY r.returned::numeric / r.whole DESC LIMIT 1) back ON true
    WHERE a.rule_version_id IS NOT NULL"""


@dataclass(slots=True)
class Corrected:
    """How many members were looked at, and the points that were added and asked back."""

    members: int = 0
    points_added: int = 0
    points_due: int = 0


class Source(NamedTuple):
    """What an accrual is of, within a wallet: an order line or an activity, and the version of a rule."""

    source_kind: int
    source_id: int
    rule_version_id: int | None


NONE_BACK = Share(0, 1)


class Standing(NamedTuple):
    """An accrual as it counts now: its points as last corrected, and what stands of them.

    `returned` of `whole`: the share of which the ledger was asked; None: of nothing.
    """

    accrual_id: int
    basis: int
    multiplier_bps: int
    points: int
    stands: int
    returned: int | None
    whole: int | None

    @property
    def share(self) -> Share:
        return Share(self.returned, self.whole) if self.returned is not None and self.whole else NONE_BACK


@dataclass(frozen=True, slots=True)
class Difference:
    """What an accrual should be by what is known now, and by how much what stands of it differs from that."""

    fact: Fact
    wallet_id: int
    standing: Standing | None
    accrual: LineAccrual
    share: Share

    @property
    def change(self) -> int:
        return self.accrual.points - self.share.of(self.accrual.points) - (self.standing.stands if self.standing else 0)

    @property
    def is_upward(self) -> bool:
        """Where nothing is to be posted, the points decide: later refunds read them."""
        return (self.change, self.accrual.points - (self.standing.points if self.standing else 0)) > (0, 0)

    @property
    def is_none(self) -> bool:
        points = self.standing.points if self.standing else 0
        return self.change == 0 and self.accrual.points == points


@dataclass(frozen=True, slots=True)
class Facts:
    """The ids of facts that may have earned."""

    orders: list[int] = field(default_factory=list)
    edits: list[int] = field(default_factory=list)
    activities: list[int] = field(default_factory=list)


def correct(
    *, program: Program, through: datetime, at: datetime, on_progress: Callable[[Corrected], None] | None = None
) -> Corrected:
    """Look again at what was earned wherever the program's past is known differently now, and post the differences.

    Units: corrections take effect at `through`, no earlier than what they correct.
    Idempotency: a note is removed in the transaction that posts what follows from it; without notes nothing is done.
    Locks: in batches of a transaction each, the members, ascending, then their accounts.
    """
    done, last = Corrected(), 0
    while ids := past_changes.list_noted(program_id=program.pk, after=last, limit=MEMBERS_PER_BATCH):
        with transaction.atomic():
            notes = past_changes.take(locks.lock_members(ids))
            free_days(note.member_id for note in notes if note.both_ways)
            postings = _list_postings(program, notes, through)
            publish_corrections(program, postings, at)
            post(program_id=program.pk, postings=[posting for posting, _ in postings], at=at)
        done.members += len(notes)
        done.points_added += sum(change for _, change in postings if change > 0)
        done.points_due -= sum(change for _, change in postings if change < 0)
        if on_progress:
            on_progress(done)
        last = ids[-1]
    return done


def find_differences(terms: Terms, facts: Facts) -> Iterator[Difference]:
    """Yield the accruals of facts that differ from what they should be by what is known now. Reads only."""
    if not facts.orders and not facts.edits and not facts.activities:
        return
    standing, shares = _read_standing(facts), _read_shares(facts)
    worked_out = work_out(terms, order_ids=facts.orders, edit_ids=facts.edits, activity_ids=facts.activities)
    for fact, earned in worked_out:
        known = standing[fact.kind, fact.id]
        for wallet_id in sorted({*earned, *known}):
            yield from _compare(terms, fact, wallet_id, earned.get(wallet_id, ()), known[wallet_id], shares)


def _compare(
    terms: Terms,
    fact: Fact,
    wallet_id: int,
    earned: Sequence[LineAccrual],
    known: Mapping[Source, Standing],
    shares: Mapping[int, Share],
) -> Iterator[Difference]:
    new = {Source(one.source_kind, one.source_id, one.rule_version_id): one for one in earned}
    for source in sorted({*new, *known}, key=lambda each: (each.source_id, each.rule_version_id or 0)):
        standing = known.get(source)
        accrual = new.get(source) or _not_covered(source, standing)
        if standing is None and not (accrual.points and terms.was_known(source.rule_version_id, fact.recorded_at)):
            continue
        if source.source_kind == SourceKind.ORDER_LINE:
            share = shares.get(source.source_id, NONE_BACK)
        else:  # only an operator takes back what an activity earned: the ledger alone knows it
            share = standing.share if standing else NONE_BACK
        difference = Difference(fact, wallet_id, standing, accrual, share)
        if not difference.is_none:
            yield difference


def _not_covered(source: Source, standing: Standing | None) -> LineAccrual:
    basis, multiplier = (standing.basis, standing.multiplier_bps) if standing else (0, 0)
    return LineAccrual(*source, basis, multiplier, 0, AccrualReason.NOT_COVERED.value)


def _list_postings(program: Program, notes: Sequence[PastChange], through: datetime) -> list[tuple[Posting, int]]:
    """Return what the notes make the ledger post, with what each posting adds to (+) or asks back of the member."""
    notes_of = {note.member_id: note for note in notes}
    found: dict[tuple[Fact, int, bool], list[Difference]] = defaultdict(list)
    for difference in find_differences(terms_of(program), _read_facts(notes)):
        if is_posted(program, difference, both_ways=notes_of[difference.fact.member_id].both_ways):
            found[difference.fact, difference.wallet_id, difference.is_upward].append(difference)
    evaluation_id = _last_evaluation(program) if found else None
    return [
        (
            _posting(terms_of(program), notes_of[differences[0].fact.member_id], differences, evaluation_id, through),
            sum(difference.change for difference in differences),
        )
        for differences in found.values()
    ]


def is_posted(program: Program, difference: Difference, *, both_ways: bool = False) -> bool:
    """Tell whether the program posts a difference."""
    if both_ways or program.corrections == Corrections.BOTH:
        return True
    return program.corrections == Corrections.UPWARD and difference.is_upward


def _posting(
    terms: Terms, note: PastChange, differences: Sequence[Difference], evaluation_id: int | None, through: datetime
) -> Posting:
    fact, wallet_id, is_upward = differences[0].fact, differences[0].wallet_id, differences[0].is_upward
    available_at, expires_at = terms.lot_span(wallet_id, fact.at)
    effective_at = max(through, fact.at)
    policy = terms.policy_at(wallet_id, effective_at).clawback
    return Posting(
        kind=TransactionKind.EARN if is_upward else TransactionKind.CLAWBACK,
        member_id=fact.member_id,
        wallet_id=wallet_id,
        key=f"correct:{note.pk}:{SourceKind(fact.kind).name}:{fact.id}:{'up' if is_upward else 'down'}",
        effective_at=effective_at,
        source_kind=SourceKind(fact.kind),
        source_id=fact.id,
        available_at=available_at if is_upward else None,
        expires_at=expires_at if is_upward else None,
        # Nobody is there to refuse: the rest is given up.
        policy="write_off" if policy == "refuse" else policy,
        corrections=[
            Correction(
                accrual_id=one.standing.accrual_id if one.standing else 0,
                accrual=one.accrual,
                returned=one.share.part,
                whole=one.share.whole,
                fact_kind=note.fact_kind,
                fact_id=note.fact_id,
                evaluation_id=evaluation_id,
            )
            for one in differences
        ],
    )


def publish_corrections(program: Program, postings: Sequence[tuple[Posting, int]], at: datetime) -> None:
    """Publish what is about to be corrected: members hear of it before the ledger's own news.

    postings: each with what it adds to (+) or asks back of the member.
    """
    told = [
        {
            "member": posting.member_id,
            "wallet": posting.wallet_id,
            "source_kind": int(posting.source_kind),
            "source": posting.source_id,
            "points": change,
            "fact_kind": posting.corrections[0].fact_kind,
            "fact": posting.corrections[0].fact_id,
            "at": posting.effective_at.isoformat(),
        }
        for posting, change in postings
        if change
    ]
    if told:
        outbox.publish(program_id=program.pk, topic="points.correcting", payload={"corrections": told}, at=at)


def _last_evaluation(program: Program) -> int | None:
    evaluations = Evaluation.objects.filter(ladder__program=program).order_by("ladder_id", "-at")
    return evaluations.values_list("pk", flat=True).first()


def _read_facts(notes: Sequence[PastChange]) -> Facts:
    values: dict[str, Any] = {
        "members": [note.member_id for note in notes],
        "since": [note.since for note in notes],
        "until": [note.until.isoformat() if note.until else "infinity" for note in notes],
        **_KINDS,
    }
    found = Facts()
    ids = {SourceKind.ORDER: found.orders, SourceKind.ORDER_EDIT: found.edits, SourceKind.ACTIVITY: found.activities}
    with connection.cursor() as cursor:
        cursor.execute(_FACTS, values)
        for kind, fact_id in cursor.fetchall():
            ids[kind].append(fact_id)
    return found


_KINDS = {
    "order": SourceKind.ORDER.value,
    "edit": SourceKind.ORDER_EDIT.value,
    "activity": SourceKind.ACTIVITY.value,
    "line": SourceKind.ORDER_LINE.value,
}


def _read_standing(facts: Facts) -> dict[tuple[int, int], dict[int, dict[Source, Standing]]]:
    found: dict[tuple[int, int], dict[int, dict[Source, Standing]]] = defaultdict(lambda: defaultdict(dict))
    values: dict[str, Any] = {"orders": facts.orders, "edits": facts.edits, "activities": facts.activities, **_KINDS}
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, values)
        for kind, fact_id, wallet_id, source_kind, source_id, rule, *standing in cursor.fetchall():
            found[kind, fact_id][wallet_id][Source(source_kind, source_id, rule)] = Standing(*standing)
    return found


def _read_shares(facts: Facts) -> dict[int, Share]:
    """Return what of what each line earned is taken back for what came back of its order."""
    edited = OrderEdit.objects.filter(pk__in=facts.edits).values_list("order_id", flat=True) if facts.edits else ()
    orders = order_returns.read({*facts.orders, *edited})
    returned = (state.work_out() for state in orders.values() if state.parts)
    return {line_id: line.of_earned for found in returned for line_id, line in found.lines.items()}
