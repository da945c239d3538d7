"""A write sent twice under one Idempotency-Key, in every order and at the same time, has one effect and one answer."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connections

from core.models import ApiKey, IdempotencyRecord, Program
from core.services import api_keys, idempotency
from membership.services.members import MemberInput, enroll_members
from tests.api import deeds
from tests.api.client import Api, in_parallel
from tests.api.conftest import NOW, Clock, MakeKey

DEED = {"what": "wave"}
SENDERS = 32


pytestmark = pytest.mark.urls("tests.api.deeds")


class Pause:
    """Holds up the next deed until it may go on."""

    def __init__(self) -> None:
        self.arrived, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.arrived.set()
        assert self.go_on.wait(20)


@pytest.fixture(autouse=True)
def _end() -> Iterator[None]:
    yield
    deeds.during.clear()


def _token(api: Api, program: Program, member: str) -> Api:
    enroll_members(program=program, members=[MemberInput(external_id=member, joined_at=NOW)], at=NOW)
    return Api(api.post(f"members/{member}/tokens").json["token"])


@pytest.mark.django_db
def test_the_same_request_again_replays_the_first_answer(api: Api) -> None:
    first = api.post("deeds", DEED, key="k")
    again = api.call("POST", "deeds", raw=b' {"is_refused": false, "what":"wave"}', key="k")
    assert (first.status, again.status) == (201, 422)  # another body, though it means the same
    again = api.call("POST", "deeds", raw=b'{ "what" : "wave" }', key="k")
    assert (again.status, again.text, deeds.count_deeds()) == (201, first.text, 1)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers


@pytest.mark.django_db
@pytest.mark.parametrize(
    "other", [{"body": {"what": "bow"}}, {"query": {"dry_run": "false"}}, {"path": "deeds?dry_run=false"}]
)
def test_another_request_with_a_used_key_is_refused(api: Api, other: dict[str, Any]) -> None:
    api.post("deeds", DEED, key="k")
    refused = api.post(**{"path": "deeds", "body": DEED, "key": "k"} | other)
    assert (refused.status, refused.code, deeds.count_deeds()) == (422, "idempotency_key_reused", 1)


@pytest.mark.django_db
def test_a_write_that_moves_value_needs_a_key(api: Api) -> None:
    refused = api.post("deeds", DEED)
    assert (refused.status, refused.code, deeds.count_deeds()) == (400, "idempotency_key_missing", 0)


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["k" * 256, "two words", "schlüssel", "tab\tbed", "nul\x00"])
def test_a_key_is_visible_ascii(api: Api, key: str) -> None:
    refused = api.post("deeds", DEED, key=key)
    assert (refused.status, refused.code, deeds.count_deeds()) == (400, "idempotency_key_invalid", 0)
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db
def test_a_refused_request_frees_its_key_and_leaves_nothing(api: Api) -> None:
    refused = api.post("deeds", DEED | {"is_refused": True}, key="k")
    assert (refused.status, refused.code, deeds.count_deeds()) == (422, "deed_refused", 0)
    assert not IdempotencyRecord.objects.exists()
    assert api.post("deeds", DEED, key="k").status == 201


@pytest.mark.django_db
@pytest.mark.parametrize("raw", [b"[" * 100_000, b"{", b"\xff\xfe", b"9" * 10_000])
def test_a_body_that_cannot_be_read_frees_the_key(api: Api, raw: bytes) -> None:
    refused = api.call("POST", "deeds", raw=raw, key="k")
    assert refused.code in {"invalid_json", "invalid_request"}
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db
def test_a_mistake_of_ours_frees_the_key_and_leaves_nothing(api: Api) -> None:
    deeds.during.append(lambda: 1 // 0)  # type: ignore[arg-type]
    failed = api.post("deeds", DEED, key="k")
    assert (failed.status, failed.code, deeds.count_deeds()) == (500, "internal_error", 0)
    assert "ZeroDivisionError" not in failed.text
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db
def test_a_dry_run_takes_no_key_and_writes_nothing(api: Api) -> None:
    tried = api.post("deeds", DEED, key="k", query={"dry_run": "true"})
    assert (tried.status, deeds.count_deeds()) == (201, 0)
    assert api.post("deeds", DEED, key="k").status == 201


@pytest.mark.django_db
def test_the_keys_successor_replays_what_its_predecessor_did(api: Api) -> None:
    first = api.post("deeds", DEED, key="k")
    successor = api_keys.rotate(key=ApiKey.objects.get(), actor="test", at=NOW)
    again = Api(successor.text).post("deeds", DEED, key="k")
    assert (again.text, again.headers["Idempotent-Replayed"], deeds.count_deeds()) == (first.text, "true", 1)


@pytest.mark.django_db
def test_members_and_programs_have_keys_of_their_own(
    api: Api, program: Program, foreign_program: Program, make_key: MakeKey
) -> None:
    callers = [api, _token(api, program, "ada"), _token(api, program, "bob"), Api(make_key(program=foreign_program))]
    answers = [caller.post("deeds", DEED, key="k") for caller in callers]
    assert [answer.status for answer in answers] == [201] * 4
    assert len({answer.text for answer in answers}) == deeds.count_deeds() == 4


# --- at the same time ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_while_the_first_is_under_way_a_second_is_told_so(api: Api) -> None:
    pause = Pause()
    deeds.during.append(pause)
    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(_closing, partial(api.post, "deeds", DEED, key="k"))
        assert pause.arrived.wait(20)
        second = api.post("deeds", DEED, key="k")
        pause.go_on.set()
        assert first.result(20).status == 201
    assert (second.status, second.code, second.headers["Retry-After"]) == (409, "in_flight", "1")
    assert (api.post("deeds", DEED, key="k").text, deeds.count_deeds()) == (first.result().text, 1)


@pytest.mark.django_db(transaction=True)
def test_a_dead_workers_lease_lapses_and_is_taken_over(api: Api, program: Program, clock: Clock) -> None:
    api.post("deeds", DEED, key="k")
    IdempotencyRecord.objects.update(status=None, body=None)  # as the worker leaves it that dies
    clock(NOW + idempotency.LEASE - timedelta(microseconds=1))
    assert api.post("deeds", DEED, key="k").code == "in_flight"
    clock(NOW + idempotency.LEASE)
    assert (api.post("deeds", DEED, key="k").status, deeds.count_deeds()) == (201, 2)


@pytest.mark.django_db(transaction=True)
def test_work_that_outlives_its_lease_is_rolled_back(api: Api, clock: Clock) -> None:
    """The second sender takes over while the first is at work: the first one's effect must not stand beside it."""
    pause = Pause()
    deeds.during.append(pause)
    with ThreadPoolExecutor(1) as executor:
        slow = executor.submit(_closing, partial(api.post, "deeds", DEED, key="k"))
        assert pause.arrived.wait(20)
        deeds.during.clear()
        clock(NOW + idempotency.LEASE)
        quick = api.post("deeds", DEED, key="k")
        pause.go_on.set()
        lost = slow.result(20)
    assert (lost.status, lost.code, quick.status, deeds.count_deeds()) == (409, "in_flight", 201, 1)
    assert api.post("deeds", DEED, key="k").text == quick.text


