"""Batches: up to a thousand facts in one request, each with a result of its own.

What is wrong with an item by itself is found without the database. The rest is recorded in one transaction. New facts
that there are objections to are taken out of it, all at once; if the rest is refused, each half is tried in a
transaction of its own, and so on, until what is refused is one item.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from core.api.batches import ItemOutcome, Refused, show_result
from core.api.problems import Problem, translate
from membership.fact_checks import Checked
from membership.fact_inputs import ActivityInput, BadFact, FactConflict, OrderInput, RefundInput, RefusedFacts
from membership.field_checks import Frame
from points.services.posting import ClawbackRefused, PointsOverflow
from storefront.checkout_inputs import CheckoutRefused

F = TypeVar("F", OrderInput, RefundInput, ActivityInput)
# What makes a fact the one it is, as its check says.
Key = tuple[str, ...]
_REFUSALS = (BadFact, CheckoutRefused, FactConflict, ClawbackRefused, PointsOverflow)


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
                results[position] = show_result(item.external_id, "refused", item.problem)
                continue
            try:
                sound.append((position, self.check(item, self.frame)))
            except BadFact as error:
                results[position] = show_result(item.external_id, "refused", cast(Problem, translate(error)))
        self._settle(sound, results)
        return [results[position] for position in range(len(items))]

    def _settle(self, sound: list[tuple[int, Checked[F]]], results: dict[int, dict[str, Any]]) -> None:
        if not sound:
            return
        try:
            new = self.record([fact.told for _, fact in sound])
        except RefusedFacts as error:
            objections = error.objections
            results |= {
                position: _refused(fact, objections[fact.key]) for position, fact in sound if fact.key in objections
            }
            self._settle([(position, fact) for position, fact in sound if fact.key not in objections], results)
            return
        except _REFUSALS as error:
            if len(sound) == 1:
                position, fact = sound[0]
                results[position] = _refused(fact, error)
                return
            middle = len(sound) // 2
            self._settle(sound[:middle], results)
            self._settle(sound[middle:], results)
            return
        for position, fact in sound:
            outcome: ItemOutcome = "recorded" if fact.key in new else "repeated"
            new.discard(fact.key)
            results[position] = show_result(fact.told.external_id, outcome)


def _refused(fact: Checked[F], error: Exception) -> dict[str, Any]:
    return show_result(fact.told.external_id, "refused", cast(Problem, translate(error)))
