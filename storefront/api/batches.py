"""Batches: up to a thousand facts in one request, each with a result of its own.

What is wrong with an item by itself is found without the database. The rest is recorded in one transaction; if that is
refused, each half is tried in a transaction of its own, and so on, until what is refused is one item.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError, ValidatorFunctionWrapHandler

from core.api.problems import Problem, translate
from membership.fact_checks import Checked, Frame
from membership.fact_inputs import ActivityInput, BadFact, FactConflict, OrderInput, RefundInput
from points.services.posting import ClawbackRefused

MAX_ITEMS = 1_000

F = TypeVar("F", OrderInput, RefundInput, ActivityInput)
# What makes a fact the one it is, as its check says.
Key = tuple[str, ...]
_REFUSALS = (BadFact, FactConflict, ClawbackRefused)


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that cannot be read as what it should be."""

    external_id: str | None
    problem: Problem


def keep_mistakes(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """Read an item; one that cannot be read is kept with what is wrong with it, so that the others are taken."""
    try:
        return read(value)
    except ValidationError as error:
        name = value.get("external_id") if isinstance(value, dict) else None
        return Refused(name if isinstance(name, str) else None, cast(Problem, translate(error)))


def tell(items: Sequence[Any]) -> list[Any]:
    """Return the facts that items tell; those that could not be read stay what they are."""
    return [item if isinstance(item, Refused) else item.told() for item in items]


@dataclass(frozen=True)
class Batch(Generic[F]):
    """How facts of one kind are taken in: `check` one by itself; `record` some, returning the keys that were new."""

    frame: Frame
    check: Callable[[F, Frame], Checked[F]]
    record: Callable[[list[F]], set[Key]]

    def take(self, items: Sequence[F | Refused]) -> list[dict[str, Any]]:
        """Take in the items that can be and return what became of each.

        Idempotency: each fact's key. Sent again, what was recorded is repeated.
        """
        results: dict[int, dict[str, Any]] = {}
        sound: list[tuple[int, Checked[F]]] = []
        for position, item in enumerate(items):
            if isinstance(item, Refused):
                results[position] = _refused(item.external_id, item.problem)
                continue
            try:
                sound.append((position, self.check(item, self.frame)))
            except BadFact as error:
                results[position] = _refused(item.external_id, cast(Problem, translate(error)))
        if sound:
            self._settle(sound, results)
        return [results[position] for position in range(len(items))]

    def _settle(self, sound: list[tuple[int, Checked[F]]], results: dict[int, dict[str, Any]]) -> None:
        try:
            new = self.record([fact.told for _, fact in sound])
        except _REFUSALS as error:
            if len(sound) == 1:
                position, fact = sound[0]
                results[position] = _refused(fact.told.external_id, cast(Problem, translate(error)))
                return
            middle = len(sound) // 2
            self._settle(sound[:middle], results)
            self._settle(sound[middle:], results)
            return
        for position, fact in sound:
            status = "recorded" if fact.key in new else "repeated"
            new.discard(fact.key)
            results[position] = {"external_id": fact.told.external_id, "status": status, "problem": None}


def _refused(external_id: str | None, problem: Problem) -> dict[str, Any]:
    return {"external_id": external_id, "status": "refused", "problem": problem.body()}
