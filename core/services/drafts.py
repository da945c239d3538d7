"""Drafts of versioned definitions: written, compared, published or dropped by operators.

An owner has one draft at most. Whoever saves or publishes says which draft they saw (`fingerprint`), so that nobody
writes over or publishes what another operator made of it meanwhile.
"""

import hashlib
import json
from datetime import datetime
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist
from django.db import models, transaction
from pydantic import TypeAdapter, ValidationError

from core import locks
from core.definitions import Code, Definition, as_written
from core.models import Program, Version, VersionStatus
from core.problems import explain
from core.sections import Journal, Kind, differences, reread
from core.services import audit
from core.yaml_file import UnreadableFile, parse_yaml, write_yaml

LONGEST_TEXT = 100_000

M = TypeVar("M", bound=models.Model)


class DraftRefused(Exception):
    """A draft that cannot be saved or published.

    `code`: invalid (`problems` says why, each as `path: reason`), missing (there is no draft), changed (somebody else
    saved it meanwhile), stale (another version was published since), unchanged (it says what is published already).
    """

    def __init__(self, code: str, problems: list[str] | None = None) -> None:
        """Keep the code and the problems one by one."""
        super().__init__(code, *(problems or []))
        self.code = code
        self.problems = problems or []


def find_draft(owner: Any) -> Version | None:
    """Return the owner's draft."""
    draft: Version | None = owner.versions.filter(status=VersionStatus.DRAFT).first()
    return draft


def find_published(owner: Any) -> Version | None:
    """Return the owner's published version."""
    published: Version | None = owner.versions.filter(status=VersionStatus.PUBLISHED).first()
    return published


def find_latest(owner: Any) -> Version | None:
    """Return the owner's version that was published last, whether or not it has ended."""
    latest: Version | None = owner.versions.exclude(status=VersionStatus.DRAFT).order_by("-number").first()
    return latest


def is_stale(draft: Version, latest: Version | None) -> bool:
    """Tell whether another version was published since the draft was made."""
    return latest is not None and latest.number >= draft.number


def fingerprint(draft: Version | None) -> str:
    """Return what tells one state of a draft from another; empty for none."""
    if draft is None:
        return ""
    return hashlib.sha256(json.dumps([draft.number, draft.definition], sort_keys=True).encode()).hexdigest()


def as_text(kind: Kind, owner: Any, definition: dict[str, Any]) -> str:
    """Return a stored definition as YAML, in the shape and order of program files."""
    return write_yaml(reread(definition, kind.model, owner.program.currency))


def read_text(kind: Kind, owner: Any, text: str) -> Definition:
    """Return the definition that a YAML text says.

    Raises: DraftRefused with everything that is wrong in it.
    """
    if len(text) > LONGEST_TEXT:
        raise DraftRefused("invalid", [f"{kind.word}: is longer than {LONGEST_TEXT:,} characters"])
    try:
        document = parse_yaml(text)
        definition = kind.model.model_validate(document, context={"currency": owner.program.currency})
    except UnreadableFile as error:
        raise DraftRefused("invalid", [str(error)]) from error
    except ValidationError as error:
        raise DraftRefused("invalid", explain(error, kind.word)) from error
    problems = kind.check(owner, definition)
    if problems:
        raise DraftRefused("invalid", [f"{kind.word}.{problem}" for problem in problems])
    return definition


def compare(kind: Kind, owner: Any, definition: dict[str, Any]) -> list[str]:
    """Return what publishing a definition would change, in the lines that `program plan` prints."""
    published = find_published(owner)
    before = reread(published.definition, kind.model, owner.program.currency) if published else {}
    return differences(before, reread(definition, kind.model, owner.program.currency))


@transaction.atomic
def save_draft(*, kind: Kind, owner: models.Model, text: str, seen: str, at: datetime, user: User) -> Version:
    """Write the owner's draft, a new one or in place of the one that was seen.

    Raises: DraftRefused (invalid, changed, stale).
    Locks: the owner's row.
    Idempotency: saving what the draft says already changes nothing.
    """
    owner = _lock(owner)
    written = as_written(read_text(kind, owner, text), owner.program.currency)  # type: ignore[attr-defined]
    draft, latest = find_draft(owner), find_latest(owner)
    if draft is not None and draft.definition == written:
        return draft
    if fingerprint(draft) != seen:
        raise DraftRefused("changed")
    before = draft.definition if draft else None
    if draft is None:
        number = latest.number + 1 if latest else 1
        draft = owner.versions.create(number=number, definition=written)  # type: ignore[attr-defined]
    elif is_stale(draft, latest):
        raise DraftRefused("stale")
    else:
        draft.definition = written
        draft.save(update_fields=["definition"])
    _record(kind, owner, "drafted", before, written, at=at, user=user)
    return draft


