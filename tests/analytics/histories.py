"""Give a program a history through the services that everything else uses."""

import csv
import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from analytics.services import months
from config.environment import PROJECT
from core.models import Program
from core.services import outbox
from membership.fact_inputs import MemberInput, OrderInput, OrderLineInput, RefundInput
from membership.models import Ladder, Member
from membership.services.evaluations import evaluate, list_due
from membership.services.facts import record_facts
from membership.services.members import enroll_members
from storefront.services import program_file

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_numbers = count(1)


def new_program(time_zone: str = "UTC") -> Program:
    """A program of retail_usd.yaml's rules in the zone; each call makes another one."""
    file = program_file.load(PROJECT / "programs" / "retail_usd.yaml", code=f"shop-{next(_numbers)}")
    program = file.program.model_copy(update={"time_zone": time_zone})
    return program_file.apply(replace(file, program=program), at=NOW, actor="test")


def order(name: str, member: str, at: datetime, amount_minor: int = 1_000, units: int = 1) -> OrderInput:
    line = OrderLineInput(external_id=f"{name}.1", units=units, amount_minor=amount_minor)
    return OrderInput(
        external_id=name, member=member, paid_at=at, currency="USD", amount_minor=amount_minor, lines=(line,)
    )


def refund(name: str, member: str, at: datetime, amount_minor: int = 1_000) -> RefundInput:
    return RefundInput(external_id=name, member=member, refunded_at=at, currency="USD", amount_minor=amount_minor)


def record(program: Program, *, orders: Sequence[OrderInput] = (), refunds: Sequence[RefundInput] = ()) -> None:
    """Enroll whoever appears, at their first fact, and record the facts. No news is delivered yet."""
    joined: dict[str, datetime] = {}
    for member, at in [*((o.member, o.paid_at) for o in orders), *((r.member, r.refunded_at) for r in refunds)]:
        if member:
            joined[member] = min(at, joined.get(member, at))
    enroll_members(
        program=program, members=[MemberInput(external_id=name, joined_at=at) for name, at in joined.items()], at=NOW
    )
    record_facts(program=program, orders=orders, refunds=refunds, at=NOW)


def evaluate_until(program: Program, until: datetime) -> None:
    """Run every evaluation of the main ladder that is due."""
    ladder = Ladder.objects.get(program=program, code="main")
    for instant in list_due(ladder=ladder, until=until):
        evaluate(ladder=ladder, instant=instant, at=NOW)


def follow(program: Program, until: datetime) -> int:
    """Deliver the news and bring the months up to date; return how many rows that wrote."""
    outbox.drain(at=NOW)
    return months.refresh(program=program, through=until)


def member_id(program: Program, name: str) -> int:
    return Member.objects.get(program=program, external_id=name).pk


def read_directory(directory: Path) -> tuple[list[OrderInput], list[RefundInput]]:
    """The orders and refunds of a data set in the replay's format. Refund lines touch no figure of retention."""
    orders = [
        order(row["order_id"], row["member_id"], datetime.fromisoformat(row["ordered_at"]), int(row["amount"]))
        for row in _rows(directory / "orders.csv.gz")
    ]
    refunds = [
        refund(row["refund_id"], row["member_id"], datetime.fromisoformat(row["refunded_at"]), int(row["amount"]))
        for row in _rows(directory / "refunds.csv.gz")
    ]
    return orders, refunds


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def last_order_at(orders: Iterable[OrderInput]) -> datetime:
    return max(one.paid_at for one in orders if one.member)
