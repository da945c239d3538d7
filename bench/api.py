"""The API under load beside bare DRF views, over HTTP, with wrk: a member, an order, a refund, a quote."""

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import NamedTuple

from django.db import connection

from bench.figures import Figure
from bench.sizes import Sizes
from config.environment import PROJECT
from config.failure import StartError
from config.supervisor import WEB
from core.calendar import local_date
from core.models import Program, Scope
from core.services import api_keys
from membership.fact_inputs import OrderInput, OrderLineInput
from membership.models import Member
from membership.services.members import MemberInput, enroll_members
from storefront.services import day_close, intake, program_file

MEMBERS = 5_000
ORDERS_OF_EACH = 4
CONNECTIONS = 8
NOW = datetime.now(UTC)
# Every member has a name of its own, and every order of a run.
SCRIPT = """
local count, thread, threads = 0, 0, 0
function setup(t) t:set("thread", threads); threads = threads + 1 end
function init() math.randomseed(os.time() + thread) end
function request()
    count = count + 1
    local member = "bench-" .. math.random(1, {members})
    {request}
end
"""
READ = 'return wrk.format("GET", "{path}/members/" .. member, {{["Authorization"] = "Bearer {key}"}})'
WRITE = """local body = string.format(
        '{{"external_id": "{run}-%d-%d", "member": "%s", "paid_at": "%s", "currency": "GBP", "amount_minor": 2599}}',
        thread, count, member, os.date("!%Y-%m-%dT%H:%M:%SZ"))
    local headers = {{["Authorization"] = "Bearer {key}", ["Content-Type"] = "application/json"}}
    return wrk.format("POST", "{path}/orders", headers, body)"""
# One of the hundred units of the one line of an order that was there before.
REFUND = """local body = string.format(
        '{{"external_id": "{run}-%d-%d", "member": "%s", "order": "old-%d-%s", "refunded_at": "%s", "currency": "GBP",'
        .. ' "amount_minor": 25,'
        .. ' "lines": [{{"external_id": "1", "order_line": "1", "units": 1, "amount_minor": 25}}]}}',
        thread, count, member, math.random(0, {orders_of_each} - 1), member, os.date("!%Y-%m-%dT%H:%M:%SZ"))
    local headers = {{["Authorization"] = "Bearer {key}", ["Content-Type"] = "application/json"}}
    return wrk.format("POST", "{path}/refunds", headers, body)"""
QUOTE = """local body = string.format(
        '{{"member": "%s", "currency": "GBP", "shipping_minor": 499, "lines": ['
        .. '{{"external_id": "1", "sku": "tea", "units": 2, "list_minor": %d}},'
        .. '{{"external_id": "2", "sku": "cups", "units": 1, "list_minor": 1599}}]}}',
        member, math.random(500, 9000))
    local headers = {{["Authorization"] = "Bearer {key}", ["Content-Type"] = "application/json"}}
    return wrk.format("POST", "{path}/checkouts", headers, body)"""


class Load(NamedTuple):
    """What wrk saw: requests a second, and in milliseconds the median and the slowest hundredth."""

    rate: float
    p50: float
    p99: float

    def __str__(self) -> str:
        return f"{self.rate:,.0f}/s p50 {self.p50:.1f} p99 {self.p99:.1f} ms"


class Served(NamedTuple):
    """A running server and how its addresses begin."""

    port: int
    path: str
    key: str


def member_summary(sizes: Sizes) -> list[Figure]:
    """Measure GET of a whole member against one read with a nested serializer."""
    return [_measure("member summary GET", READ, sizes, floor=1.0, aim=1.4)]


def order_intake(sizes: Sizes) -> list[Figure]:
    """Measure POST of an order against a view that locks, inserts and updates."""
    return [_measure("order intake POST", WRITE, sizes, floor=0.4, aim=0.6)]


def refund(sizes: Sizes) -> list[Figure]:
    """Measure POST of a refund of one unit against a view that locks the order, inserts and updates."""
    return [_measure("refund POST", REFUND, sizes)]


def quote(sizes: Sizes) -> list[Figure]:
    """Measure POST of a basket of two lines against a view that reads the member and the shop's coupons and inserts."""
    return [_measure("quote POST", QUOTE, sizes)]


def _measure(path: str, request: str, sizes: Sizes, *, floor: float | None = None, aim: float | None = None) -> Figure:
    if shutil.which("wrk") is None:
        raise StartError("There is no wrk here: install it to measure the API.")
    key = _make_world()
    ours, other = [], []
    with _served("config.settings", "/api/v1", key) as api, _served("bench.reference.settings", "", "") as reference:
        for served in (api, reference):
            _load(served, request, seconds=2)
        for turn in range(sizes.repetitions):
            pair = (api, reference) if turn % 2 else (reference, api)
            found = {served.port: _load(served, request, seconds=sizes.seconds) for served in pair}
            ours.append(found[api.port])
            other.append(found[reference.port])
    ratio = median(mine.rate / its.rate for mine, its in zip(ours, other, strict=True))
    middle = sizes.repetitions // 2
    return Figure(path, str(sorted(ours)[middle]), str(sorted(other)[middle]), round(ratio, 3), floor, aim)


