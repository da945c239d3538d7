"""A program file's `start_date` and `sandbox`: read strictly, compared, and the sandbox fixed with the first fact."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import pytest
from django.db import IntegrityError, transaction

from core.models import AuditEntry, Program
from core.sections import ProgramFileError
from storefront.services import program_file
from tests.storefront.program_files import load_small

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
ZONE = "time_zone: Europe/London}\nmarkets"

Load = Callable[[str], program_file.ProgramFile]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load the small file with more keys of its program."""
    return lambda more: partial(load_small, tmp_path)((ZONE, f"time_zone: Europe/London{more}}}\nmarkets"))


def _apply(file: program_file.ProgramFile) -> Program:
    return program_file.apply(file, at=NOW, actor="test")


@pytest.mark.django_db
def test_left_out_there_is_no_first_day_and_no_sandbox(load: Load) -> None:
    program = _apply(load(""))
    assert (program.start_date, program.is_sandbox) == (None, False)


@pytest.mark.django_db
def test_both_are_kept_compared_and_in_the_audit_trail(load: Load) -> None:
    _apply(load(""))
    file = load(", start_date: 2026-01-31, sandbox: true")
    assert program_file.plan(file, at=NOW) == [
        "~ program aurora",
        "    start_date: None -> 2026-01-31",
        "    is_sandbox: False -> True",
    ]
    _apply(file)
    program = Program.objects.get()
    assert (program.start_date, program.is_sandbox) == (date(2026, 1, 31), True)
    assert program_file.plan(file, at=NOW) == []
    entry = AuditEntry.objects.get(action="program.changed")
    assert (entry.after or {})["start_date"] == "2026-01-31"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (
            ", start_date: 2026-02-30",
            "program.start_date: '2026-02-30' is no day of the calendar: day is out of",
        ),
        (", start_date: 0001-01-01", "program.start_date: write a day of the years 1900 to 2099"),
        (", start_date: 9999-12-31", "program.start_date: write a day of the years 1900 to 2099"),
        (", start_date: 20260101", "program.start_date: 20260101 is not a day such as 2026-03-01"),
        (", start_date: '1767225600'", "program.start_date: '1767225600' is not a day such as 2026-03-01"),
        (", start_date: 2026-01-01T00:00:00Z", "is not a day such as 2026-03-01"),
        (", sandbox: yes", "program.sandbox: must be a valid boolean"),
        (", sandbox: 1", "program.sandbox: must be a valid boolean"),
    ],
)
def test_what_is_no_day_or_no_truth_is_a_mistake(load: Load, more: str, problem: str) -> None:
    with pytest.raises(ProgramFileError) as refused:
        load(more)
    assert len(refused.value.problems) == 1
    assert problem in refused.value.problems[0]


@pytest.mark.django_db
def test_a_sandbox_stays_one_from_the_first_fact_on(load: Load) -> None:
    program = _apply(load(", sandbox: true"))
    Program.objects.update(opened_at=NOW)
    with pytest.raises(ProgramFileError) as refused:
        _apply(load(", start_date: 2026-01-31"))
    assert refused.value.problems == ["program.sandbox: is fixed at True since the first fact was recorded"]
    with pytest.raises(IntegrityError, match="whether it is a sandbox"), transaction.atomic():
        Program.objects.update(is_sandbox=False)
    program.refresh_from_db()
    assert (program.is_sandbox, program.start_date) == (True, None)


@pytest.mark.django_db
def test_the_first_day_may_be_set_after_the_first_fact(load: Load) -> None:
    _apply(load(""))
    Program.objects.update(opened_at=NOW)
    assert _apply(load(", start_date: 2026-01-31")).start_date == date(2026, 1, 31)
