"""What explains an order's points line by line, those that it did not earn included."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.models import Program
from membership.models import Order, OrderKey, OrderLine, PastChange, Refund
from points import rules
from points.earned_stories import Corrected, Earned, RuleUsed, rule_used, tell_corrected, tell_earned, tier_known
from points.models import Accrual, AccrualCorrection, AccrualReturn, EarnRuleVersion, SourceKind, Wallet
from points.services import corrections
from points.services.earning import Terms
from points.statement import seq_of


@dataclass(frozen=True, slots=True)
class GaveBack:
    """What one refund took back of an accrual, and what it asked."""

    refund: str
    due: int
    taken: int


@dataclass(frozen=True, slots=True)
class LineEarned:
    """What a line earned in a wallet by one rule, and what has been taken back since. `seq`: of its transaction."""

    wallet: str
    wallet_name: str
    seq: int
    earned: Earned
    gave_back: tuple[GaveBack, ...]
    corrected: tuple[Corrected, ...]

    @property
    def taken_back(self) -> int:
        return sum(back.taken for back in self.gave_back)

    @property
    def points_corrected(self) -> int:
        """What corrections have added (+) or taken back (-) since."""
        return sum(part.added - part.taken for part in self.corrected)


@dataclass(frozen=True, slots=True)
class NotCovered:
    """A rule that was in force and gave a line nothing, not even zero points: why, None if it is not known.

    `tier`: the name of the tier held then.
    """

    rule: RuleUsed
    exclusion: rules.Exclusion | None
    tier: str


@dataclass(frozen=True, slots=True)
class Left:
    """A difference to what is known now that the program's `corrections` do not post.

    `points`: what the rule gives by what is known now; `change`: what would be added (+) or taken back (-).
    """

    rule: RuleUsed
    points: int
    change: int


@dataclass(frozen=True, slots=True)
class LineStory:
    """A line, what it earned, and the rules in force that are not about it. Amounts in the program's currency.

    `in_points_minor`: the part of the amount that was paid in points, which earns nothing.
    """

    line: str
    sku: str
    category: str
    amount_minor: int
    in_points_minor: int
    is_added: bool
    earned: tuple[LineEarned, ...]
    not_covered: tuple[NotCovered, ...]
    left: tuple[Left, ...]


@dataclass(frozen=True, slots=True)
class OrderStory:
    """An order; `member` is empty for a guest's. `is_looked_at_again`: by the next close, because a fact came late."""

    order: str
    member: str
    channel: str
    paid_at: datetime
    currency: str
    lines: tuple[LineStory, ...]
    is_looked_at_again: bool


@dataclass(frozen=True, slots=True)
class _Moment:
    """The instant at which lines earned, and what was known of the member's tier then."""

    at: datetime
    known_at: datetime


def find_order(*, program: Program, external_id: str) -> Order | None:
    """Return the program's order of this id."""
    key = OrderKey.objects.filter(program=program, external_id=external_id).first()
    return Order.objects.select_related("member").get(pk=key.order_id) if key else None


def tell_order(order: Order, *, program: Program) -> OrderStory:
    """Return the story of an order, in a number of statements that does not grow with its lines."""
    lines = list(order.lines.select_related("edit").order_by("position"))
    moments = {line.pk: _moment(order, line) for line in lines}
    earned = _earned(lines, moments, program) if order.member_id else {}
    is_noted = order.member_id is not None and PastChange.objects.filter(member_id=order.member_id).exists()
    left = _left(order, lines, program) if order.member_id and not is_noted else {}
    not_covered = _Exclusions(order, program)
    return OrderStory(
        order=order.external_id,
        member=order.member.external_id if order.member else "",
        channel=order.channel,
        paid_at=order.paid_at,
        currency=program.currency,
        lines=tuple(
            LineStory(
                line=line.external_id,
                sku=line.sku,
                category=line.category,
                amount_minor=line.program_amount_minor,
                in_points_minor=line.program_paid_in_points_minor,
                is_added=line.edit_id is not None,
                earned=earned.get(line.pk, ()),
                not_covered=not_covered.of(line, moments[line.pk], earned.get(line.pk, ())) if order.member_id else (),
                left=tuple(left.get(line.pk, ())),
            )
            for line in lines
        ),
        is_looked_at_again=is_noted,
    )


def _moment(order: Order, line: OrderLine) -> _Moment:
    edit = line.edit
    return _Moment(edit.edited_at, edit.recorded_at) if edit else _Moment(order.paid_at, order.recorded_at)


