"""20: a percentage over many lines."""

import pytest

from core.models import Program
from tests.api.client import Api
from tests.coupons.giving import publish
from tests.trials.coupons.visits import line, off, quote

pytestmark = pytest.mark.django_db


def test_the_parts_of_a_percentage_sum_to_it(shop: Program, api: Api) -> None:
    publish(shop, "eighth", how="automatic", discount={"percent": "12.5%"})
    quoted = quote(api, *(line(f"l{n}", 333) for n in range(50)))
    parts = [one["discount_minor"] for one in quoted["price"]["lines"]]
    assert (off(quoted), sum(parts), set(parts)) == (2081, 2081, {41, 42})
