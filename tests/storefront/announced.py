"""A shop of today whose news are told to the world: its program, its use cases, and what has been announced."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from core.models import Event, Program
from core.services import outbox
from membership.fact_inputs import MemberInput
from membership.models import Ladder, Member
from membership.services.members import enroll_members
from points.models import Wallet
from points.services import operations
from storefront.services import intake, program_file
from tests.storefront.shop import definition

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
JOINED = NOW - 10 * DAY


def make_shop(folder: Path, code: str = "shop", *, members: int = 1, **policy: Any) -> Program:
    """Gems are pending for three days. The members m0, m1, ... joined ten days ago."""
    told = definition(code, policy)
    told["wallets"][1]["pending_days"] = 3
    path = folder / f"{code}.yaml"
    path.write_text(json.dumps(told))
    program = program_file.apply(program_file.load(path), at=JOINED, actor="test")
    joined = [MemberInput(external_id=f"m{n}", joined_at=JOINED) for n in range(members)]
    enroll_members(program=program, members=joined, at=JOINED)
    return program


def tell(program: Program, at: datetime = NOW, **facts: Any) -> None:
    intake.record(program=program, **facts, at=at)


def deliver(at: datetime = NOW) -> outbox.Delivery:
    return outbox.drain(at=at)


def announced(*types: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (type, data) of the events announced so far, of these types or of all, in their order."""
    events = Event.objects.order_by("program", "number")
    return [(event.type, event.data) for event in events if not types or event.type in types]


def forget() -> None:
    """Deliver what is waiting and remove all events."""
    assert deliver().failed == 0
    Event.objects.all().delete()


def member(program: Program, name: str = "m0") -> Member:
    return Member.objects.get(program=program, external_id=name)


def ladder(program: Program) -> Ladder:
    return Ladder.objects.get(program=program)


def redeem(program: Program, points: int, *, at: datetime = NOW, key: str = "r") -> int:
    return _decide(operations.redeem, program, points, at, key)


def adjust(program: Program, points: int, *, at: datetime = NOW, key: str = "a") -> int:
    return _decide(operations.adjust, program, points, at, key, reason="a reason with a name in it", decided_by="ops")


def reverse(program: Program, transaction_id: int, *, at: datetime = NOW) -> None:
    operations.reverse(
        program=program,
        member_id=member(program).pk,
        wallet_id=wallet(program).pk,
        transaction_id=transaction_id,
        reason="a mistake",
        decided_by="ops",
        idempotency_key=f"reverse {transaction_id}",
        at=at,
    )


def wallet(program: Program, code: str = "points") -> Wallet:
    return Wallet.objects.get(program=program, code=code)


def _decide(operation: Any, program: Program, points: int, at: datetime, key: str, **more: Any) -> int:
    posted = operation(
        program=program,
        member_id=member(program).pk,
        wallet_id=wallet(program).pk,
        points=points,
        idempotency_key=key,
        at=at,
        **more,
    )
    return int(posted.transaction_id)
