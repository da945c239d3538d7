from datetime import timedelta
import time
import pytest
from tests.api.shop import *
from tests.api.client import Api, in_parallel
from tests.api.conftest import NOW

@pytest.mark.django_db(transaction=True)
def test_batch_worst(program, api):
    enroll(program, "ada", *[f"m{i}" for i in range(1000)])
    def go(change):
        t = time.time()
        r = api.post("orders/batch", {"orders": [order(f"o{i}", member=f"m{i}") | change for i in range(1000)]})
        oc = {}
        for x in r.json["results"]: k = (x["outcome"], x["problem"] and x["problem"]["code"]); oc[k] = oc.get(k, 0) + 1
        print(r.status, oc, round(time.time() - t, 2))
    go({})
    go({})
    go({"channel": "x"})
    from django.db import connection
    from collections import Counter
    cost, n = Counter(), Counter()
    def wrap(execute, sql, params, many, context):
        s0 = time.perf_counter()
        try: return execute(sql, params, many, context)
        finally:
            k = str(sql)[:90].replace(chr(10), " "); cost[k] += time.perf_counter() - s0; n[k] += 1
    t = time.time()
    with connection.execute_wrapper(wrap):
     r = api.post("refunds/batch", {"refunds": [refund(f"r{i}", back("a", 5, 1), order=f"o{i}", member=f"m{i}") for i in range(1000)]})
    print(r.status, r.json["results"][0]["problem"], time.time() - t)
    for k, v in cost.most_common(12): print(round(v, 2), n[k], k)
    r = api.post("orders", order("OABC"))
    print(api.post("orders/OABC/cancel", {}).status)
    print(api.post("orders/OABC/cancel", {"external_id": "zz"}).text)
