"""Programs from programs/aurora.yaml, and callers of their API.

`program`: aurora. `foreign_program`: another one, borealis. `make_key(*scopes, program=, ...)`: a key's text, with
every scope if none is named. `api`: a caller with every scope of `program`. `clock(instant)`: what time requests see
from then on. A test that commits (transaction=True) uses the same fixtures.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from core.api import throttle
from core.models import Program, Scope
from core.services import api_keys
from storefront.services import program_file
from tests.api.client import Api

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
AURORA = Path(__file__).parents[2] / "programs" / "aurora.yaml"

MakeKey = Callable[..., str]
Clock = Callable[[datetime], None]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Requests see NOW, until a test sets another instant."""

    def set_clock(instant: datetime) -> None:
        monkeypatch.setattr(timezone, "now", lambda: instant)

    set_clock(NOW)
    return set_clock


@pytest.fixture
def program(db: None) -> Program:
    return program_file.apply(program_file.load(AURORA), at=NOW, actor="test")


@pytest.fixture
def foreign_program(db: None) -> Program:
    return program_file.apply(program_file.load(AURORA, code="borealis"), at=NOW, actor="test")


@pytest.fixture
def make_key(program: Program) -> MakeKey:
    def make(*scopes: str, program: Program = program, **told: Any) -> str:
        more: dict[str, Any] = {"name": "test", "actor": "test", "at": NOW, **told}
        return api_keys.issue(program=program, scopes=scopes or Scope.values, **more).text

    return make


@pytest.fixture
def api(make_key: MakeKey) -> Api:
    return Api(make_key())


@pytest.fixture(autouse=True)
def forget_wrong_codes() -> Iterator[None]:
    """Nobody has tried a code when a test begins; Redis outlives the database's rollback."""
    yield
    for name in throttle.client().scan_iter("rate:codes:*"):
        throttle.client().delete(name)
