"""Earn and claw back: from the facts of membership to postings."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from django.db import connection

from core.calendar import day_start, local_date
from core.models import Program
from core.money import BPS
from core.versions import in_force
from membership.definitions import LadderDefinition
from membership.models import Ladder, LadderVersion
from membership.returns import OrderReturned, ReturnChange, Share
from membership.selectors import tier_held
from points import rules
from points.definitions import EarnRuleDefinition, WalletPolicy
from points.models import EarnRule, SourceKind, TransactionKind, Wallet, WalletVersion
from points.postings import Posting, Return
from points.returns import read_asked
from points.services.daily_pay import Payable, take_days
from points.services.posting import post_batch, post_facts

# At one instant what earns of orders comes before what takes back.
_RANK = {SourceKind.ORDER: 0, SourceKind.ORDER_EDIT: 1, SourceKind.REFUND: 2, SourceKind.ACTIVITY: 3}

# The columns of a fact, then those of a line. What was paid in points earns none.
_PAID_LINES = """
    SELECT o.id, o.member_id, o.paid_at, o.recorded_at, o.channel, l.id,
        l.program_amount_minor - l.program_paid_in_points_minor, l.sku, l.category
    FROM membership_order o JOIN membership_orderline l ON l.order_id = o.id
    WHERE o.id = ANY(%s) AND o.member_id IS NOT NULL AND l.edit_id IS NULL ORDER BY o.id, l.position"""

_ADDED_LINES = """
    SELECT e.id, e.member_id, e.edited_at, e.recorded_at, o.channel, l.id,
        l.program_amount_minor - l.program_paid_in_points_minor, l.sku, l.category
    FROM membership_orderedit e
    JOIN membership_order o ON o.id = e.order_id
    JOIN membership_orderline l ON l.order_id = e.order_id AND l.edit_id = e.id
    WHERE e.id = ANY(%s) AND e.member_id IS NOT NULL ORDER BY e.id, l.position"""

_ACTIVITIES = f"""
    SELECT id, member_id, occurred_at, recorded_at, kind, {SourceKind.ACTIVITY}, "order", product, local_date,
        voided_at IS NOT NULL
    FROM membership_activity WHERE id = ANY(%s)"""  # noqa: S608 a number of our own


@dataclass(frozen=True)
class Terms:
    """A program's earn rules and wallet policies with all their versions, read once for a batch."""

    program: Program

    @cached_property
    def _rules(self) -> list[EarnRule]:
        return list(EarnRule.objects.filter(program=self.program).prefetch_related("versions"))

    @cached_property
    def _wallets(self) -> dict[str, Wallet]:
        wallets = Wallet.objects.filter(program=self.program).prefetch_related("versions")
        return {wallet.code: wallet for wallet in wallets}

    @cached_property
    def _currency(self) -> dict[str, str]:
        return {"currency": self.program.currency}

    @cached_property
    def _rule_definitions(self) -> dict[int, EarnRuleDefinition]:
        versions = [version for rule in self._rules for version in rule.versions.all()]
        return {v.pk: EarnRuleDefinition.model_validate(v.definition, context=self._currency) for v in versions}

    @cached_property
    def _versions(self) -> dict[int, list[WalletVersion]]:
        # Lists by wallet: a prefetched relation would make a query set anew for each redemption.
        return {wallet.pk: list(wallet.versions.all()) for wallet in self._wallets.values()}

    @cached_property
    def _policies(self) -> dict[int, WalletPolicy]:
        versions = [version for versions in self._versions.values() for version in versions]
        return {v.pk: WalletPolicy.model_validate(v.definition, context=self._currency) for v in versions}

    def rules_at(self, at: datetime, trigger: str) -> list[rules.Rule]:
        """Return the rules in force at an instant."""
        found = []
        for rule in self._rules:
            version = in_force(rule.versions.all(), at)
            if version is None:
                continue
            definition = self._rule_definitions[version.pk]
            if definition.trigger == trigger:
                wallet = self._wallets[definition.wallet]
                floors_order = self.policy_at(wallet.pk, at).rounding == "order"
                found.append(rules.Rule(version.pk, wallet.pk, definition, floors_order, rule.pk))
        return found

    def was_known(self, rule_version_id: int | None, at: datetime) -> bool:
        """Tell whether a version of a rule had been published by an instant of recording."""
        versions = (version for rule in self._rules for version in rule.versions.all() if version.pk == rule_version_id)
        return any(version.published_at is not None and version.published_at <= at for version in versions)

    def policy_at(self, wallet_id: int, at: datetime) -> WalletPolicy:
        """Return the wallet's policy in force at an instant."""
        version = in_force(self._versions[wallet_id], at)
        if version is None:
            raise LookupError(f"wallet {self.get_wallet_code(wallet_id)} has no published policy at {at}")
        return self._policies[version.pk]

    def get_wallet_code(self, wallet_id: int) -> str:
        """Return the code of one of the program's wallets."""
        return next(code for code, wallet in self._wallets.items() if wallet.pk == wallet_id)

    def has_wallet(self, wallet_id: int) -> bool:
        """Tell whether the wallet is one of the program's."""
        return wallet_id in self._versions

    def lot_span(self, wallet_id: int, effective_at: datetime) -> tuple[datetime, datetime | None]:
        """Return [available_at, expires_at) of points earned at an instant."""
        policy = self.policy_at(wallet_id, effective_at)
        zone = self.program.time_zone
        day = local_date(effective_at, zone)
        available = day_start(day + timedelta(policy.pending_days), zone) if policy.pending_days else effective_at
        if policy.expiry_days is None:
            return available, None
        return available, day_start(day + timedelta(policy.expiry_days + 1), zone)

    @cached_property
    def ladder(self) -> "LadderTerms | None":
        """The main ladder's tiers and multipliers; None where the program has no ladder."""
        ladder = Ladder.objects.filter(program=self.program).prefetch_related("versions", "tiers").first()
        if ladder is None:
            return None
        versions = tuple(ladder.versions.all())
        multipliers = {version.pk: _multipliers(version, self.program.currency) for version in versions}
        return LadderTerms(ladder.pk, {tier.pk: tier.code for tier in ladder.tiers.all()}, versions, multipliers)

    @cached_property
    def order_wallets(self) -> list[int]:
        """The wallets in which any version of any rule lets order lines earn."""
        codes = {rule.wallet for rule in self._rule_definitions.values() if rule.trigger == "order_line"}
        return sorted(self._wallets[code].pk for code in codes)

    @cached_property
    def needs_tiers(self) -> bool:
        """Whether any version of any rule looks at the tier."""
        return any(rule.tier_multiplier or rule.tiers for rule in self._rule_definitions.values())


