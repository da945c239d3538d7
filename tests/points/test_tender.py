"""How many points may be used, and what they pay."""

from typing import Any

import pytest
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.money import BPS
from points.definitions import Redemption, WalletPolicy
from points.tender import Tender, TenderReason, explain_tender, tender

TERMS = {"step": 100, "worth": {"GBP": "1.00", "JPY": "150"}, "minimum": 200, "maximum_share": "50%"}


def policy(**more: Any) -> WalletPolicy:
    return WalletPolicy.model_validate({"redemption": TERMS | more}, context={"currency": "GBP"})


@pytest.mark.parametrize(
    ("payable", "available", "asked", "expected"),
    [
        (100_00, 1_000, 1_000, Tender(1_000, 10_00)),
        (100_00, 1_000, None, Tender(1_000, 10_00)),
        (100_00, 1_050, None, Tender(1_000, 10_00, TenderReason.NO_WHOLE_STEP)),
        (100_00, 1_000, 250, Tender(200, 2_00, TenderReason.NO_WHOLE_STEP)),
        (100_00, 1_000, 2_000, Tender(1_000, 10_00, TenderReason.NOT_AVAILABLE)),
        (9_99, 1_000, 1_000, Tender(400, 4_00, TenderReason.ABOVE_SHARE)),
        (4_00, 1_000, None, Tender(200, 2_00, TenderReason.ABOVE_SHARE)),
        (3_99, 1_000, None, Tender(0, 0, TenderReason.ABOVE_SHARE)),
        (100_00, 1_000, 199, Tender(0, 0, TenderReason.BELOW_MINIMUM)),
        (100_00, 199, 500, Tender(0, 0, TenderReason.NOT_AVAILABLE)),
        (100_00, 199, None, Tender(0, 0, TenderReason.BELOW_MINIMUM)),
        (100_00, 0, None, Tender(0, 0)),
        (100_00, 1_000, 0, Tender(0, 0)),
        (0, 1_000, None, Tender(0, 0, TenderReason.ABOVE_SHARE)),
    ],
)
def test_points_pay_in_whole_steps_within_every_bound(
    payable: int, available: int, asked: int | None, expected: Tender
) -> None:
    assert tender(policy(), currency="GBP", payable_minor=payable, available=available, asked=asked) == expected


def test_each_currency_has_its_own_worth() -> None:
    assert tender(policy(), currency="JPY", payable_minor=1_000, available=500) == Tender(
        300, 450, TenderReason.ABOVE_SHARE
    )
    assert tender(policy(), currency="CNY", payable_minor=1_000, available=500) == Tender(
        0, 0, TenderReason.CURRENCY_NOT_COVERED
    )


def test_points_of_a_wallet_without_terms_pay_nothing() -> None:
    plain = WalletPolicy.model_validate({}, context={"currency": "GBP"})
    assert tender(plain, currency="GBP", payable_minor=1_000, available=500) == Tender(
        0, 0, TenderReason.NOT_REDEEMABLE
    )


terms = st.builds(
    lambda step, worth, minimum, share: Redemption.model_construct(
        step=step, worth={"GBP": worth}, minimum=minimum * step, maximum_share=share
    ),
    st.integers(1, 50), st.integers(1, 200), st.integers(0, 5), st.integers(1, BPS),
)  # fmt: skip


@given(terms, st.integers(0, 5_000), st.integers(0, 300), st.one_of(st.none(), st.integers(0, 300)))
def test_the_tender_is_the_largest_that_every_rule_allows(
    redemption: Redemption, payable: int, available: int, asked: int | None
) -> None:
    """Compared with trying every number of points."""
    made = WalletPolicy.model_construct(redemption=redemption)
    found = tender(made, currency="GBP", payable_minor=payable, available=available, asked=asked)
    worth = redemption.worth["GBP"]
    wanted = available if asked is None else asked
    allowed = [
        n for n in range(min(available, wanted) + 1)
        if redemption.allows(n) and n // redemption.step * worth * BPS <= payable * redemption.maximum_share
    ]  # fmt: skip
    assert found.points == max(allowed, default=0)
    assert found.amount_minor == found.points // redemption.step * worth
    assert (found.reason is None) == (found.points == wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum": 150}, "multiple of step"),
        ({"worth": {"GBP": "0.00"}}, "more than nothing"),
        ({"worth": {}}, "amounts by currency"),
        ({"maximum_share": "0%"}, "percentage"),
        ({"step": 0}, "greater than or equal"),
    ],
)
def test_terms_that_cannot_be_meant_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        policy(**change)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (Tender(200, 2_00), ["200 points pay GBP 2.00."]),
        (
            Tender(200, 2_00, TenderReason.ABOVE_SHARE),
            ["200 points pay GBP 2.00.", "Points pay at most 50% of the goods."],
        ),
        (
            Tender(0, 0, TenderReason.BELOW_MINIMUM),
            ["No points are used.", "At least 200 points are used at a time."],
        ),
        (
            Tender(200, 2_00, TenderReason.NO_WHOLE_STEP),
            ["200 points pay GBP 2.00.", "Points are used in steps of 100."],
        ),
        (Tender(0, 0, TenderReason.NOT_AVAILABLE), ["No points are used.", "No more points can be used now."]),
        (Tender(0, 0, TenderReason.CURRENCY_NOT_COVERED), ["No points are used.", "Points pay nothing in GBP."]),
    ],
)
def test_it_says_what_points_pay_and_why_not_more(told: Tender, expected: list[str]) -> None:
    with translation.override("en"):
        assert explain_tender(told, policy(), currency="GBP") == expected
        plain = WalletPolicy.model_validate({}, context={"currency": "GBP"})
        none = Tender(0, 0, TenderReason.NOT_REDEEMABLE)
        assert explain_tender(none, plain, currency="GBP")[1] == "Points of this wallet are no means of payment."
