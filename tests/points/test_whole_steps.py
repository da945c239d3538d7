""" "For each whole pound" is computed as said where a rule says so."""

from typing import Any

import pytest

from core.definitions import as_written
from points.definitions import EarnRuleDefinition, PerAmount
from points.rules import Context, Line, Rule, evaluate_order


def earned(amounts: list[int], *, multiplier: int = 10_000, floors_order: bool = False, **formula: Any) -> list[int]:
    told = {"wallet": "points", "name": "n", "trigger": "order_line", "tier_multiplier": True, "minimum": "0.50"}
    told |= {"formula": {"points": 3, "per": "2.00"} | formula}
    definition = EarnRuleDefinition.model_validate(told, context={"currency": "GBP"})
    lines = [Line(number, amount) for number, amount in enumerate(amounts)]
    found = evaluate_order(lines, Rule(1, 1, definition, floors_order), Context("gold", multiplier))
    return [accrual.points for accrual in found]


@pytest.mark.parametrize(
    ("amount", "multiplier", "whole", "proportional"),
    [
        (199, 10_000, 0, 2),
        (200, 10_000, 3, 3),
        (399, 10_000, 3, 5),
        (400, 10_000, 6, 6),
        (399, 15_000, 4, 8),
        (599, 15_000, 9, 13),
        (0, 10_000, 0, 0),
    ],
)
def test_whole_steps_count_before_the_multiplier(amount: int, multiplier: int, whole: int, proportional: int) -> None:
    assert earned([amount], multiplier=multiplier, whole_steps=True) == [whole]
    assert earned([amount], multiplier=multiplier) == [proportional]


def test_without_whole_steps_a_definition_is_as_before() -> None:
    for told in ({}, {"whole_steps": False}):
        formula = PerAmount.model_validate({"points": 1, "per": "1.00"} | told, context={"currency": "GBP"})
        assert as_written(formula, "GBP") == {"points": 1, "per": "1.00"}


def test_line_by_line_each_counts_by_itself() -> None:
    assert earned([199, 199, 200], whole_steps=True) == [0, 0, 3]


def test_by_the_order_the_steps_of_its_sum_count() -> None:
    assert earned([199, 199, 200], whole_steps=True, floors_order=True) == [2, 2, 2]  # 5.98: two steps, six points
    assert sum(earned([150, 150], whole_steps=True, floors_order=True)) == 3
    assert earned([49, 200], whole_steps=True, floors_order=True) == [0, 3]  # below the minimum