@dataclass(frozen=True, slots=True)
class LadderTerms:
    """What earning reads of a ladder: its tiers' codes by id, its versions and their multipliers by tier."""

    id: int
    codes: Mapping[int, str]
    versions: Sequence[LadderVersion]
    multipliers: Mapping[int, Mapping[str, int]]


def terms_of(program: Program) -> Terms:
    """Return the terms of a program as of its revision, from memory if they were read before."""
    return _terms(program.pk, program.revision, program.created_at)


@lru_cache(maxsize=64)
def _terms(program_id: int, _revision: int, _created_at: datetime) -> Terms:
    """Keep terms by the program's revision. The instant tells recreated databases apart."""
    return Terms(Program.objects.get(pk=program_id))


def earn(
    *,
    program: Program,
    order_ids: Sequence[int] = (),
    edit_ids: Sequence[int] = (),
    activity_ids: Sequence[int] = (),
    returns: Sequence[tuple[int, ReturnChange]] = (),
    at: datetime,
) -> int:
    """Post what new facts earn and take back, in the order of their instants; orders and edits come before refunds.

    returns: what new refunds changed, by the refund's id.
    Units: `at` is the recording instant. Raises, Locks: as `posting.post_batch`; of several facts `posting.post_facts`.
    Idempotency: each fact is its posting's key.
    """
    terms = terms_of(program)
    worked_out = work_out(terms, order_ids=order_ids, edit_ids=edit_ids, activity_ids=activity_ids)
    postings = [
        *(posting for fact, found in worked_out for posting in _earnings(terms, fact, found)),
        *_refund_postings(terms, returns),
    ]
    postings.sort(key=lambda posting: (posting.effective_at, _RANK[posting.source_kind], posting.source_id))
    facts = [*order_ids, *edit_ids, *activity_ids, *{refund_id for refund_id, _ in returns}]
    post = post_facts if len(facts) > 1 else post_batch
    return post(program_id=program.pk, postings=postings, at=at)


