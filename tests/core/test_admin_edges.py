"""The edges of the admin: refused, missing and broken pages, odd addresses, histories, searches, markets in use."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from analytics.services import wallet_days
from config.environment import PROJECT
from core.admin.filters import DayRangeFilter
from core.models import AuditEntry, Market, Program
from core.patterns import has_words, say_pattern
from core.services import audit
from coupons.models import CouponDefinition
from membership.models import Member, Order
from points.models import LedgerTransaction
from points.services import operations
from storefront.models import Checkout
from storefront.services import intake
from tests.coupons.giving import publish
from tests.storefront.operators import NOW, log_in, make_operator, make_shop, member, wallet
from tests.storefront.shop import DAY, order


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected
    cache.clear()


@pytest.fixture
def shop(db: None, tmp_path: Path) -> Program:
    return make_shop(tmp_path)


@pytest.fixture
def boss(db: None) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("boss", password="x"))
    return client


def test_what_is_refused_or_missing_is_said_in_the_frame(shop: Program, boss: Client) -> None:
    guest = log_in(make_operator("guest"))
    refused = guest.get(reverse("admin:core_program_changelist"))
    missing = boss.get("/admin/no/such/page/")
    for page, status, text in ((refused, 403, "Your group may not do this"), (missing, 404, "nothing at this address")):
        content = page.content.decode()
        assert page.status_code == status
        assert text in content
        assert 'id="content-main"' in content
        assert reverse("admin:index") in content


def test_a_broken_page_is_said_in_the_frame_with_its_request(
    shop: Program, boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_args: Any, **_kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(type(admin.site._registry[Program]), "get_queryset", break_down)
    page = boss.get(reverse("admin:core_program_changelist"), headers={"X-Request-ID": "r-17"})
    content = page.content.decode()
    assert page.status_code == 500
    assert "Something went wrong" in content
    assert "r-17" in content
    assert 'id="content-main"' in content


def test_a_form_without_its_token_is_refused_in_the_frame(shop: Program) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("strict", password="x"))
    page = strict.post(reverse("admin:auth_group_add"), {"name": "x"})
    assert page.status_code == 403
    assert "the form has waited too long" in page.content.decode()


ODD = (
    *(
        "?q=%00",
        "?q=anything",
        "?q=%25_%5C%27",
        "?q=7",
        "?p=word",
        "?p=99999",
        "?p=-1",
        "?o=99",
        "?e=1",
        "?all=",
        "?no=1",
    ),
    *("?program__id__exact=word", "?kind__exact=word", "?wallet__id__exact=99999999999999999999"),
)
ODD_MONTHS = ("?since=0001-01&until=9999-12", "?until=0001-01", "?since=9999-12")
ODD_VALUES = ("word", "99999999999999999999")
ODD_DAYS = ("9999-12-31", "0001-01-01")


def _odd_filters(page: Any) -> list[str]:
    """Return what the filters of a list cannot mean."""
    odd = []
    for told in page.list_filter:
        field, kind = told if isinstance(told, tuple) else (told, told)
        name = getattr(kind, "parameter_name", None) or str(field)
        if isinstance(kind, type) and issubclass(kind, DayRangeFilter):
            odd += [f"?{name}_{end}={day}" for end in ("from", "to") for day in ODD_DAYS]
        else:
            ends = ("", "__exact", "__id__exact", "__isempty")
            odd += [f"?{name}{end}={value}" for end in ends for value in ODD_VALUES]
    return odd


def test_no_address_is_an_error_of_ours(shop: Program, boss: Client) -> None:
    wrong = []
    for model, page in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        lists = [reverse(f"admin:{name}_changelist") + odd for odd in (*ODD, *ODD_MONTHS, *_odd_filters(page))]
        named = [pattern for pattern in page.get_urls() if getattr(pattern, "name", None)]
        keyed = [(pattern.name, ["WORD"] * len(pattern.pattern.converters)) for pattern in named]
        rows = [
            reverse(f"admin:{kept}", args=keys).replace("WORD", word)
            for kept, keys in keyed if keys for word in ("word", "99999999999999999999", "1%00")
        ]  # fmt: skip
        wrong += [(url, status) for url in (*lists, *rows) if (status := boss.get(url).status_code) >= 500]
    assert wrong == []


def test_definitions_are_found_by_part_of_code_or_name_in_any_case(shop: Program, boss: Client) -> None:
    def found(page: str, term: str) -> list[str]:
        url = reverse(f"admin:{page}_changelist")
        return sorted(str(row) for row in boss.get(url, {"q": term}).context["cl"].result_list)

    publish(shop, "spring", name="Easter eggs")
    publish(shop, "fall", name="Harvest")
    spring, fall = CouponDefinition.objects.order_by("code").reverse()
    assert found("coupons_coupondefinition", "PRIN") == found("coupons_coupondefinition", "er EGG") == [str(spring)]
    assert found("coupons_coupondefinition", "a") == sorted([str(spring), str(fall)])
    assert found("coupons_coupondefinition", "%") == []
    assert found("points_wallet", "OINT") == [str(wallet(shop))]
    assert found("points_wallet", "nothing of it") == []


def test_the_history_is_the_audit_trail(shop: Program, boss: Client) -> None:
    operations.adjust(
        program=shop, member_id=member(shop).pk, wallet_id=wallet(shop).pk, points=7, reason="By a key",
        decided_by="key abc", idempotency_key="k", at=NOW,
    )  # fmt: skip
    page = boss.get(reverse("admin:membership_member_history", args=[member(shop).pk]))
    content = page.content.decode()
    for text in ("key abc", "points.adjusted", "By a key", "&quot;points&quot;: 7"):
        assert text in content
    other = Member.objects.get(program=shop, external_id="m1")
    assert (
        "points.adjusted" not in boss.get(reverse("admin:membership_member_history", args=[other.pk])).content.decode()
    )
    support = log_in(make_operator("sue", "membership.view_member"))
    hidden = support.get(reverse("admin:membership_member_history", args=[member(shop).pk]))
    assert hidden.status_code == 200
    assert "points.adjusted" not in hidden.content.decode()


def test_histories_of_two_programs_are_apart(shop: Program, boss: Client, tmp_path: Path) -> None:
    other = make_shop(tmp_path, code="other")
    audit.record(action="test.done", target="member m0", actor="x", program=other, at=NOW)
    page = boss.get(reverse("admin:membership_member_history", args=[member(shop).pk]))
    assert "test.done" not in page.content.decode()


@pytest.mark.parametrize("term", ["M0", "m0", "M"])
def test_members_are_found_in_any_case(shop: Program, boss: Client, term: str) -> None:
    content = boss.get(reverse("admin:membership_member_changelist"), {"q": term}).content.decode()
    assert reverse("admin:membership_member_change", args=[member(shop).pk]) in content


def test_orders_and_refunds_are_found_in_any_case(shop: Program, boss: Client) -> None:
    late = Order.objects.get(program=shop, external_id="late")
    for name, term, row in (("order", "LATE", late), ("refund", "R1", late.member and shop)):
        content = boss.get(reverse(f"admin:membership_{name}_changelist"), {"q": term}).content.decode()
        assert (term.lower() in content) == (row is not None)


def test_the_ledger_shows_the_latest_first(shop: Program, boss: Client) -> None:
    posted = operations.adjust(
        program=shop, member_id=Member.objects.get(program=shop, external_id="m1").pk, wallet_id=wallet(shop).pk,
        points=3, reason="x", decided_by="x", idempotency_key="x", at=NOW,
    )  # fmt: skip
    later = operations.adjust(
        program=shop, member_id=member(shop).pk, wallet_id=wallet(shop).pk, points=3, reason="x", decided_by="x",
        idempotency_key="x", at=NOW,
    )  # fmt: skip
    url = reverse("admin:points_ledgertransaction_changelist")
    shown = list(boss.get(url).context["cl"].result_list)
    newest = {row.pk for row in shown if row.recorded_at == NOW}
    assert {posted.transaction_id, later.transaction_id} <= newest
    assert [row.recorded_at for row in shown] == sorted((row.recorded_at for row in shown), reverse=True)
    assert len(newest) < len(shown) < LedgerTransaction.objects.count()
    of_member = [row.pk for row in boss.get(url, {"q": "m0"}).context["cl"].result_list]
    assert len(of_member) > 2
    burns = boss.get(url, {"kind__exact": "2", "q": "m0"}).context["cl"].result_list
    assert {row.kind for row in burns} == {2}


def test_the_dashboard_keeps_its_languages_apart(shop: Program, boss: Client) -> None:
    wallet_days.refresh(program=shop, at=NOW)
    english = boss.get(reverse("admin:index")).content.decode()
    chinese = boss.get(reverse("admin:index"), headers={"Accept-Language": "zh-hans"}).content.decode()
    assert "Earned" in english
    assert "Earned" not in chinese


def make_market(shop: Program, code: str = "uk", currency: str = "GBP") -> Market:
    return Market.objects.create(
        program=shop, code=code, currency=currency, time_zone="Europe/London", locales=["en"], countries=["GB"]
    )


def save_markets(boss: Client, shop: Program, *forms: tuple[Market, dict[str, str]]) -> Any:
    """Save the program's page with changes of its markets."""
    url = reverse("admin:core_program_change", args=[shop.pk])
    data = {"name": "Shop", "markets-TOTAL_FORMS": len(forms), "markets-INITIAL_FORMS": len(forms)}
    for n, (market, changes) in enumerate(forms):
        fields = {
            "id": market.pk, "program": shop.pk, "code": market.code, "currency": market.currency,
            "time_zone": market.time_zone, "locales": ",".join(market.locales),
            "countries": ",".join(market.countries), **changes,
        }  # fmt: skip
        data |= {f"markets-{n}-{name}": value for name, value in fields.items()}
    for formset in boss.get(url).context["inline_admin_formsets"]:
        prefix = formset.formset.prefix
        data = {f"{prefix}-TOTAL_FORMS": 0, f"{prefix}-INITIAL_FORMS": 0} | data
    return boss.post(url, data)


