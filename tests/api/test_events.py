"""GET /events: for a reader that remembers how far it has come."""

from typing import Any

import pytest

from core.event_types import EventType
from core.models import Event, Program, Scope
from core.services import feed
from core.services.feed import News
from tests.api.client import Api
from tests.api.conftest import NOW, MakeKey


@pytest.fixture
def announced(program: Program, foreign_program: Program) -> list[Event]:
    """Five events of the program, about a and b in turn; one of another."""
    news = [News(EventType.MEMBER_UPDATED, name, {"member": name}, NOW) for name in "ababa"]
    feed.announce(program_id=program.pk, news=news, at=NOW)
    feed.announce(program_id=foreign_program.pk, news=news[:1], at=NOW)
    return list(Event.objects.filter(program=program).order_by("number"))


def numbers(reply: Any) -> list[int]:
    assert reply.status == 200, reply.text
    return [event["number"] for event in reply.json["results"]]


def test_the_feed_is_read_in_order_and_gone_on_with(api: Api, announced: list[Event]) -> None:
    first = api.get("events", limit=3)
    assert numbers(first) == [1, 2, 3]
    assert first.json["results"][0] == feed.show(announced[0])
    second = api.get("events", limit=3, after=first.json["next_after"])
    assert numbers(second) == [4, 5]
    assert numbers(api.get("events", after=second.json["next_after"])) == []


def test_the_feed_is_filtered(api: Api, announced: list[Event]) -> None:
    assert numbers(api.get("events", subject="b")) == [2, 4]
    assert numbers(api.get("events", type="order.paid")) == []
    assert numbers(api.get("events", type="member.updated", subject="a", after=1)) == [3, 5]


def test_what_is_gone_is_said_to_be_gone(api: Api, announced: list[Event]) -> None:
    Event.objects.filter(number__lte=3).delete()
    reply = api.get("events", after=1)
    assert (reply.status, reply.code) == (410, "events_gone")
    assert "after=3" in reply.json["detail"]
    assert numbers(api.get("events", after=3)) == numbers(api.get("events")) == [4, 5]


@pytest.mark.parametrize(
    "query",
    [
        {"after": "-1"}, {"after": "x"}, {"after": "1.0"}, {"after": "+1"}, {"after": ""}, {"after": "9" * 40},
        {"limit": "0"}, {"limit": "201"}, {"type": "order.lost"}, {"subject": ""}, {"from": "1"},
    ],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused(api: Api, announced: list[Event], query: dict[str, str]) -> None:
    reply = api.get("events", **query)
    assert (reply.status, reply.code) == (400, "invalid_parameter")


def test_a_reader_that_is_ahead_of_the_feed_is_told(api: Api, announced: list[Event]) -> None:
    assert api.get("events", after="6").code == "events_ahead"


def test_the_feed_needs_its_scope(make_key: MakeKey, announced: list[Event]) -> None:
    assert numbers(Api(make_key(Scope.EVENTS_READ)).get("events")) == [1, 2, 3, 4, 5]
    reply = Api(make_key(*(scope for scope in Scope.values if scope != Scope.EVENTS_READ))).get("events")
    assert (reply.status, reply.code) == (403, "scope_missing")


def test_another_programs_key_reads_another_feed(make_key: MakeKey, foreign_program: Program, announced: Any) -> None:
    assert numbers(Api(make_key(program=foreign_program)).get("events")) == [1]
