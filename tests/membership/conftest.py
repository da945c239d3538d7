"""The cast: a program in pounds with a ladder of three tiers, Ada and Ben, and short ways to tell facts."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from core import versions
from core.models import Program
from membership.models import Ladder, Tier
from membership.services.members import MemberInput, enroll_members

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
JOINED = datetime(2026, 1, 1, tzinfo=UTC)

THREE_TIERS: dict[str, Any] = {
    "upgrade": "at_evaluation",
    "evaluation": {"every": "month"},
    "tiers": [
        {"code": "bronze", "name": "Bronze"},
        {
            "code": "silver",
            "name": "Silver",
            "entry": {"any_of": [{"all_of": [{"metric": "order_count", "at_least": 2, "window": "lifetime"}]}]},
        },
        {
            "code": "gold",
            "name": "Gold",
            "entry": {"any_of": [{"all_of": [{"metric": "order_count", "at_least": 5, "window": "lifetime"}]}]},
        },
    ],
}


@pytest.fixture
def make_program(db: None) -> Callable[..., Program]:
    """Make programs that differ from the usual one in code, currency or zone."""

    def make(code: str = "shop", currency: str = "GBP", time_zone: str = "Europe/London") -> Program:
        return Program.objects.create(code=code, name=code.title(), currency=currency, time_zone=time_zone)

    return make


@pytest.fixture
def program(make_program: Callable[..., Program]) -> Program:
    return make_program()


@pytest.fixture
def ladder(program: Program) -> Ladder:
    """The program's ladder with one version, in force from the beginning."""
    ladder = Ladder.objects.create(program=program, code="main", name="Main")
    for tier in THREE_TIERS["tiers"]:
        Tier.objects.create(ladder=ladder, code=tier["code"], name=tier["name"])
    versions.publish(ladder, THREE_TIERS, at=JOINED)
    return ladder


@pytest.fixture
def ada(program: Program) -> int:
    return enroll_members(program=program, members=[MemberInput(external_id="ada", joined_at=JOINED)], at=NOW).ids[
        "ada"
    ]


@pytest.fixture
def ben(program: Program) -> int:
    return enroll_members(program=program, members=[MemberInput(external_id="ben", joined_at=JOINED)], at=NOW).ids[
        "ben"
    ]
