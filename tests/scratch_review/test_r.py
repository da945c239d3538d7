from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
import time
import pytest
from django.db import connection, transaction
import tests.flushing
from core import versions
from core.models import Program
from membership.models import *
from membership.services import evaluations, tiers, facts
from membership.services.facts import *
from membership.services.members import *
from membership.fact_inputs import BadFact
from tests.membership.tier_worlds import World, cuts, spend, utc
from tests.membership.two_connections import another_connection, overlap, _is_waiting, _own_pid

pytestmark = pytest.mark.django_db(transaction=True)

def order2(w, at):
    w.tell(orders=[OrderInput(external_id="o", member="m", paid_at=utc(at), currency="GBP", amount_minor=200,
        lines=(OrderLineInput(external_id="a", units=2, amount_minor=200),))])
def ret(at, rid):
    return RefundInput(external_id=rid, member="m", refunded_at=utc(at), currency="GBP", amount_minor=100, order="o",
        lines=(RefundLineInput(external_id="x", amount_minor=100, units=1, order_line="a"),))

@pytest.mark.parametrize("how", ["batch", "late"])
def test_out_of_order_refunds(how):
    w = World.create(cuts("100.00")); w.join(); order2(w, "2026-01-01")
    if how == "batch":
        w.tell(refunds=[ret("2026-03-10", "r1"), ret("2026-03-05", "r2")])
    else:
        w.tell(refunds=[ret("2026-03-10", "r1")]); w.tell(refunds=[ret("2026-03-05", "r2")])
    assert Order.objects.get().returned_at == utc("2026-03-10")

def test_dirty_beside_chunk():
    w = World.create(cuts("100.00")); w.join("a"); w.join("b")
    w.order("2026-01-10", 10_000, "b")
    w.evaluate("2026-02-01")
    w.refund("2026-02-05", 1, "b")   # below the cut: March takes it away
    ev = evaluations.begin(ladder=w.ladder, instant=utc("2026-03-01"), at=w.now())
    now = w.now()
    with another_connection() as x, another_connection() as c:
        cpid = c.submit(_own_pid).result()
        # x holds an uncommitted row of `a` at the instant, so that the chunk's statement waits with its snapshot taken
        def hold():
            transaction.set_autocommit(False)
            TierPeriod.objects.create(member_id=w.ids["a"], ladder=w.ladder, tier=Tier.objects.filter(ladder=w.ladder).first(), version=LadderVersion.objects.get(owner=w.ladder), valid_from=utc("2026-03-01"), recorded_at=now, cause="upgraded")
        def release():
            transaction.rollback(); transaction.set_autocommit(True)
        w.order("2026-01-11", 10_000, "a")  # so that a moves at the instant
        x.submit(hold).result()
        f = c.submit(lambda: evaluations.run_chunk(evaluation_id=ev.pk, at=w.now()))
        d = time.monotonic() + 20
        while not _is_waiting(cpid): assert time.monotonic() < d
        w.order("2026-02-20", 10_000, "b")   # late: b keeps its tier
        assert DirtyMember.objects.filter(member_id=w.ids["b"]).exists()
        # only b is dirty, a is held
        DirtyMember.objects.filter(member_id=w.ids["a"]).delete()
        g = None
        with another_connection() as e:
            epid = e.submit(_own_pid).result()
            g = e.submit(lambda: evaluations.apply_dirty(ladder=w.ladder, at=w.now()))
            d = time.monotonic() + 3
            while not g.done() and not _is_waiting(epid) and time.monotonic() < d: pass
            print("apply waited", not g.done())
            x.submit(release).result()
            f.result(20); g.result(20)
    evaluations.finish(evaluation_id=ev.pk, at=w.now())
    print(w.rows("b"), DirtyMember.objects.count())
    changed = tiers.recompute(ladder=w.ladder, member_ids=[w.ids["b"]], since=utc("2020-01-01"), at=w.now())
    print(w.rows("b"))
    assert changed == 0 or DirtyMember.objects.exists()

@pytest.mark.parametrize("at", [datetime(9999,12,31,23,tzinfo=UTC), datetime(1,1,1,tzinfo=UTC), datetime(2400,1,1,tzinfo=UTC)])
def test_far(at):
    w = World.create(cuts("100.00", evaluation={"every":"day"}), time_zone="America/New_York"); w.join()
    t=time.monotonic()
    try:
        w.order(at, 10_000)
    except BadFact as e: print("BadFact", e)
    print(time.monotonic()-t, w.rows())

def test_ladder_later():
    w = World.create(cuts("100.00")); w.join(); w.order("2026-01-10", 10_000); w.evaluate("2026-02-01")
    l2 = Ladder.objects.create(program=w.program, code="club", name="Club")
    d = cuts("50.00")
    Tier.objects.bulk_create(Tier(ladder=l2, code=t["code"], name=t["name"]) for t in d["tiers"])
    versions.publish(l2, d, at=w.now())
    due = tiers.list_due(ladder=l2, until=utc("2026-04-01"))
    print(len(due))
    for i in due[-3:]: tiers.evaluate(ladder=l2, instant=i, at=w.now())
    w.order("2026-04-10", 10_000)
    assert TierPeriod.objects.filter(ladder=l2).exists()

def test_old_return_takes_another():
    w = World.create({"upgrade":"at_evaluation","evaluation":{"every":"month"},"tiers":[{"code":"t0","name":"T0"},{"code":"t1","name":"T1","entry":spend("1", {"rolling_days":365}, "order_count")}]}); w.join()
    o = w.order("2024-01-10", 100); w.order("2026-01-10", 100)
    w.evaluate("2026-02-01"); print(w.rows())
    w.refund("2026-02-10", 100, order=o)
    w.evaluate("2026-03-01"); print(w.rows())
    assert w.rows()[-1][1] == "t1"

def test_before_join_and_first():
    w = World.create(cuts("100.00", upgrade="immediate"), time_zone="Europe/London"); w.join(at="2026-02-15")
    w.refund("2026-01-05", 500); w.evaluate("2026-03-01"); print(w.rows())
    w.order("2026-01-01", 10_600); print(w.rows(), DirtyMember.objects.count())
    w.evaluate("2026-04-01"); print(w.rows())
    from membership.services.rebuild import find_day_mismatches
    assert not find_day_mismatches(w.program)
