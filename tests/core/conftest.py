"""A program, and subscribers that last for one test."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from core import events
from core.models import Program

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
TOPIC = "test.news_told"


@pytest.fixture
def program(db: None) -> Program:
    return Program.objects.create(code="aurora", name="Aurora", currency="GBP", time_zone="Europe/London")


@pytest.fixture
def subscribe() -> Iterator[Callable[[str, events.Handler], None]]:
    """Subscribe handlers to TOPIC by name until the test ends."""

    def register(name: str, handler: events.Handler) -> None:
        events.subscribe(TOPIC, name=name)(handler)

    yield register
    events._handlers.pop(TOPIC, None)
