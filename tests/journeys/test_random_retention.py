"""Random small histories: retention, tiers and points of time equal the calculation from files.

The same history is told one by one in the order of time, in any order, and replayed from its files.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from analytics.selectors import get_report
from analytics.services import months
from core.models import Program
from core.services import outbox
from membership.fact_inputs import MemberInput
from membership.models import Ladder
from membership.services.members import enroll_members
from membership.services.tiers import apply_dirty, due_evaluations, evaluate
from points.models import Wallet
from points.selectors import get_totals
from points.services.expiry import settle_due
from points.services.verify import verify
from storefront.replay.run import replay
from storefront.services import intake, program_file
from tests.journeys.histories import (
    CURRENCY,
    MEMBERS,
    Burn,
    Fact,
    History,
    Order,
    Refund,
    day_zero,
    histories,
    in_order,
)
from tests.oracle.edge_cases import Book
from tests.oracle.replay import compute

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_numbers = count(1)
some = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
many = settings(some, max_examples=1_000)

CUTS = {"bronze": 0, "silver": 300, "gold": 700, "platinum": 1_200, "diamond": 2_000}
WINDOW_DAYS, EXPIRY_DAYS = 40, 30


def program_text(zone: str) -> str:
    tiers = "".join(
        f"      - code: {code}\n        name: {code}\n        entry: {{any_of: [{{all_of: [{{metric: net_spend,"
        f' at_least: "{cut / 100:.2f}", window: {{rolling_days: {WINDOW_DAYS}}}}}]}}]}}\n'
        for code, cut in CUTS.items()
        if cut
    )
    return f"""
program: {{code: small, name: Small, currency: {CURRENCY}, time_zone: {zone}}}
ladders:
  - code: main
    name: Tiers
    upgrade: at_evaluation
    evaluation: {{every: month}}
    tiers:
      - {{code: bronze, name: Bronze}}
{tiers}
wallets:
  - {{code: points, name: Points, expiry_days: {EXPIRY_DAYS}}}
earn_rules:
  - {{code: spend, name: Spend, wallet: points, trigger: order_line, formula: {{points: 1, per: "1.00"}}}}
"""


def write(history: History, folder: Path) -> Path:
    """Write the history as a data set."""
    directory = folder / f"history-{next(_numbers)}"
    book = Book()
    for fact in history.facts:
        at = fact.at.isoformat()
        if isinstance(fact, Order):
            book.order(fact.name, fact.member, at, *fact.lines)
        elif isinstance(fact, Refund):
            book.refund(fact.name, fact.member, at, *((part.line, part.units or 0, part.minor) for part in fact.parts))
    book.write(directory)
    return directory


def tell(program: Program, arrivals: Iterator[list[Fact | Burn]], history: History) -> None:
    """Tell the facts as they arrive, each evaluation before the first fact at or after it."""
    ladder = Ladder.objects.get(program=program)
    first, last = min(one.at for one in history.events), max(one.at for one in history.events)
    due = due_evaluations(ladder=ladder, after=first, until=last)
    for group in arrivals:
        while due and due[0] <= group[0].at:
            evaluate(ladder=ladder, instant=due.pop(0), at=NOW)
            ladder.refresh_from_db()
        orders: list[Any] = [fact.told() for fact in group if isinstance(fact, Order)]
        refunds: list[Any] = [fact.told() for fact in group if isinstance(fact, Refund)]
        intake.record(program=program, orders=orders, refunds=refunds, at=NOW)
    for instant in due:
        evaluate(ladder=ladder, instant=instant, at=NOW)
        ladder.refresh_from_db()
    apply_dirty(ladder=ladder, through=last, at=NOW)


def report(program: Program, history: History, as_of: Sequence[datetime]) -> dict[str, Any]:
    settle_due(program=program, through=max(as_of), at=NOW)
    outbox.drain(at=NOW)
    months.refresh(program=program, through=max(one.at for one in history.events))
    wallet, names = Wallet.objects.get(program=program), ("earned", "clawed_back", "expired", "outstanding")
    totals = {instant: get_totals(wallet=wallet, before=instant) for instant in as_of}
    points = {at.isoformat(): {name: getattr(found, name) for name in names} for at, found in totals.items()}
    return get_report(program_id=program.pk) | {"points": points}


def check_reports(history: History, random: Random, folder: Path) -> None:
    directory = write(history, folder)
    path = folder / "program.yaml"
    path.write_text(program_text(history.zone))
    last = max(one.at for one in history.events)
    one, another = random.choice(history.events).at, random.choice(history.events).at
    as_of = [one, day_zero(another, history.time_zone, EXPIRY_DAYS + 1), last + timedelta(days=99)]
    expected = compute(
        directory, cuts=CUTS, time_zone=history.zone, as_of=[instant.isoformat() for instant in as_of],
        window_days=WINDOW_DAYS, expiry_days=EXPIRY_DAYS,
    )  # fmt: skip
    mean = expected["repurchase"]["mean_days_between_orders"]
    if mean is not None:
        expected["repurchase"]["mean_days_between_orders"] = pytest.approx(mean, rel=1e-12, abs=0)
    event(f"months: {len(expected['tiers'])}")

    def new_program() -> Program:
        file = program_file.load(path, code=f"s{next(_numbers)}")
        program = program_file.apply(file, at=NOW, actor="test")
        joined = {member: at for member in MEMBERS if (at := history.joined_at(member))}
        told = [MemberInput(external_id=member, joined_at=at) for member, at in joined.items()]
        enroll_members(program=program, members=told, at=NOW)
        return program

    one_by_one = new_program()
    tell(one_by_one, ([one] for one in in_order(history.events)), history)
    assert report(one_by_one, history, as_of) == expected
    late = new_program()
    tell(late, history.arrivals(random), history)
    # Points follow the order of arrival: what was taken back of a lot that had expired by then is not.
    assert report(late, history, as_of) | {"points": expected["points"]} == expected
    replayed = replay(
        directory=directory, file=program_file.load(path, code=f"s{next(_numbers)}"),
        as_of=[(instant.isoformat(), instant) for instant in as_of], rejects=None, at=NOW, progress=lambda *_: None,
    )  # fmt: skip
    assert {name: replayed[name] for name in expected} == expected
    assert replayed["verify"] == {"mismatches": 0, "chain_breaks": 0}
    assert list(verify(program=one_by_one)) == list(verify(program=late)) == []


REPORTS = given(history=histories(days=75, is_replayable=True), random=st.randoms(use_true_random=False))


@some
@REPORTS
def test_retention_and_points_equal_the_calculation_from_files(
    history: History, random: Random, tmp_path: Path
) -> None:
    check_reports(history, random, tmp_path)


@pytest.mark.deep
@many
@REPORTS
def test_retention_and_points_equal_the_calculation_in_a_thousand_histories(
    history: History, random: Random, tmp_path: Path
) -> None:
    check_reports(history, random, tmp_path)