def _earned(
    lines: Sequence[OrderLine], moments: dict[int, _Moment], program: Program
) -> dict[int, tuple[LineEarned, ...]]:
    accruals = list(
        Accrual.objects.filter(
            source_kind=SourceKind.ORDER_LINE,
            source_id__in=[line.pk for line in lines],
            wallet__in=Wallet.objects.filter(program=program),
        )
        .select_related("rule_version__owner", "wallet")
        .order_by("source_id", "wallet_id", "pk")
    )
    instants = [(moments[accrual.source_id].at, moments[accrual.source_id].known_at) for accrual in accruals]
    gave_back = _gave_back(accruals)
    corrected = _corrected(accruals, program)
    found: dict[int, list[LineEarned]] = defaultdict(list)
    for accrual, told in zip(accruals, tell_earned(accruals, instants, program), strict=True):
        wallet = accrual.wallet
        seq = seq_of(accrual.transaction_id)
        parts = (gave_back[accrual.pk], tuple(corrected[accrual.pk]))
        found[accrual.source_id].append(LineEarned(wallet.code, wallet.name, seq, told, *parts))
    return {line_id: tuple(parts) for line_id, parts in found.items()}


def _gave_back(accruals: Sequence[Accrual]) -> dict[int, tuple[GaveBack, ...]]:
    asked = AccrualReturn.objects.filter(accrual__in=accruals, points_due__gt=0)
    returns = list(asked.select_related("transaction").order_by("pk"))
    of_refund = {back.transaction_id: back.transaction.source_id for back in returns}
    refunds = dict(Refund.objects.filter(pk__in=set(of_refund.values())).values_list("pk", "external_id"))
    found: dict[int, list[GaveBack]] = defaultdict(list)
    for back in returns:
        refund = refunds[of_refund[back.transaction_id]]
        found[back.accrual_id].append(GaveBack(refund, back.points_due, back.points_taken))
    return {accrual.pk: tuple(found[accrual.pk]) for accrual in accruals}


def _corrected(accruals: Sequence[Accrual], program: Program) -> dict[int, list[Corrected]]:
    rows = AccrualCorrection.objects.filter(accrual__in=accruals).select_related("accrual__rule_version__owner")
    found: dict[int, list[Corrected]] = defaultdict(list)
    for accrual_id, told in tell_corrected(list(rows.order_by("pk")), program):
        found[accrual_id].append(told)
    return found


def _left(order: Order, lines: Sequence[OrderLine], program: Program) -> dict[int, list[Left]]:
    """Return by line what the program's corrections leave as it is."""
    facts = corrections.Facts(orders=[order.pk], edits=sorted({line.edit_id for line in lines if line.edit_id}))
    left = [
        one for one in corrections.find_differences(Terms(program), facts) if not corrections.is_posted(program, one)
    ]
    versions = EarnRuleVersion.objects.select_related("owner").in_bulk({one.accrual.rule_version_id for one in left})
    found: dict[int, list[Left]] = defaultdict(list)
    for one in left:
        if one.change and one.accrual.rule_version_id:
            rule = rule_used(versions[one.accrual.rule_version_id], program)
            found[one.accrual.source_id].append(Left(rule, one.accrual.points, one.change))
    return found


class _Exclusions:
    """Why rules that were in force gave a line nothing: asked of the evaluator's own conditions."""

    def __init__(self, order: Order, program: Program) -> None:
        self.order, self.program, self.terms = order, program, Terms(program)
        self.tiers: dict[_Moment, tuple[str, str]] = {}
        self.versions: dict[int, Any] = {
            version.pk: version
            for version in EarnRuleVersion.objects.filter(owner__program=program).select_related("owner")
        }

    def of(self, line: OrderLine, moment: _Moment, earned: Sequence[LineEarned]) -> tuple[NotCovered, ...]:
        """Return the rules without an accrual for the line."""
        if moment not in self.tiers:
            member_id = self.order.member_id or 0
            self.tiers[moment] = tier_known(self.program, member_id, moment.at, moment.known_at)
        tier, name = self.tiers[moment]
        context = rules.Context(tier=tier, channel=self.order.channel)
        seen = rules.Line(line.pk, line.program_amount_minor, line.sku, line.category)
        used = {(part.earned.rule.code, part.earned.rule.version) for part in earned}
        found = []
        for rule in self.terms.rules_at(moment.at, "order_line"):
            version = self.versions[rule.version_id]
            told = RuleUsed(version.owner.code, version.number, rule.definition)
            if (told.code, told.version) not in used:
                why = rules.excluded_buyer(rule.definition, context) or rules.excluded_line(rule.definition, seen)
                found.append(NotCovered(told, why, name))
        return tuple(found)
