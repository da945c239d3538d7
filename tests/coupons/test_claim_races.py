"""Many claims at once: never more than there are, each source once; every race has a control that goes wrong."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection, connections, transaction
from django.db.models.functions import Now

from core.models import Program
from coupons.models import Claim, ClaimState, CodeBatch, CounterShard, CouponCode, Redemption, RedemptionState
from coupons.services import claims, code_batches, limits, recalls, redemptions
from tests.coupons.giving import BASKET, HELD_UNTIL, NOW, enroll, id_of, make_shop, publish, use, without_claim
from tests.membership.two_connections import another_connection, await_lock, overlap, own_pid

THREADS = 64
LIMIT = 100

pytestmark = pytest.mark.django_db(transaction=True)


def race(do: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Run `do(n)` in so many threads, all released at once; return results and exceptions alike."""
    barrier = Barrier(threads)

    def run(n: int) -> Any:
        try:
            barrier.wait(timeout=60)
            return do(n)
        except Exception as error:  # noqa: BLE001 the outcome of the race
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


@pytest.fixture
def shop(transactional_db: None) -> Program:
    return make_shop("shop", "ada", "ben")


def sell_out(shop: Program, code: str, members: list[int], shards: int) -> None:
    """Let 64 threads, each with members of its own, claim until they are refused: exactly the limit is given out."""
    definition = publish(shop, code, limit=LIMIT, shards=shards)

    def claim(n: int) -> Counter[str]:
        said: Counter[str] = Counter()
        for member_id in members[n::THREADS]:
            try:
                claims.claim(program=shop, member_id=member_id, definition=code, at=NOW)
                said["claimed"] += 1
            except claims.LimitReached:
                said["refused"] += 1
        return said

    said: Counter[str] = sum(race(claim), Counter())
    assert said == {"claimed": LIMIT, "refused": len(members) - LIMIT}
    assert Claim.objects.filter(definition=definition).count() == LIMIT
    assert sum(CounterShard.objects.filter(definition=definition).values_list("used", flat=True)) == LIMIT


@pytest.mark.parametrize("shards", [1, 16])
def test_64_threads_get_exactly_100(shop: Program, shards: int) -> None:
    members = enroll(shop, *(f"m{n}" for n in range(3 * THREADS)))
    sell_out(shop, "flash", members, shards)


@pytest.mark.deep
@pytest.mark.parametrize("shards", [1, 4, 16])
def test_64_threads_get_exactly_100_twenty_times(shop: Program, shards: int) -> None:
    members = enroll(shop, *(f"m{n}" for n in range(4 * THREADS)))
    for number in range(20):
        sell_out(shop, f"flash-{number}", members, shards)


def test_control_a_counter_that_is_read_and_then_written_oversells(shop: Program) -> None:
    """The same crowd on a plain read-then-write, which is what the conditional UPDATE prevents."""
    paused = Barrier(THREADS)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE control AS SELECT 99 AS used")

    def claim(_n: int) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT used FROM control")
            (used,) = cursor.fetchone()
            paused.wait(timeout=60)
            if used < LIMIT:
                cursor.execute("UPDATE control SET used = %s", [used + 1])
            return bool(used < LIMIT)

    try:
        assert sum(one is True for one in race(claim)) > 1
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE control")


def test_whoever_takes_the_last_one_is_waited_for(shop: Program) -> None:
    publish(shop, limit=1)
    ada, ben = id_of(shop), id_of(shop, "ben")
    outcomes: list[object] = []

    def second() -> None:
        try:
            outcomes.append(claims.claim(program=shop, member_id=ben, definition="five", at=NOW))
        except claims.LimitReached as error:
            outcomes.append(error)

    assert overlap(lambda: claims.claim(program=shop, member_id=ada, definition="five", at=NOW), second)
    assert [type(one) for one in outcomes] == [claims.LimitReached]


def test_a_last_one_that_is_taken_back_goes_to_whoever_waited(shop: Program) -> None:
    publish(shop, limit=1)
    ada, ben = id_of(shop), id_of(shop, "ben")
    with another_connection() as other:
        pid = other.submit(own_pid).result()
        with transaction.atomic():
            claims.claim(program=shop, member_id=ada, definition="five", at=NOW)
            waiting = other.submit(lambda: claims.claim(program=shop, member_id=ben, definition="five", at=NOW))
            await_lock(pid)
            transaction.set_rollback(True)
        assert waiting.result(timeout=20).member_id == ben
    assert Claim.objects.get().member_id == ben


def test_the_same_source_in_parallel_is_one_claim_with_one_code(shop: Program) -> None:
    publish(shop, "gift", how="code", limit=10)
    ada = id_of(shop)
    made = race(
        lambda _n: claims.issue(program=shop, member_id=ada, definition_code="gift", source="birthday:2026", at=NOW), 32
    )
    assert Counter(one.is_new for one in made) == {True: 1, False: 31}
    assert len({one.pk for one in made}) == 1
    assert (Claim.objects.count(), CouponCode.objects.count(), CounterShard.objects.get().used) == (1, 1, 1)


