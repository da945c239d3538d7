"""A caller may send a minute's requests at once, then as many as time brings; without Redis nobody is held up."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings as configured

from core.api import throttle
from core.models import Program
from membership.services.members import MemberInput, enroll_members
from tests.api.client import Api, in_parallel
from tests.api.conftest import NOW, MakeKey

pytestmark = pytest.mark.django_db
PATIENCE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _empty_redis() -> Iterator[None]:
    with redis.Redis.from_url(configured.REDIS_URL) as client:
        for name in client.scan_iter("rate:*"):
            client.delete(name)
    yield
    throttle._script.cache_clear()


def test_a_burst_of_a_minutes_requests_passes_and_the_next_waits(make_key: MakeKey) -> None:
    api = Api(make_key(rate_per_minute=5))
    replies = [api.get("program") for _ in range(6)]
    assert [reply.status for reply in replies] == [200] * 5 + [429]
    assert [reply.headers["RateLimit"].split(";")[1] for reply in replies] == ["r=4", "r=3", "r=2", "r=1", "r=0", "r=0"]
    assert {reply.headers["RateLimit-Policy"] for reply in replies} == {'"default";q=5;w=60'}
    refused = replies[-1]
    assert refused.code == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 12
    assert "Retry-After" not in replies[0].headers


def test_time_brings_requests_back_one_by_one() -> None:
    """By the clock of Redis: 1,200 a minute are one in 50 milliseconds."""
    limit, spacing = 1_200, 0.05
    for left in range(limit - 1, -1, -1):
        remaining, wait = throttle.count("test", limit=limit)
        if wait:
            pytest.fail("the burst was cut short")
        assert remaining >= left
    while not (wait := throttle.count("test", limit=limit)[1]):
        pass  # what came back while the burst ran
    assert wait <= spacing
    deadline = time.monotonic() + PATIENCE_SECONDS
    passed_at: list[float] = []
    while len(passed_at) < 3:
        assert time.monotonic() < deadline
        _, wait = throttle.count("test", limit=limit)
        if not wait:
            passed_at.append(time.monotonic())
    assert passed_at[2] - passed_at[0] > spacing / 2


def test_a_refused_request_does_not_move_the_limit_further_away(make_key: MakeKey) -> None:
    api = Api(make_key(rate_per_minute=1))
    api.get("program")
    waits = [int(api.get("program").headers["Retry-After"]) for _ in range(5)]
    assert max(waits) <= 60


def test_keys_do_not_share_a_limit(make_key: MakeKey) -> None:
    first, second = Api(make_key(rate_per_minute=1)), Api(make_key(rate_per_minute=1))
    assert [first.get("program").status, first.get("program").status, second.get("program").status] == [200, 429, 200]


def test_a_members_tokens_share_a_small_limit_of_their_own(program: Program, api: Api, settings: Any) -> None:
    settings.API_MEMBER_RATE_PER_MINUTE = 2
    members = [MemberInput(external_id=name, joined_at=NOW) for name in ("ada", "bob")]
    enroll_members(program=program, members=members, at=NOW)
    first, second, other = (Api(api.post(f"members/{name}/tokens").json["token"]) for name in ("ada", "ada", "bob"))
    statuses = [caller.get("program").status for caller in (first, second, first, other, api)]
    assert statuses == [200, 200, 429, 200, 200]


def test_what_is_not_let_in_is_not_counted(make_key: MakeKey) -> None:
    api = Api(make_key("tokens:issue", rate_per_minute=1))
    assert [api.get("program").status for _ in range(3)] == [403] * 3
    assert api.post("members/nobody/tokens").status == 404


def test_without_redis_nobody_is_held_up(make_key: MakeKey, settings: Any) -> None:
    api = Api(make_key(rate_per_minute=1))
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"
    throttle._script.cache_clear()
    started = time.monotonic()
    replies = [api.get("program") for _ in range(3)]
    assert [reply.status for reply in replies] == [200] * 3
    assert "RateLimit" not in replies[0].headers
    assert time.monotonic() - started < PATIENCE_SECONDS / 4


def test_a_redis_that_never_answers_costs_half_a_second_and_no_more(make_key: MakeKey, settings: Any) -> None:
    api = Api(make_key())
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        settings.REDIS_URL = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"
        throttle._script.cache_clear()
        started = time.monotonic()
        assert api.get("program").status == 200
        assert time.monotonic() - started < 3 * throttle.PATIENCE_SECONDS


@pytest.mark.django_db(transaction=True)
def test_requests_at_once_are_counted_once_each(make_key: MakeKey) -> None:
    api = Api(make_key(rate_per_minute=10))
    replies = in_parallel([lambda: api.get("program").status] * 16)
    assert sorted(replies) == [200] * 10 + [429] * 6
