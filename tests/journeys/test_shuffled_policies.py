"""The same facts, in order and shuffled with closes between, under every pair of policies of a program file.

With `corrections: both` tiers, credits, referrals and accruals are equal; with `upward` no accrual is below that of the
facts in their order, and `explain` names what was left; with `never` all stands as it was awarded.
"""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from core.models import Program
from points.models import AccrualCorrection
from points.services.verify import verify
from storefront.services import program_file
from tests.journeys import arrivals
from tests.journeys.policies import Row, cover_pairs, list_chosen, list_pairs, pairs_of, read_policies
from tests.journeys.policy_files import LEFT_OUT, TELLING, document, is_sound, list_varied

ROWS = cover_pairs(list_varied(), is_sound=is_sound, seed=10)
COVERING = len(ROWS)
ROWS += [ROWS[0] | row for row in TELLING]
SHUFFLES = 3
FIRST = 4


def test_every_policy_of_a_program_file_is_varied_or_left_out_for_a_reason(tmp_path: Path) -> None:
    policies, chosen = read_policies(), set()
    for row in ROWS:
        path = tmp_path / "row.yaml"
        path.write_text(json.dumps(document("row", row)))
        chosen |= list_chosen(program_file.load(path))
    assert set(LEFT_OUT) <= set(policies), "left out, but there is no such policy"
    assert all(len(reason) > 10 for reason in LEFT_OUT.values())
    wanted = {(path, value) for path, values in policies.items() if path not in LEFT_OUT for value in values}
    assert wanted - chosen == set(), "no file chooses this: vary it in policy_files.py, or leave it out for a reason"


def test_the_rows_have_every_pair_of_values() -> None:
    assert list_pairs(list_varied()) - {pair for row in ROWS[:COVERING] for pair in pairs_of(row)} == set()
    assert COVERING < 40
    assert all(is_sound(row) for row in ROWS)
    assert {row["program.corrections"] for row in ROWS[:FIRST]} == {"both", "upward", "never"}


def moved(program: Program) -> tuple[int, int]:
    """Return what corrections added and what they asked back."""
    rows = AccrualCorrection.objects.filter(member__program=program).values_list("points_added", "points_due")
    return sum(added for added, _ in rows), sum(due for _, due in rows)


def check(folder: Path, number: int, shuffles: int, seed: int | None = None) -> None:
    """Run a row's facts in order, then shuffled, and compare. `seed`: of the facts, the row's number unless told."""
    seed = number if seed is None else seed
    row, facts = ROWS[number], arrivals.draw_facts(Random(seed))
    straight = arrivals.open_shop(folder, document("straight", row))
    arrivals.run(straight, facts)
    assert AccrualCorrection.objects.filter(member__program=straight).count() == 0
    for n in range(shuffles):
        shuffled = arrivals.open_shop(folder, document(f"shuffled{n}", row))
        arrivals.run(shuffled, arrivals.shuffle(facts, Random(f"{seed} {n}")))
        found, expected = compared(shuffled), compared(straight)
        for what in expected:
            assert found[what] == expected[what], f"row {number}, shuffle {n}: {what}\n{row}"
        compare_accruals(shuffled, straight, row, f"row {number}, shuffle {n}\n{row}")
        assert list(verify(program=shuffled)) == []


def compared(program: Program) -> dict[str, Any]:
    told = {"tiers": arrivals.tiers(program), "credits": arrivals.credits_of(program)}
    return told | arrivals.referrals(program)


def compare_accruals(shuffled: Program, straight: Program, row: Row, what: str) -> None:
    found, expected = arrivals.accruals(shuffled), arrivals.accruals(straight)
    corrections = row["program.corrections"]
    if corrections == "both":
        assert found == expected, what
        return
    if corrections == "never":
        assert moved(shuffled) == (0, 0), what
    stands = {key: found.get(key, (0, 0))[1] for key in found.keys() | expected.keys()}
    right = {key: expected.get(key, (0, 0))[1] for key in stands}
    if corrections == "upward":
        below = {key: (stands[key], right[key]) for key in stands if stands[key] < right[key]}
        assert below == {}, what
        assert moved(shuffled)[1] == 0, what
    # What explain says is left is exactly what is missing, or too much.
    of_orders = {key: right[key] - stands[key] for key in stands if key[2] != "review" and right[key] != stands[key]}
    assert {key: change for key, change in arrivals.left(shuffled).items() if change} == of_orders, what


@pytest.mark.django_db
@pytest.mark.parametrize("number", range(FIRST))
def test_some_rows_come_out_as_told_in_order(tmp_path: Path, number: int) -> None:
    check(tmp_path, number, 1)


@pytest.mark.django_db
@pytest.mark.parametrize(("number", "seed"), [(COVERING, 31), (COVERING + 1, 32)])
def test_what_comes_late_corrects_points_both_ways(tmp_path: Path, number: int, seed: int) -> None:
    check(tmp_path, number, 1, seed)
    assert min(moved(Program.objects.get(code="shuffled0"))) > 0


@pytest.mark.deep
@pytest.mark.django_db
@pytest.mark.parametrize("number", range(len(ROWS)))
def test_all_rows_come_out_as_told_in_order(tmp_path: Path, number: int) -> None:
    check(tmp_path, number, SHUFFLES)
