"""The demo looks as if it had been lived until yesterday, and hands out a key."""

import stat
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import Max

from core.models import ApiKey, Program, Scope
from core.services import api_keys
from membership.models import Order, Refund
from storefront.management.commands import demo
from storefront.models import DayClose
from storefront.replay import staging
from storefront.services import day_close
from tests.storefront.closing import open_shop

SAMPLE = demo.PROJECT / "samples" / "online_retail"


def _instants() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT order_id, ordered_at FROM replay_orders ORDER BY 1")
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def test_staging_moves_all_events_by_whole_days(db: None) -> None:
    staged = staging.stage(SAMPLE, currency="GBP", progress=lambda *_: None)
    plain = _instants()
    staging.drop()
    moved_to = date(2026, 2, 28)
    staged = staging.stage(SAMPLE, currency="GBP", progress=lambda *_: None, ends_on=moved_to)
    moved = _instants()
    staging.drop()
    assert staged.rejected == []
    # The sample's last event is of 9 December 2011.
    shift = moved_to - date(2011, 12, 9)
    assert moved == [(name, at + shift) for name, at in plain]


def test_the_dates_follow_the_first_loading(db: None) -> None:
    now = datetime(2026, 6, 3, 9, tzinfo=UTC)
    assert demo._last_day("aurora", now) == date(2026, 6, 2)
    program = Program.objects.create(code="aurora", name="Aurora", currency="GBP", time_zone="Europe/London")
    assert demo._last_day("aurora", now) == date(2026, 6, 2)
    Program.objects.filter(pk=program.pk).update(opened_at=now - timedelta(days=30))
    assert demo._last_day("aurora", now) == date(2026, 5, 3)


def test_a_key_that_works_stays_and_another_is_replaced(db: None, tmp_path: Path) -> None:
    program, at, file = open_shop(tmp_path), datetime(2026, 6, 3, 9, tzinfo=UTC), tmp_path / demo.KEY_FILE
    demo._make_key(program, file, at)
    text = file.read_text()
    found = api_keys.find(text.strip())
    assert found is not None
    assert (found.program.pk, found.scopes) == (program.pk, frozenset(Scope.values))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    demo._make_key(program, file, at)
    assert file.read_text() == text
    api_keys.revoke(key=ApiKey.objects.get(), actor="test", at=at)
    demo._make_key(program, file, at)
    assert file.read_text() != text
    assert api_keys.find(file.read_text().strip()) is not None


@pytest.mark.deep
@pytest.mark.django_db(transaction=True)
def test_the_demo_is_closed_through_yesterday_and_loading_it_again_changes_nothing(
    tmp_path: Path, settings: Any
) -> None:
    settings.DATA_DIR = tmp_path
    call_command("demo")
    program = Program.objects.get()
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert program.is_sandbox
    last = Order.objects.aggregate(last=Max("paid_at"))["last"]
    assert last.date() == yesterday
    assert DayClose.objects.get().day == yesterday
    assert day_close.list_due_days(program=program, at=datetime.now(UTC)) == []
    counts = (Order.objects.count(), Refund.objects.count(), ApiKey.objects.count())
    call_command("demo")
    assert (Order.objects.count(), Refund.objects.count(), ApiKey.objects.count()) == counts