def test_one_member_in_parallel_gets_as_many_as_one_may(shop: Program) -> None:
    publish(shop, per_member=3)
    ada = id_of(shop)
    made = race(lambda _n: claims.claim(program=shop, member_id=ada, definition="five", at=NOW), 32)
    assert sum(isinstance(one, claims.AlreadyClaimed) for one in made) == 29
    assert sorted(Claim.objects.values_list("number", flat=True)) == [1, 2, 3]


def test_a_unique_code_typed_by_a_crowd_is_one_members(shop: Program) -> None:
    definition = publish(shop, "lucky", how="code")
    code_batches.create_code(program=shop, definition=definition, text="LUCKY7", is_shared=False, actor="test", at=NOW)
    members = enroll(shop, *(f"m{n}" for n in range(32)))
    made = race(lambda n: claims.claim(program=shop, member_id=members[n], code="LUCKY7", at=NOW), 32)
    assert sum(isinstance(one, claims.CodeNotAvailable) for one in made) == 31
    assert CouponCode.objects.get().claimed_by == Claim.objects.get().member_id


def test_control_without_the_condition_two_members_have_one_code(shop: Program) -> None:
    definition = publish(shop, "lucky", how="code")
    code_batches.create_code(program=shop, definition=definition, text="LUCKY7", is_shared=False, actor="test", at=NOW)
    paused = Barrier(2)

    def read_then_write(n: int) -> bool:
        free = CouponCode.objects.get().claimed_by is None
        paused.wait(timeout=60)
        return free and bool(CouponCode.objects.update(claimed_by=n + 1))

    assert race(read_then_write, 2) == [True, True]


def test_a_claim_is_held_by_one_of_many_checkouts(shop: Program) -> None:
    publish(shop)
    ada = id_of(shop)
    told = use(shop, claims.claim(program=shop, member_id=ada, definition="five", at=NOW))

    def hold(n: int) -> Any:
        return redemptions.hold(
            program=shop, member_id=ada, reference=f"c{n}", currency="GBP", applied=[told], basket=BASKET,
            held_until=HELD_UNTIL, at=NOW,
        )  # fmt: skip

    made = race(hold, 16)
    assert sum(isinstance(one, redemptions.CouponUnavailable) for one in made) == 15
    assert Redemption.objects.get().state == RedemptionState.HELD


def test_the_same_hold_in_parallel_is_one(shop: Program) -> None:
    publish(shop, limit=5)
    ada = id_of(shop)
    told = use(shop, claims.claim(program=shop, member_id=ada, definition="five", at=NOW))
    made = race(
        lambda _n: redemptions.hold(
            program=shop, member_id=ada, reference="c1", currency="GBP", applied=[told], basket=BASKET,
            held_until=HELD_UNTIL, at=NOW,
        ), 16,
    )  # fmt: skip
    assert len({one[0].pk for one in made}) == 1


def test_a_payment_and_the_sweep_decide_one_after_the_other(shop: Program) -> None:
    publish(shop)
    ada = id_of(shop)
    told = use(shop, claims.claim(program=shop, member_id=ada, definition="five", at=NOW))
    redemptions.hold(
        program=shop, member_id=ada, reference="c1", currency="GBP", applied=[told], basket=BASKET,
        held_until=HELD_UNTIL, at=NOW,
    )  # fmt: skip
    swept: list[int] = []
    assert overlap(
        lambda: redemptions.commit(program=shop, member_id=ada, reference="c1", order_id=7, at=HELD_UNTIL),
        lambda: swept.append(redemptions.release_lapsed(at=HELD_UNTIL)),
    )
    assert (swept, Redemption.objects.get().state, Claim.objects.get().state) == (
        [0], RedemptionState.COMMITTED, ClaimState.USED,
    )  # fmt: skip


def test_a_recall_and_a_hold_decide_one_after_the_other(shop: Program) -> None:
    coupon = publish(shop, limit=5)
    ada, ben = id_of(shop), id_of(shop, "ben")
    held = use(shop, claims.claim(program=shop, member_id=ada, definition="five", at=NOW))
    claims.claim(program=shop, member_id=ben, definition="five", at=NOW)

    def call_back() -> None:
        made = recalls.recall(program=shop, definition=coupon, reason="wrong", actor="test", at=NOW)
        recalls.revoke_recalled(recall_id=made.pk, at=NOW)

    assert overlap(
        lambda: redemptions.hold(
            program=shop, member_id=ada, reference="c1", currency="GBP", applied=[held], basket=BASKET,
            held_until=HELD_UNTIL, at=NOW,
        ),
        call_back,
    )  # fmt: skip
    assert sorted(Claim.objects.values_list("state", flat=True)) == ["held", "revoked"]
    assert sum(CounterShard.objects.values_list("used", flat=True)) == 1


def test_a_new_limit_waits_for_claims_under_way_and_counts_them(shop: Program) -> None:
    definition = publish(shop, limit=2)
    ada = id_of(shop)
    refused: list[str] = []

    def lower() -> None:
        try:
            limits.set_limit(definition=definition, limit=0)
        except limits.LimitBelowUsed as error:
            refused.append(str(error))

    assert overlap(lambda: claims.claim(program=shop, member_id=ada, definition="five", at=NOW), lower)
    assert refused == ["1 given out already, so the limit cannot be 0"]


