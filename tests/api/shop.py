"""What a storefront sends in the tests of facts, and what is written of it."""

from datetime import UTC, datetime
from typing import Any

from core.models import OutboxEvent, Program
from membership.fact_inputs import MemberInput
from membership.models import (
    Activity,
    Member,
    MemberDay,
    Order,
    OrderEdit,
    OrderKey,
    OrderLine,
    Refund,
    RefundLine,
    TierPeriod,
)
from membership.services.members import enroll_members
from points.models import Account, LedgerTransaction
from points.selectors import get_balance
from tests.api.client import Reply
from tests.api.conftest import NOW

JOINED = datetime(2026, 1, 1, tzinfo=UTC)
PAID = "2026-05-01T10:00:00Z"
LATER = "2026-05-10T10:00:00Z"
TABLES = (
    *(Activity, MemberDay, Order, OrderEdit, OrderKey, OrderLine, Refund, RefundLine, TierPeriod),
    *(Account, LedgerTransaction, OutboxEvent),
)


def enroll(program: Program, *names: str) -> None:
    members = [MemberInput(external_id=name, joined_at=JOINED) for name in names]
    enroll_members(program=program, members=members, at=NOW)


def line(name: str, units: int, minor: int, **more: Any) -> dict[str, Any]:
    return {"external_id": name, "units": units, "amount_minor": minor} | more


def order(name: str = "o1", *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An order of ada over 60.50: three units for 45.00 and one for 15.50."""
    told = list(lines) or [line("a", 3, 4500), line("b", 1, 1550)]
    total = sum(one["amount_minor"] for one in told)
    plain = {"external_id": name, "member": "ada", "paid_at": PAID, "currency": "GBP", "amount_minor": total}
    return plain | {"lines": told} | more


def back(name: str, units: int | None, minor: int, **more: Any) -> dict[str, Any]:
    return {"external_id": name, "order_line": name, "units": units, "amount_minor": minor} | more


def refund(name: str = "r1", *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A refund of one of the three units of line a."""
    told = list(lines) or [back("a", 1, 1500)]
    total = sum(one["amount_minor"] for one in told)
    plain = {"external_id": name, "member": "ada", "order": "o1", "refunded_at": LATER, "currency": "GBP"}
    return plain | {"amount_minor": total, "lines": told} | more


def activity(name: str = "v1", **more: Any) -> dict[str, Any]:
    return {"external_id": name, "member": "ada", "kind": "review", "source": "web", "occurred_at": PAID} | more


def written() -> dict[str, int]:
    """Return how many rows there are of everything that facts write."""
    return {table.__name__: table._default_manager.count() for table in TABLES}


def points_of(program: Program, member: str = "ada") -> int:
    ada = Member.objects.get(program=program, external_id=member)
    account = Account.objects.filter(member=ada).first()
    return 0 if account is None else get_balance(member_id=ada.pk, wallet_id=account.wallet_id, at=NOW).available


def assert_problem(reply: Reply, status: int, code: str, pointer: str | None = None) -> None:
    """The answer is a documented problem that names the place; no traceback leaves the server."""
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/problem+json"), reply.text
    found = reply.json
    assert found["code"] == code
    assert found["status"] == status
    assert "Traceback" not in reply.text
    if pointer is not None:
        assert pointer in [error["pointer"] for error in found["errors"]], found["errors"]
