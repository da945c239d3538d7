"""What of one call is refused: each fact for its own reason, all of them found in one pass and raised together."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from membership.fact_checks import Checked, T
from membership.fact_inputs import BadFact, FactConflict

R = TypeVar("R")
Key = tuple[str, ...]
# A fact's kind, and its index among those of its kind in the call.
Place = tuple[str, int]


class RefusedFacts(Exception):
    """Facts of one call that are refused, each for its own reason, by their places. Nothing of the call was written."""

    def __init__(self, refusals: Mapping[Place, Exception]) -> None:
        self.refusals = refusals
        self.first = refusals[min(refusals)]
        super().__init__(f"{len(refusals)} facts are refused, the first because: {self.first}")


@contextmanager
def first_refusal() -> Iterator[None]:
    """Raise the first of several refusals as itself."""
    try:
        yield
    except RefusedFacts as error:
        raise error.first from None


class Submitted(Generic[T]):
    """The checked facts of one kind in one call.

    `contents`: what the call says under each key, in its order; more than one content is at most one fact. The keys
    ascend: the order in which every call claims them, so that none deadlock.
    """

    def __init__(self, kind: str, facts: Iterable[Checked[T]]) -> None:
        self.kind = kind
        self._indexes: dict[tuple[Key, bytes], list[int]] = defaultdict(list)
        self._refused: dict[tuple[Key, bytes], Exception] = {}
        by_digest: dict[Key, dict[bytes, Checked[T]]] = {}
        for index, fact in enumerate(facts):
            by_digest.setdefault(fact.key, {}).setdefault(fact.digest, fact)
            self._indexes[fact.key, fact.digest].append(index)
        self.contents: dict[Key, list[Checked[T]]] = {key: list(by_digest[key].values()) for key in sorted(by_digest)}

    def __iter__(self) -> Iterator[Checked[T]]:
        """Yield what has not been refused."""
        for contents in self.contents.values():
            yield from (fact for fact in contents if (fact.key, fact.digest) not in self._refused)

    def of(self, key: Key) -> list[Checked[T]]:
        """Return what has not been refused of a key's contents."""
        return [fact for fact in self.contents[key] if (key, fact.digest) not in self._refused]

    def indexes(self, fact: Checked[T]) -> list[int]:
        """Return where a fact stands in the call: more than once if it repeats itself."""
        return self._indexes[fact.key, fact.digest]

    def check(self, check: Callable[[Checked[T]], Any]) -> None:
        """Refuse the facts that a check refuses with BadFact."""
        for fact in list(self):
            try:
                check(fact)
            except BadFact as error:
                self._refuse(fact, error)

    def take(self, key: Key, known: bytes | None, check: Callable[[Checked[T]], R]) -> tuple[Checked[T], R] | None:
        """Return the content of a key that is new, with what its check returns; None if there is none.

        Where one is recorded, or has just been taken, another one is refused.

        known: the digest of what is recorded under the key, None for nothing.
        """
        taken: tuple[Checked[T], R] | None = None
        for fact in self.of(key):
            if known is None:
                try:
                    taken = fact, check(fact)
                    known = fact.digest
                except BadFact as error:
                    self._refuse(fact, error)
            elif fact.digest != known:
                self._refuse(fact, FactConflict(kind=self.kind, external_id=fact.name))
        return taken

    def raise_refusals(self) -> None:
        """Raise all that was refused.

        Raises: RefusedFacts.
        """
        refusals = {
            (self.kind, index): error for found, error in self._refused.items() for index in self._indexes[found]
        }
        if refusals:
            raise RefusedFacts(refusals)

    def _refuse(self, fact: Checked[T], error: Exception) -> None:
        self._refused[fact.key, fact.digest] = error


def accept(fact: Checked[Any]) -> None:
    """Accept a new fact that there is no objection to.

    Raises: BadFact.
    """
    if fact.objection is not None:
        raise fact.objection
