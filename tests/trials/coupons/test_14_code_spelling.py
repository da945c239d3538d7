"""14: how a typed code is read."""

import pytest

from core.models import Program
from tests.api.client import Api
from tests.coupons.giving import publish
from tests.trials.coupons.visits import applied, off, quote, refused

pytestmark = pytest.mark.django_db

SPELLINGS = {
    "blanks": " TEN ", "small": "ten", "hyphens": "t-e-n", "no-break space": "\u00a0TEN\u00a0", "tab": "TEN\t",
    "newline": "TEN\r\n", "zero-width space": "TE\u200bN", "byte order mark": "\ufeffTEN", "soft hyphen": "T\u00adEN",
    "full width": "\uff34\uff25\uff2e", "line separator": "TEN\u2028", "NUL": "TEN\x00", "embedding": "\u202aTEN\u202c",
}  # fmt: skip


@pytest.fixture
def shop(shop: Program, api: Api) -> Program:
    publish(shop, "ten", how="code", discount={"amount": {"GBP": "10.00"}})
    assert api.post("coupons/ten/codes", {"code": "TEN"}).status == 201
    return shop


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_white_space_width_and_case_never_matter(shop: Program, api: Api, spelling: str) -> None:
    quoted = quote(api, codes=[spelling])
    assert (applied(quoted), refused(quoted), off(quoted)) == ({"ten"}, {}, 1000)
    assert api.post("members/ada/coupons", {"code": spelling}, key="k").status == 201


def test_one_bad_code_never_costs_the_price_of_the_basket(shop: Program, api: Api) -> None:
    for bad in ("T\u00cbN", "\u5341", "%", "x" * 10_000, "\x00\x01", "T E N !", "\U0001f600"):
        quoted = quote(api, codes=[bad, "TEN"])
        assert (applied(quoted), off(quoted)) == ({"ten"}, 1000)
