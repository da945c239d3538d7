"""Each ledger row and each move of a tier is announced once: sent twice, at once, or by a worker that dies."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import Event, EventFeed, OutboxEvent
from core.services import outbox
from points.models import LedgerTransaction
from storefront import subscribers
from storefront.models import AnnouncedTier
from storefront.services import posting_news, tier_news
from storefront.services.posting_news import announce_postings
from tests.core.receivers import url_of_this_database
from tests.membership.two_connections import overlap
from tests.storefront.announced import NOW, announced, deliver, forget, make_shop, tell
from tests.storefront.shop import order

pytestmark = pytest.mark.django_db(transaction=True)


def earn(folder: Path) -> int:
    """Make a shop in which one order has earned points, which are not announced yet; return the program's id."""
    program = make_shop(folder)
    forget()
    tell(program, orders=[order("o1", (1, 15_000), at=NOW)])
    return program.pk


def announce_all(program_id: int) -> Callable[[], None]:
    ids = list(LedgerTransaction.objects.values_list("id", flat=True))
    return lambda: announce_postings(program_id=program_id, transaction_ids=ids, at=NOW)


def test_news_that_comes_twice_is_announced_once(tmp_path: Path) -> None:
    earn(tmp_path)
    for event in OutboxEvent.objects.filter(topic__in=("points.posted", "membership.tiers_moved")):
        outbox.publish(program_id=event.program_id, topic=event.topic, payload=event.payload, at=NOW)
    assert deliver().failed == 0
    assert [data["wallet"] for _, data in announced("points.earned")] == ["points", "gems"]
    assert len(announced("tier.upgraded")) == 1


def test_two_handlers_of_one_account_announce_each_row_once(tmp_path: Path) -> None:
    program_id = earn(tmp_path)
    assert overlap(announce_all(program_id), announce_all(program_id))
    assert [data["wallet"] for _, data in announced("points.earned")] == ["points", "gems"]


def test_control_without_the_feeds_lock_a_row_is_announced_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: read what is told before the lock, and both find the same rows untold."""
    program_id = earn(tmp_path)
    monkeypatch.setattr(posting_news, "lock_feed", lambda _program_id: None)
    assert overlap(announce_all(program_id), announce_all(program_id))
    assert [data["wallet"] for _, data in announced("points.earned")] == ["points", "gems"] * 2


def test_two_handlers_of_one_member_announce_a_tier_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program_id = earn(tmp_path)
    payload = OutboxEvent.objects.get(topic="membership.tiers_moved").payload

    def announce() -> None:
        subscribers.announce_tiers(program_id=program_id, payload=payload, at=NOW)

    assert overlap(announce, announce)
    assert len(announced("tier.upgraded")) == 1
    monkeypatch.setattr(tier_news, "lock_feed", lambda _program_id: None)
    AnnouncedTier.objects.all().delete()
    assert overlap(announce, announce)
    assert len(announced("tier.upgraded")) == 3, "the control: without the lock both announce it"


@pytest.mark.parametrize("topic", ["membership.facts_recorded", "membership.tiers_moved", "points.posted"])
def test_a_worker_killed_while_it_announces_leaves_nothing_and_the_next_one_tells(tmp_path: Path, topic: str) -> None:
    earn(tmp_path)
    outbox.dispatch(at=NOW)
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.storefront.announcing_worker", topic, NOW.isoformat()],
        env=os.environ | {"DATABASE_URL": url_of_this_database()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "announced\n"
        worker.kill()
    # Waits until the server has noticed the death and let the locks go.
    assert deliver().failed == 0
    kinds = [kind for kind, _ in announced()]
    assert sorted(kinds) == ["order.paid", "points.earned", "points.earned", "tier.upgraded"]
    numbers = list(Event.objects.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    assert EventFeed.objects.get().last_number == numbers[-1]


def test_handlers_wait_for_the_feed_before_they_read(tmp_path: Path) -> None:
    """What is told while a handler waits is not told again."""
    program_id = earn(tmp_path)
    moved = OutboxEvent.objects.get(topic="membership.tiers_moved").payload
    posted = {"transactions": list(LedgerTransaction.objects.values_list("id", flat=True))}
    for announce, payload in ((subscribers.announce_tiers, moved), (subscribers.announce_postings, posted)):
        tell_it = partial(announce, program_id=program_id, payload=payload, at=NOW)
        with CaptureQueriesContext(connection) as queries:
            tell_it()
        reads = [q["sql"] for q in queries if not q["sql"].startswith(("BEGIN", "SAVEPOINT"))]
        assert '"core_eventfeed"' in reads[0]
        assert reads[0].endswith("FOR NO KEY UPDATE")
