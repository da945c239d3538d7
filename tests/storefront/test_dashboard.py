"""The dashboard: its figures are those of the facts and the ledger, it stays bounded, and shows what one may see."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from analytics import figures
from analytics.models import WalletDay
from analytics.services import wallet_days
from core.calendar import local_date, period_start
from core.models import OutboxReceipt, Program, WebhookEndpoint
from core.services import outbox
from membership.models import Ladder
from points.selectors import get_balance, get_totals
from points.services import operations
from points.services.expiry import settle_due
from storefront.admin import dashboard
from storefront.health import read_health
from storefront.models import DayClose
from tests.storefront.operators import DAY, NOW, START, add_orders, log_in, make_operator, make_shop, member, wallet

pytestmark = pytest.mark.django_db
INDEX = "admin:index"


@pytest.fixture(autouse=True)
def _nothing_cached() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def shop(tmp_path: Path) -> Program:
    return make_shop(tmp_path)


@pytest.fixture
def operator(client: Client, admin_user: User) -> Client:
    client.force_login(admin_user)
    return client


def _text(client: Client, **query: str) -> str:
    response = client.get(reverse(INDEX), query)
    assert response.status_code == 200
    return response.content.decode()


def test_a_fresh_installation_is_told_what_to_do_first(operator: Client) -> None:
    page = _text(operator)
    assert "There is no program yet" in page
    assert "manage.py program apply programs/retail_gbp.yaml" in page
    assert reverse("api-docs") in page


def test_a_program_without_members_says_how_the_first_one_comes(shop: Program, operator: Client) -> None:
    Program.objects.create(code="empty", name="Empty", currency="GBP", time_zone="UTC")
    assert "Nobody is enrolled yet" in _text(operator, program="empty")
    assert "Nobody is enrolled yet" not in _text(operator, program="shop")


def test_members_count_as_active_by_what_they_did_on_the_last_local_days(shop: Program) -> None:
    """m0 bought and wrote lately, m1 bought 35 days ago, m2 did nothing."""
    assert figures.count_active_members(program=shop, at=NOW) == figures.ActiveMembers(1, 2)
    assert figures.count_active_members(program=shop, at=NOW + 60 * DAY) == figures.ActiveMembers(0, 1)
    # Day 30 is in, day 31 is not.
    assert figures.count_active_members(program=shop, at=NOW + 19 * DAY).last_30_days == 1
    assert figures.count_active_members(program=shop, at=NOW + 20 * DAY).last_30_days == 0


def test_tiers_are_counted_as_they_are_held_at_the_instant(shop: Program) -> None:
    ladder = Ladder.objects.get(program=shop)
    counts = {count.code: count.members for count in figures.count_tiers(ladder=ladder, at=NOW)}
    assert counts == {"basic": 2, "silver": 1, "gold": 0}
    before = {count.code: count.members for count in figures.count_tiers(ladder=ladder, at=START)}
    assert before == {"basic": 3, "silver": 0, "gold": 0}


def test_outstanding_points_are_those_of_the_balances_less_what_is_due(shop: Program) -> None:
    for at in (NOW, NOW + 40 * DAY, NOW + 100 * DAY):
        expected = [
            get_balance(member_id=member(shop, name).pk, wallet_id=wallet(shop).pk, at=at).available
            for name in ("m0", "m1", "m2")
        ]
        assert figures.list_outstanding(program=shop, at=at)[0].available == sum(expected), at


def _settled(shop: Program) -> None:
    operations.adjust(
        program=shop, member_id=member(shop).pk, wallet_id=wallet(shop).pk, points=7, reason="sorry",
        decided_by="ann", idempotency_key="adjust", at=NOW,
    )  # fmt: skip
    settle_due(program=shop, through=NOW + 45 * DAY, at=NOW + 45 * DAY)


def test_the_months_of_a_wallet_add_up_to_its_ledger(shop: Program) -> None:
    _settled(shop)
    at = NOW + 50 * DAY
    wallet_days.refresh(program=shop, at=at)
    for one in figures.list_wallet_months(program=shop, at=at):
        totals = get_totals(wallet=one.wallet, before=at)
        for name in ("earned", "redeemed", "expired", "clawed_back"):
            assert sum(getattr(month, name) for month in one.months) == getattr(totals, name), name
        assert sum(month.adjusted for month in one.months) == -totals.adjusted
    points = figures.list_wallet_months(program=shop, at=at)[0]
    assert min(sum(getattr(m, name) for m in points.months) for name in ("earned", "redeemed", "expired")) > 0
    assert [month.month for month in points.months][-1] == period_start(local_date(at, shop.time_zone), "month")
    assert len(points.months) == 12


def test_a_refresh_finds_what_was_posted_since_whatever_it_is_dated(shop: Program) -> None:
    assert wallet_days.refresh(program=shop, at=NOW) > 0
    stored = WalletDay.objects.count()
    add_orders(shop, 2, "again")
    assert wallet_days.refresh(program=shop, at=NOW + DAY / 2) > 0
    total = sum(row.earned for row in WalletDay.objects.filter(wallet=wallet(shop)))
    assert total == get_totals(wallet=wallet(shop), before=NOW).earned
    before = list(WalletDay.objects.order_by("pk").values("wallet", "day", "earned"))
    wallet_days.refresh(program=shop, at=NOW + DAY)
    assert list(WalletDay.objects.order_by("pk").values("wallet", "day", "earned")) == before
    assert WalletDay.objects.count() >= stored


def test_a_stored_sum_that_is_wrong_is_put_right(shop: Program) -> None:
    wallet_days.refresh(program=shop, at=NOW)
    day = WalletDay.objects.filter(earned__gt=0).order_by("-day")[0]
    WalletDay.objects.filter(pk=day.pk).update(earned=1_000_000)
    add_orders(shop, 30, "again")
    wallet_days.refresh(program=shop, at=NOW)
    assert WalletDay.objects.get(pk=day.pk).earned < 1_000_000


def test_the_page_shows_figures_chart_and_table(shop: Program, operator: Client) -> None:
    wallet_days.refresh(program=shop, at=NOW)
    page = _text(operator)
    for text in ("Active members", "Tiers now: Tiers", "Points outstanding", "Points by month", "Clawed back", "Jobs"):
        assert text in page, text
    month = period_start(local_date(NOW, shop.time_zone), "month")
    assert f"{month:%Y-%m}" in page
    assert 'class="pn-bar-earned" style="height:' in page


def test_the_number_of_queries_does_not_grow_with_members_and_programs(
    shop: Program, operator: Client, tmp_path: Path
) -> None:
    def count() -> int:
        cache.clear()
        with CaptureQueriesContext(connection) as captured:
            _text(operator, program="shop")
        return len(captured)

    count()
    few = count()
    add_orders(shop, 40, "more")
    outbox.drain(at=NOW)
    wallet_days.refresh(program=shop, at=NOW)
    assert count() == few
    make_shop(tmp_path, "second")
    assert count() <= few + 3  # what the clock has to do is asked of every program
    assert few <= 40


def test_figures_are_counted_once_a_minute(shop: Program, operator: Client) -> None:
    _text(operator)
    with CaptureQueriesContext(connection) as captured:
        _text(operator)
    assert not [query for query in captured if "membership_memberday" in query["sql"]]


def test_the_program_is_chosen_by_its_code(shop: Program, operator: Client, tmp_path: Path) -> None:
    make_shop(tmp_path, "outlet")
    chosen = operator.get(reverse(INDEX), {"program": "shop"}).context["program"]
    assert chosen.code == "shop"
    assert operator.get(reverse(INDEX), {"program": "no such"}).context["program"].code == "outlet"


@pytest.mark.parametrize(
    ("permission", "seen", "hidden"),
    [
        ("membership.view_member", "Active members", ("Points outstanding", "Jobs")),
        ("points.view_ledgertransaction", "Points outstanding", ("Active members", "Jobs")),
        ("storefront.view_dayclose", "Jobs", ("Active members", "Points outstanding")),
        ("core.view_program", "no permission to see figures", ("Active members", "Points outstanding", "Jobs")),
    ],
)
def test_an_operator_sees_what_their_permissions_allow(
    shop: Program, permission: str, seen: str, hidden: tuple[str, ...]
) -> None:
    page = _text(log_in(make_operator("someone", permission)))
    assert seen in page
    assert [text for text in hidden if f">{text}<" in page] == []


def test_health_tells_late_closes_failing_receipts_and_failing_webhooks(shop: Program) -> None:
    at = NOW + 30 * DAY
    yesterday = local_date(NOW, shop.time_zone) - DAY
    close: Any = {"program": shop, "through": NOW, "requested_by": "clock", "started_at": NOW, "leased_until": NOW}
    DayClose.objects.create(**close, day=yesterday, finished_at=NOW)
    assert read_health(program=shop, at=NOW).close.due == []
    healthy = read_health(program=shop, at=at)
    assert (len(healthy.close.due), healthy.close.failing) == (30, None)
    assert healthy.close.late in (29, 30)
    DayClose.objects.create(**close, day=yesterday + DAY, last_error="OperationalError: gone")
    OutboxReceipt.objects.filter(pk=OutboxReceipt.objects.order_by("pk")[0].pk).update(done_at=None, attempts=3)
    hook = {"program": shop, "secret": "whsec_x", "created_at": NOW}
    WebhookEndpoint.objects.create(url="https://shop.example/ok", **hook)
    WebhookEndpoint.objects.create(url="https://shop.example/off", disabled_at=NOW, disabled_reason="410", **hook)
    ill = read_health(program=shop, at=at)
    assert ill.close.failing is not None
    assert (ill.failing_receipts, ill.endpoints, len(ill.failing_endpoints)) == (1, 2, 1)


def test_bars_are_shares_of_the_highest_and_never_below_zero() -> None:
    months = [figures.WalletMonth(NOW.date(), 200, -5, 50, 0, 0), figures.WalletMonth(NOW.date(), 0, 0, 0, 0, 0)]
    chart = dashboard._chart(figures.WalletMonths(None, months))  # type: ignore[arg-type]
    assert [bar.height for bar in chart.groups[0][1]] == [100, 0, 25, 0]
    assert not chart.is_empty
    assert dashboard._chart(figures.WalletMonths(None, months[1:])).is_empty  # type: ignore[arg-type]
