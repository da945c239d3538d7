"""The life of versioned definitions: draft -> published -> retired."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db import models, transaction

from core import locks
from core.models import Version, VersionStatus

V = TypeVar("V", bound=Version)

_BEGINNING = datetime.min.replace(tzinfo=UTC)


class VersionOverlap(Exception):
    """A version would take effect no later than the one it follows."""


def in_force(versions: Iterable[V], at: datetime) -> V | None:
    """Return the version in force at an instant, drafts left out; None if none was."""
    begun = [v for v in versions if v.status != VersionStatus.DRAFT and _begins(v) <= at]
    return max(begun, key=_begins, default=None)


@transaction.atomic
def publish(owner: models.Model, definition: dict[str, Any], *, at: datetime) -> Version:
    """Publish a definition as the owner's next version and retire the one before it.

    The first version of an owner is in force from the beginning, every later one from `at`.
    Raises: VersionOverlap if the version before it takes effect at `at` or later.
    Locks: the owner's row.
    """
    versions = locks.lock_row(owner).versions  # type: ignore[attr-defined]
    everything = list(versions.all())
    last = max((v for v in everything if v.status != VersionStatus.DRAFT), key=_begins, default=None)
    if last is not None and _begins(last) >= at:
        raise VersionOverlap(f"{owner}: v{last.number} takes effect at {last.effective_at}, so none can at {at}")
    versions.filter(status=VersionStatus.PUBLISHED).update(status=VersionStatus.RETIRED)
    version: Version = versions.create(
        number=max((v.number for v in everything), default=0) + 1,
        status=VersionStatus.PUBLISHED,
        definition=definition,
        published_at=at,
        effective_at=at if last else None,
    )
    return version


def _begins(version: Version) -> datetime:
    return version.effective_at or _BEGINNING