def test_two_checkouts_that_claim_the_same_two_coupons_do_not_deadlock(shop: Program) -> None:
    for code in ("aa", "zz"):
        publish(shop, code, how="automatic", limit=1000)
    members = enroll(shop, *(f"m{n}" for n in range(24)))
    uses = [without_claim(shop, code) for code in ("aa", "zz")]

    def go(n: int) -> Any:
        told: dict[str, Any] = {"program": shop, "member_id": members[n], "reference": "c1", "at": NOW}
        applied = uses if n % 2 else uses[::-1]
        redemptions.hold(**told, currency="GBP", applied=applied, basket=BASKET, held_until=HELD_UNTIL)
        return redemptions.release(**told)

    outcomes = race(go, 24)
    assert [one for one in outcomes if isinstance(one, Exception)] == []
    assert set(CounterShard.objects.values_list("used", flat=True)) == {0}


# --- the SQL that locks ----------------------------------------------------------------------------------------


def test_the_member_is_locked_before_anything_is_looked_up_and_the_counter_comes_last(shop: Program) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('coupons_claim_coupon'::regproc)")
        body = cursor.fetchone()[0]
        cursor.execute("SELECT pg_get_functiondef('coupons_take'::regproc)")
        take = cursor.fetchone()[0]
    steps = [
        "FOR NO KEY UPDATE",
        "FROM coupons_claim c",
        "UPDATE coupons_couponcode",
        "coupons_take(",
        "INSERT INTO coupons_claim ",
    ]
    assert [body.index(step) for step in steps] == sorted(body.index(step) for step in steps)
    assert 'AND used < "limit"' in take


@pytest.mark.parametrize("step", ["hold", "commit", "release", "reverse", "revoke"])
def test_every_write_locks_the_member_first(shop: Program, step: str) -> None:
    publish(shop)
    ada = id_of(shop)
    claim = claims.claim(program=shop, member_id=ada, definition="five", at=NOW)
    told: dict[str, Any] = {"program": shop, "member_id": ada, "at": NOW}
    steps: dict[str, Callable[[], object]] = {
        "hold": lambda: redemptions.hold(
            **told, reference="c1", currency="GBP", applied=[use(shop, claim)], basket=BASKET, held_until=HELD_UNTIL
        ),
        "commit": lambda: redemptions.commit(**told, reference="c1", order_id=1),
        "release": lambda: redemptions.release(**told, reference="c1"),
        "reverse": lambda: redemptions.reverse(**told, order_id=1, lines={"a": (1, 1)}, is_whole=True),
        "revoke": lambda: claims.revoke(**told, claim_id=claim.pk, reason="no"),
    }
    statements: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        steps[step]()
    assert "membership_member" in statements[0]
    assert statements[0].endswith("FOR NO KEY UPDATE")


def test_counters_are_locked_in_ascending_order(shop: Program) -> None:
    definition = publish(shop, limit=4, shards=4)
    statements: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        limits.set_limit(definition=definition, limit=8, shards=4)
    assert 'ORDER BY "coupons_countershard"."shard" ASC FOR NO KEY UPDATE' in statements[0]


def test_two_workers_make_each_chunk_once(shop: Program) -> None:
    definition = publish(shop, "lucky", how="code")
    batch = code_batches.request_batch(program=shop, definition=definition, count=5_000, requested_by="test", at=NOW)
    made = race(lambda _n: code_batches.make_codes(batch_id=batch.pk, at=NOW, chunk=500), 8)
    assert sorted(made) == [0] * 7 + [5_000]
    assert CouponCode.objects.count() == 5_000


def _someone_waits_for_codes() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'coupons_couponcode'::regclass AND NOT granted)"
        )
        return bool(cursor.fetchone()[0])


def test_a_killed_worker_loses_its_chunk_and_is_taken_over(shop: Program) -> None:
    definition = publish(shop, "lucky", how="code")
    batch = code_batches.request_batch(program=shop, definition=definition, count=300, requested_by="test", at=NOW)
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE coupons_couponcode IN SHARE MODE")  # its COPY waits, behind the progress it wrote
        with subprocess.Popen(
            [sys.executable, "-m", "tests.coupons.code_worker", str(batch.pk), NOW.isoformat()],
            env=os.environ | {"DATABASE_URL": url},
        ) as worker:
            deadline = time.monotonic() + 60
            while not _someone_waits_for_codes():
                assert time.monotonic() < deadline
            worker.kill()
    assert (CodeBatch.objects.get().made, CouponCode.objects.count()) == (0, 0)
    assert code_batches.list_waiting() == []
    CodeBatch.objects.update(leased_until=Now())  # a minute later
    assert code_batches.list_waiting() == [batch.pk]
    assert code_batches.make_codes(batch_id=batch.pk, at=NOW) == 300
    assert CouponCode.objects.count() == 300
