"""A program with one wallet, and members without points."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

import pytest

from core.models import Program
from core.versions import publish
from membership.models import Member
from points.models import Wallet

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def program(db: None) -> Program:
    return Program.objects.create(code="shop", name="Shop", currency="GBP", time_zone="UTC")


@pytest.fixture
def wallet(program: Program) -> Wallet:
    wallet = Wallet.objects.create(program=program, code="points", name="Points")
    publish(wallet, {"expiry_days": 365}, at=NOW)
    return wallet


@pytest.fixture
def new_member(program: Program) -> Callable[[], int]:
    numbers = count(1)

    def make() -> int:
        member = Member.objects.create(program=program, external_id=f"m{next(numbers)}", joined_at=NOW, recorded_at=NOW)
        return member.pk

    return make
