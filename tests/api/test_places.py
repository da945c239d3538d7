"""Currencies, countries, markets and channels: by the API there is one, elsewhere they are kept as written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.countries import COUNTRIES
from core.models import Market, Program
from core.sections import ProgramFileError
from core.versions import note_change
from membership.fact_inputs import OrderInput, RefundInput
from membership.models import Order, Refund
from membership.services.facts import record_facts
from storefront.services import intake, program_file
from tests.api import shop
from tests.api.client import Api
from tests.api.conftest import AURORA, NOW

FLAWS: dict[str, dict[str, Any]] = {
    "currency": {"currency": "GPB", "program_amount_minor": 6050},
    "an unused code of a currency": {"currency": "ABC", "program_amount_minor": 6050},
    "a code for no currency": {"currency": "XXX", "program_amount_minor": 6050},
    "a currency without its amount": {"currency": "GPB"},
    "country": {"country": "UK"},
    "the name of a country": {"country": "United Kingdom"},
    "a small country": {"country": "gb"},
    "market": {"market": "mars"},
    "the name of a market": {"market": "UK"},
}
BASKET = {"currency": "GBP", "lines": [{"external_id": "1", "units": 1, "list_minor": 5000}]}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "a checkout": ("checkouts", BASKET),
    "a coupon quote": ("members/ada/coupons/quote", {"currency": "GBP", "lines": [{"line": "1", "amount_minor": 1}]}),
    "a preview": ("members/ada/points/preview", {"currency": "GBP", "lines": [{"amount_minor": 1}]}),
}

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def ada(program: Program) -> None:
    shop.enroll(program, "ada")


def load(tmp_path: Path, edit: Edit) -> program_file.ProgramFile:
    document = yaml.safe_load(AURORA.read_text())
    edit(document)
    path = tmp_path / "program.yaml"
    path.write_text(yaml.safe_dump(document))
    return program_file.load(path)


def list_channels(*channels: str) -> Edit:
    return lambda document: document["program"].update(channels=list(channels))


@pytest.mark.django_db
@pytest.mark.parametrize("what", FLAWS)
def test_an_order_from_nowhere_is_refused(api: Api, what: str) -> None:
    before = shop.written()
    reply = api.post("orders", shop.order() | FLAWS[what])
    shop.assert_problem(reply, 422, "invalid_value", f"/{next(iter(FLAWS[what]))}")
    assert repr(next(iter(FLAWS[what].values()))).strip("'") in reply.json["detail"]
    assert shop.written() == before


@pytest.mark.django_db
@pytest.mark.parametrize(
    "places", [{}, {"market": "uk"}, {"country": "GB", "market": "eu"}, {"country": "XK"}, {"channel": "any"}]
)
def test_an_order_from_somewhere_is_taken(api: Api, places: dict[str, str]) -> None:
    assert api.post("orders", shop.order() | places).status == 201


@pytest.mark.django_db
def test_in_a_batch_such_orders_are_refused_alone(api: Api, django_assert_max_num_queries: Any) -> None:
    orders = [shop.order(f"o{n}", market="mars" if n % 2 else "uk") for n in range(100)]
    with django_assert_max_num_queries(62):  # all of them at once, not one by one
        results = api.post("orders/batch", {"orders": orders}).json["results"]
    assert [result["outcome"] for result in results] == ["recorded", "refused"] * 50
    assert results[1]["problem"]["errors"][0]["pointer"] == "/market"
    assert Order.objects.count() == 50


@pytest.mark.django_db
def test_a_refund_of_no_order_is_in_a_currency_that_there_is(api: Api) -> None:
    body = {"external_id": "r", "member": "ada", "refunded_at": shop.LATER, "amount_minor": 1}
    foreign = body | {"currency": "ABC", "program_amount_minor": 1}
    shop.assert_problem(api.post("refunds", foreign), 422, "invalid_value", "/currency")
    assert not Refund.objects.exists()
    assert api.post("refunds", body | {"currency": "GBP"}).status == 201


@pytest.mark.django_db
@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("field", ["currency", "market", "channel"])
def test_what_is_asked_about_nowhere_is_refused(api: Api, tmp_path: Path, what: str, field: str) -> None:
    program_file.apply(load(tmp_path, list_channels("web")), at=NOW, actor="test")
    address, body = ASKED[what]
    assert api.post(address, body).status in {200, 201}
    reply = api.post(address, body | {field: "XXX"})
    if reply.code == "invalid_request":  # it has no such field
        assert reply.json["errors"][0]["code"] == "extra_forbidden"
    else:
        shop.assert_problem(reply, 422, "invalid_value", f"/{field}")


@pytest.mark.django_db
def test_channels_count_where_the_file_lists_them(api: Api, tmp_path: Path) -> None:
    assert api.post("orders", shop.order("o1", channel="anything")).status == 201
    plan = program_file.plan(load(tmp_path, list_channels("web", "shop")), at=NOW)
    assert plan == ["~ program aurora", "    channels:  -> web, shop"]
    program_file.apply(load(tmp_path, list_channels("web", "shop")), at=NOW, actor="test")
    assert api.post("orders", shop.order("o2", channel="web")).status == 201
    assert api.post("orders", shop.order("o3")).status == 201
    reply = api.post("orders", shop.order("o4", channel="wbe"))
    shop.assert_problem(reply, 422, "invalid_value", "/channel")
    assert "did you mean web?" in reply.json["detail"]
    assert api.post("orders", shop.order("o1", channel="anything")).json["outcome"] == "repeated"


@pytest.mark.django_db
def test_a_program_without_markets_takes_any(api: Api, program: Program) -> None:
    Market.objects.all().delete()
    note_change(program)
    assert api.post("orders", shop.order(market="mars")).status == 201


@pytest.mark.django_db
def test_an_earn_rule_is_for_channels_that_there_are(tmp_path: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        list_channels("web")(document)
        document["earn_rules"][0]["channels"] = ["web", "app"]

    with pytest.raises(ProgramFileError) as refused:
        load(tmp_path, edit)
    assert refused.value.problems == ["earn_rules[0].channels[1]: there is no channel app"]


@pytest.mark.django_db
def test_a_market_is_in_countries_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ProgramFileError) as refused:
        load(tmp_path, lambda document: document["markets"][0].update(countries=["UK"]))
    assert refused.value.problems == ["markets[0].countries[0]: 'UK' is no country code of ISO 3166, such as GB"]


@pytest.mark.django_db
def test_a_new_market_is_known_at_once(api: Api, program: Program, tmp_path: Path) -> None:
    market = {"code": "us", "currency": "USD", "time_zone": "America/New_York", "locales": [], "countries": ["US"]}
    assert api.post("orders", shop.order(market="us")).status == 422
    file = load(tmp_path, lambda document: document["markets"].append(market))
    program_file.apply(file, at=NOW, actor="test")
    assert Market.objects.count() == 4
    assert api.post("orders", shop.order(market="us")).status == 201


@pytest.mark.django_db
def test_what_was_recorded_as_written_is_repeated(api: Api, program: Program) -> None:
    amounts: dict[str, Any] = {"currency": "ABC", "amount_minor": 1, "program_amount_minor": 1}
    places = {"market": "mars", "country": "United Kingdom", "channel": "x"}
    order: dict[str, Any] = {"external_id": "o1", "member": "ada", **places, **amounts}
    refund: dict[str, Any] = {"external_id": "r", "member": "ada", **amounts}
    orders, refunds = [OrderInput(**order, paid_at=NOW)], [RefundInput(**refund, refunded_at=NOW)]
    record_facts(program=program, orders=orders, refunds=refunds, at=NOW)
    order["paid_at"] = refund["refunded_at"] = "2026-06-01T12:00:00Z"
    assert api.post("orders", order).json["outcome"] == "repeated"
    assert api.post("orders/batch", {"orders": [order]}).json["results"][0]["outcome"] == "repeated"
    assert api.post("refunds", refund).json["outcome"] == "repeated"
    shop.assert_problem(api.post("orders", order | {"amount_minor": 2}), 409, "fact_conflict")
    # It is refunded in its own currency.
    assert api.post("refunds", refund | {"external_id": "r2", "order": "o1"}).status == 201


@pytest.mark.django_db
def test_a_data_set_keeps_places_as_written(program: Program) -> None:
    order = OrderInput(external_id="o", paid_at=NOW, currency="GBP", amount_minor=1, country="United Kingdom")
    intake.record(program=program, orders=[order], at=NOW)
    assert Order.objects.get().country == "United Kingdom"


def test_the_countries_are_those_of_the_tz_database() -> None:
    """They come from there; a newer release than ours shows here."""
    table = Path("/usr/share/zoneinfo/iso3166.tab")
    assert len(COUNTRIES) == 250
    if table.exists():
        lines = table.read_text(encoding="utf-8").splitlines()
        assert {line[:2] for line in lines if line and line[0] != "#"} | {"XK"} == COUNTRIES