def _make_world() -> str:
    """Make members with orders, tiers and points and the reference's tables; return a key that no limit holds back."""
    file = program_file.load(PROJECT / "programs" / "aurora.yaml", code="bench-api")
    program = program_file.apply(file, at=NOW - timedelta(days=400), actor="bench")
    key = api_keys.issue(
        program=program, name="bench", scopes=Scope.values, rate_per_minute=100_000_000, actor="bench", at=NOW
    )
    if not Member.objects.filter(program=program).exists():
        _fill(program)
    return key.text


def _fill(program: Program) -> None:
    names = [f"bench-{n}" for n in range(1, MEMBERS + 1)]
    joined = NOW - timedelta(days=100)
    enroll_members(program=program, members=[MemberInput(external_id=name, joined_at=joined) for name in names], at=NOW)
    for n in range(ORDERS_OF_EACH):
        orders = [
            OrderInput(
                external_id=f"old-{n}-{name}", member=name, paid_at=joined + timedelta(days=10 + 20 * n),
                currency="GBP", amount_minor=2_599,
                lines=(OrderLineInput(external_id="1", units=100, amount_minor=2_599),),
            )
            for name in names
        ]  # fmt: skip
        for start in range(0, len(orders), 1_000):
            intake.record(program=program, orders=orders[start : start + 1_000], at=NOW)
    # As the clock leaves a program overnight: with no evaluation due.
    day_close.close_day(program=program, day=local_date(NOW, program.time_zone) - timedelta(days=1), at=NOW)
    with connection.cursor() as cursor:
        # The reference knows no programs: by their unique key its members are looked up one after the other.
        cursor.execute("CREATE INDEX bench_member_name ON membership_member (external_id)")
        cursor.execute("CREATE TABLE bench_balance (member_id bigint PRIMARY KEY, points bigint NOT NULL)")
        cursor.execute("INSERT INTO bench_balance SELECT id, 0 FROM membership_member")
        cursor.execute(
            "CREATE TABLE bench_order (id bigserial PRIMARY KEY, external_id text UNIQUE, member_id bigint NOT NULL,"
            " paid_at timestamptz NOT NULL, currency text NOT NULL, amount_minor bigint NOT NULL)"
        )
        cursor.execute(
            "INSERT INTO bench_order (external_id, member_id, paid_at, currency, amount_minor)"
            " SELECT 'old-' || n || '-' || m.external_id, m.id, m.joined_at, 'GBP', 2599"
            " FROM membership_member m, generate_series(0, %s) n",
            [ORDERS_OF_EACH - 1],
        )
        cursor.execute(
            "CREATE TABLE bench_refund (id bigserial PRIMARY KEY, external_id text UNIQUE, order_id bigint NOT NULL,"
            " refunded_at timestamptz NOT NULL, amount_minor bigint NOT NULL, lines jsonb NOT NULL)"
        )
        cursor.execute(
            "CREATE TABLE bench_checkout (id bigserial PRIMARY KEY, member_id bigint NOT NULL, body jsonb NOT NULL)"
        )
        cursor.execute("VACUUM ANALYZE")


@contextmanager
def _served(settings: str, path: str, key: str) -> Iterator[Served]:
    """Serve with the supervisor's own command line until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", *WEB.split(), "--bind", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        command, cwd=PROJECT, env=os.environ | {"DJANGO_SETTINGS_MODULE": settings}, start_new_session=True
    )
    try:
        _wait(port)
        yield Served(port, path, key)
    finally:
        process.terminate()
        process.wait(30)


def _wait(port: int) -> None:
    for _ in range(300):
        with suppress(OSError):
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            link.request("GET", "/nothing")
            link.getresponse()
            return
        time.sleep(0.1)
    raise StartError("The web server did not start.")


def _load(served: Served, request: str, *, seconds: float) -> Load:
    """Run wrk with one thread, so that it takes as little of the two cores as it can."""
    told = request.format(path=served.path, key=served.key, run=time.monotonic_ns(), orders_of_each=ORDERS_OF_EACH)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.replace("{members}", str(MEMBERS)).replace("{request}", told))
        script.flush()
        command = ["wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={int(seconds)}s", "--latency"]
        text = subprocess.run(
            [*command, "--script", script.name, f"http://127.0.0.1:{served.port}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    if "Non-2xx" in text:
        raise StartError(f"The server refused requests:\n{text}")
    return Load(
        _figure(text, r"Requests/sec: +([0-9.]+)()"), *(_figure(text, rf" {p}% +([0-9.]+)(\w+)") for p in (50, 99))
    )


def _figure(text: str, pattern: str) -> float:
    match = re.search(pattern, text)
    if match is None:
        raise StartError(f"wrk said something else:\n{text}")
    return float(match[1]) * {"us": 0.001, "s": 1_000}.get(match[2], 1)
