"""scratch"""
from collections.abc import Callable
import pytest
from django.db import connection
from core.models import Program
from points.models import *
from points.services.posting import *
from points.services.verify import verify
from tests.points.conftest import *
from tests.points.ledgers import *

def test_expires_before_vest(program, wallet, new_member):
    m = new_member()
    post(program_id=program.pk, postings=[earning(m, wallet.pk, 1, [5], START, available_at=START+5*DAY, expires_at=START+3*DAY)], at=START)
    a = Account.objects.get(member_id=m)
    print("next_due", a.next_due_at)
    settle(account_ids=[a.pk], through=START+4*DAY, at=START)
    print(Account.objects.values().get(pk=a.pk))
    try:
        settle(account_ids=[a.pk], through=START+6*DAY, at=START)
        print(read_entries(m), list(verify(program=program)))
    except Exception as e:
        print("SETTLE FAILS FOR EVER:", type(e), e)

def test_mixed_clawback(program, wallet, new_member):
    for order in ("mu", "um"):
        m = new_member()
        src = m * 100
        post(program_id=program.pk, postings=[earning(m, wallet.pk, src, [100], START)], at=START)
        line = src * 10
        # 4 units, 400 paid. money: 200 without units; units: 2 with 200 money
        steps = {"mu": [(200, 400), (2, 4)], "um": [(2, 4), (400, 400)]}[order]
        for n, (r, w) in enumerate(steps):
            post(program_id=program.pk, postings=[clawback(m, wallet.pk, src + n, [(line, r, w)], START + DAY)], at=START)
        print(order, list(AccrualReturn.objects.filter(member_id=m).values_list("returned", "whole", "points_due", "points_taken")), Account.objects.get(member_id=m).available)

def test_plan(program, wallet, new_member):
    m = new_member()
    with connection.cursor() as c:
        c.execute("""INSERT INTO points_lotbalance SELECT (g/5)::bigint << 24 | (g %% 5 + 1), %s, 5, false, now(), now() + g * interval '1 second' FROM generate_series(1000000, 1400000) g""", [m])
        c.execute("""INSERT INTO points_lot SELECT (g/5)::bigint << 24 | (g %% 5 + 2), %s, (g/5)::bigint << 24 | (g %% 5 + 1), 5, now(), now() + g * interval '1 second' FROM generate_series(1000000, 1400000) g""", [m])
        c.execute("ANALYZE points_lotbalance; ANALYZE points_lot")
        c.execute("SET plan_cache_mode = force_generic_plan")
        c.execute("""PREPARE take(bigint) AS SELECT lot_id, remaining FROM points_lotbalance
        WHERE lot_id BETWEEN $1 << 24 AND $1 << 24 | x'ffffff'::int AND NOT is_pending
        ORDER BY expires_at NULLS LAST, lot_id""")
        c.execute("EXPLAIN EXECUTE take(200000)")
        print("\n".join(r[0] for r in c.fetchall()))
        c.execute("SET cursor_tuple_fraction = 0.1")
        body = open("points/sql/verify_0001.sql").read()
        body = body[body.index("WITH row_bytes"):body.rindex("$$")].replace("p_first_account_id", "$1").replace("p_last_account_id", "$2")
        c.execute("PREPARE v(bigint, bigint) AS " + body.replace("%", "%%") if False else "PREPARE v(bigint, bigint) AS " + body)
        c.execute("EXPLAIN EXECUTE v(200000, 202000)")
        print("\n".join(r[0] for r in c.fetchall() if "Scan" in r[0] or "Cond" in r[0]))