class Fact(NamedTuple):
    """A fact that may earn; `label` is an order's channel, an activity's kind."""

    id: int
    member_id: int
    at: datetime
    recorded_at: datetime
    label: str
    kind: int


Earnings = dict[int, list[rules.LineAccrual]]


def work_out(
    terms: Terms, *, order_ids: Sequence[int] = (), edit_ids: Sequence[int] = (), activity_ids: Sequence[int] = ()
) -> Iterator[tuple[Fact, Earnings]]:
    """Yield facts with what they earn by wallet, by the rules and with the tier of their instants."""
    yield from _work_out_lines(terms, SourceKind.ORDER, _PAID_LINES, order_ids)
    # What edits added earns by the rules and the tier of the edit's instant.
    yield from _work_out_lines(terms, SourceKind.ORDER_EDIT, _ADDED_LINES, edit_ids)
    yield from _work_out_activities(terms, activity_ids)


def evaluate_order(terms: Terms, lines: Sequence[rules.Line], *, at: datetime, context: rules.Context) -> Earnings:
    """Return what the lines of an order earn at an instant, by wallet. Award and preview both ask here."""
    found: Earnings = defaultdict(list)
    for rule in terms.rules_at(at, "order_line"):
        found[rule.wallet_id] += rules.evaluate_order(lines, rule, context)
    return found


def _work_out_lines(terms: Terms, kind: SourceKind, query: str, ids: Sequence[int]) -> Iterator[tuple[Fact, Earnings]]:
    facts: dict[int, Fact] = {}
    lines: dict[int, list[rules.Line]] = defaultdict(list)
    for fact_id, member_id, at, recorded_at, label, *line in _read(query, ids):
        facts.setdefault(fact_id, Fact(fact_id, member_id, at, recorded_at, label, kind))
        lines[fact_id].append(rules.Line(*line))
    contexts = contexts_of(terms, list(facts.values()))
    for fact in facts.values():
        yield fact, evaluate_order(terms, lines[fact.id], at=fact.at, context=contexts[fact.id])


def _work_out_activities(terms: Terms, activity_ids: Sequence[int]) -> Iterator[tuple[Fact, Earnings]]:
    rows = _read(_ACTIVITIES, activity_ids)
    facts = [Fact(*row[:6]) for row in rows]
    contexts = contexts_of(terms, facts)
    void = {row[0] for row in rows if row[9]}
    covering = {
        fact.id: [
            rule
            for rule in terms.rules_at(fact.at, "activity")
            if fact.id not in void and rules.covers_activity(rule.definition, fact.label, contexts[fact.id])
        ]
        for fact in facts
    }
    paid = take_days(
        Payable(fact.member_id, rule.rule_id, fact.label, row[6], row[7], row[8], fact.at, fact.id)
        for fact, row in zip(facts, rows, strict=True)
        for rule in covering[fact.id]
        if rule.definition.once_per_day
    )
    for fact in facts:
        found: Earnings = defaultdict(list)
        for rule in covering[fact.id]:
            is_late = rule.definition.once_per_day and (rule.rule_id, fact.id) not in paid
            found[rule.wallet_id] += rules.evaluate_activity(
                fact.id, fact.label, rule, contexts[fact.id], is_paid=is_late
            )
        yield fact, found


def _earnings(terms: Terms, fact: Fact, found: Earnings) -> Iterator[Posting]:
    for wallet_id, accruals in found.items():
        if accruals:
            available_at, expires_at = terms.lot_span(wallet_id, fact.at)
            yield Posting(
                kind=TransactionKind.EARN,
                member_id=fact.member_id,
                wallet_id=wallet_id,
                key=f"earn:{SourceKind(fact.kind).name}:{fact.id}",
                effective_at=fact.at,
                source_kind=SourceKind(fact.kind),
                source_id=fact.id,
                available_at=available_at,
                expires_at=expires_at,
                accruals=accruals,
            )


