"""Operators for the tests of the admin, and a shop with a member who has a history to look at."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.contrib.auth.models import Permission, User
from django.test import Client

from core.models import Program
from core.services import outbox
from membership.fact_inputs import MemberInput
from membership.models import Member
from membership.services.members import enroll_members
from points.models import Wallet
from points.services import operations
from storefront.services import intake, program_file
from tests.storefront.shop import definition, order, refund, review

# The admin asks what time it is, so what it shows is dated from now on backward.
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
START = NOW - 40 * DAY


def make_operator(name: str, *permissions: str) -> User:
    """Return someone who may enter the admin, with these permissions: `app.codename`."""
    user = User.objects.create_user(name, password="a long password", is_staff=True)
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user


def log_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def make_shop(folder: Path, code: str = "shop") -> Program:
    """Return a program with m0, who did a little of everything, m1, who bought once, and m2, who only joined."""
    path = folder / f"{code}.yaml"
    path.write_text(json.dumps(definition(code, {})))
    program = program_file.apply(program_file.load(path), at=START - 100 * DAY, actor="test")
    joined = [MemberInput(external_id=f"m{n}", joined_at=START - 99 * DAY, country="GB") for n in range(3)]
    enroll_members(program=program, members=joined, at=START - 99 * DAY)
    add_orders(program, 3)
    intake.record(
        program=program,
        orders=[order("late", (1, 5_000), at=NOW - 35 * DAY, member="m1")],
        refunds=[refund("r1", ("o1.1", 1, 1_500), at=NOW - 20 * DAY)],
        activities=[review("kind words", at=NOW - 10 * DAY)],
        at=NOW - 9 * DAY,
    )
    account = {"program": program, "member_id": member(program).pk, "wallet_id": wallet(program).pk}
    operations.redeem(**account, points=30, idempotency_key="redeem", at=NOW - 5 * DAY)  # type: ignore[arg-type]
    outbox.drain(at=NOW)
    return program


def add_orders(program: Program, count: int, prefix: str = "o") -> None:
    """Let m0 buy once a day, two lines each."""
    orders = [
        order(f"{prefix}{n}", (2, 3_000), (1, 1_050), at=NOW - (30 - n % 30) * DAY + n * timedelta(seconds=1))
        for n in range(count)
    ]
    for start in range(0, count, 50):
        intake.record(program=program, orders=orders[start : start + 50], refunds=[], activities=[], at=NOW)


def member(program: Program, name: str = "m0") -> Member:
    return Member.objects.select_related("program").get(program=program, external_id=name)


def wallet(program: Program, code: str = "points") -> Wallet:
    return Wallet.objects.get(program=program, code=code)