@pytest.mark.django_db(transaction=True)
def test_one_key_sent_by_many_at_once_has_one_effect_and_one_answer(api: Api) -> None:
    answers = in_parallel([partial(api.post, "deeds", DEED, key="k")] * SENDERS)
    told = {answer.text for answer in answers if answer.status == 201}
    assert {answer.status for answer in answers} <= {201, 409}
    assert {answer.code for answer in answers if answer.status == 409} <= {"in_flight"}
    assert (len(told), deeds.count_deeds()) == (1, 1)
    assert api.post("deeds", DEED, key="k").text in told


@pytest.mark.django_db(transaction=True)
def test_a_key_that_is_freed_while_others_ask_for_it_is_theirs_or_in_flight(program: Program) -> None:
    """The row that kept a sender from inserting its own may be gone when it is read."""

    def take_and_free() -> None:
        for _ in range(100):
            try:
                lease = idempotency.begin(program_id=program.pk, caller="key", key="k", request_digest=b"", at=NOW)
            except idempotency.InFlight:
                continue
            assert isinstance(lease, idempotency.Lease)
            idempotency.release(lease)

    in_parallel([take_and_free] * 8)
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_control_without_the_lease_each_has_an_effect(api: Api) -> None:
    answers = in_parallel([partial(api.post, "deeds/unguarded", DEED, key="k")] * SENDERS)
    assert ({answer.status for answer in answers}, deeds.count_deeds()) == ({201}, SENDERS)


def _closing(call: Any) -> Any:
    try:
        return call()
    finally:
        connections.close_all()
