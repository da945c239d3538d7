"""Rules for activities pay once per member, kind, subject and local day, however many come and however they come."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import yaml
from django.db import connections

from core.models import Program
from core.sections import ProgramFileError
from membership.fact_inputs import ActivityInput, MemberInput
from membership.models import Member
from membership.services.members import enroll_members
from points.models import Accrual, AccrualReason, EarnRule, PaidActivity
from points.selectors import get_balance
from storefront.services import intake, program_file
from tests.api.conftest import AURORA

JOINED = datetime(2026, 1, 1, tzinfo=UTC)
# 23:30 in London, summer time.
LATE = datetime(2026, 6, 1, 22, 30, tzinfo=UTC)


def make_program() -> Program:
    program = program_file.apply(program_file.load(AURORA), at=JOINED, actor="test")
    enroll_members(program=program, members=[MemberInput(external_id="ada", joined_at=JOINED)], at=JOINED)
    return program


@pytest.fixture
def program(db: None) -> Program:
    return make_program()


def did(name: str, at: datetime = LATE, **more: Any) -> ActivityInput:
    told: dict[str, Any] = {"external_id": name, "member": "ada", "kind": "check_in", "occurred_at": at}
    return ActivityInput(**told | more)


def tell(program: Program, *activities: ActivityInput) -> None:
    intake.record(program=program, activities=activities, at=LATE + timedelta(days=30))


def balance(program: Program) -> int:
    ada = Member.objects.get(program=program)
    found = [Accrual.objects.values_list("wallet_id", flat=True).first()]
    at = LATE + timedelta(days=30)
    return get_balance(member_id=ada.pk, wallet_id=found[0] or 0, at=at).available if found[0] else 0


def test_thirty_check_ins_of_a_day_pay_once(program: Program) -> None:
    tell(program, *(did(f"c{n}", LATE - timedelta(minutes=n)) for n in range(15)))
    for n in range(15, 30):
        tell(program, did(f"c{n}", LATE - timedelta(minutes=n)))
    assert (balance(program), Accrual.objects.count(), PaidActivity.objects.count()) == (5, 30, 1)
    reasons = Accrual.objects.values_list("reason", "points").order_by("-points")
    assert list(reasons)[:2] == [(AccrualReason.EARNED, 5), (AccrualReason.PAID_THAT_DAY, 0)]


def test_the_day_is_the_programs(program: Program) -> None:
    tell(program, did("a"), did("b", LATE + timedelta(minutes=29)), did("c", LATE + timedelta(minutes=30)))
    assert balance(program) == 10


@pytest.mark.parametrize(
    ("more", "points"),
    [
        ([{}, {}], 50),
        ([{"product": "mug"}, {"product": "mug"}], 50),
        ([{"product": "mug"}, {"product": "cup"}], 100),
        ([{"order": "2026/1"}, {"order": "2026/2"}], 100),
        ([{"order": "2026/1", "product": "mug"}, {"order": "2026/1"}], 100),
        ([{"source": "web"}, {"source": "app"}], 50),
        ([{"kind": "share"}, {}], 70),
    ],
)
def test_what_it_was_about_counts(program: Program, more: Sequence[dict[str, Any]], points: int) -> None:
    tell(program, *(did(f"r{n}", **{"kind": "review"} | one) for n, one in enumerate(more)))
    assert balance(program) == points


def test_told_again_the_paid_one_stays_paid(program: Program) -> None:
    for _ in range(2):
        tell(program, did("a"), did("b"))
    assert (balance(program), PaidActivity.objects.count()) == (5, 1)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_is_paid() -> None:
    program, gate = make_program(), Barrier(6)

    def run(n: int) -> None:
        gate.wait(timeout=30)
        try:
            tell(program, did(f"c{n}"), did(f"d{n}", kind="share"))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as executor:
        list(executor.map(run, range(6)))
    assert balance(program) == 5 + 20
    assert Accrual.objects.filter(points__gt=0).count() == 2


def without_cap(program: Program) -> EarnRule:
    """A rule as it was published before rules paid once a day."""
    rule = EarnRule.objects.get(program=program, code="check-in")
    version = rule.versions.get()
    definition = {key: value for key, value in version.definition.items() if key != "once_per_day"}
    old = EarnRule.objects.create(program=program, code="old-check-in")
    old.versions.create(number=1, status="published", definition=definition, published_at=JOINED)
    return old


def load(tmp_path: Path, **rule: Any) -> program_file.ProgramFile:
    document = yaml.safe_load(AURORA.read_text())
    document["earn_rules"].append({
        "code": "old-check-in", "name": "Daily check-in", "wallet": "points", "trigger": "activity",
        "activity_kinds": ["check_in"], "formula": {"fixed": 5}, **rule,
    })  # fmt: skip
    path = tmp_path / "program.yaml"
    path.write_text(json.dumps(document))
    return program_file.load(path)


def test_a_published_rule_pays_each_time_until_it_is_published_anew(program: Program, tmp_path: Path) -> None:
    without_cap(program)
    tell(program, did("a"), did("b"))
    assert balance(program) == 5 + 2 * 5
    plan = program_file.plan(load(tmp_path), at=LATE)
    assert plan == ["~ earn_rule old-check-in: v1 -> v2", "    once_per_day: False -> True"]
    program_file.apply(load(tmp_path), at=LATE + timedelta(days=1), actor="test")
    program.refresh_from_db()
    tell(program, *(did(f"n{n}", LATE + timedelta(days=2)) for n in range(3)))
    assert balance(program) == 15 + 2 * 5


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"once_per_day": False}, "once_per_day: write true: rules for activities pay once a day, others do not"),
        (
            {"once_per_day": True, "trigger": "order_line", "activity_kinds": []},
            "once_per_day: write false: rules for activities pay once a day, others do not",
        ),
    ],
)
def test_it_cannot_be_published_otherwise(program: Program, tmp_path: Path, rule: dict[str, Any], problem: str) -> None:
    with pytest.raises(ProgramFileError) as refused:
        load(tmp_path, **rule)
    assert [one.partition(".")[2] for one in refused.value.problems] == [problem]
