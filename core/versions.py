"""The life of versioned definitions: draft -> published -> retired."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db import models, transaction
from django.db.models import F

from core import locks
from core.models import Program, Version, VersionStatus

V = TypeVar("V", bound=Version)

_BEGINNING = datetime.min.replace(tzinfo=UTC)


class VersionOverlap(Exception):
    """A version would take effect no later than the one it follows."""


def in_force(versions: Iterable[V], at: datetime) -> V | None:
    """Return the version in force at an instant, drafts left out; None if none was."""
    begun = [v for v in versions if v.status != VersionStatus.DRAFT and _begins(v) <= at]
    last = max(begun, key=_begins, default=None)
    return None if last is None or (last.ended_at is not None and last.ended_at <= at) else last


@transaction.atomic
def publish(owner: models.Model, definition: dict[str, Any], *, at: datetime) -> Version:
    """Publish a definition as the owner's next version and retire the one before it.

    The first version of an owner is in force from the beginning, every later one from `at`.
    Raises: VersionOverlap if the version before it takes effect at `at` or later, or ends later.
    Locks: the program's row, then the owner's.
    """
    note_change(owner.program)  # type: ignore[attr-defined]
    versions = locks.lock_row(owner).versions  # type: ignore[attr-defined]
    last = max(versions.exclude(status=VersionStatus.DRAFT), key=_begins, default=None)
    if last is not None and _begins(last) >= at:
        raise VersionOverlap(f"{owner}: v{last.number} takes effect at {last.effective_at}, so none can at {at}")
    if last is not None and last.ended_at is not None and last.ended_at > at:
        raise VersionOverlap(f"{owner}: v{last.number} ends at {last.ended_at}, so none can take effect at {at}")
    versions.filter(status=VersionStatus.PUBLISHED).update(status=VersionStatus.RETIRED)
    version: Version = versions.create(
        number=last.number + 1 if last else 1,
        status=VersionStatus.PUBLISHED,
        definition=definition,
        published_at=at,
        effective_at=at if last else None,
    )
    return version


@transaction.atomic
def end(owner: models.Model, *, at: datetime) -> Version | None:
    """Retire the published version: from `at` on none is in force. Return it, None if none was published.

    Raises: VersionOverlap if the version takes effect at `at` or later.
    Locks: the program's row, then the owner's.
    """
    published = VersionStatus.PUBLISHED
    if not owner.versions.filter(status=published).exists():  # type: ignore[attr-defined]
        return None
    note_change(owner.program)  # type: ignore[attr-defined]
    last: Version | None = locks.lock_row(owner).versions.filter(status=published).first()  # type: ignore[attr-defined]
    if last is None:
        return None
    if _begins(last) >= at:
        raise VersionOverlap(f"{owner}: v{last.number} takes effect at {last.effective_at}, so it cannot end at {at}")
    last.status, last.ended_at = VersionStatus.RETIRED, at
    last.save(update_fields=["status", "ended_at"])
    return last


def note_change(program: Program) -> None:
    """Raise the program's revision: whoever keeps its definitions in memory reads them again.

    Locks: the program's row, until the change is committed.
    """
    Program.objects.filter(pk=program.pk).update(revision=F("revision") + 1)


def _begins(version: Version) -> datetime:
    return version.effective_at or _BEGINNING
