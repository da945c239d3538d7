"""From orders to a real receiver that is killed with -9 twice and comes back: in the end it has every event."""

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from config.environment import PROJECT
from core.models import Event, Program, WebhookDelivery, WebhookEndpoint
from core.services import outbox, webhook_sending, webhooks
from core.services.webhooks import By
from membership.services.members import MemberInput, enroll_members
from storefront.services import intake, program_file
from tests.storefront.shop import definition, order

ORDERS, BATCH, SENDERS = 120, 10, 2
PATIENCE_SECONDS = 60.0


@dataclass
class Receiver:
    """A receiver process that can be killed and started again on its port."""

    port: int
    secret: str
    file: Path
    process: subprocess.Popen[str] | None = field(default=None)

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.journeys.webhook_receiver", str(self.port), self.secret, str(self.file)]
        self.process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        assert self.process is not None
        with self.process as process:
            process.kill()

    def received(self) -> list[str]:
        return self.file.read_text(encoding="utf-8").split() if self.file.exists() else []

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.received()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@contextmanager
def senders() -> Iterator[None]:
    """Run two senders as the schedule does, over and over, until the block ends."""
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.wait(0.05):
                webhook_sending.send_due(clock=timezone.now)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def make_program(folder: Path, at: datetime) -> Program:
    path = folder / "shop.yaml"
    path.write_text(json.dumps(definition("shop", {})))
    program = program_file.apply(program_file.load(path), at=at, actor="test")
    enroll_members(program=program, members=[MemberInput(external_id="m0", joined_at=at)], at=at)
    return program


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def make_endpoint(program: Program, port: int, at: datetime) -> WebhookEndpoint:
    return webhooks.create(program=program, url=f"http://127.0.0.1:{port}/hook", by=By("ops"), at=at)


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_is_killed_and_comes_back_has_every_event(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waits of the schedule are shortened; everything else is as it runs."""
    settings.WEBHOOKS_PRIVATE_HOSTS = True
    delays = tuple(delay / 50 for delay in webhook_sending.RETRY_DELAYS[:1] * 9)
    monkeypatch.setattr(webhook_sending, "RETRY_DELAYS", delays)
    monkeypatch.setattr(webhook_sending, "SENDERS", 4)
    begun = timezone.now()
    program = make_program(tmp_path, begun)
    endpoint = make_endpoint(program, free_port(), begun)
    receiver = Receiver(int(endpoint.url.split(":")[2].split("/")[0]), endpoint.secret, tmp_path / "received")
    receiver.start()
    try:
        with senders():
            for first in range(0, ORDERS, BATCH):
                at = timezone.now()
                orders = [order(f"o{n}", (1, 1_000), at=at) for n in range(first, first + BATCH)]
                intake.record(program=program, orders=orders, at=at)
                assert outbox.drain(at=timezone.now()).failed == 0
                if first in (ORDERS // 3, 2 * ORDERS // 3):
                    receiver.wait_for(len(receiver.received()) + 5)
                    receiver.kill()
                    wait_for_failures()
                    receiver.start()
            wait_until_delivered()
    finally:
        receiver.kill()
    received = Counter(receiver.received())
    told = {str(public_id) for public_id in Event.objects.values_list("public_id", flat=True)}
    assert len(told) >= 3 * ORDERS
    assert set(received) == told
    assert WebhookDelivery.objects.filter(delivered_at=None).count() == 0
    assert sum(received.values()) >= len(told)
    # Twice came only what the dying receiver had written down and not answered.
    assert sum(received.values()) <= len(told) + 2 * SENDERS * webhook_sending.PER_ENDPOINT


def wait_for_failures() -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not WebhookDelivery.objects.filter(log__status=None, log__isnull=False, delivered_at=None).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_delivered() -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while WebhookDelivery.objects.filter(delivered_at=None).exists():
        assert not WebhookDelivery.objects.exclude(given_up_at=None).exists()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.django_db(transaction=True)
def test_a_receiver_refuses_what_is_signed_with_another_secret(tmp_path: Path, settings: Any) -> None:
    """The control: what the receiver above accepts, it has verified."""
    settings.WEBHOOKS_PRIVATE_HOSTS = True
    begun = timezone.now()
    program = make_program(tmp_path, begun)
    endpoint = make_endpoint(program, free_port(), begun)
    receiver = Receiver(int(endpoint.url.split(":")[2].split("/")[0]), "whsec_b3RoZXI=", tmp_path / "received")
    receiver.start()
    try:
        webhooks.send_test(endpoint=endpoint, by=webhooks.By("test"), at=begun)
        webhook_sending.send_due(clock=timezone.now)
    finally:
        receiver.kill()
    assert receiver.received() == ["forged"]
    delivery = WebhookDelivery.objects.get()
    assert (delivery.delivered_at, delivery.log.get().status) == (None, 401)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_the_documented_javascript_verifies() -> None:
    snippet = re.search(r"```js\n(.+?)```", (PROJECT / "docs" / "events.md").read_text(), re.DOTALL)
    assert snippet is not None
    endpoint = WebhookEndpoint(secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = '{"a":"ä"}'
    headers = webhook_sending.make_headers(endpoint, message_id="m", body=body.encode(), at=timezone.now())
    others = headers | {"webhook-signature": f"v1,AAAA {headers['webhook-signature']}"}
    old = headers | {"webhook-timestamp": "1614265330"}
    calls = [(headers, body), (others, body), (headers, body + " "), (old, body)]
    checks = ", ".join(f"verify({json.dumps(endpoint.secret)}, {json.dumps(h)}, {json.dumps(b)})" for h, b in calls)
    script = f"{snippet[1]}\nconsole.log(JSON.stringify([{checks}]))"
    said = subprocess.run(["node", "-e", script], check=True, capture_output=True, text=True).stdout  # noqa: S607
    assert json.loads(said) == [True, True, False, False]
