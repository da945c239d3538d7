"""Activities and qualifying credits on their way in."""

from collections.abc import Iterable
from datetime import UTC
from typing import Any

from django.db import connection

from membership.engagement import is_engagement
from membership.fact_checks import Checked, T, digest_of
from membership.fact_inputs import ActivityInput, CreditInput
from membership.refusals import Submitted, accept
from membership.services.batch import Batch, columns

_INSERT_ACTIVITIES = """
    INSERT INTO membership_activity
        (recorded_at, member_id, source, external_id, content_digest, kind, occurred_at, local_date, quality,
        "order", product)
    SELECT %s, told.* FROM unnest(
        %s::bigint[], %s::text[], %s::text[], %s::bytea[], %s::text[], %s::timestamptz[], %s::date[], %s::smallint[],
        %s::text[], %s::text[]
    ) AS told
    ON CONFLICT (member_id, source, external_id) DO NOTHING
    RETURNING member_id, source, external_id, id"""

_KNOWN_ACTIVITIES = """
    SELECT member_id, source, external_id, content_digest
    FROM membership_activity
    JOIN unnest(%s::bigint[], %s::text[], %s::text[]) AS told (member_id, source, external_id)
    USING (member_id, source, external_id)"""

_INSERT_CREDITS = """
    INSERT INTO membership_qualifyingcredit (recorded_at, member_id, source, rule, credits, effective_at, local_date)
    SELECT %s, told.*
    FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::int[], %s::timestamptz[], %s::date[]) AS told
    ON CONFLICT (member_id, source, rule) DO NOTHING
    RETURNING member_id, source, rule, id"""

_KNOWN_CREDITS = """
    SELECT member_id, source, rule, credits, effective_at
    FROM membership_qualifyingcredit
    JOIN unnest(%s::bigint[], %s::text[], %s::text[]) AS told (member_id, source, rule)
    USING (member_id, source, rule)"""

# A member's id and the two names of a fact among theirs.
Key = tuple[int, str, str]


def record_activities(batch: Batch, activities: Submitted[ActivityInput]) -> None:
    """Write the activities that are new, in key order.

    Raises: RefusedFacts, with all that are refused.
    Locks: waits for another transaction that is writing one of these activities.
    """
    facts = _by_member(batch, activities)
    rows = [
        (
            *(*key, fact.digest, told.kind, told.occurred_at, batch.local_date(told.occurred_at), told.quality),
            *(told.order, told.product),
        )
        for key, fact in facts.items()
        for told in [fact.told]
    ]
    new = _insert(_INSERT_ACTIVITIES, [batch.at, *columns(rows)]) if rows else {}
    known = {key: bytes(digest) for key, (digest,) in _known(_KNOWN_ACTIVITIES, facts.keys() - new.keys())}
    for key, fact in facts.items():
        activities.take(fact.key, known.get(key), accept)
    activities.raise_refusals()
    batch.activity_ids.extend(sorted(new.values()))
    batch.places |= {("activity", activity_id): activities.indexes(facts[key]) for key, activity_id in new.items()}
    for key in new:
        told = facts[key].told
        batch.note(key[0], told.occurred_at).activities += is_engagement(told.kind)


def record_qualifying_credits(batch: Batch, told: Submitted[CreditInput]) -> None:
    """Write the credits that are new, in key order.

    Raises: RefusedFacts, with all that are refused.
    Locks: waits for another transaction that is writing one of these credits.
    """
    facts = _by_member(batch, told)
    rows = [
        (*key, credit.credits, credit.effective_at, batch.local_date(credit.effective_at))
        for key, fact in facts.items()
        for credit in [fact.told]
    ]
    new = _insert(_INSERT_CREDITS, [batch.at, *columns(rows)]) if rows else {}
    known = {
        key: digest_of(number, effective_at.astimezone(UTC).isoformat())
        for key, (number, effective_at) in _known(_KNOWN_CREDITS, facts.keys() - new.keys())
    }
    for key, fact in facts.items():
        told.take(fact.key, known.get(key), accept)
    told.raise_refusals()
    for key in new:
        batch.note(key[0], facts[key].told.effective_at).credits += facts[key].told.credits


def _by_member(batch: Batch, facts: Submitted[T]) -> dict[Key, Checked[T]]:
    """Return of each key the content that is written if the key is new: the first that there is no objection to."""
    facts.check(batch.member_of)
    found: dict[Key, Checked[T]] = {}
    for member, first, second in facts.contents:
        contents = facts.of((member, first, second))
        if contents:
            sound = (fact for fact in contents if fact.objection is None)
            found[batch.member_ids[member], first, second] = next(sound, contents[0])
    return found


def _insert(statement: str, parameters: list[Any]) -> dict[Key, int]:
    """Insert rows and return the ids of those that were new, by key."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return {(member_id, first, second): row_id for member_id, first, second, row_id in cursor.fetchall()}


def _known(statement: str, keys: Iterable[Key]) -> list[tuple[Key, tuple[Any, ...]]]:
    """Return what is recorded under the keys: a later statement than the insert, so it sees what that waited for."""
    rows = sorted(keys)
    if not rows:
        return []
    with connection.cursor() as cursor:
        cursor.execute(statement, columns(rows))
        return [((member_id, first, second), tuple(rest)) for member_id, first, second, *rest in cursor.fetchall()]
