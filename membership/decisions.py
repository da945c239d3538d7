"""What an evaluation makes of a ladder's metrics, as SQL.

The decision at an evaluation, for a member who holds tier c until `guaranteed_until` g:

1. The highest tier whose entry holds is above c: upgrade to it.
2. The stay requirement of c (its entry, where it has no stay) holds: nothing, but a grace that was given ends
   (`stayed`, no guarantee), so that the next failure starts anew.
3. Downgrade `never`, or the evaluation is before g: nothing.
4. `after_grace` and c's row is no grace yet: grant it (`stayed`, guaranteed to the start of the local day
   `grace_days` after the evaluation's).
5. Downgrade to the highest lower tier whose entry or stay holds, or one tier down.

Every tier moved to is guaranteed to the start of the local day `minimum_stay_days` after that of the move.
"""

from datetime import datetime
from functools import lru_cache

from psycopg2 import sql

from core.calendar import last_begun_day
from membership.composed_sql import SQL, array, flat, joined
from membership.definitions import AnyOf
from membership.qualification import LadderPlan, column_name, member_day_metrics
from membership.rules import days_later, requirement_name


@lru_cache(maxsize=256)
def evidence(plan: LadderPlan) -> SQL:
    """Return the columns as one JSON object by name."""
    pairs = (
        sql.SQL("{}, {}").format(sql.Literal(requirement_name(column)), column_name(i))
        for i, column in enumerate(plan.columns)
    )
    return flat(sql.SQL("jsonb_build_object({})").format(joined(pairs)))


def _holds(plan: LadderPlan, any_of: AnyOf | None) -> SQL:
    index = {requirement_name(column): i for i, column in enumerate(plan.columns)}
    if any_of is None:
        return sql.SQL("true")
    branches = (
        joined(
            (
                sql.SQL("{} >= {}").format(column_name(index[requirement_name(need)]), sql.Literal(need.at_least))
                for need in branch.all_of
            ),
            " AND ",
        )
        for branch in any_of.any_of
    )
    return sql.SQL("({})").format(joined(branches, " OR "))


@lru_cache(maxsize=256)
def entry_rank(plan: LadderPlan) -> SQL:
    """Return the highest rank whose entry holds."""
    cases = (
        sql.SQL("WHEN {} THEN {}").format(_holds(plan, plan.entry(rank)), sql.Literal(rank))
        for rank in range(len(plan.tier_ids) - 1, 0, -1)
    )
    return flat(sql.SQL("CASE {} ELSE 0 END").format(joined(cases, " ")))


def _stays(plan: LadderPlan) -> SQL:
    cases = (
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(rank), _holds(plan, plan.stay(rank)))
        for rank in range(1, len(plan.tier_ids))
    )
    return sql.SQL("CASE rank {} ELSE true END").format(joined(cases, " "))


def _dropped_rank(plan: LadderPlan) -> SQL:
    if plan.definition.downgrade.to == "one_tier":
        return sql.SQL("rank - 1")
    cases = (
        sql.SQL("WHEN rank > {rank} AND ({entry} OR {stay}) THEN {rank}").format(
            rank=sql.Literal(rank), entry=_holds(plan, plan.entry(rank)), stay=_holds(plan, plan.stay(rank))
        )
        for rank in range(len(plan.tier_ids) - 2, 0, -1)
    )
    lower = list(cases)
    return sql.SQL("CASE {} ELSE 0 END").format(joined(lower, " ")) if lower else sql.SQL("0")


def _rank_of(plan: LadderPlan) -> SQL:
    cases = (
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(tier_id), sql.Literal(rank))
        for rank, tier_id in enumerate(plan.tier_ids)
    )
    return sql.SQL("CASE h.tier_id {} END").format(joined(cases, " "))


