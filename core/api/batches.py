"""Batches: what is wrong with one item is kept with it, so that the others are taken."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import ValidationError, ValidatorFunctionWrapHandler

from core.api.problems import Problem, translate

MAX_ITEMS = 1_000

ItemStatus = Literal["recorded", "repeated", "refused"]


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


def show_result(external_id: str | None, status: ItemStatus, problem: Problem | None = None) -> dict[str, Any]:
    """Return what became of one item."""
    return {"external_id": external_id, "status": status, "problem": problem.body() if problem else None}
