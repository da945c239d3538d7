"""Enrollment: members by the storefront's ids, and the tier each begins with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from core.models import Program
from core.versions import in_force
from membership.fact_checks import check_member
from membership.fact_inputs import BadFact, MemberInput
from membership.locks import lock_enrollment
from membership.models import Ladder, Member, MemberKind, TierCause
from membership.services.batch import columns, copy_rows

__all__ = ["BadFact", "EnrolledMembers", "MemberInput", "enroll_members", "enroll_on_ladder"]

_INSERT_MEMBERS = """
    INSERT INTO membership_member
        (program_id, recorded_at, status, external_id, joined_at, kind, locale, country, birthday, consents)
    SELECT %s, %s, 'active', told.* FROM unnest(
        %s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::date[], %s::jsonb[]
    ) AS told
    ON CONFLICT (program_id, external_id) DO NOTHING
    RETURNING external_id, id"""

_BEGIN_LADDER = """
    INSERT INTO membership_tierperiod
        (member_id, ladder_id, tier_id, version_id, valid_from, recorded_at, cause, evidence)
    SELECT id, %s, %s, %s, joined_at, %s, %s, '{}' FROM membership_member WHERE program_id = %s ORDER BY id
    ON CONFLICT (member_id, ladder_id, valid_from) WHERE superseded_at IS NULL DO NOTHING"""

_PERIOD_COLUMNS = ("member_id", "ladder_id", "tier_id", "version_id", "valid_from", "recorded_at", "cause", "evidence")


@dataclass(frozen=True, slots=True)
class EnrolledMembers:
    """The ids of all members told, by external id, and of those who are new."""

    ids: dict[str, int]
    new_ids: list[int]


@transaction.atomic
def enroll_members(*, program: Program, members: Sequence[MemberInput], at: datetime) -> EnrolledMembers:
    """Enroll members and give each the lowest tier of every ladder that was in force when they joined.

    Whoever is enrolled already stays as they are, whatever is told about them now; told twice, the first counts.
    Raises: BadFact.
    Locks: waits for another transaction that is enrolling one of them; inserts in external id order.
    """
    told: dict[str, MemberInput] = {}
    for member in members:
        check_member(member)
        if member.kind not in MemberKind.values:
            raise BadFact(field="kind", external_id=member.external_id, reason=f"{member.kind!r} is no kind of member")
        told.setdefault(member.external_id, member)
    if not told:
        return EnrolledMembers({}, [])
    rows = [
        (m.external_id, m.joined_at, m.kind, m.locale, m.country, m.birthday, json.dumps(m.consents))
        for _, m in sorted(told.items())
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_MEMBERS, [program.pk, at, *columns(rows)])
        new: dict[str, int] = dict(cursor.fetchall())
    _begin_periods(program, {member_id: told[name].joined_at for name, member_id in new.items()}, at)
    known = Member.objects.filter(program=program, external_id__in=told.keys() - new.keys())
    return EnrolledMembers(new | dict(known.values_list("external_id", "id")), sorted(new.values()))


def _begin_periods(program: Program, joined: dict[int, datetime], at: datetime) -> None:
    rows: list[tuple[Any, ...]] = []
    if not joined:
        return
    for ladder in Ladder.objects.filter(program=program).prefetch_related("versions", "tiers"):
        tiers = {tier.code: tier.pk for tier in ladder.tiers.all()}
        versions = list(ladder.versions.all())
        for member_id, joined_at in joined.items():
            version = in_force(versions, joined_at)
            if version is not None:
                lowest = tiers[version.definition["tiers"][0]["code"]]
                enrolled = TierCause.ENROLLED.value
                rows.append((member_id, ladder.pk, lowest, version.pk, joined_at, at, enrolled, "{}"))
    if rows:
        copy_rows("membership_tierperiod", _PERIOD_COLUMNS, rows, texts=("cause",))


@transaction.atomic
def enroll_on_ladder(*, ladder: Ladder, at: datetime) -> None:
    """Give everyone enrolled the lowest tier of a ladder that is new to the program, since they joined.

    Idempotency: who has it already keeps it.
    Locks: the table of members: it waits for the enrollments under way, and later ones see the ladder.
    """
    version = in_force(ladder.versions.all(), at)
    if version is None:
        return
    lowest = ladder.tiers.get(code=version.definition["tiers"][0]["code"])
    lock_enrollment()
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN_LADDER, [ladder.pk, lowest.pk, version.pk, at, TierCause.ENROLLED, ladder.program_id])
