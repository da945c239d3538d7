"""What a program file says of checkouts."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.models import Program
from core.sections import ProgramFileError
from storefront.models import CheckoutPolicy
from storefront.program_section import get_policy
from storefront.services import program_file
from tests.storefront.shop import NOW, definition

pytestmark = pytest.mark.django_db


def plan_and_apply(folder: Path, checkouts: Any) -> list[str]:
    path = folder / "shop.yaml"
    path.write_text(json.dumps(definition("shop", {}) | ({} if checkouts is None else {"checkouts": checkouts})))
    file = program_file.load(path)
    lines = program_file.plan(file, at=NOW)
    program_file.apply(file, at=NOW, actor="test")
    assert program_file.plan(file, at=NOW) == []
    return [line.strip() for line in lines if "hold" in line or "checkouts" in line]


def policy() -> tuple[int, int]:
    found = get_policy(Program.objects.get(code="shop"))
    return found.maximum_hold_minutes, found.holds_per_member


def test_a_file_without_checkouts_has_the_defaults(tmp_path: Path) -> None:
    assert plan_and_apply(tmp_path, None) == []
    assert policy() == (1_440, 5)
    assert CheckoutPolicy.objects.count() == 0


def test_a_file_sets_and_takes_back_what_it_allows(tmp_path: Path) -> None:
    assert plan_and_apply(tmp_path, {"maximum_hold_minutes": 60}) == ["+ checkouts shop"]
    assert policy() == (60, 5)
    assert plan_and_apply(tmp_path, {"maximum_hold_minutes": 60, "holds_per_member": 2}) == [
        "~ checkouts shop", "holds_per_member: 5 -> 2",
    ]  # fmt: skip
    assert policy() == (60, 2)
    plan_and_apply(tmp_path, None)
    assert policy() == (1_440, 5)


@pytest.mark.parametrize(
    ("checkouts", "problem"),
    [
        ({"maximum_hold_minutes": 0}, "checkouts.maximum_hold_minutes"),
        ({"holds_per_member": 0}, "checkouts.holds_per_member"),
        ({"maximum_hold_minutes": "60"}, "checkouts.maximum_hold_minutes"),
        ({"minutes": 60}, "checkouts.minutes"),
        ([], "checkouts"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, checkouts: Any, problem: str) -> None:
    with pytest.raises(ProgramFileError) as refused:
        plan_and_apply(tmp_path, checkouts)
    assert any(line.startswith(problem) for line in refused.value.problems), refused.value.problems
