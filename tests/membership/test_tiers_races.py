"""Evaluations and intakes side by side. Each guard has a control that shows what goes wrong without it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import tests.flushing  # noqa: F401 these tests commit
from membership import locks
from membership.models import DirtyMember, EvaluationChunk, TierPeriod
from membership.services import evaluations
from tests.membership.tier_worlds import World, cuts, utc
from tests.membership.two_connections import another_connection, await_lock, overlap, own_pid

pytestmark = pytest.mark.django_db(transaction=True)

EVALUATED_AT = "2026-03-01"


@pytest.fixture
def world() -> World:
    world = World.create(cuts("100.00"))
    world.join()
    return world


def test_an_evaluation_waits_for_an_intake_under_way_and_sees_its_fact(world: World) -> None:
    waited = overlap(lambda: world.order("2026-02-10", 10_000), lambda: world.evaluate(EVALUATED_AT))
    assert waited
    assert world.rows()[1:] == [(EVALUATED_AT, "t1", "upgraded")]


def test_control_without_the_barrier_the_fact_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "lock_member_days", lambda: None)
    waited = overlap(lambda: world.order("2026-02-10", 10_000), lambda: world.evaluate(EVALUATED_AT))
    assert not waited
    assert world.rows()[1:] == []
    assert not DirtyMember.objects.exists()


def test_an_intake_behind_the_barrier_marks_its_member_dirty(world: World) -> None:
    def begin() -> None:
        evaluations.begin.__wrapped__(  # type: ignore[attr-defined]
            ladder=world.ladder, instant=utc(EVALUATED_AT), at=world.now()
        )

    assert overlap(begin, lambda: world.order("2026-02-10", 10_000))
    assert DirtyMember.objects.get().since == utc("2026-02-10")


def test_the_barrier_is_taken_before_the_instant_is_set(world: World) -> None:
    with CaptureQueriesContext(connection) as queries:
        evaluations.begin(ladder=world.ladder, instant=utc(EVALUATED_AT), at=world.now())
    statements = [query["sql"] for query in queries]
    barrier = statements.index("LOCK TABLE membership_memberday IN SHARE MODE")
    setting = next(i for i, text in enumerate(statements) if text.startswith('UPDATE "membership_ladder"'))
    assert barrier < setting


def immediate() -> World:
    world = World.create(cuts("100.00", upgrade="immediate"))
    world.join()
    world.order("2026-02-01", 1)
    return world


def test_two_intakes_of_one_member_make_one_upgrade_together() -> None:
    world = immediate()
    assert overlap(lambda: world.order("2026-02-10", 5_000), lambda: world.order("2026-02-12", 5_000))
    assert world.rows()[1:] == [("2026-02-12T00:00:00.000001", "t1", "upgraded")]


def test_two_intakes_in_the_other_order_make_the_same_upgrade() -> None:
    world = immediate()
    assert overlap(lambda: world.order("2026-02-12", 5_000), lambda: world.order("2026-02-10", 5_000))
    assert world.rows()[1:] == [("2026-02-12T00:00:00.000001", "t1", "upgraded")]


def test_control_without_the_members_lock_the_upgrade_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    world = immediate()
    monkeypatch.setattr(locks, "lock_members", sorted)
    assert not overlap(lambda: world.order("2026-02-10", 5_000), lambda: world.order("2026-02-12", 5_000))
    assert world.rows()[1:] == []


def test_an_intake_locks_its_members_before_it_reads_the_ladder(world: World) -> None:
    with CaptureQueriesContext(connection) as queries:
        world.order("2026-02-10", 1_000)
    statements = [query["sql"] for query in queries]
    days = next(i for i, text in enumerate(statements) if "INTO membership_memberday" in text)
    lock = next(i for i, text in enumerate(statements) if text.endswith("FOR NO KEY UPDATE") and "_member" in text)
    ladder = next(i for i, text in enumerate(statements) if "evaluated_at" in text)
    assert "ORDER BY id" in statements[lock]
    assert days < lock < ladder


def prepared(members: int) -> World:
    world = World.create(cuts("100.00"))
    for number in range(members):
        world.join(f"m{number}")
        world.order("2026-02-10", 10_000, f"m{number}")
    return world


def test_four_evaluations_at_once_give_what_one_gives() -> None:
    world = prepared(12)

    def run(_: int) -> None:
        evaluations.evaluate(ladder=world.ladder, instant=utc(EVALUATED_AT), at=utc("2030-01-01"), chunk_size=2)
        connection.close()

    world.ladder.program = world.program
    with ThreadPoolExecutor(max_workers=4) as executor:
        list(executor.map(run, range(4)))
    assert TierPeriod.objects.filter(cause="upgraded").count() == 12
    assert sum(EvaluationChunk.objects.values_list("upgraded", flat=True)) == 12
    world.ladder.refresh_from_db()
    assert world.ladder.completed_at == utc(EVALUATED_AT)


@pytest.mark.parametrize(("locked", "done_by_the_other"), [(True, 1), (False, 0)], ids=["locked", "control"])
def test_a_worker_leaves_out_a_chunk_that_another_holds(locked: bool, done_by_the_other: int) -> None:
    world = prepared(2)
    at = world.now()
    begun = evaluations.begin(ladder=world.ladder, instant=utc(EVALUATED_AT), at=at, chunk_size=1)
    with another_connection() as other, transaction.atomic():
        if locked:
            locks.lock_open_chunk(begun.pk, wait=False)
        assert other.submit(lambda: evaluations.run_chunk(evaluation_id=begun.pk, at=at)).result()
        done = [chunk.done_at is not None for chunk in begun.chunks.order_by("first_member_id")]
        assert done.index(True) == done_by_the_other


def test_a_chunk_is_locked_by_its_row_and_without_waiting() -> None:
    world = prepared(1)
    begun = evaluations.begin(ladder=world.ladder, instant=utc(EVALUATED_AT), at=world.now())
    with CaptureQueriesContext(connection) as queries:
        evaluations.run_chunk(evaluation_id=begun.pk, at=world.now())
    texts = [query["sql"] for query in queries if '"membership_evaluationchunk"' in query["sql"]]
    assert texts[0].endswith("FOR NO KEY UPDATE SKIP LOCKED")


def test_late_facts_are_not_applied_beside_a_chunk(world: World) -> None:
    world.order("2026-02-10", 10_000)
    world.join("late", "2026-01-05")
    world.order("2026-01-10", 10_000, "late")
    world.evaluate("2026-02-01")
    world.refund("2026-02-05", 1, "late")  # below the cut: the chunk will take the tier away
    begun = evaluations.begin(ladder=world.ladder, instant=utc(EVALUATED_AT), at=world.now())
    with another_connection() as chunk, another_connection() as teller:
        pid = chunk.submit(own_pid).result()
        with transaction.atomic():
            held = TierPeriod.objects.get(member_id=world.ids["m"])
            held.pk, held.valid_from = None, utc(EVALUATED_AT)
            held.save()
            running = chunk.submit(lambda: evaluations.run_chunk(evaluation_id=begun.pk, at=world.now()))
            await_lock(pid)  # the chunk has read its facts and waits to write the first member's row
            teller.submit(lambda: world.order("2026-02-20", 10_000, "late")).result()  # the tier is kept
            teller.submit(lambda: evaluations.apply_dirty(ladder=world.ladder, at=world.now())).result()
            transaction.set_rollback(True)
        assert running.result()
    evaluations.finish(evaluation_id=begun.pk, at=world.now())
    world.evaluate("2026-04-01")
    assert world.rows("late")[1:] == [("2026-02-01", "t1", "upgraded")]
