"""The versions of one ladder over time: which plan decides at an instant, and when everyone is evaluated."""

from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from django.db import connection

from core import versions
from core.calendar import TICK
from core.models import Program, VersionStatus
from membership import rules
from membership.definitions import LadderDefinition
from membership.models import Ladder, LadderVersion, Tier
from membership.qualification import LadderPlan

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)
# Far enough back to find the evaluation before one: two days, two months, two years.
_LOOK_BACK = (timedelta(days=2), timedelta(days=62), timedelta(days=732))

_INSTANTS = """
    SELECT l.id, l.evaluated_at, l.completed_at, l.reviewed_at, p.revision, p.created_at
    FROM membership_ladder l JOIN core_program p ON p.id = l.program_id WHERE p.id = %s ORDER BY l.id"""


@dataclass(frozen=True, slots=True)
class LadderPlans:
    """Published versions in the order in which they took effect."""

    ladder: Ladder
    zone: str
    published: tuple[LadderVersion, ...]
    tiers: tuple[Tier, ...]

    def version_at(self, instant: datetime) -> LadderVersion | None:
        """Return the version in force at an instant."""
        return versions.in_force(self.published, instant)

    def at(self, instant: datetime) -> LadderPlan | None:
        """Return the plan in force at an instant."""
        version = self.version_at(instant)
        return None if version is None else self._plan(version)

    def of_version(self, version_id: int) -> LadderPlan:
        """Return the plan of one of the ladder's versions."""
        return self._plan(self.get_version(version_id))

    def is_immediate_from(self, instant: datetime) -> bool:
        """Tell whether an upgrade at or after the instant can come at once."""
        spans = zip(self.published, self._ends(), strict=True)
        return any(end > instant and self._plan(version).is_immediate for version, end in spans)

    def list_changes(self, after: datetime) -> list[datetime]:
        """Return the instants after the given one at which a version took effect."""
        return [v.effective_at for v in self.published if v.effective_at is not None and v.effective_at > after]

    def list_evaluations(self, *, after: datetime, until: datetime) -> list[datetime]:
        """Return the evaluation instants in (after, until], each by the version in force at it."""
        found: list[datetime] = []
        for version, end in zip(self.published, self._ends(), strict=True):
            first = max(after, version.effective_at - TICK) if version.effective_at else after
            last = min(until, end - TICK)
            if first < last:
                schedule = self._plan(version).definition.evaluation
                found += rules.iter_evaluations(schedule, after=first, until=last, zone=self.zone)
        return found

    def get_evaluation_before(self, instant: datetime) -> datetime:
        """Return the last evaluation instant before one; without any, an instant before all upgrades it judges."""
        for span in _LOOK_BACK:
            found = self.list_evaluations(after=instant - span, until=instant - TICK)
            if found:
                return found[-1]
        return _BEGINNING

    def get_evaluation_after(self, instant: datetime) -> datetime | None:
        """Return the next evaluation instant after one, if a version in force by then plans it."""
        for span in _LOOK_BACK:
            found = self.list_evaluations(after=instant, until=instant + span)
            if found:
                return found[0]
        return None

    def get_tier(self, tier_id: int) -> Tier:
        """Return a tier of the ladder from memory; what has been added since is read."""
        return next((tier for tier in self.tiers if tier.pk == tier_id), None) or Tier.objects.get(pk=tier_id)

    def get_version(self, version_id: int) -> LadderVersion:
        """Return a version of the ladder from memory; what has been published since is read."""
        known = (version for version in self.published if version.pk == version_id)
        return next(known, None) or LadderVersion.objects.get(pk=version_id)

    def _ends(self) -> list[datetime]:
        return [*(v.effective_at or _END for v in self.published[1:]), _END]

    def _plan(self, version: LadderVersion) -> LadderPlan:
        return _compile(version.pk, version.published_at, self.zone)


def list_plans(program: Program) -> tuple[LadderPlans, ...]:
    """Return the plans of all ladders of a program, the main one first, from memory if its revision is known.

    The ladders' own instants (`evaluated_at`) are those of the first read: whoever decides uses `read_plans`.
    """
    return _list_plans(program.pk, program.revision, program.created_at)


def read_plans(program_id: int) -> list[LadderPlans]:
    """Return the plans of all ladders as of now, their instants too: one read, the rest from memory."""
    with connection.cursor() as cursor:
        cursor.execute(_INSTANTS, [program_id])
        rows = cursor.fetchall()
    found = []
    for ladder_id, evaluated_at, completed_at, reviewed_at, revision, created_at in rows:
        plans = {each.ladder.pk: each for each in _list_plans(program_id, revision, created_at)}[ladder_id]
        ladder = copy(plans.ladder)
        ladder.evaluated_at, ladder.completed_at, ladder.reviewed_at = evaluated_at, completed_at, reviewed_at
        found.append(replace(plans, ladder=ladder))
    return found


@lru_cache(maxsize=64)
def _list_plans(program_id: int, _revision: int, _created_at: datetime) -> tuple[LadderPlans, ...]:
    """Read the plans once per revision. The instant tells recreated databases apart."""
    ladders = Ladder.objects.filter(program=program_id).select_related("program").order_by("pk")
    return tuple(load_plans(ladder) for ladder in ladders)


def load_plans(ladder: Ladder) -> LadderPlans:
    """Read a ladder's published versions and its tiers. Its program is read with it where it is not loaded yet."""
    published = LadderVersion.objects.filter(owner=ladder).exclude(status=VersionStatus.DRAFT)
    ordered = sorted(published, key=lambda v: v.effective_at or _BEGINNING)
    tiers = tuple(Tier.objects.filter(ladder=ladder))
    return LadderPlans(ladder=ladder, zone=ladder.program.time_zone, published=tuple(ordered), tiers=tiers)


@lru_cache(maxsize=256)
def _compile(version_id: int, _published_at: datetime, zone: str) -> LadderPlan:
    """Parse a published version once per process: it never changes. The instant tells recreated databases apart."""
    version = LadderVersion.objects.select_related("owner__program").get(pk=version_id)
    ladder = version.owner
    context = {"currency": ladder.program.currency}
    definition = LadderDefinition.model_validate(version.definition, context=context)
    ids = dict(Tier.objects.filter(ladder=ladder).values_list("code", "id"))
    return LadderPlan(
        ladder_id=ladder.pk,
        version_id=version_id,
        definition=definition,
        tier_ids=tuple(ids[tier.code] for tier in definition.tiers),
        zone=zone,
    )