def _refund_postings(terms: Terms, returns: Sequence[tuple[int, ReturnChange]]) -> Iterator[Posting]:
    """Yield one clawback of each refund for each wallet that order lines earn in.

    It names the lines of which more has come back than the ledger has been asked for: those of the refund, those over
    which its sum or an earlier one is spread now, and those of refunds that were recorded under other rules.
    Where the lines have earned nothing in the wallet, the ledger writes nothing.
    """
    back: dict[tuple[int, int], list[ReturnChange]] = defaultdict(list)
    for refund_id, change in returns:
        if change.after.order.member_id is not None:
            back[refund_id, change.after.order.member_id].append(change)
    asked = _Asked([change for changes in back.values() for change in changes])
    for (refund_id, member_id), changes in back.items():
        refunded_at = changes[0].refunded_at
        for wallet_id in terms.order_wallets:
            parts = [part for change in changes for part in asked.more_of(wallet_id, change, refund_id)]
            if parts:
                yield Posting(
                    kind=TransactionKind.CLAWBACK,
                    member_id=member_id,
                    wallet_id=wallet_id,
                    key=f"clawback:{refund_id}",
                    effective_at=refunded_at,
                    source_kind=SourceKind.REFUND,
                    source_id=refund_id,
                    policy=terms.policy_at(wallet_id, refunded_at).clawback,
                    returns=parts,
                )


class _Asked:
    """What the ledger has been asked back of orders that new refunds touch. Where none came before them: nothing."""

    def __init__(self, changes: Sequence[ReturnChange]) -> None:
        touched = {change.after.order.id: change.before for change in reversed(changes)}
        returned_before = [found for found in touched.values() if _shares(found)]
        self._accruals = read_asked([line_id for found in returned_before for line_id in found.lines])

    def more_of(self, wallet_id: int, change: ReturnChange, refund_id: int) -> Iterator[Return]:
        """Yield the lines of which a wallet is to be asked for more after a refund."""
        before = _shares(change.before)
        for line_id, share in _shares(change.after).items():
            accruals = self._accruals[wallet_id, line_id]
            is_behind = any(accrual.is_behind(share) for accrual in accruals)
            if is_behind or line_id not in before or share.exceeds(before[line_id]):
                yield Return(line_id, refund_id, *share)
            for accrual in accruals:
                accrual.ask(share)


def _shares(found: OrderReturned) -> dict[int, Share]:
    """Return the shares of what lines earned that are taken back, of lines of which something is."""
    shares = {line_id: line.of_earned for line_id, line in found.lines.items()}
    return {line_id: share for line_id, share in shares.items() if share.part}


def _read(query: str, ids: Sequence[int]) -> list[tuple[Any, ...]]:
    if not ids:
        return []
    with connection.cursor() as cursor:
        cursor.execute(query, [list(ids)])
        return list(cursor.fetchall())


def contexts_of(terms: Terms, facts: Sequence[Fact]) -> dict[int, rules.Context]:
    """Return each fact's context: the tier held before it, with the multiplier of the ladder's version of that time."""
    ladder = terms.ladder if facts and terms.needs_tiers else None
    if ladder is None:
        return {fact.id: rules.Context(channel=fact.label) for fact in facts}
    held = tier_held(ladder_id=ladder.id, pairs=[(fact.member_id, fact.at) for fact in facts])
    contexts = {}
    for fact, tier_id in zip(facts, held, strict=True):
        tier = ladder.codes[tier_id] if tier_id else ""
        version = in_force(ladder.versions, fact.at)
        multiplier = ladder.multipliers[version.pk].get(tier, BPS) if version else BPS
        contexts[fact.id] = rules.Context(tier, multiplier, fact.label)
    return contexts


def _multipliers(version: LadderVersion, currency: str) -> dict[str, int]:
    definition = LadderDefinition.model_validate(version.definition, context={"currency": currency})
    return {tier.code: tier.benefits.points_multiplier for tier in definition.tiers}
