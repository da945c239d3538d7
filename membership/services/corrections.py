"""The undoing of immediate upgrades whose own orders came back.

An upgrade that came at once is looked at by the next evaluation and no later one: the refunds of the orders that its
window had counted, dated before that evaluation, are taken from its metrics. If its tier is not reached any more,
the member falls to the tier that the remaining metrics of the same upgrades give, at least the one held before
them, and the evaluation decides from there as if the upgrade had not been. What qualifies by the evaluation's own
window is therefore never undone. Grace, minimum stay and `downgrade: never` do not protect an undone upgrade.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from psycopg2 import sql

from core.calendar import TICK, local_date
from membership.composed_sql import Cells, among, fetch
from membership.ladder_plans import LadderPlans
from membership.models import Refund, TierCause
from membership.qualification import LadderPlan, Moment, decision, entry_rank, moment_metrics
from membership.services.periods import History, Period, held_arrays


def find_corrections(plans: LadderPlans, histories: Mapping[int, History], instant: datetime) -> dict[int, Period]:
    """Return the rows, valid from an evaluation, that undo upgrades made since the evaluation before it.

    histories: rows before the instant, oldest first.
    """
    plan = plans.at(instant)
    previous = plans.get_evaluation_before(instant)
    upgraded = {m: ups for m, rows in histories.items() if (ups := _immediate_upgrades(rows, previous))}
    if plan is None or not upgraded:
        return {}
    reached = _reached_tiers(plans, upgraded, instant)
    fallen: dict[int, Period] = {}
    for member_id, tiers in reached.items():
        rows, upgrades = histories[member_id], upgraded[member_id]
        base = rows[len(rows) - len(upgrades) - 1]
        choices = [base, *(replace(up, tier_id=tiers.get(up.valid_from, up.tier_id)) for up in upgrades)]
        best = max(choices, key=lambda row: plan.ranks[row.tier_id])
        if plan.ranks[best.tier_id] < plan.ranks[rows[-1].tier_id]:
            fallen[member_id] = best
    return _decide_from(plan, fallen, histories, instant)


def list_suspects(plans: LadderPlans, *, first: int, last: int, instant: datetime) -> list[int]:
    """Return the members of an id range who moved up since the evaluation before `instant` and had a refund after."""
    query = sql.SQL("""
        SELECT DISTINCT p.member_id FROM membership_tierperiod p
         WHERE p.member_id BETWEEN {first} AND {last} AND p.ladder_id = {ladder} AND p.superseded_at IS NULL
           AND p.cause = {cause} AND p.valid_from > {previous} AND p.valid_from < {instant}
           AND EXISTS (SELECT FROM membership_refund r WHERE r.member_id = p.member_id
                          AND r.refunded_at >= p.valid_from AND r.refunded_at < {instant})
    """).format(
        first=sql.Literal(first),
        last=sql.Literal(last),
        ladder=sql.Literal(plans.ladder.pk),
        cause=sql.Literal(TierCause.UPGRADED.value),
        previous=sql.Literal(plans.get_evaluation_before(instant)),
        instant=sql.Literal(instant),
    )
    return [member_id for (member_id,) in fetch(query)]


def _immediate_upgrades(rows: History, previous: datetime) -> History:
    """Return the upgrades that end a history and came after the previous evaluation."""
    count = 0
    for row in reversed(rows[1:]):
        if row.cause != TierCause.UPGRADED or row.valid_from <= previous:
            break
        count += 1
    return rows[len(rows) - count :]


def _reached_tiers(
    plans: LadderPlans, upgraded: Mapping[int, History], instant: datetime
) -> dict[int, dict[datetime, int]]:
    """Return, by member and upgrade, the tier reached without what came back; members without refunds are left out."""
    first = min(rows[0].valid_from for rows in upgraded.values())
    refunds = Refund.objects.filter(member_id__in=list(upgraded), refunded_at__gte=first, refunded_at__lt=instant)
    refunded = set(refunds.values_list("member_id", flat=True))
    moments: dict[int, list[Moment]] = defaultdict(list)
    by_version: dict[int, LadderPlan] = {}
    for member_id in refunded:
        for up in upgraded[member_id]:
            fact_at = up.valid_from - TICK
            plan = plans.at(fact_at)
            if plan is not None:
                by_version[plan.version_id] = plan
                moments[plan.version_id].append(Moment(member_id, fact_at, local_date(fact_at, plans.zone)))
    reached: dict[int, dict[datetime, int]] = defaultdict(dict)
    for version_id, plan in by_version.items():
        for member_id, fact_at, rank in _ranks_without_refunds(plan, moments[version_id], instant):
            reached[member_id][fact_at + TICK] = plan.tier_ids[rank]
    return dict(reached)


def _ranks_without_refunds(plan: LadderPlan, moments: Sequence[Moment], instant: datetime) -> list[Cells]:
    query = sql.SQL("SELECT member_id, fact_at, {rank} FROM ({metrics}) m").format(
        rank=entry_rank(plan), metrics=moment_metrics(plan, moments, refunds_until=instant)
    )
    return fetch(query)


def _decide_from(
    plan: LadderPlan, fallen: Mapping[int, Period], histories: Mapping[int, History], instant: datetime
) -> dict[int, Period]:
    """Let the evaluation decide for those who fell; whoever is back at the tier held before has not fallen."""
    if not fallen:
        return {}
    query = decision(plan, held=held_arrays(fallen), members=among(fallen), instant=instant)
    decided = {row[0]: row[1:] for row in fetch(query)}
    corrections: dict[int, Period] = {}
    for member_id, held in fallen.items():
        tier_id, _, guaranteed, found = decided.get(member_id, (held.tier_id, held.cause, held.guaranteed_until, "{}"))
        if plan.ranks[tier_id] < plan.ranks[histories[member_id][-1].tier_id]:
            corrections[member_id] = Period(
                valid_from=instant,
                tier_id=tier_id,
                version_id=plan.version_id,
                cause=TierCause.CORRECTED.value,
                guaranteed_until=guaranteed,
                evidence=json.loads(found),
            )
    return corrections