def test_a_market_in_use_is_neither_removed_nor_renamed(shop: Program, boss: Client) -> None:
    used, free = make_market(shop), make_market(shop, "de", "EUR")
    there = replace(order("there", (1, 100), at=NOW - DAY, member="m1"), market="uk")
    intake.record(program=shop, orders=[there], at=NOW)
    for changes in ({"code": "gb"}, {"DELETE": "on"}):
        page = save_markets(boss, shop, (used, changes))
        assert page.status_code == 200
        assert "Market uk keeps its code and stays: orders name it." in page.content.decode()
    saved = save_markets(boss, shop, (used, {"currency": "EUR"}), (free, {"DELETE": "on"}))
    assert saved.status_code == 302, saved.context["errors"]
    assert list(Market.objects.values_list("code", "currency")) == [("uk", "EUR")]
    assert AuditEntry.objects.filter(action="program.edited").exists()


@pytest.mark.parametrize(
    ("state", "is_refused"), [("quoted", True), ("held", True), ("lapsed", True), ("released", False)]
)
def test_a_market_of_a_checkout_that_may_be_paid_keeps_its_code(
    shop: Program, boss: Client, state: str, is_refused: bool
) -> None:
    used = make_market(shop)
    Checkout.objects.create(
        program=shop, market="uk", currency="GBP", basket={}, price={}, digest=b"", amount_minor=0, state=state,
        quoted_at=NOW, lapses_at=NOW + timedelta(minutes=15), held_at=None if state == "quoted" else NOW,
        closed_at=NOW if state in ("released", "lapsed") else None,
    )  # fmt: skip
    page = save_markets(boss, shop, (used, {"code": "gb"}))
    assert page.status_code == (200 if is_refused else 302)
    assert is_refused == ("stays: checkouts name it." in page.content.decode())


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("currency", "XXZ", "no currency code of ISO 4217"),
        ("time_zone", "Mars/Base", "no time zone of the IANA database"),
        ("countries", "GB,ZZ", "no country code of ISO 3166"),
    ],
)
def test_a_market_has_what_a_program_file_may_say(
    shop: Program, boss: Client, field: str, value: str, reason: str
) -> None:
    market = make_market(shop)
    page = save_markets(boss, shop, (market, {field: value}))
    assert page.status_code == 200
    assert reason in page.content.decode()
    assert save_markets(boss, shop, (market, {})).status_code == 302
    assert Market.objects.values_list("currency", "time_zone").get() == ("GBP", "Europe/London")


PATTERN = re.compile(r'pattern=(r?"[^\n]*?")[,)]')


def test_every_pattern_has_words() -> None:
    """Nobody is shown a regular expression."""
    apps = ("core", "membership", "coupons", "points", "referrals", "analytics", "storefront")
    sources = [path.read_text() for app in apps for path in (PROJECT / app).rglob("*.py")]
    found = {eval(text) for source in sources for text in PATTERN.findall(source)}  # noqa: S307 our own source
    assert len(found) > 8
    assert sorted(pattern for pattern in found if not has_words(pattern)) == []
    assert "^" not in say_pattern("^unknown$")
