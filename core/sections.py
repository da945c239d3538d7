"""Programs as code: what the sections of a program file share. Each app reads and applies its own.

Reading never stops at the first mistake: it collects them, each with its path. Applying writes a journal of what it
changed; to plan is to apply and roll back, so a plan cannot say anything else than what applying does.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db import models
from pydantic import ValidationError

from core import versions
from core.definitions import Code, Definition, as_written
from core.models import Program, VersionStatus
from core.problems import did_you_mean, explain
from core.services import audit

D = TypeVar("D", bound=Definition)

# Has the most decimal places: while the program's own currency cannot be read, amounts are not the mistake.
_ANY_CURRENCY = "CLF"


class ProgramFileError(Exception):
    """What is wrong in a program file, all of it, each as `path: reason`."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep the problems one by one."""
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class Coded(Definition):
    """An entry of a list, named by its code."""

    code: Code


C = TypeVar("C", bound=Coded)


@dataclass
class Reader:
    """A document being read: hands out its sections as definitions and collects what is wrong."""

    document: Mapping[str, Any]
    currency: str = _ANY_CURRENCY
    problems: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    def read(self, key: str, model: type[D]) -> D | None:
        """Return a section that is one mapping, None if something in it is wrong."""
        self.keys.add(key)
        if key not in self.document:
            self.problems.append(f"{key}: is missing")
            return None
        return self._validate(self.document[key], model, key)

    def read_list(self, key: str, model: type[C]) -> list[C]:
        """Return the sound entries of a section that is a list of coded entries; a section left out is empty."""
        self.keys.add(key)
        entries = self.document.get(key) or []
        if not isinstance(entries, list):
            self.problems.append(f"{key}: write a list")
            return []
        seen: set[str] = set()
        for index, code in enumerate(self.codes(key)):
            if code and code in seen:
                self.problems.append(f"{key}[{index}].code: {code} is there twice")
            seen.add(code)
        read = [self._validate(entry, model, f"{key}[{index}]") for index, entry in enumerate(entries)]
        return [entry for entry in read if entry is not None]

    def codes(self, key: str, index: int | None = None, inner: str = "") -> list[str]:
        """Return the codes in a list, or in a list inside its index-th entry, whether or not the rest is sound."""
        entries: Any = self.document.get(key)
        if index is not None:
            entry = entries[index] if isinstance(entries, list) and index < len(entries) else None
            entries = entry.get(inner) if isinstance(entry, dict) else None
        if not isinstance(entries, list):
            return []
        return [str(entry.get("code", "")) if isinstance(entry, dict) else "" for entry in entries]

    def finish(self) -> None:
        """Refuse the document if anything in it is wrong.

        Raises: ProgramFileError.
        """
        for key in self.document:
            if key not in self.keys:
                self.problems.append(f"{key}: unknown key{did_you_mean(str(key), self.keys)}")
        if self.problems:
            raise ProgramFileError(self.problems)

    def _validate(self, data: Any, model: type[D], path: str) -> D | None:
        try:
            return model.model_validate(data, context={"currency": self.currency})
        except ValidationError as error:
            self.problems.extend(explain(error, path))
            return None


