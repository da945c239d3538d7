"""Batches: what is wrong with one item is kept with it, so that the others are taken."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import ValidationError, ValidatorFunctionWrapHandler

from core.api.problems import Problem, ProblemBody, translate
from core.api.types import Answer

MAX_ITEMS = 1_000

ItemOutcome = Literal["recorded", "repeated", "refused"]


class ItemResult(Answer):
    """What became of one item of a batch; `problem` says why it was refused."""

    external_id: str | None
    outcome: ItemOutcome
    problem: ProblemBody | None


class BatchAnswer(Answer):
    """One result for each item, in the order in which they were sent."""

    results: list[ItemResult]


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


def show_result(external_id: str | None, outcome: ItemOutcome, problem: Problem | None = None) -> dict[str, Any]:
    """Return what became of one item."""
    return {"external_id": external_id, "outcome": outcome, "problem": problem.body() if problem else None}
