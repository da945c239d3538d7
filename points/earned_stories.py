"""What explains accruals and their corrections: the rules, the tiers and the facts of their time."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models.functions import Coalesce

from core.models import Program
from membership.models import Activity, Ladder, OrderLine
from membership.selectors import tiers_at
from points.definitions import EarnRuleDefinition
from points.models import Accrual, AccrualCorrection, AccrualReason, EarnRuleVersion, LedgerTransaction, Lot, SourceKind
from points.services.earning import Terms
from points.statement import FACT_NAMES, Source


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
class Corrected:
    """What an accrual counts for by what was known at a later close: `earned` now, `before` until then.

    `returned` of `whole` of it had come back. So many points were added, or asked back: `due`, `owed` and `taken` are
    those of `TakenBack`. `expires_at`: of the accrual's own points.
    `fact`: what changed what is known, None if that is not known.
    """

    earned: Earned
    before: int
    returned: int
    whole: int
    added: int
    due: int
    owed: int
    taken: int
    expires_at: datetime | None
    fact: Source | None


def tell_earned(
    accruals: list[Accrual], instants: list[tuple[datetime, datetime]], program: Program
) -> tuple[Earned, ...]:
    """Return accruals with what explains them; `instants`: when each took effect and when it was recorded."""
    if not accruals:
        return ()
    teller = _Teller(program, accruals, instants)
    return tuple(teller.earned(accrual, accrual, told) for accrual, told in zip(accruals, instants, strict=True))


def tell_corrected(corrections: Sequence[AccrualCorrection], program: Program) -> list[tuple[int, Corrected]]:
    """Return corrections of one member's with what explains them and their accruals' ids, in their order."""
    if not corrections:
        return []
    accruals = [row.accrual for row in corrections]
    recorded = dict(
        LedgerTransaction.objects.filter(pk__in={row.transaction_id for row in corrections})
        .order_by()
        .values_list("pk", "recorded_at")
    )
    earned_at = _read_instants(accruals)
    instants = [
        (earned_at[row.accrual.source_kind, row.accrual.source_id], recorded[row.transaction_id]) for row in corrections
    ]
    teller = _Teller(program, accruals, instants)
    facts = _read_facts(corrections)
    before = _read_before(corrections)
    lots = Lot.objects.filter(pk__in={accrual.lot_id for accrual in accruals if accrual.lot_id})
    ends: dict[int | None, datetime | None] = dict(lots.order_by().values_list("pk", "expires_at"))
    return [
        (
            row.accrual_id,
            Corrected(
                earned=teller.earned(row.accrual, row, told),
                before=before[row.pk],
                returned=row.returned,
                whole=row.whole,
                added=row.points_added,
                due=row.points_due,
                owed=row.points_owed,
                taken=row.points_taken,
                expires_at=ends.get(row.accrual.lot_id),
                fact=facts.get((row.fact_kind, row.fact_id)),
            ),
        )
        for row, told in zip(corrections, instants, strict=True)
    ]


class _Teller:
    """What explains accruals and their corrections: lines, rules, tiers and roundings, read at once."""

    def __init__(
        self, program: Program, accruals: Sequence[Accrual], instants: Sequence[tuple[datetime, datetime]]
    ) -> None:
        self._program, self._terms = program, Terms(program)
        self._lines = line_names(one.source_id for one in accruals if one.source_kind == SourceKind.ORDER_LINE)
        self._tiers = {told: tier_known(program, accruals[0].member_id, *told)[1] for told in set(instants)}

    def earned(self, accrual: Accrual, row: Accrual | AccrualCorrection, told: tuple[datetime, datetime]) -> Earned:
        """Return what a row, the accrual's own or a correction of it, says that it earned."""
        is_line = accrual.source_kind == SourceKind.ORDER_LINE
        return Earned(
            line=self._lines.get(accrual.source_id, ("", ""))[1] if is_line else "",
            rule=read_rule(accrual, self._program),
            basis=row.basis,
            multiplier_bps=row.multiplier_bps,
            tier=self._tiers[told],
            points=row.points,
            capped_points=accrual.capped_points,
            reason=AccrualReason(row.reason),
            floors_order=self._terms.policy_at(accrual.wallet_id, told[0]).rounding == "order",
        )


def _read_instants(accruals: Iterable[Accrual]) -> dict[tuple[int, int], datetime]:
    """Return when the sources of accruals happened: order lines when they were paid or added, activities."""
    ids: dict[int, set[int]] = defaultdict(set)
    for accrual in accruals:
        ids[accrual.source_kind].add(accrual.source_id)
    at = Coalesce("edit__edited_at", "order__paid_at")
    lines = OrderLine.objects.filter(pk__in=ids[SourceKind.ORDER_LINE]).order_by().values_list("pk", at)
    activities = Activity.objects.filter(pk__in=ids[SourceKind.ACTIVITY]).order_by().values_list("pk", "occurred_at")
    return {
        **{(SourceKind.ORDER_LINE.value, pk): instant for pk, instant in lines},
        **{(SourceKind.ACTIVITY.value, pk): instant for pk, instant in activities},
    }


def _read_facts(corrections: Iterable[AccrualCorrection]) -> dict[tuple[int, int | None], Source]:
    """Return what the storefront calls the facts that corrections name."""
    ids: dict[int, set[int]] = defaultdict(set)
    for row in corrections:
        if row.fact_id is not None:
            ids[row.fact_kind].add(row.fact_id)
    return {
        (kind, pk): Source(SourceKind(kind), name)
        for kind, (model, column) in FACT_NAMES.items()
        for pk, name in model._default_manager.filter(pk__in=ids[kind]).order_by().values_list("pk", column)
    }


def _read_before(corrections: Sequence[AccrualCorrection]) -> dict[int, int]:
    """Return what the accruals counted for until each correction."""
    of_accrual: dict[int, list[tuple[int, int]]] = defaultdict(list)
    rows = AccrualCorrection.objects.filter(accrual__in={row.accrual_id for row in corrections}).order_by("pk")
    for pk, accrual_id, points in rows.values_list("pk", "accrual_id", "points"):
        of_accrual[accrual_id].append((pk, points))
    return {
        row.pk: next((points for pk, points in reversed(of_accrual[row.accrual_id]) if pk < row.pk), row.accrual.points)
        for row in corrections
    }


def tier_known(program: Program, member_id: int, at: datetime, known_at: datetime) -> tuple[str, str]:
    """Return code and name of the tier that rules looked at: the one held at an instant, as it was known later."""
    ladder = Ladder.objects.filter(program=program).first()
    if ladder is None:
        return "", ""
    held = tiers_at(ladder_id=ladder.pk, at=at, known_at=known_at, member_ids=[member_id])
    period = held.select_related("tier").first()
    return (period.tier.code, period.tier.name) if period else ("", "")


def read_rule(accrual: Accrual, program: Program) -> RuleUsed:
    """Return the version of the rule that made an accrual."""
    version = accrual.rule_version
    if version is None:
        raise LookupError("no rule gave a grant")
    return rule_used(version, program)


def rule_used(version: EarnRuleVersion, program: Program) -> RuleUsed:
    """Return a version of a rule as it is named and read."""
    definition = EarnRuleDefinition.model_validate(version.definition, context={"currency": program.currency})
    return RuleUsed(version.owner.code, version.number, definition)


def line_names(line_ids: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Return the storefront's ids of order and line."""
    rows = OrderLine.objects.filter(pk__in=set(line_ids)).order_by()
    return {pk: (order, line) for pk, order, line in rows.values_list("pk", "order__external_id", "external_id")}