@transaction.atomic
def draft_new(*, kind: Kind, owners: type[M], program: Program, code: str, text: str, at: datetime, user: User) -> M:
    """Make an owner that has nothing but a draft: it counts for nothing until that is published.

    Raises: DraftRefused (invalid: the code is malformed or taken, or the definition is wrong).
    """
    check_code(owners, program, code)
    owner, is_new = owners._default_manager.get_or_create(program=program, code=code)
    if not is_new:
        raise _taken(code)
    save_draft(kind=kind, owner=owner, text=text, seen="", at=at, user=user)
    return owner


def check_code(owners: type[models.Model], program: Program, code: str) -> None:
    """Refuse a code that a new owner cannot have.

    Raises: DraftRefused (invalid).
    """
    try:
        TypeAdapter(Code).validate_python(code)
    except ValidationError as error:
        raise DraftRefused("invalid", explain(error, "code")) from error
    if owners._default_manager.filter(program=program, code=code).exists():
        raise _taken(code)


def _taken(code: str) -> DraftRefused:
    return DraftRefused("invalid", [f"code: {code} is taken"])


@transaction.atomic
def rebase_draft(*, kind: Kind, owner: models.Model, at: datetime, user: User) -> Version:
    """Make a stale draft follow the version that was published last; what it says stays.

    Raises: DraftRefused (missing).
    Locks: the owner's row.
    Idempotency: a draft that is not stale stays as it is.
    """
    owner = _lock(owner)
    draft, latest = _require_draft(owner), find_latest(owner)
    if latest is not None and is_stale(draft, latest):
        draft.number = latest.number + 1
        draft.save(update_fields=["number"])
        _record(kind, owner, "draft_rebased", None, draft.definition, at=at, user=user)
    return draft


@transaction.atomic
def discard_draft(*, kind: Kind, owner: models.Model, seen: str, at: datetime, user: User) -> None:
    """Drop the draft that was seen, and its owner if nothing of it was ever published.

    The audit trail keeps what the draft said.

    Raises: DraftRefused (changed).
    Locks: the owner's row.
    Idempotency: dropping it again does nothing.
    """
    try:
        owner = _lock(owner)
    except DraftRefused:
        return
    draft = find_draft(owner)
    if draft is None:
        return
    if fingerprint(draft) != seen:
        raise DraftRefused("changed")
    _record(kind, owner, "draft_discarded", draft.definition, None, at=at, user=user)
    draft.delete()
    if not owner.versions.exists():  # type: ignore[attr-defined]
        owner.delete()


@transaction.atomic
def publish_draft(*, kind: Kind, owner: models.Model, seen: str, reason: str, at: datetime, user: User) -> Version:
    """Publish the draft that was seen, in force from `at`, as applying a program file would.

    Raises: DraftRefused (missing, changed, stale, invalid, unchanged); VersionOverlap.
    Locks: the program's row, then the owner's.
    """
    program = locks.lock_row(owner.program)  # type: ignore[attr-defined]
    owner = _lock(owner)
    draft = _require_draft(owner)
    if fingerprint(draft) != seen:
        raise DraftRefused("changed")
    if is_stale(draft, find_latest(owner)):
        raise DraftRefused("stale")
    definition = read_text(kind, owner, as_text(kind, owner, draft.definition))
    draft.delete()
    journal = Journal(program=program, actor=user.get_username(), at=at, user=user, reason=reason)
    kind.publish(journal, owner, definition)
    published = find_published(owner)
    if not journal.lines or published is None:
        raise DraftRefused("unchanged")
    return published


@transaction.atomic
def end_published(*, kind: Kind, owner: Any, reason: str, at: datetime, user: User) -> bool:
    """End the owner's published version: from `at` on none is in force. False if none was published.

    Raises: VersionOverlap if the version takes effect at `at` or later.
    Locks: the program's row, then the owner's.
    """
    journal = Journal(program=owner.program, actor=user.get_username(), at=at, user=user, reason=reason)
    kind.end(journal, owner)
    return bool(journal.lines)


def _lock(owner: models.Model) -> models.Model:
    """Lock the owner; one that never had a version goes with its draft."""
    try:
        return locks.lock_row(owner)
    except ObjectDoesNotExist as error:
        raise DraftRefused("missing") from error


def _require_draft(owner: Any) -> Version:
    draft = find_draft(owner)
    if draft is None:
        raise DraftRefused("missing")
    return draft


def _record(
    kind: Kind,
    owner: Any,
    verb: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    *,
    at: datetime,
    user: User,
) -> None:
    audit.record(
        action=f"{kind.word}.{verb}",
        target=kind.target(owner),
        actor=user.get_username(),
        user=user,
        program=owner.program,
        before=before,
        after=after,
        at=at,
    )
