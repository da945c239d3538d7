"""30: currencies without decimals, and with three."""

import pytest

from core.models import Program
from tests.api.client import Api
from tests.coupons.giving import publish
from tests.trials.coupons.visits import line, off, quote

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("currency", "amount", "list_minor", "taken"), [("JPY", "1500", 999, 999), ("KWD", "3.125", 10_000, 3_125)]
)
def test_amounts_are_minor_units_of_their_currency(
    shop: Program, api: Api, currency: str, amount: str, list_minor: int, taken: int
) -> None:
    publish(shop, "off", how="automatic", discount={"amount": {currency: amount}})
    assert off(quote(api, line(list_minor=list_minor), currency=currency)) == taken
