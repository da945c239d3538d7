"""Every page of the admin, on facts that came in through the services: it opens, it is bounded, it changes nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from config.environment import PROJECT
from core.models import AuditEntry, OutboxEvent, Program
from core.services import outbox
from membership.fact_inputs import ActivityInput, MemberInput, OrderInput, OrderLineInput, RefundInput, RefundLineInput
from membership.models import Ladder, Member, Order, TierPeriod
from membership.services import members, tiers
from membership.services.evaluations import evaluate, list_due
from membership.services.facts import record_facts
from points.models import LedgerTransaction, TransactionKind, Wallet
from points.services import earning, operations
from storefront.services import program_file
from tests.referrals import worlds
from tests.storefront.admin_rows import NO_LISTS, add_operations

START = datetime(2025, 1, 10, 12, tzinfo=UTC)
NOW = datetime(2025, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
# Written by operators here; everything else is read-only.
EDITABLE = {"program", "user", "group"}
# Session, user and permissions, then a page's own; no page asks for more, however many rows it shows.
QUERIES_PER_PAGE = 40


def _order(name: str, at: datetime) -> OrderInput:
    lines = (
        OrderLineInput(external_id="1", units=3, amount_minor=30_000, sku="mug"),
        OrderLineInput(external_id="2", units=1, amount_minor=50, sku="card"),
    )
    return OrderInput(external_id=name, member="ann", paid_at=at, currency="GBP", amount_minor=30_050, lines=lines)


def _record(program: Program, **facts: Any) -> None:
    recorded = record_facts(program=program, **facts, at=NOW)
    tiers.follow_facts(program=program, recorded=recorded, at=NOW)
    earning.earn(
        program=program,
        order_ids=recorded.order_ids,
        activity_ids=recorded.activity_ids,
        returns=recorded.returns,
        at=NOW,
    )


def add_orders(program: Program, count: int, prefix: str) -> None:
    """Orders and a refund of a unit of each; each earns, some rise a tier."""
    for n in range(count):
        at = START + n * DAY
        back = RefundLineInput(external_id="1", order=f"{prefix}{n}", order_line="1", units=1, amount_minor=10_000)
        given_back = RefundInput(
            external_id=f"r{prefix}{n}",
            member="ann",
            refunded_at=at + DAY,
            currency="GBP",
            amount_minor=10_000,
            order=f"{prefix}{n}",
            lines=(back,),
        )
        _record(program, orders=[_order(f"{prefix}{n}", at)], refunds=[given_back])


@pytest.fixture
def program(db: None) -> Program:
    program = program_file.apply(program_file.load(PROJECT / "programs" / "aurora.yaml"), at=START, actor="test")
    members.enroll_members(program=program, members=[MemberInput(external_id="ann", joined_at=START)], at=START)
    add_orders(program, 3, "o")
    checked_in = ActivityInput(external_id="a1", member="ann", kind="check_in", occurred_at=START + 9 * DAY)
    _record(program, activities=[checked_in])
    ladder = Ladder.objects.filter(program=program).order_by("id")[0]
    for instant in list_due(ladder=ladder, until=START + 60 * DAY):
        evaluate(ladder=ladder, instant=instant, at=NOW)
    member_id, wallet_id = (
        Member.objects.get(external_id="ann").pk,
        Wallet.objects.filter(program=program).order_by("id")[0].pk,
    )
    account: Any = {"program": program, "member_id": member_id, "wallet_id": wallet_id, "at": NOW}
    operations.adjust(**account, points=70, reason="sorry for the delay", decided_by="test", idempotency_key="adjust-1")
    operations.redeem(**account, points=30, idempotency_key="redeem-1")
    add_operations(program, 0)
    (friend,) = worlds.enroll(program, "ben", at=NOW - DAY)
    worlds.bring(Member.objects.get(program=program, external_id="ann"), friend, at=NOW)
    outbox.drain(at=NOW)
    return program


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected


@pytest.fixture
def operator(client: Client, admin_user: User) -> Client:
    client.force_login(admin_user)
    return client


def _pages() -> Iterator[tuple[type[Model], str]]:
    for model in admin.site._registry.keys() - NO_LISTS:
        yield model, f"admin:{model._meta.app_label}_{model._meta.model_name}"


def test_every_list_search_and_detail_page_opens_with_few_queries(program: Program, operator: Client) -> None:
    for model, name in _pages():
        urls = [reverse(f"{name}_changelist")]
        urls += [f"{urls[0]}?q=ann", f"{urls[0]}?q=nobody%25_%27"]
        first = model._default_manager.order_by("pk").last()
        assert first is not None, f"the fixture has no {model.__name__}"
        urls.append(reverse(f"{name}_change", args=[first.pk]))
        for url in urls:
            with CaptureQueriesContext(connection) as captured:
                assert operator.get(url).status_code == 200, url
            assert len(captured) <= QUERIES_PER_PAGE, url


def test_a_page_of_a_member_asks_the_same_number_of_queries_for_more_rows(program: Program, operator: Client) -> None:
    pages = [
        reverse("admin:membership_member_change", args=[Member.objects.get(external_id="ann").pk]),
        *(reverse(f"{name}_changelist") for model, name in _pages()),
    ]

    def count() -> dict[str, int]:
        counts = {}
        for url in pages:
            with CaptureQueriesContext(connection) as captured:
                operator.get(url)
            counts[url] = len(captured)
        return counts

    count()  # content types are read once
    few = count()
    add_orders(program, 12, "more")
    outbox.drain(at=NOW)
    more = count()
    # A page of a time line with fewer kinds of rows on it asks for fewer.
    assert {url: asked for url, asked in more.items() if asked > few[url]} == {}


def test_facts_and_ledger_are_neither_added_changed_nor_deleted(program: Program, operator: Client) -> None:
    for model, name in _pages():
        if model._meta.model_name in EDITABLE:
            continue
        row = model._default_manager.order_by("pk").last()
        assert row is not None
        change = reverse(f"{name}_change", args=[row.pk])
        for url in (reverse(f"{name}_add"), reverse(f"{name}_delete", args=[row.pk]), change):
            assert operator.post(url, {}).status_code == 403, url
        selected = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        operator.post(reverse(f"{name}_changelist"), selected)
        assert model._default_manager.filter(pk=row.pk).exists()


def test_a_program_is_neither_added_nor_deleted(program: Program, operator: Client) -> None:
    assert operator.post(reverse("admin:core_program_add"), {}).status_code == 403
    assert operator.post(reverse("admin:core_program_delete", args=[program.pk]), {}).status_code == 403


@pytest.mark.parametrize("is_known", [False, True])
def test_only_operators_get_in(program: Program, client: Client, is_known: bool) -> None:
    if is_known:
        client.force_login(User.objects.create_user("shopper"))
    urls = [reverse("admin:index"), *(reverse(f"{name}_changelist") for _, name in _pages())]
    for url in [*urls, reverse("admin:membership_member_change", args=[Member.objects.get(external_id="ann").pk])]:
        response = client.get(url)
        assert response.status_code == 302, url
        assert response["Location"].startswith(reverse("admin:login"))


def test_a_program_edit_is_audited(program: Program, operator: Client) -> None:
    url = reverse("admin:core_program_change", args=[program.pk])
    form: dict[str, Any] = {"name": "Aurora Borealis", "currency": "USD"}  # the currency is read-only: ignored
    for inline in operator.get(url).context["inline_admin_formsets"]:
        for part in (inline.formset.management_form, *inline.formset.forms):
            form |= {bound.html_name: bound.value() for bound in part if bound.value() is not None}
    form = {name: ",".join(value) if isinstance(value, list) else value for name, value in form.items()}
    entries = AuditEntry.objects.filter(action="program.edited")
    response = operator.post(url, form)
    assert response.status_code == 302, response.context["errors"]
    changed = Program.objects.get(pk=program.pk)
    assert (changed.name, changed.currency) == ("Aurora Borealis", "GBP")
    entry: Any = entries.get()
    assert (entry.before["name"], entry.after["name"]) == (program.name, "Aurora Borealis")
    assert (entry.actor, entry.user, entry.target) == ("admin", User.objects.get(username="admin"), "program:aurora")
    assert entry.before["markets"] == entry.after["markets"]
    operator.post(url, form)
    assert entries.count() == 1


def test_a_member_page_explains_tier_and_points(program: Program, operator: Client) -> None:
    page = operator.get(
        reverse("admin:membership_member_change", args=[Member.objects.get(external_id="ann").pk])
    ).content.decode()
    period = TierPeriod.objects.filter(cause="upgraded").first()
    assert period is not None
    for text in (
        "sorry for the delay",
        "Adjust (",
        "Burn (",
        "GBP 300.50",
        "order o0",
        "Upgraded",
    ):
        assert text in page, text
    assert "net spend in the last 365 days" in page


def test_a_transaction_page_shows_entries_accruals_and_reasons(program: Program, operator: Client) -> None:
    earned = LedgerTransaction.objects.filter(kind=TransactionKind.EARN).order_by("pk")[0]
    page = operator.get(reverse("admin:points_ledgertransaction_change", args=[earned.pk])).content.decode()
    order = Order.objects.get(external_id="o0")
    assert reverse("admin:membership_order_change", args=[order.pk]) in page
    for text in ("order o0 line 1", "order o0 line 2", "below one point", "GBP 0.50", bytes(earned.hash).hex()[:8]):
        assert text in page, text


def test_search_finds_by_prefix_and_takes_wildcards_for_letters(program: Program, operator: Client) -> None:
    def found(page: str, term: str) -> list[str]:
        response = operator.get(reverse(f"admin:{page}_changelist"), {"q": term})
        return sorted(str(row) for row in response.context["cl"].result_list)

    assert found("membership_member", "an") == ["ann"]
    assert found("membership_member", "a%") == []
    assert found("membership_order", "o1") == ["o1"]
    assert found("membership_order", "ann") == ["o0", "o1", "o2"]
    assert found("membership_refund", "ro2") == ["ro2"]
    assert len(found("points_ledgertransaction", "ann")) == LedgerTransaction.objects.count()


def test_lists_are_not_counted(program: Program, operator: Client) -> None:
    for model in (Member, Order, LedgerTransaction, OutboxEvent):
        with CaptureQueriesContext(connection) as captured:
            operator.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
        assert not [query for query in captured if "COUNT(" in query["sql"]], model
