"""What a coupon's terms may say, and that reading and writing them changes nothing."""

from typing import Any

import pytest
from pydantic import ValidationError

from core.definitions import as_written
from core.problems import explain
from core.timestamps import INSTANT_FORM
from coupons.definitions import CouponTerms

GBP = {"currency": "GBP"}
PLAIN: dict[str, Any] = {"name": "Plain", "discount": {"amount": {"GBP": "10.00"}}}


def _read(**values: Any) -> CouponTerms:
    return CouponTerms.model_validate(PLAIN | values, context=GBP)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"discount": {}}, "coupon.discount: write one of {percent: ...} | {amount: ...} | {free_shipping: ...}"),
        ({"discount": {"percent": "101%"}}, "coupon.discount.percent: a percentage lies between 0.01% and 100%"),
        ({"discount": {"percent": 10}}, 'coupon.discount.percent: write a percentage as text, such as "12.5%"'),
        ({"discount": {"amount": {"GBP": "0"}}}, "coupon: amounts must be more than zero"),
        ({"threshold": {"GBP": "-1.00"}}, "coupon: amounts must be more than zero"),
        ({"discount": {"percent": "5%", "at_most": {"GBP": "0.00"}}}, "coupon: amounts must be more than zero"),
        ({"threshold": {"XXX": "1"}}, "coupon.threshold: 'XXX' is no currency code of ISO 4217, such as GBP"),
        (
            {"starts_at": 2026},
            f"coupon.starts_at: 2026 is not {INSTANT_FORM}",
        ),
        ({"starts_at": "0001-01-01T00:00:00Z"}, "coupon.starts_at: write an instant of the years 1900 to 9900"),
        ({"starts_at": "0001-01-01T00:00:00+05:00"}, "coupon.starts_at: write an instant of the years 1 to 9999"),
        (
            {"starts_at": "9999-01-01T00:00:00Z", "valid_days": 3660},
            "coupon.starts_at: write an instant of the years 1900 to 9900",
        ),
        (
            {"ends_at": "2026-05-01"},
            "coupon.ends_at: '2026-05-01' is not an instant of RFC 3339 with its zone, such as 2026-03-01T12:00:00Z",
        ),
        (
            {"starts_at": "2026-05-01T00:00:00Z", "ends_at": "2026-05-01T01:00:00+01:00"},
            "coupon: ends_at must be later than starts_at",
        ),
        (
            {"how": "automatic", "valid_days": 3},
            "coupon: valid_days counts from issue: an automatic coupon is never issued; use ends_at",
        ),
        ({"shards": 4, "limit": 3}, "coupon: shards are parts of the limit: there cannot be more of them than claims"),
        ({"shards": 2}, "coupon: shards are parts of the limit: there cannot be more of them than claims"),
        ({"sku": ["mug"]}, "coupon.sku: is an unknown key (did you mean skus?)"),
    ],
)
def test_terms_that_make_no_sense_are_refused_in_plain_words(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        _read(**values)
    assert explain(refused.value, "coupon") == [problem]


def test_terms_are_written_as_they_are_read() -> None:
    told = _read(
        discount={"percent": "12.5%", "at_most": {"JPY": "500", "GBP": "5"}}, threshold={"GBP": "50"}, limit=16,
        shards=16, starts_at="2026-05-01T00:00:00+01:00", valid_days=0, stack_group="orders", on_refund="restore",
    )  # fmt: skip
    written = as_written(told, "GBP")
    assert written["discount"] == {"percent": "12.5%", "at_most": {"GBP": "5.00", "JPY": "500"}}
    assert written["starts_at"] == "2026-04-30T23:00:00Z"
    assert CouponTerms.model_validate(written, context=GBP) == told
    assert as_written(CouponTerms.model_validate(written, context=GBP), "GBP") == written


def test_scope_is_what_is_named_less_what_is_left_out() -> None:
    told = _read(skus=["mug"], categories=["tea"], exclude_skus=["green"], exclude_categories=["sale"])
    assert told.has_scope
    assert told.covers("mug", "cups")
    assert told.covers("black", "tea")
    assert not told.covers("green", "tea")
    assert not told.covers("mug", "sale")
    assert not told.covers("spoon", "cups")
    assert not _read().has_scope
    assert _read(exclude_categories=["sale"]).covers("mug", "cups")
