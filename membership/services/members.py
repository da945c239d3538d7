"""Enrollment: members by the storefront's ids, and the tier each begins with; changes of what is known about them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction

from core.models import Program
from core.places import places_of
from core.services import audit, outbox
from core.versions import in_force
from membership.fact_checks import check_member
from membership.fact_inputs import BadFact, MemberInput
from membership.field_checks import member_frame
from membership.locks import lock_enrollment, lock_members
from membership.models import Ladder, Member, MemberKind, MemberStatus, TierCause
from membership.services.batch import columns, copy_rows

__all__ = ["BadFact", "EnrolledMembers", "MemberInput", "enroll_members", "enroll_on_ladder", "update_member"]

# What may be changed after enrollment.
PROFILE_FIELDS = ("locale", "country", "birthday", "consents", "status")

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


class MemberErased(Exception):
    """The member has been erased: nothing about them is kept any more."""


@dataclass(frozen=True, slots=True)
class EnrolledMembers:
    """The ids of all members told, by external id, and of those who are new."""

    ids: dict[str, int]
    new_ids: list[int]


@transaction.atomic
def enroll_members(
    *, program: Program, members: Sequence[MemberInput], at: datetime, last: datetime | None = None
) -> EnrolledMembers:
    """Enroll members and give each the lowest tier of every ladder that was in force when they joined.

    Whoever is enrolled already stays as they are, whatever is told about them now; told twice, the first counts.
    last: the latest instant at which anyone may join, for who is told as they join; None: any instant and any country.
    Raises: BadFact.
    Publishes `membership.members_enrolled` with the ids of those who are new.
    Locks: waits for another transaction that is enrolling one of them; inserts in external id order.
    """
    frame, objections = member_frame(program, last=last), {}
    told: dict[str, MemberInput] = {}
    for member in members:
        objections[member.external_id] = check_member(member, frame)
        if member.kind not in MemberKind.values:
            raise BadFact(
                field="kind",
                external_id=member.external_id,
                reason=f"{member.kind!r} is no kind of member",
                code="invalid_value",
            )
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
    for objection in (objections[name] for name in new):
        if objection is not None:
            raise objection
    _begin_periods(program, {member_id: told[name].joined_at for name, member_id in new.items()}, at)
    if new:
        news = {"members": sorted(new.values())}
        outbox.publish(program_id=program.pk, topic="membership.members_enrolled", payload=news, at=at)
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
def update_member(
    *, member: Member, changes: Mapping[str, Any], actor: str, at: datetime, user: User | None = None, reason: str = ""
) -> list[str]:
    """Change what is known about a member, and return the names of the fields that differed.

    Of the values only the status is kept in the audit trail: the rest is personal and must be erasable.
    Publishes `membership.member_updated`, unless nothing differed.
    Raises: BadFact; MemberErased.
    Idempotency: a second call changes nothing.
    Locks: the member.
    """
    _check_profile(member, changes, at=at)
    lock_members([member.pk])
    known = Member.objects.get(pk=member.pk)
    if known.status == MemberStatus.ERASED:
        raise MemberErased(f"{known} has been erased")
    changed = [name for name in PROFILE_FIELDS if name in changes and changes[name] != getattr(known, name)]
    if not changed:
        return []
    before, after = {"status": known.status}, {"changed": changed, "status": changes.get("status", known.status)}
    for name in changed:
        setattr(known, name, changes[name])
        setattr(member, name, changes[name])
    known.save(update_fields=changed)
    audit.record(
        action="member.updated", target=f"member {known.external_id}", actor=actor, user=user, at=at,
        program=known.program, reason=reason, before=before, after=after,
    )  # fmt: skip
    news = {"members": [known.pk], "changed": changed}
    outbox.publish(program_id=known.program_id, topic="membership.member_updated", payload=news, at=at)
    return changed


def _check_profile(member: Member, changes: Mapping[str, Any], *, at: datetime) -> None:
    told = {name: changes[name] for name in ("locale", "country", "birthday") if name in changes}
    known = MemberInput(external_id=member.external_id, joined_at=member.joined_at, **told)
    check_member(known, member_frame(member.program, last=max(at, member.joined_at)))
    flaw = places_of(member.program).find_flaw("country", known.country)
    if flaw:
        raise BadFact(field="country", external_id=member.external_id, reason=flaw, code="invalid_value")
    if changes.keys() - set(PROFILE_FIELDS):
        raise ValueError(f"only {', '.join(PROFILE_FIELDS)} can be changed")
    if changes.get("status", MemberStatus.ACTIVE) not in (MemberStatus.ACTIVE, MemberStatus.SUSPENDED):
        reason = f"{changes['status']!r} is not a status that can be set"
        raise BadFact(field="status", external_id=member.external_id, reason=reason, code="invalid_value")


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
