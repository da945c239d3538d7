"""The cells: when they are final, what a late fact leaves behind, and that they are sums of facts."""

from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.utils import IntegrityError, InternalError
from django.test.utils import CaptureQueriesContext

from analytics import retention, rules
from analytics.models import (
    MemberStat,
    Report,
    Restatement,
    RestatementCause,
    RetentionCell,
    RetentionState,
)
from analytics.retention import Filters
from analytics.rules import State
from analytics.services import cells, stats
from core.models import Program
from membership.models import Member
from tests.analytics.customers import bought, open_shop, refresh, tell
from tests.analytics.histories import NOW

MARCH = datetime(2025, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
EVER = Filters(date(2000, 1, 1), date(2100, 1, 1))
# The settle window of April 2025 ends with this day.
APRIL_FINAL = date(2025, 4, 30) + rules.SETTLE_DAYS * DAY


@pytest.fixture
def program(db: None, tmp_path: Path) -> Program:
    return open_shop(tmp_path)


def april(program: Program, tier: str = "basic") -> retention.Figure:
    rows = retention.list_active_rates(ground=retention.get_ground(program=program), filters=EVER)
    return next(row.figure for row in rows if row.key == {"month": date(2025, 4, 1), "tier": tier})


def ann_and_bob(program: Program) -> None:
    """Two who bought in March; ann came back in April."""
    tell(program, [bought("o1", "ann", MARCH), bought("o2", "bob", MARCH + DAY), bought("o3", "ann", MARCH + 40 * DAY)])


def test_a_second_refresh_changes_nothing(program: Program) -> None:
    ann_and_bob(program)
    assert refresh(program, MARCH + 90 * DAY) > 0
    before = list(RetentionCell.objects.order_by("pk").values())
    assert refresh(program, MARCH + 90 * DAY) == 0
    assert list(RetentionCell.objects.order_by("pk").values()) == before
    assert not Restatement.objects.exists()
    assert RetentionState.objects.get(program=program).watermark == date(2025, 5, 29)


def test_an_active_rate_ripens_with_its_month(program: Program) -> None:
    ann_and_bob(program)
    seen = {}
    for day in (date(2025, 4, 29), date(2025, 4, 30), APRIL_FINAL - DAY, APRIL_FINAL):
        refresh(program, day)
        seen[day] = april(program)
    assert seen == {
        date(2025, 4, 29): retention.Figure(None, None, State.IMMATURE),
        date(2025, 4, 30): retention.Figure(2, 1, State.PROVISIONAL),
        APRIL_FINAL - DAY: retention.Figure(2, 1, State.PROVISIONAL),
        APRIL_FINAL: retention.Figure(2, 1, State.FINAL),
    }


def test_nobody_in_a_tier_is_zero_only_once_the_month_is_over(program: Program) -> None:
    ann_and_bob(program)
    refresh(program, date(2025, 4, 29))
    assert april(program, "gold") == retention.Figure(None, None, State.IMMATURE)
    refresh(program, date(2025, 4, 30))
    assert april(program, "gold") == retention.Figure(0, 0, State.PROVISIONAL)
    assert april(program, "gold").rate_bps is None


@pytest.mark.parametrize(
    ("zone", "midnight"),
    [
        ("UTC", datetime(2025, 5, 1, tzinfo=UTC)),
        ("America/New_York", datetime(2025, 5, 1, 4, tzinfo=UTC)),  # summer time began in March
        ("Asia/Kathmandu", datetime(2025, 4, 30, 18, 15, tzinfo=UTC)),
    ],
)
@pytest.mark.django_db
def test_a_month_is_over_at_local_midnight(zone: str, midnight: datetime, tmp_path: Path) -> None:
    program = open_shop(tmp_path, zone)
    tell(program, [bought("o1", "ann", MARCH + 6 * DAY), bought("o2", "ann", midnight - timedelta(microseconds=1))])
    refresh(program, midnight - DAY)
    assert april(program).state == State.IMMATURE
    refresh(program, midnight)
    assert april(program) == retention.Figure(1, 1, State.PROVISIONAL)


@pytest.mark.django_db
def test_days_are_local_days_whatever_their_length(tmp_path: Path) -> None:
    """Sao Paulo skips the first hour of 4 November 2018: an order 23 hours later is a day later all the same."""
    program = open_shop(tmp_path, "America/Sao_Paulo")
    first = datetime(2018, 11, 4, 2, 59, tzinfo=UTC)  # 23:59 on the 3rd
    tell(program, [bought("o1", "ann", first), bought("o2", "ann", first + timedelta(minutes=1))])
    refresh(program, date(2019, 12, 31))
    stat = MemberStat.objects.get(program=program)
    assert (stat.entry_day, stat.next_gap, stat.same_day) == (date(2018, 11, 3), 1, False)


@pytest.mark.parametrize(
    ("gap", "brackets"), [(1, {30}), (30, {30}), (31, {60}), (60, {60}), (61, {90}), (90, {90}), (91, set())]
)
def test_a_bracket_has_both_its_ends(program: Program, gap: int, brackets: set[int]) -> None:
    tell(program, [bought("o1", "ann", MARCH), bought("o2", "ann", MARCH + gap * DAY)])
    refresh(program, date(2026, 12, 31))
    found = RetentionCell.objects.filter(program=program, report=Report.BRACKET, retained=1)
    assert set(found.values_list("step", flat=True)) == brackets


def test_everybody_is_followed_for_the_same_time(program: Program) -> None:
    """An order after the follow-up brings nobody back; one on its last day does."""
    last = rules.FOLLOW_UP_DAYS
    tell(program, [bought("o1", "ann", MARCH), bought("o2", "ann", MARCH + last * DAY)])
    tell(program, [bought("o3", "bob", MARCH), bought("o4", "bob", MARCH + (last + 1) * DAY)])
    refresh(program, date(2026, 12, 31))
    after = RetentionCell.objects.filter(program=program, report=Report.AFTER).values_list("step", "n", "retained")
    assert set(after) == {(n, 2, 1) for n in rules.DAY_N}


def test_the_entry_tier_counts_the_first_order_and_nothing_later(program: Program) -> None:
    orders = [bought("o1", "big", MARCH, 30_000), bought("o2", "small", MARCH, 100)]
    tell(program, [*orders, bought("o3", "small", MARCH + DAY, 90_000)])
    refresh(program, date(2025, 5, 1))
    found = MemberStat.objects.filter(program=program).values_list("member__external_id", "segment__tier__code")
    assert dict(found) == {"big": "gold", "small": "basic"}


def test_a_late_fact_restates_final_cells_alone(program: Program) -> None:
    ann_and_bob(program)
    refresh(program, APRIL_FINAL)
    tell(program, [bought("late", "bob", MARCH + 45 * DAY)])
    assert refresh(program, APRIL_FINAL) > 0
    assert april(program) == retention.Figure(2, 2, State.FINAL)
    whole = Restatement.objects.filter(segment=None)
    names = (
        "report",
        "period",
        "step",
        "tier__code",
        "n_before",
        "retained_before",
        "n_after",
        "retained_after",
        "cause",
    )
    assert set(whole.values_list(*names)) == {
        ("active", date(2025, 4, 1), 0, "basic", 2, 1, 2, 2, RestatementCause.FACTS),
        ("cohort", date(2025, 3, 1), 1, None, 2, 1, 2, 2, RestatementCause.FACTS),
    }
    assert Restatement.objects.exclude(segment=None).count() == 2, "and of each the part that changed"


def test_a_provisional_cell_changes_without_a_restatement(program: Program) -> None:
    ann_and_bob(program)
    refresh(program, APRIL_FINAL - DAY)
    tell(program, [bought("late", "bob", MARCH + 45 * DAY)])
    refresh(program, APRIL_FINAL)
    assert april(program) == retention.Figure(2, 2, State.FINAL)
    assert not Restatement.objects.exists()


def test_new_definitions_say_so(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    ann_and_bob(program)
    refresh(program, APRIL_FINAL)
    RetentionCell.objects.filter(program=program, report=Report.ACTIVE).update(retained=0)
    monkeypatch.setattr(rules, "DEFINITION_VERSION", 2)
    refresh(program, APRIL_FINAL)
    one = Restatement.objects.get(program=program, segment=None)
    assert (one.cause, one.definition_version, one.retained_before, one.retained_after) == ("definition", 2, 0, 1)
    assert RetentionState.objects.get(program=program).definition_version == 2


def test_the_watermark_never_moves_back(program: Program) -> None:
    ann_and_bob(program)
    refresh(program, APRIL_FINAL)
    refresh(program, date(2025, 4, 1))
    assert RetentionState.objects.get(program=program).watermark == APRIL_FINAL


def test_restatements_are_kept_as_they_are(program: Program) -> None:
    ann_and_bob(program)
    refresh(program, APRIL_FINAL)
    tell(program, [bought("late", "bob", MARCH + 45 * DAY)])
    refresh(program, APRIL_FINAL)
    with pytest.raises((IntegrityError, InternalError)):
        Restatement.objects.update(n_before=0)


def test_the_program_is_locked_before_cells_are_summed(program: Program) -> None:
    ann_and_bob(program)
    refresh(program, APRIL_FINAL)
    with CaptureQueriesContext(connection) as captured:
        cells.refresh(program=program, through=APRIL_FINAL, at=NOW)
    steps = {"core_program": "lock", "CREATE TEMP TABLE": "sum", "INSERT INTO analytics_retentioncell": "write"}
    taken = [word for query in captured for start, word in steps.items() if start in query["sql"]]
    assert taken[:3] == ["lock", "sum", "write"]


def test_verify_names_what_differs(program: Program) -> None:
    ann_and_bob(program)
    refresh(program, APRIL_FINAL)
    out = StringIO()
    call_command("analytics", "verify", program=program.code, stdout=out)
    assert "Retention is sound (1 program(s))." in out.getvalue()
    RetentionCell.objects.filter(program=program, report=Report.ACTIVE).update(retained=0)
    bob = Member.objects.get(program=program, external_id="bob").pk
    MemberStat.objects.filter(member=bob).update(next_gap=3)
    with pytest.raises(CommandError, match="finding"):
        call_command("analytics", "verify", program=program.code, stdout=out)
    assert "cell active 2025-04 0 segment" in out.getvalue()
    assert f"member {bob}: expected" in out.getvalue()
    assert [one.member_id for one in stats.find_stat_mismatches(program=program)] == [bob]


def test_the_command_refreshes_and_then_all_is_sound(program: Program) -> None:
    ann_and_bob(program)
    out = StringIO()
    call_command("analytics", "refresh", stdout=out)
    call_command("analytics", "verify", stdout=out)
    assert f"{program.code}: " in out.getvalue()
    assert april(program).n == 2
    with pytest.raises(CommandError, match="There is no program nobody"):
        call_command("analytics", "verify", program="nobody")
