"""Batches: up to a thousand facts in one request, each with a result of its own.

What is wrong with an item by itself is found without the database. The rest is recorded in one transaction. A pass
that is refused names all that the same authority refuses, and the next one is without these. Where only one can be
named, each half is settled by itself; where the facts hang on each other for too many passes, each fact is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from core.api.batches import ItemOutcome, Refused, show_result
from core.api.problems import Problem, translate
from membership.fact_checks import Checked
from membership.fact_inputs import ActivityInput, BadFact, FactConflict, OrderInput, RefundInput
from membership.field_checks import Frame
from membership.refusals import RefusedFacts
from points.services.posting import ClawbackRefused, PointsOverflow
from storefront.checkout_inputs import CheckoutRefused

F = TypeVar("F", OrderInput, RefundInput, ActivityInput)
# What makes a fact the one it is, as its check says.
Key = tuple[str, ...]
Checks = Sequence[tuple[int, Checked[F]]]
# Who refuses facts, in the order in which they are asked.
_AUTHORITIES = ((CheckoutRefused,), (BadFact, FactConflict), (ClawbackRefused, PointsOverflow))
_REFUSALS = tuple(kind for kinds in _AUTHORITIES for kind in kinds)
# The rule is at most four: what is recorded refuses some, the ledger others, the rest is asked anew and recorded.
_PASSES = 8


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

    def _settle(self, sound: Checks[F], results: dict[int, dict[str, Any]]) -> None:
        """Record what can be, in one transaction, without what was found to be refused in the passes before."""
        refused: dict[int, Exception] = {}
        for _ in range(_PASSES):
            left = [(position, fact) for position, fact in sound if position not in refused]
            try:
                new = self.record([fact.told for _, fact in left]) if left else set()
            except RefusedFacts as error:
                refused = _add(refused, {left[index][0]: reason for (_, index), reason in error.refusals.items()})
            except _REFUSALS as error:
                if len(left) > 1:
                    self._halve(sound, results)
                    return
                refused = _add(refused, {left[0][0]: error})
            else:
                results |= {
                    position: _refused(fact, refused[position]) for position, fact in sound if position in refused
                }
                results |= _recorded(left, new)
                return
        for one in sound:
            self._settle([one], results)

    def _halve(self, sound: Checks[F], results: dict[int, dict[str, Any]]) -> None:
        middle = len(sound) // 2
        self._settle(sound[:middle], results)
        self._settle(sound[middle:], results)


def _add(refused: dict[int, Exception], found: dict[int, Exception]) -> dict[int, Exception]:
    """Return what is refused, when the last pass found more.

    What was refused by an earlier authority, beside a fact that a later one refuses now, is tried again without it.
    """
    authority = max(map(_authority, found.values()))
    return {position: reason for position, reason in refused.items() if _authority(reason) >= authority} | found


def _authority(reason: Exception) -> int:
    """Return who refuses a fact: the checkouts, then what is recorded, then the ledger."""
    return next(index for index, kinds in enumerate(_AUTHORITIES) if isinstance(reason, kinds))


def _recorded(facts: Checks[F], new: set[Key]) -> dict[int, dict[str, Any]]:
    results = {}
    for position, fact in facts:
        outcome: ItemOutcome = "recorded" if fact.key in new else "repeated"
        new.discard(fact.key)
        results[position] = show_result(fact.told.external_id, outcome)
    return results


def _refused(fact: Checked[F], error: Exception) -> dict[str, Any]:
    return show_result(fact.told.external_id, "refused", cast(Problem, translate(error)))
