"""The undoing of upgrades whose own orders came back.

An upgrade counted orders: its evidence. It is reviewed at each start of a local day after one of them came back,
however late: what has come back by then is taken from what it had counted. Where its tier is not reached any more, and
nothing but a guarantee keeps it (minimum stay, grace, downgrade `never`, a yearly evaluation that is not due), the
member falls to what is left of the upgrades held one on the other, at least to the row before them. An evaluation then
decides from there as if the upgrades had not been; between two evaluations an immediate ladder gives at once what
other facts have earned.

- Whoever qualifies by the windows of the day keeps the tier, and is reviewed again until that or the evidence changes.
- An evaluation also undoes what came at once since the evaluation before it, without any guarantee.
- No member falls below a row that an evaluation lowered to, or that did not follow from facts.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from psycopg2 import sql

from core.calendar import TICK, local_date
from membership.composed_sql import among, fetch
from membership.decisions import decision, entry_rank, unqualified
from membership.ladder_plans import LadderPlans
from membership.models.tiers import FLOORS, TierCause
from membership.qualification import LadderPlan, Moment, moment_metrics
from membership.services.periods import History, Period, held_arrays

# What a row of these gives was reached by facts, and falls with them.
_GROUNDS = (TierCause.UPGRADED, TierCause.CORRECTED)


def list_since_floor(rows: History) -> History:
    """Return the last row that no return of orders takes away, and the rows after it."""
    floor = max((n for n, row in enumerate(rows) if row.cause in FLOORS), default=0)
    return rows[floor:]


def find_fallen(plans: LadderPlans, histories: Mapping[int, History], instant: datetime) -> dict[int, Period]:
    """Return what is left of the upgrades of members without what came back by an instant, where that is less.

    histories: rows before the instant, oldest first.
    """
    plan = plans.at(instant)
    held = {member_id: list_since_floor(rows) for member_id, rows in histories.items()}
    reached = _reached_tiers(plans, held, instant)
    if plan is None:
        return {}
    left = {member_id: _find_left(plan, held[member_id], tiers) for member_id, tiers in reached.items()}
    return {m: row for m, row in left.items() if plan.ranks[row.tier_id] < plan.ranks[held[m][-1].tier_id]}


def _find_left(plan: LadderPlan, rows: History, reached: Mapping[datetime, int]) -> Period:
    """Return the highest tier that the rows still give, of equals the oldest; what was lowered since does not rise."""
    stretches: list[tuple[Period, Period]] = []
    for row in rows:
        began = stretches.pop()[0] if stretches and row.cause == TierCause.STAYED else row
        stretches.append((began, row))
    ceiling = len(plan.tier_ids)
    best, left = rows[0], -1
    for began, last in reversed(stretches):
        ceiling = min(ceiling, plan.ranks[last.tier_id])
        claim = min(ceiling, plan.ranks[reached.get(began.valid_from, began.tier_id)])
        if claim >= left:
            # A grace belongs to the whole tier.
            best, left = (last if claim == plan.ranks[last.tier_id] else began), claim
    return replace(best, tier_id=plan.tier_ids[left])


def _reached_tiers(
    plans: LadderPlans, held: Mapping[int, History], instant: datetime
) -> dict[int, dict[datetime, int]]:
    """Return, by member and instant of a row, the tier that its facts give without what came back by an instant."""
    moments: dict[int, list[Moment]] = defaultdict(list)
    for member_id, rows in held.items():
        for row in rows[1:]:
            if row.cause in _GROUNDS:
                seen = row.valid_from - TICK
                moments[row.version_id].append(Moment(member_id, seen, local_date(seen, plans.zone)))
    reached: dict[int, dict[datetime, int]] = defaultdict(dict)
    for version_id, parts in moments.items():
        plan = plans.of_version(version_id)
        query = sql.SQL("SELECT member_id, fact_at, {rank} FROM ({metrics}) m").format(
            rank=entry_rank(plan), metrics=moment_metrics(plan, parts, refunds_until=instant)
        )
        for member_id, fact_at, rank in fetch(query):
            reached[member_id][fact_at + TICK] = plan.tier_ids[rank]
    return dict(reached)


def undo(
    plans: LadderPlans,
    fallen: Mapping[int, Period],
    histories: Mapping[int, History],
    instant: datetime,
    *,
    is_evaluation: bool,
) -> dict[int, Period]:
    """Return the rows, valid from an instant, of the members whose upgrades are undone there.

    fallen: what is left to members whose upgrades have lost ground. histories: as for `find_fallen`.
    """
    plan = plans.at(instant)
    due = {
        member_id: histories[member_id][-1]
        for member_id in fallen
        if is_due(plans, histories[member_id], instant, is_evaluation=is_evaluation)
    }
    if plan is None or not due:
        return {}
    query = unqualified(plan, held=held_arrays(due), members=among(due), instant=instant)
    lost = {member_id: (top, found) for member_id, top, found in fetch(query)}
    tops = {member_id: top for member_id, (top, _) in lost.items()}
    rows = {member_id: fallen[member_id] for member_id in lost}
    rows |= _decided(plan, rows, instant) if is_evaluation else _risen(plan, rows, tops, instant)
    return {
        member_id: replace(
            row,
            valid_from=instant,
            version_id=plan.version_id,
            cause=TierCause.CORRECTED.value,
            evidence=json.loads(lost[member_id][1]),
            pk=None,
        )
        for member_id, row in rows.items()
    }


def is_due(plans: LadderPlans, rows: History, instant: datetime, *, is_evaluation: bool) -> bool:
    """Tell whether a guarantee may be what keeps the last row at an instant, or its upgrade has met no evaluation."""
    plan, row = plans.at(instant), rows[-1]
    if plan is None:
        return False
    policy = plan.definition.downgrade
    if policy.when == "never" or (row.guaranteed_until is not None and row.guaranteed_until > instant):
        return True
    if not is_evaluation:
        return plan.definition.evaluation.every == "year"
    if policy.when == "after_grace" and not row.in_grace:
        return True
    previous = plans.get_evaluation_before(instant)
    return any(r.cause == TierCause.UPGRADED and r.valid_from > previous for r in list_since_floor(rows))


def _decided(plan: LadderPlan, fallen: Mapping[int, Period], instant: datetime) -> dict[int, Period]:
    """Return what an evaluation makes of those whom it moves on from where they fell."""
    if not fallen:
        return {}
    query = decision(plan, held=held_arrays(fallen), members=among(fallen), instant=instant)
    return {
        member_id: replace(fallen[member_id], tier_id=tier_id, guaranteed_until=guaranteed)
        for member_id, tier_id, _, guaranteed, _ in fetch(query)
    }


def _risen(
    plan: LadderPlan, fallen: Mapping[int, Period], tops: Mapping[int, int], instant: datetime
) -> dict[int, Period]:
    """Return the higher tiers that an immediate ladder gives for what members did while they held what they lost."""
    return {
        member_id: replace(row, tier_id=plan.tier_ids[tops[member_id]], guaranteed_until=plan.minimum_stay(instant))
        for member_id, row in fallen.items()
        if plan.is_immediate and tops[member_id] > plan.ranks[row.tier_id]
    }
