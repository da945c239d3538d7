"""What a preview says is what the order then earns."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.models import Program
from membership.fact_inputs import MemberInput, OrderInput, OrderLineInput
from membership.models import Member, Order, OrderLine
from membership.services.members import enroll_members
from points.models import Accrual, LedgerTransaction, Lot, TransactionKind
from points.preview import preview_order
from storefront.services import program_file
from tests.storefront.shop import DAY, NOW, START, definition, tell

pytestmark = pytest.mark.django_db
CATEGORIES, SKUS, CHANNELS = ["", "books", "tea"], ["", "a", "b"], ["", "web", "app"]


def rich() -> dict[str, Any]:
    """A program whose rules look at everything that a rule can look at."""
    told = definition("rich", {"pending_days": 3})

    def rule(code: str, **more: Any) -> dict[str, Any]:
        formula = {"points": 3, "per": "2.50"}
        return {"code": code, "name": code, "wallet": "points", "trigger": "order_line", "formula": formula} | more

    told["earn_rules"] += [
        rule("books", categories=["books"], tier_multiplier=True),
        rule("app", channels=["app"], wallet="gems", formula={"fixed": 7}, tier_multiplier=True),
        rule("gold", tiers=["gold", "silver"], minimum="20.00"),
        rule("a", skus=["a"], wallet="gems", tier_multiplier=True),
    ]
    return told


@pytest.fixture
def program(db: None, tmp_path: Path) -> Program:
    path = tmp_path / "rich.yaml"
    path.write_text(json.dumps(rich()))
    return program_file.apply(program_file.load(path), at=NOW, actor="test")


# Amount, article, category, and how many tenths are paid in points.
Part = tuple[int, str, str, int]
lines = st.tuples(
    st.integers(0, 9_000), st.sampled_from(SKUS), st.sampled_from(CATEGORIES), st.sampled_from([0, 0, 3, 10])
)
orders = st.tuples(
    st.integers(0, 40), st.lists(lines, min_size=1, max_size=5), st.sampled_from(CHANNELS), st.booleans()
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=st.lists(orders, min_size=1, max_size=4))
def test_preview_equals_award(program: Program, told: list[tuple[int, list[Part], str, bool]]) -> None:
    """Orders of one member one after another, through the tiers: each is previewed, then told."""
    name = f"m{Member.objects.count()}"
    enroll_members(program=program, members=[MemberInput(external_id=name, joined_at=START - DAY)], at=NOW)
    member_id = Member.objects.get(program=program, external_id=name).pk
    for n, (day, parts, channel, is_foreign) in enumerate(sorted(told, key=lambda order: order[0])):
        placed = _order(f"{name}-{n}", name, START + day * DAY, parts, channel, is_foreign=is_foreign)
        preview = preview_order(program=program, member_id=member_id, order=placed)
        tell(program, placed)
        assert _shown(preview) == _awarded(program, placed.external_id)


def _order(external_id: str, member: str, at: Any, parts: list[Part], channel: str, *, is_foreign: bool) -> OrderInput:
    rows = tuple(
        OrderLineInput(
            external_id=str(position),
            units=1,
            amount_minor=amount * 2 if is_foreign else amount,
            program_amount_minor=amount if is_foreign else None,
            sku=sku,
            category=category,
            paid_in_points_minor=amount * tenths // 10,
        )
        for position, (amount, sku, category, tenths) in enumerate(parts)
    )
    total = sum(amount for amount, *_ in parts)
    return OrderInput(
        external_id=external_id,
        member=member,
        paid_at=at,
        currency="EUR" if is_foreign else "GBP",
        amount_minor=total * 2 if is_foreign else total,
        program_amount_minor=total if is_foreign else None,
        channel=channel,
        lines=rows,
    )


def _as_told(accrual: Any, line: int) -> tuple[int, ...]:
    return (
        line, accrual.rule_version_id, accrual.basis, accrual.multiplier_bps, accrual.points, accrual.reason,
    )  # fmt: skip


def _shown(preview: Any) -> dict[int, Any]:
    return {
        wallet.wallet_id: (
            sorted(_as_told(a, a.source_id) for a in wallet.accruals),
            (wallet.available_at, wallet.expires_at) if wallet.points else None,
        )
        for wallet in preview.wallets
    }


def _awarded(program: Program, external_id: str) -> dict[int, Any]:
    order = Order.objects.get(program=program, external_id=external_id)
    positions = {line.pk: int(line.external_id) for line in OrderLine.objects.filter(order=order)}
    found = {}
    for posted in LedgerTransaction.objects.filter(member=order.member, kind=TransactionKind.EARN, source_id=order.pk):
        accruals = Accrual.objects.filter(transaction=posted)
        lot = Lot.objects.filter(transaction=posted).first()
        found[posted.wallet_id] = (
            sorted(_as_told(a, positions[a.source_id]) for a in accruals),
            (lot.available_at, lot.expires_at) if lot else None,
        )
    return found


def test_a_preview_writes_nothing_and_reads_the_terms_once(
    program: Program, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    enroll_members(program=program, members=[MemberInput(external_id="m", joined_at=START)], at=NOW)
    placed = _order("o", "m", NOW, [(1_000, "a", "books", 0)] * 50, "app", is_foreign=False)
    member_id = Member.objects.get().pk
    first = preview_order(program=program, member_id=member_id, order=placed)
    with django_assert_max_num_queries(1) as queries:
        preview = preview_order(program=program, member_id=member_id, order=placed)
    assert preview == first
    assert all(query["sql"].lstrip().startswith("SELECT") for query in queries.captured_queries)
    assert len(preview.wallets) == 2
