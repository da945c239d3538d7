"""What was paid in points earns none, in every way in which a line comes and goes."""

from pathlib import Path
from typing import Any

import pytest

from core.models import Program
from membership.fact_inputs import OrderEditInput, OrderInput, OrderLineInput
from points.models import Accrual, AccrualReturn, TransactionKind, Wallet
from points.services.verify import verify
from storefront.services import intake
from tests.storefront.announced import make_shop
from tests.storefront.shop import DAY, NOW, refund, tell

pytestmark = pytest.mark.django_db


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return make_shop(tmp_path)


def paid(*lines: tuple[int, int, int], **more: Any) -> OrderInput:
    """An order of lines (units, minor, of these in points)."""
    rows = tuple(
        OrderLineInput(external_id=f"o.{n}", units=units, amount_minor=minor, paid_in_points_minor=part)
        for n, (units, minor, part) in enumerate(lines, 1)
    )
    told: dict[str, Any] = {"currency": "GBP", "amount_minor": sum(minor for _, minor, _ in lines), "lines": rows}
    return OrderInput(external_id="o", member="m0", paid_at=NOW, **told | more)


def earned() -> list[tuple[int, int]]:
    """Basis and points of each line's accrual in the wallet of points."""
    found = Accrual.objects.filter(wallet=Wallet.objects.get(code="points")).order_by("pk")
    return list(found.values_list("basis", "points"))


def returned() -> list[tuple[int, int]]:
    """What each refund line asked and took in the wallet of points."""
    found = AccrualReturn.objects.filter(accrual__wallet__code="points").order_by("pk")
    assert set(found.values_list("transaction__kind", flat=True)) <= {TransactionKind.CLAWBACK}
    return list(found.values_list("points_due", "points_taken"))


def test_a_line_earns_on_what_was_paid_in_money(program: Program) -> None:
    tell(program, paid((1, 5_000, 0), (1, 5_000, 1_250), (1, 5_000, 5_000)))
    assert earned() == [(5_000, 50), (3_750, 37), (0, 0)]


def test_of_an_order_in_another_currency_the_programs_share_earns_nothing(program: Program) -> None:
    tell(program, paid((1, 8_000, 2_000), currency="EUR", program_amount_minor=6_000))
    assert earned() == [(4_500, 45)]


def test_units_that_come_back_take_back_their_share_of_what_was_earned(program: Program) -> None:
    tell(program, paid((4, 8_000, 2_000)), refund("r1", ("o.1", 1, 2_000), at=NOW + DAY))
    tell(program, refund("r2", ("o.1", 3, 6_000), at=NOW + 2 * DAY))
    assert (earned(), returned()) == ([(6_000, 60)], [(15, 15), (45, 45)])
    assert list(verify(program=program)) == []


def test_an_amount_that_comes_back_counts_with_its_part_in_points(program: Program) -> None:
    tell(program, paid((1, 8_000, 2_000)), refund("r1", ("o.1", None, 4_000), at=NOW + DAY))
    tell(program, refund("r2", ("o.1", None, 4_000), at=NOW + 2 * DAY))
    assert returned() == [(30, 30), (30, 30)]


def test_a_line_that_an_edit_adds_earns_on_what_was_paid_in_money(program: Program) -> None:
    tell(program, paid((1, 5_000, 0)))
    line = OrderLineInput(external_id="added", units=1, amount_minor=2_000, paid_in_points_minor=500)
    edit = OrderEditInput(order="o", external_id="e1", edited_at=NOW, currency="GBP", lines=(line,))
    intake.edit_order(program=program, edit=edit, at=NOW)
    assert earned() == [(5_000, 50), (1_500, 15)]
