"""Closes side by side, and closes whose worker is killed: everything happens once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from random import Random
from threading import Barrier
from typing import Any

import pytest
from django.db import connections
from django.db.models.functions import Now

from core.calendar import day_start
from core.models import Program
from points.services.verify import verify
from storefront.models import DayClose, DayCloseStep
from storefront.services import day_close
from storefront.services.day_close import CloseUnderWay, LeaseLost
from tests.core.test_outbox import _url_of_this_database
from tests.storefront.closing import DAY, MINUTE, Arrival, draw_arrivals, open_shop, outcome, tell

pytestmark = pytest.mark.django_db(transaction=True)

ZONE = "Europe/London"
FIRST = date(2026, 5, 21)
DAYS = 11
LAST = FIRST + (DAYS - 1) * DAY
AT = day_start(LAST + DAY, ZONE) + MINUTE
WORKERS = 4
DEEP_KILLS = 20
# A statement behind the claim and far from the end.
FIRST_STEP = 40


def live(folder: Path, code: str) -> Program:
    """A shop after days that nobody closed, so that its first close has much to do; with late facts waiting."""
    program = open_shop(folder, code, ZONE, joined_at=day_start(FIRST, ZONE) - DAY)
    arrivals = draw_arrivals(Random(5), ZONE, FIRST, DAYS, has_late=False)
    tell(program, [Arrival(min(arrival.recorded_at, AT), arrival.fact) for arrival in arrivals])
    return program


def close(program: Program, at: datetime = AT) -> DayClose:
    return day_close.close_day(program=program, day=LAST, at=at)


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, Any]:
    """What one close by one worker brings about."""
    program = live(tmp_path, "reference")
    close(program)
    found = outcome(program)
    assert found["reminders"]
    assert {entry[2] for entry in found["entries"]} >= {7, 8}
    return found


def race(program: Program) -> Iterator[object]:
    together = Barrier(WORKERS, timeout=30)

    def work(_: int) -> object:
        try:
            together.wait()
            return close(program)
        except (CloseUnderWay, LeaseLost) as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(WORKERS) as pool:
        yield from pool.map(work, range(WORKERS))


def test_side_by_side_one_worker_closes_and_the_others_leave_it(tmp_path: Path, expected: dict[str, Any]) -> None:
    program = live(tmp_path, "raced")
    outcomes = list(race(program))
    assert sum(isinstance(found, DayClose) for found in outcomes) >= 1
    assert all(isinstance(found, DayClose | CloseUnderWay) for found in outcomes)
    assert DayClose.objects.get(program=program).attempts == 1
    assert outcome(program) == expected
    assert list(verify(program=program)) == []


def test_correctness_does_not_rest_on_the_lease(
    tmp_path: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every worker gets the close and keeps it: the steps themselves do nothing twice."""
    program = live(tmp_path, "unleased")
    monkeypatch.setattr(day_close, "_claim", lambda close: close)
    monkeypatch.setattr(day_close, "_held", lambda claim: DayClose.objects.filter(pk=claim.pk))
    outcomes = list(race(program))
    assert all(isinstance(found, DayClose) for found in outcomes)
    assert outcome(program) == expected
    assert list(verify(program=program)) == []


def _count_statements(program: Program) -> int:
    worker = _run_worker(program, 0)
    assert worker.returncode == 0, worker.stderr
    return int(worker.stdout)


def _run_worker(program: Program, deadly: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.storefront.closing_worker", program.code, AT.isoformat(), str(deadly)],
        env=os.environ | {"DATABASE_URL": _url_of_this_database()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _kill_and_complete(folder: Path, expected: dict[str, Any], code: str, deadly: int) -> None:
    program = live(folder, code)
    worker = _run_worker(program, deadly)
    assert worker.returncode == -signal.SIGKILL, worker.stderr
    # As if the lease had lapsed.
    DayClose.objects.filter(program=program).update(leased_until=Now())
    done = close(program)
    assert done.finished_at is not None
    assert outcome(program) == expected
    assert list(verify(program=program)) == []
    steps = DayCloseStep.objects.filter(close=done)
    assert steps.count() == len(day_close.StepName)
    assert not steps.filter(finished_at=None).exists()


def test_a_close_killed_in_the_middle_is_completed(tmp_path: Path, expected: dict[str, Any]) -> None:
    statements = _count_statements(live(tmp_path, "counted"))
    for share in (0.1, 0.5, 0.9):
        _kill_and_complete(tmp_path, expected, f"killed-{share:.0%}".rstrip("%"), int(share * statements))


@pytest.mark.deep
def test_wherever_a_close_is_killed_the_next_completes_it(tmp_path: Path, expected: dict[str, Any]) -> None:
    statements = _count_statements(live(tmp_path, "counted"))
    for number in range(DEEP_KILLS):
        deadly = int((number + Random(number).random()) / DEEP_KILLS * statements) + 1
        _kill_and_complete(tmp_path, expected, f"killed-{number}", deadly)


def test_the_lease_is_taken_before_the_first_step(tmp_path: Path) -> None:
    """A worker that dies at once leaves a lease, which keeps others away until it lapses."""
    program = live(tmp_path, "leased")
    worker = _run_worker(program, FIRST_STEP)
    assert worker.returncode == -signal.SIGKILL, worker.stderr
    with pytest.raises(CloseUnderWay):
        close(program)
