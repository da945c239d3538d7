"""`kill -9` of web, worker and beat while storefronts write.

What was acknowledged is there, once; what was sent again has no second effect; each event comes to the webhook's
receiver at least once; the ledger verifies.
"""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.core.receivers import Receiver, receiving
from tests.journeys.service import Service, running_service

MEMBERS = 8
CLIENTS = 4
# A lease of a killed sender lapses after a minute, and a few retries follow.
SETTLE_SECONDS = 150.0
PATIENCE = 200


@dataclass
class Storefront:
    """Sends orders and redemptions, each until it is acknowledged, and remembers what it was told."""

    service: Service
    key: str
    number: int
    halt: threading.Event
    orders: dict[str, int] = field(default_factory=dict)
    redemptions: dict[str, str] = field(default_factory=dict)
    sendings: int = 0

    def work(self) -> None:
        random, count = Random(self.number), 0
        while not self.halt.is_set():
            count += 1
            name, member = f"{self.number}-{count}", f"m{random.randrange(MEMBERS)}"
            paid_at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
            amount = random.randrange(1_000, 20_000)
            order = {
                "external_id": name,
                "member": member,
                "paid_at": paid_at,
                "currency": "GBP",
                "amount_minor": amount,
            }
            self.send("/api/v1/orders", order, name)
            self.orders[name] = amount
            told = self.send(f"/api/v1/members/{member}/points/points/redemptions", {"points": 1}, f"r-{name}")
            self.redemptions[f"r-{name}"] = json.dumps(told)
            # A shop that lost the answer sends it again, long after.
            assert self.send(f"/api/v1/members/{member}/points/points/redemptions", {"points": 1}, f"r-{name}") == told

    def send(self, path: str, body: Any, key: str) -> Any:
        """Send until it is acknowledged: no answer, a busy server and a write in flight are reasons to repeat."""
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": key}
        for attempt in range(PATIENCE):
            self.sendings += 1
            answer = self.service.call("POST", path, body, headers)
            if answer is None or answer[0] in {409, 503}:
                threading.Event().wait(min(1.0, 0.05 * (attempt + 1)))
                continue
            assert answer[0] in {200, 201}, answer
            return answer[1]
        raise AssertionError(f"{path} was never acknowledged")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path) as service:
        yield service


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def open_shop(service: Service, receiver: Receiver) -> str:
    key = service.manage("api_key", "issue", "aurora", "--name", "test").split()[-1]
    headers = {"Authorization": f"Bearer {key}"}
    endpoint = service.call("POST", "/api/v1/webhook-endpoints", {"url": receiver.url}, headers)
    assert endpoint is not None
    assert endpoint[0] == 201, endpoint
    for n in range(MEMBERS):
        told = service.call("POST", "/api/v1/members", {"external_id": f"m{n}"}, headers)
        assert told is not None
        assert told[0] == 201, told
    return key


def disturb(service: Service, receiver: Receiver, *, kills: int) -> None:
    key, halt, random = open_shop(service, receiver), threading.Event(), Random(kills)
    storefronts = [Storefront(service, key, number, halt) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(storefront.work) for storefront in storefronts]
        try:
            for n in range(kills):
                halt.wait(random.uniform(0.5, 2.5))
                service.kill(("web", "worker", "web", "beat")[n % 4], random)
            halt.wait(2.0)
        finally:
            halt.set()
        for future in running:
            future.result()
    check(service, receiver, storefronts)


def check(service: Service, receiver: Receiver, storefronts: list[Storefront]) -> None:
    orders = {name: amount for storefront in storefronts for name, amount in storefront.orders.items()}
    redemptions = [name for storefront in storefronts for name in storefront.redemptions]
    assert len(orders) > CLIENTS
    stored = service.ask("SELECT external_id, program_amount_minor FROM membership_order ORDER BY 1")
    assert dict(stored) == orders
    assert len(stored) == len(orders)
    (burns,) = service.ask("SELECT count(*), count(DISTINCT key_digest) FROM points_ledgertransaction WHERE kind = 2")
    assert burns == (len(redemptions), len(redemptions))
    (earned,) = service.ask(
        "SELECT count(*), count(DISTINCT source_id) FROM points_ledgertransaction WHERE kind = 1 AND source_kind = 1"
    )
    assert earned == (len(orders), len(orders))
    assert "sound" in service.manage("verify")
    service.wait_until("SELECT NOT EXISTS (SELECT FROM core_outboxevent WHERE dispatched_at IS NULL)", SETTLE_SECONDS)
    service.wait_until("SELECT NOT EXISTS (SELECT FROM core_outboxreceipt WHERE done_at IS NULL)", SETTLE_SECONDS)
    service.wait_until(
        "SELECT NOT EXISTS (SELECT FROM core_webhookdelivery WHERE delivered_at IS NULL)", SETTLE_SECONDS
    )
    told = {str(public_id): kind for public_id, kind in service.ask("SELECT public_id::text, type FROM core_event")}
    assert set(receiver.ids) == set(told)
    kinds = list(told.values())
    assert kinds.count("order.paid") == len(orders)
    assert kinds.count("points.redeemed") == len(redemptions)
    assert kinds.count("points.earned") == len(orders)


def test_killed_processes_lose_and_double_nothing(service: Service, receiver: Receiver) -> None:
    disturb(service, receiver, kills=3)


@pytest.mark.deep
def test_twenty_kills_lose_and_double_nothing(service: Service, receiver: Receiver) -> None:
    disturb(service, receiver, kills=20)
