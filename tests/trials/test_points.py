"""Cases that users of other loyalty systems reported, each a small history with what must come out of it.

A case is a file of `tests/trials/points/`: its source, its kind, its steps; `expect` in a step is compared with what
the step answers. Those with `needs` wait for what is named there.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from config.environment import PROJECT
from tests.trials.player import Player

CASES = {path.name: json.loads(path.read_text()) for path in sorted((PROJECT / "tests/trials/points").glob("*.json"))}

# What a case that is not played waits for, or the tests that show it.
WAITING = {
    "17-accounts-merged.json": "People whole: a merge of members",
    "18-guest-order-claimed.json": "People whole: a member's claim of a guest's order",
    "20-points-once-per-order.json": "Points whole: a rule whose trigger is the order",
    "21-tax-left-out.json": "Points whole: a basis without tax",
    "22-expiry-switched-on.json": "Points whole: an expiry for points that had none",
    "24-year-of-29-february.json": "Points whole: anniversaries, and expiry in months",
    "32-partial-capture.json": "later: a checkout that is paid in parts",
}
SHOWN_ELSEWHERE = {
    "33-two-spenders-at-once.json": (
        "tests/points/test_holds_races.py::test_holds_and_redemptions_share_one_balance",
        "tests/membership/test_facts_races.py::test_one_unit_comes_back_once",
    ),
    "34-many-small-lots.json": (
        "tests/points/test_many_lots.py::test_thousands_of_lots_of_one_point_are_spent_held_released_and_expire",
    ),
}

# Not right yet. A case that has become right has to leave this list.
PENDING: list[str] = []

PLAYED = [name for name in CASES if name not in WAITING and name not in SHOWN_ELSEWHERE]


def differences(name: str, folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Play a case; return (what was expected, what was answered) where they differ."""
    player, found = Player(name, folder), []
    for step in CASES[name]["steps"]:
        answer, expected = player.play(step), step.get("expect", {})
        if {key: answer.get(key) for key in expected} != expected:
            found.append((expected, answer))
    return found


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in PLAYED if name not in PENDING])
def test_a_case_comes_out_as_it_must(name: str, tmp_path: Path) -> None:
    assert differences(name, tmp_path) == []


@pytest.mark.django_db
@pytest.mark.parametrize("name", PENDING)
def test_a_pending_case_is_still_wrong(name: str, tmp_path: Path) -> None:
    try:
        is_right = differences(name, tmp_path) == []
    except Exception:  # noqa: BLE001 a step that is refused is wrong too
        is_right = False
    assert not is_right, f"{name} is right now: take it off the list"


def test_what_is_not_played_has_a_reason() -> None:
    assert set(WAITING) | set(SHOWN_ELSEWHERE) | set(PENDING) <= set(CASES)
    assert {name for name, case in CASES.items() if case.get("needs")} - set(WAITING) == {
        "27-fraudulent-review.json",
        "37-daily-check-in.json",  # once per local day until rules have caps
    }
    assert all(case["steps"] for name, case in CASES.items() if name in PLAYED)


@pytest.mark.parametrize("shown_by", [test for tests in SHOWN_ELSEWHERE.values() for test in tests])
def test_what_is_shown_elsewhere_is_a_test(shown_by: str) -> None:
    path, _, function = shown_by.partition("::")
    assert f"def {function}(" in (PROJECT / path).read_text()