@dataclass
class Journal:
    """What applying a program file changed, as lines to read and as audit entries."""

    program: Program
    actor: str
    at: datetime
    user: User | None = None
    reason: str = ""
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def created(self, target: str, after: dict[str, Any], note: str = "") -> None:
        """Note something new."""
        self._record("created", target, None, after)
        self.lines.append(f"+ {target}{note}")

    def changed(self, target: str, before: dict[str, Any], after: dict[str, Any], note: str = "") -> None:
        """Note a change, value by value."""
        self._record("changed", target, before, after)
        self.lines.append(f"~ {target}{note}")
        self.lines.extend(f"    {line}" for line in differences(before, after))

    def removed(self, target: str, before: dict[str, Any]) -> None:
        """Note something gone."""
        self._record("removed", target, before, None)
        self.lines.append(f"- {target}")

    def _record(self, verb: str, target: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        audit.record(
            action=f"{target.split(maxsplit=1)[0]}.{verb}",
            target=target,
            actor=self.actor,
            user=self.user,
            reason=self.reason,
            at=self.at,
            program=self.program,
            before=before,
            after=after,
        )


def apply_fields(journal: Journal, target: str, row: models.Model, values: dict[str, Any], *, is_new: bool) -> None:
    """Give an identity row the file's values: journal a new row, update and journal one that differs."""
    before = {name: getattr(row, name) for name in values}
    if is_new:
        journal.created(target, values)
    elif before != values:
        for name, value in values.items():
            setattr(row, name, value)
        row.save(update_fields=list(values))
        journal.changed(target, before, values)


@dataclass(frozen=True, slots=True)
class Kind:
    """What is versioned alike, such as ladders: its word in files and audit entries and the shape of its definitions.

    `check` returns what the rest of the program has against a definition, each as `path: reason`. `prepare` writes
    what must be there before the version is.
    """

    word: str
    model: type[Definition]
    check: Callable[[Any, Any], list[str]] = lambda _owner, _definition: []
    prepare: Callable[[Any, Any], None] = lambda _owner, _definition: None

    def target(self, owner: Any) -> str:
        """Return what the owner is called in plans and in the audit trail."""
        return f"{self.word} {owner.code}"

    def publish(self, journal: Journal, owner: models.Model, definition: Definition) -> None:
        """Publish a definition that was checked as the owner's next version, unless it changes nothing."""
        self.prepare(owner, definition)
        apply_version(journal, self.target(owner), owner, definition, self.model)

    def end(self, journal: Journal, owner: models.Model) -> None:
        """End the owner's published version, if there is one."""
        ended = versions.end(owner, at=journal.at)
        if ended is not None:
            journal.removed(self.target(owner), reread(ended.definition, self.model, journal.program.currency))


def unknown_reference(path: str, code: str, known: Collection[str], what: str) -> list[str]:
    """Return what is wrong with a reference to something by its code: nothing if it is known."""
    return [] if code in known else [f"{path}: there is no {what} {code}{did_you_mean(code, known)}"]


def apply_version(journal: Journal, target: str, owner: models.Model, definition: D, model: type[D]) -> None:
    """Publish a definition as the owner's next version if it means something else than the published one.

    `model` is the definition as it is stored; `definition` may have a code and a name of its row besides.
    """
    currency = journal.program.currency
    identity = set(type(definition).model_fields) - set(model.model_fields)
    after = as_written(definition, currency, without=identity)
    published = owner.versions.filter(status=VersionStatus.PUBLISHED).first()  # type: ignore[attr-defined]
    if published is None:
        version = versions.publish(owner, after, at=journal.at)
        journal.created(target, after, f": v{version.number}")
        return
    before = reread(published.definition, model, currency)
    if before != after:
        version = versions.publish(owner, after, at=journal.at)
        journal.changed(target, before, after, f": v{published.number} -> v{version.number}")


def reread(stored: dict[str, Any], model: type[D], currency: str) -> dict[str, Any]:
    """Return a stored definition as this release would write it."""
    try:
        return as_written(model.model_validate(stored, context={"currency": currency}), currency)
    except ValidationError:
        return stored  # amounts of another currency: it changes before the first fact only


def differences(before: Any, after: Any) -> list[str]:
    """Return one line for each value that is new, gone or changed."""
    old, new = dict(_flatten(before)), dict(_flatten(after))
    lines = []
    for path in dict.fromkeys([*old, *new]):
        if path not in old:
            lines.append(f"+ {path}: {new[path]}")
        elif path not in new:
            lines.append(f"- {path}: {old[path]}")
        elif old[path] != new[path]:
            lines.append(f"{path}: {old[path]} -> {new[path]}")
    return lines


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its path; entries of a list go by their code where they have one, else by position."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        coded = all(isinstance(entry, dict) and "code" in entry for entry in value)
        if coded or not any(isinstance(entry, dict) for entry in value):
            yield path, ", ".join(entry["code"] if coded else str(entry) for entry in value)
        if not coded:
            value = [entry for entry in value if isinstance(entry, dict)]
        for index, entry in enumerate(value):
            yield from _flatten(entry, f"{path}[{entry['code'] if coded else index}]")
    else:
        yield path, value