def _ranked(plan: LadderPlan, *, held: SQL, members: SQL, instant: datetime) -> SQL:
    """Return a query of (member_id, rank, in_grace, guaranteed_until, m0, ..., top) at an evaluation.

    rank: of the tier held; top: the highest rank whose entry holds. held, members: as for `decision`.
    """
    metrics = (sql.SQL(", coalesce({0}, 0) AS {0}").format(column_name(i)) for i in range(len(plan.columns)))
    return sql.SQL("""
                SELECT *, {top} AS top
                  FROM (
                    SELECT h.member_id, {rank} AS rank, h.in_grace, h.guaranteed_until{metrics}
                      FROM ({held}) h LEFT JOIN ({sums}) m ON m.member_id = h.member_id
                  ) measured
    """).format(
        top=entry_rank(plan),
        rank=_rank_of(plan),
        metrics=joined(metrics, ""),
        held=held,
        sums=member_day_metrics(plan, members, last_begun_day(instant, plan.zone)),
    )


def unqualified(plan: LadderPlan, *, held: SQL, members: SQL, instant: datetime) -> SQL:
    """Return a query of (member_id, top, evidence) of those whom nothing but a guarantee lets keep their tier.

    top: the highest rank whose entry holds, below the tier held. held, members: as for `decision`.
    """
    return sql.SQL(
        "SELECT member_id, top, {evidence} FROM ({ranked}) ranked WHERE NOT (top >= rank OR {stays})"
    ).format(
        evidence=evidence(plan),
        ranked=_ranked(plan, held=held, members=members, instant=instant),
        stays=_stays(plan),
    )


def decision(plan: LadderPlan, *, held: SQL, members: SQL, instant: datetime) -> SQL:
    """Return a query of what an evaluation changes: (member_id, tier_id, cause, guaranteed_until, evidence).

    held: a query of (member_id, tier_id, in_grace, guaranteed_until) just before the instant; members: a condition
    on member_id that holds for all of them. Members for whom nothing changes give no row.
    """
    policy = plan.definition.downgrade
    return sql.SQL("""
        SELECT member_id, ({tiers})[1 + CASE outcome WHEN 'up' THEN top WHEN 'down' THEN {dropped} ELSE rank END]
                   AS tier_id,
               CASE outcome WHEN 'up' THEN 'upgraded' WHEN 'down' THEN 'downgraded' ELSE 'stayed' END AS cause,
               CASE outcome WHEN 'grace' THEN {grace} WHEN 'kept' THEN NULL ELSE {stay} END::timestamptz
                   AS guaranteed_until,
               {evidence} AS evidence
          FROM (
            SELECT *, CASE WHEN top > rank THEN 'up'
                           WHEN {stays} THEN CASE WHEN in_grace THEN 'kept' END
                           WHEN {never} OR guaranteed_until > {instant} THEN NULL
                           WHEN {grants} AND NOT in_grace THEN 'grace'
                           ELSE 'down' END AS outcome
              FROM ({ranked}) ranked
          ) decided
         WHERE outcome IS NOT NULL
    """).format(
        tiers=array(plan.tier_ids, "bigint"),
        dropped=_dropped_rank(plan),
        grace=sql.Literal(days_later(instant, policy.grace_days, plan.zone)),
        stay=sql.Literal(plan.minimum_stay(instant)),
        evidence=evidence(plan),
        stays=_stays(plan),
        never=sql.Literal(policy.when == "never"),
        instant=sql.Literal(instant),
        grants=sql.Literal(policy.when == "after_grace"),
        ranked=_ranked(plan, held=held, members=members, instant=instant),
    )


def insert_decision(plan: LadderPlan, decided: SQL, *, instant: datetime, at: datetime) -> SQL:
    """Return the statement that writes what an evaluation changes, by ascending member: (member_id, cause) of each."""
    return sql.SQL("""
        INSERT INTO membership_tierperiod
               (member_id, ladder_id, tier_id, version_id, valid_from, recorded_at, cause, guaranteed_until, evidence)
        SELECT member_id, {ladder}, tier_id, {version}, {instant}, {at}, cause, guaranteed_until, evidence
          FROM ({decided}) d
         ORDER BY member_id
        ON CONFLICT (member_id, ladder_id, valid_from) WHERE superseded_at IS NULL DO NOTHING
        RETURNING member_id, cause
    """).format(
        ladder=sql.Literal(plan.ladder_id),
        version=sql.Literal(plan.version_id),
        instant=sql.Literal(instant),
        at=sql.Literal(at),
        decided=decided,
    )
