"""A member's page: what it shows is what the facts, the ledger and the tiers say, in a bounded number of queries."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from core.models import Program
from membership.models import Activity, Ladder, Order, OrderEdit, Refund, Tier, TierOverride, TierPeriod
from membership.services import members, overrides
from points.models import LedgerTransaction
from points.selectors import get_balance
from points.services import operations
from storefront.admin.timeline import show_timeline
from storefront.selectors import Happening, TimelineEntry, list_timeline
from storefront.services import intake
from tests.storefront.operators import DAY, NOW, add_orders, log_in, make_operator, make_shop, member, wallet
from tests.storefront.shop import order, review

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(tmp_path: Path) -> Program:
    return make_shop(tmp_path)


@pytest.fixture
def operator(client: Client, admin_user: User) -> Client:
    client.force_login(admin_user)
    return client


def _page(client: Client, program: Program, name: str = "m0", **query: str) -> Any:
    response = client.get(reverse("admin:membership_member_change", args=[member(program, name).pk]), query)
    assert response.status_code == 200
    return response


def decide(program: Program) -> None:
    """Let operators adjust, override, lift, suspend and reactivate."""
    one, ladder = member(program), Ladder.objects.get(program=program)
    operations.adjust(
        program=program, member_id=one.pk, wallet_id=wallet(program).pk, points=70, reason="sorry for the delay",
        decided_by="ann", idempotency_key="a1", at=NOW - 4 * DAY,
    )  # fmt: skip
    said: Any = {"member": one, "ladder": ladder, "decided_by": "ann"}
    gold = Tier.objects.get(ladder=ladder, code="gold")
    overrides.override_tier(
        **said, tier=gold, valid_until=NOW + 90 * DAY, reason="a complaint settled", at=NOW - 3 * DAY
    )
    overrides.lift_override(**said, reason="by mistake", at=NOW - 2 * DAY)
    for status in ("suspended", "active"):
        members.update_member(member=one, changes={"status": status}, actor="ann", reason=f"now {status}", at=NOW - DAY)


def test_the_page_shows_standing_balances_lots_orders_and_history(shop: Program, operator: Client) -> None:
    decide(shop)
    page = _page(operator, shop).content.decode()
    balance = get_balance(member_id=member(shop).pk, wallet_id=wallet(shop).pk, at=NOW)
    for text in (
        "m0", "GB", "Active", "silver", " to gold", f"{balance.available:,}",
        "GBP 40.50", "sorry for the delay", "a complaint settled", "by mistake", "now suspended", "kind words",
        "Burn (Points): -30",
    ):  # fmt: skip
        assert text in page, text
    for row in (Order.objects.get(external_id="o1"), Refund.objects.get(external_id="r1")):
        assert reverse(f"admin:membership_{row._meta.model_name}_change", args=[row.pk]) in page
    earned = LedgerTransaction.objects.filter(member=member(shop)).order_by("pk")[0]
    assert reverse("admin:points_ledgertransaction_change", args=[earned.pk]) in page


def test_the_ladder_says_what_is_missing_to_the_next_tier(shop: Program, operator: Client) -> None:
    (standing,) = _page(operator, shop).context["standings"]
    # 3 orders of 40.50 and a refund of 15.00: 106.50 of 300.00.
    assert (standing.tier_name, standing.next_name) == ("silver", "gold")
    assert standing.next_missing.startswith("GBP 193.50 by ")
    assert standing.path.tier == "silver"
    assert "silver" in standing.why[0]
    assert "GBP 193.50" in " ".join(standing.why_not_next)


def test_a_refund_stands_with_its_order_whether_it_names_the_order_or_its_lines(
    shop: Program, operator: Client
) -> None:
    by_order = {section.order.external_id: section for section in _page(operator, shop).context["orders"]}
    assert [(refund.external_id, amount) for refund, amount in by_order["o1"].refunds] == [("r1", "GBP 15.00")]
    assert by_order["o2"].refunds == []
    assert [amount for _, amount in by_order["o1"].lines] == ["GBP 30.00", "GBP 10.50"]


def test_open_lots_have_what_is_left_and_their_times(shop: Program, operator: Client) -> None:
    points = _page(operator, shop).context["wallets"][0]
    assert sum(lot.remaining for lot in points.lots) == points.balance.available
    assert points.lot_count == len(points.lots)
    assert all(lot.available_at < NOW < lot.expires_at for lot in points.lots)


def test_a_member_without_anything_has_a_page(shop: Program, operator: Client) -> None:
    page = _page(operator, shop, "m2").content.decode()
    for text in ("No orders yet", "No activities yet", "No open lots", "Basic"):
        assert text in page, text


def test_names_from_outside_are_escaped(shop: Program, operator: Client) -> None:
    intake.record(
        program=shop, orders=[order("<b>o</b>", (1, 100), at=NOW - DAY)], refunds=[],
        activities=[review("<script>alert(1)</script>", at=NOW - DAY)], at=NOW,
    )  # fmt: skip
    page = _page(operator, shop).content.decode()
    assert "<script>alert(1)" not in page
    assert "<b>o</b>" not in page
    assert "&lt;b&gt;o&lt;/b&gt;" in page


def test_the_page_asks_the_same_number_of_queries_for_a_member_of_many_orders(shop: Program, operator: Client) -> None:
    decide(shop)

    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            _page(operator, shop)
        return len(captured)

    count()  # content types are read once
    few = count()
    add_orders(shop, 120, "many")
    assert count() <= few  # a page of orders alone reads fewer kinds of rows
    assert few <= 50


def test_orders_beyond_the_page_are_a_link_away(shop: Program, operator: Client) -> None:
    add_orders(shop, 60, "many")
    response = _page(operator, shop)
    assert len(response.context["orders"]) == 50
    listed = operator.get(reverse("admin:membership_order_changelist"), {"member__id__exact": member(shop).pk})
    assert listed.status_code == 200
    assert {order.member_id for order in listed.context["cl"].result_list} == {member(shop).pk}


def test_the_time_line_has_everything_once_in_order_over_all_pages(shop: Program) -> None:
    decide(shop)
    add_orders(shop, 60, "many")
    one = member(shop)
    found: list[TimelineEntry] = []
    before: TimelineEntry | None = None
    while True:
        page = list_timeline(member=one, before=before, limit=7)
        found += page.entries
        if page.next_cursor is None:
            break
        assert len(page.entries) == 7
        before = TimelineEntry.parse(page.next_cursor)
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)
    counts = {kind: len([entry for entry in found if entry.kind is kind]) for kind in Happening}
    assert counts == {
        Happening.ORDER: Order.objects.filter(member=one).count(),
        Happening.EDIT: OrderEdit.objects.filter(member=one).count(),
        Happening.REFUND: 1,
        Happening.ACTIVITY: Activity.objects.filter(member=one).count(),
        Happening.NOTE: 3,
        Happening.OVERRIDE: 1,
        Happening.TIER: TierPeriod.objects.filter(member=one, superseded_at=None).count(),
        Happening.POSTING: LedgerTransaction.objects.filter(member=one).count(),
    }
    assert list_timeline(member=one).entries == found[:50]
    assert len(show_timeline(found, one)) == len(found)


def test_entries_of_one_instant_are_paged_without_gap(shop: Program) -> None:
    """Many orders in the same microsecond, each with its posting."""
    at = NOW - timedelta(hours=1)
    intake.record(
        program=shop, orders=[order(f"x{n}", (1, 100), at=at) for n in range(9)], refunds=[], activities=[], at=NOW
    )
    one, found, before = member(shop), [], None
    while True:
        page = list_timeline(member=one, before=before, limit=2)
        found += page.entries
        if page.next_cursor is None:
            break
        before = TimelineEntry.parse(page.next_cursor)
    whole = list_timeline(member=one, limit=1_000).entries
    assert found == whole
    assert len([entry for entry in whole if entry.at == at]) >= 18


def test_another_members_happenings_are_not_on_the_line(shop: Program) -> None:
    lines = {name: list_timeline(member=member(shop, name)).entries for name in ("m0", "m1", "m2")}
    assert Order.objects.get(external_id="late").pk in {e.row_id for e in lines["m1"] if e.kind is Happening.ORDER}
    assert [entry.kind for entry in lines["m2"]] == [Happening.TIER]
    kinds = [(entry.kind, entry.row_id) for line in lines.values() for entry in line]
    assert len(set(kinds)) == len(kinds)


def test_the_time_line_is_one_statement_whatever_its_length(shop: Program) -> None:
    add_orders(shop, 80, "many")
    one = member(shop)
    with CaptureQueriesContext(connection) as captured:
        list_timeline(member=one)
    assert len(captured) == 1


def test_earlier_entries_are_a_page_away(shop: Program, operator: Client) -> None:
    add_orders(shop, 60, "many")
    first = _page(operator, shop)
    cursor = first.context["next_cursor"]
    assert cursor
    second = _page(operator, shop, before=cursor)
    assert second.context["timeline"][0].at <= first.context["timeline"][-1].at
    assert "Back to the newest" in second.content.decode()


@pytest.mark.parametrize("cursor", ["", "nonsense", "2026-01-01_1_2", "2026-01-01T00:00:00+00:00_99_1", "a_b_c"])
def test_a_cursor_that_names_nothing_shows_the_newest(shop: Program, operator: Client, cursor: str) -> None:
    response = _page(operator, shop, before=cursor)
    assert response.context["is_first_page"]


def test_the_page_needs_the_permission_to_view_members(shop: Program) -> None:
    url = reverse("admin:membership_member_change", args=[member(shop).pk])
    assert log_in(make_operator("finance", "points.view_ledgertransaction")).get(url).status_code == 403
    assert log_in(make_operator("support", "membership.view_member")).get(url).status_code == 200


def test_the_page_writes_nothing_by_post(shop: Program, operator: Client) -> None:
    url = reverse("admin:membership_member_change", args=[member(shop).pk])
    assert operator.post(url, {"status": "suspended"}).status_code == 403
    assert member(shop).status == "active"
    assert not TierOverride.objects.exists()


def test_an_unknown_member_has_no_page(shop: Program, operator: Client) -> None:
    url = reverse("admin:membership_member_change", args=[0])
    assert operator.get(url).status_code in (302, 404)


def test_a_transaction_page_explains_itself(shop: Program, operator: Client) -> None:
    earned = LedgerTransaction.objects.filter(member=member(shop)).order_by("pk")[0]
    response = operator.get(reverse("admin:points_ledgertransaction_change", args=[earned.pk]))
    assert "Explanation" in response.content.decode()
    assert "order o0" in response.content.decode()
