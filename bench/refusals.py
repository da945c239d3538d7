"""A thousand refunds in one batch that are all refused, beside as many sent one by one."""

from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter
from typing import Any

from django.test import Client

from bench.figures import Figure
from bench.sizes import Sizes
from config.environment import PROJECT
from core.api.batches import MAX_ITEMS
from core.models import Scope
from core.services import api_keys
from core.versions import publish
from membership.services.facts import OrderInput
from membership.services.members import MemberInput, enroll_members
from points.models import Wallet
from points.selectors import get_balance
from points.services import operations
from storefront.services import intake, program_file

NOW = datetime.now(UTC)
# One by one they are measured on so many, and extrapolated.
ALONE = 50


def refusals(sizes: Sizes) -> list[Figure]:
    """Measure refunds that what is recorded refuses, and refunds that the ledger refuses: their points are spent."""
    shop = _Shop()
    figures = []
    for name, change in (("of more units than are left", {"units": 3}), ("of spent points", {})):
        batch = [shop.refund(n, **change) for n in range(MAX_ITEMS)]
        taken = median(shop.send("refunds/batch", {"refunds": batch}) for _ in range(sizes.repetitions))
        each = median(shop.send("refunds", refund) for refund in batch[:ALONE])
        alone = f"one by one {each * MAX_ITEMS:.1f} s (of {ALONE})"
        low: dict[str, Any] = {"lower_is_better": True, "unit": " s"}
        path = f"{MAX_ITEMS:,} refunds {name}, refused in one batch"
        figures.append(Figure(path, f"{taken:.2f} s", alone, round(taken, 2), 4, 2, **low))
    return figures


class _Shop:
    """A program whose wallet refuses refunds of spent points, and a member with a thousand orders who has spent all."""

    def __init__(self) -> None:
        file = program_file.load(PROJECT / "programs" / "aurora.yaml", code="bench-refusals")
        program = program_file.apply(file, at=NOW - timedelta(days=400), actor="bench")
        wallet = Wallet.objects.get(program=program, code="points")
        terms = wallet.versions.latest("number").definition
        publish(wallet, terms | {"clawback": "refuse"}, at=NOW - timedelta(days=399))
        joined = MemberInput(external_id="ada", joined_at=NOW - timedelta(days=300))
        member_id = enroll_members(program=program, members=[joined], at=NOW).ids["ada"]
        paid_at = NOW - timedelta(days=9)
        orders = [
            OrderInput(external_id=f"o{n}", member="ada", paid_at=paid_at, currency="GBP", amount_minor=5_000)
            for n in range(MAX_ITEMS)
        ]
        intake.record(program=program, orders=orders, at=NOW)
        told: dict[str, Any] = {"member_id": member_id, "wallet_id": wallet.pk}
        points = get_balance(**told, at=NOW).available
        operations.redeem(program=program, **told, points=points, idempotency_key="all", at=NOW)
        key = api_keys.issue(
            program=program, name="bench", scopes=Scope.values, rate_per_minute=1_000_000, actor="bench", at=NOW
        )
        self._client = Client(SERVER_NAME="localhost", headers={"authorization": f"Bearer {key.text}"})

    def refund(self, number: int, *, units: int = 1) -> dict[str, Any]:
        """Return a refund of one of the orders."""
        line = {"external_id": "1", "order_line": "1", "units": units, "amount_minor": 5_000}
        told = {"external_id": f"r{number}", "member": "ada", "order": f"o{number}", "currency": "GBP"}
        return told | {"refunded_at": (NOW - timedelta(days=8)).isoformat(), "amount_minor": 5_000, "lines": [line]}

    def send(self, path: str, body: dict[str, Any]) -> float:
        """Send something of which all is refused and return the seconds that it took."""
        begun = perf_counter()
        answer = self._client.post(f"/api/v1/{path}", body, content_type="application/json")
        taken = perf_counter() - begun
        outcomes = {one["outcome"] for one in answer.json().get("results", ())}
        if outcomes - {"refused"} or answer.status_code not in (200, 422):
            raise RuntimeError(f"not all was refused: {answer.content[:300]!r}")
        return taken
