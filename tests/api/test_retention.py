"""Retention over HTTP: who may read it, what it takes, how it answers."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from analytics.models import Restatement
from core.models import Program, Scope
from tests.analytics.customers import bought, open_shop, refresh, tell
from tests.api.client import Api
from tests.api.conftest import MakeKey
from tests.api.shop import assert_problem

DAY = timedelta(days=1)
MARCH = datetime(2025, 3, 3, tzinfo=UTC)
REPORTS = ("active-rate", "cohorts", "day-n", "survival", "migration", "repurchase")
ALL = (*REPORTS, "restatements")


@pytest.fixture
def program(db: None, tmp_path: Path) -> Program:
    """Two of the uk's web and two of the eu's app; one of each came back in April. One fact came late."""
    program = open_shop(tmp_path)
    uk, eu = {"market": "uk", "channel": "web"}, {"market": "eu", "channel": "app"}
    orders = [bought(f"o{n}", f"m{n}", MARCH + n * DAY, 1_000, **(uk, eu)[n % 2]) for n in range(4)]
    tell(program, [*orders, bought("p0", "m0", MARCH + 40 * DAY), bought("p1", "m1", MARCH + 41 * DAY)])
    refresh(program, date(2025, 6, 10))
    tell(program, [bought("late", "m2", MARCH + 42 * DAY)])
    refresh(program, date(2025, 6, 10))
    return program


@pytest.fixture
def api(make_key: MakeKey) -> Api:
    return Api(make_key(Scope.RETENTION_READ))


@pytest.mark.parametrize("report", ALL)
def test_other_scopes_and_members_are_refused(program: Program, make_key: MakeKey, report: str) -> None:
    others = [scope for scope in Scope.values if scope != Scope.RETENTION_READ]
    assert_problem(Api(make_key(*others)).get(f"retention/{report}"), 403, "scope_missing")
    assert_problem(Api(None).get(f"retention/{report}"), 401, "unauthenticated")


def test_an_active_rate_has_its_interval_and_its_state(api: Api) -> None:
    answer = api.get("retention/active-rate", **{"from": "2025-04", "to": "2025-06"}).json
    assert (answer["watermark"], answer["definition_version"], answer["settle_days"]) == ("2025-06-10", 1, 14)
    basic = [cell for cell in answer["cells"] if cell["tier"] == "basic"]
    figures = ("n", "retained", "rate_bps", "low_bps", "high_bps", "state")
    assert [[cell["month"], *(cell[name] for name in figures)] for cell in basic] == [
        ["2025-04", 4, 3, 7500, 3006, 9544, "final"],
        ["2025-05", 4, 0, 0, 0, 4899, "provisional"],
        ["2025-06", None, None, None, None, None, "immature"],
    ]


def test_cuts_and_tiers_narrow_every_report(program: Program, api: Api) -> None:
    refresh(program, date(2025, 12, 31))

    def n(report: str, **query: str) -> int | None:
        counts = [cell["n"] for cell in api.get(f"retention/{report}", **query).json["cells"] if cell["n"]]
        return counts[0] if counts else None

    for report in ("cohorts", "day-n", "repurchase"):
        assert (n(report), n(report, market="uk"), n(report, market="uk", channel="app")) == (4, 2, None), report
        assert (n(report, country=""), n(report, country="GB")) == (4, None), report
        assert (n(report, tier="basic"), n(report, tier="gold")) == (4, None), report
    assert (n("migration", tier="basic"), n("migration", tier="gold")) == (4, None)


def test_survival_is_over_when_everybody_was_followed(program: Program, api: Api) -> None:
    assert {cell["state"] for cell in api.get("retention/survival").json["cells"]} == {"immature"}
    refresh(program, date(2025, 9, 27))
    cells = api.get("retention/survival", **{"from": "2025-03"}).json["cells"]
    assert [cell["day"] for cell in cells] == list(range(91))
    assert [cells[day]["retained"] for day in (0, 1, 40, 41, 90)] == [4, 3, 3, 0, 0]


def test_repurchase_tells_the_cycle_so_far(api: Api) -> None:
    answer = api.get("retention/repurchase", **{"from": "2025-03"}).json
    assert answer["so_far"] == {"members": 4, "members_2plus_orders": 3, "mean_days_between_orders": 40.0}
    assert {cell["state"] for cell in answer["cells"]} == {"immature"}


def test_restatements_are_listed_the_last_first(program: Program, api: Api) -> None:
    whole = api.get("retention/restatements").json["results"]
    assert {(one["report"], one["retained_before"], one["retained_after"]) for one in whole} == {
        ("active", 2, 3),
        ("cohort", 2, 3),
    }
    assert all(one["market"] is None and one["cause"] == "facts" for one in whole)
    part = api.get("retention/restatements", market="uk", report="active").json["results"]
    assert [(one["market"], one["retained_before"], one["retained_after"]) for one in part] == [("uk", 1, 2)]
    assert api.get("retention/restatements", market="eu").json["results"] == []
    first = api.get("retention/restatements", limit="1").json
    assert len(first["results"]) == 1
    assert api.get(first["next"]).json["results"] == whole[1:]


@pytest.mark.parametrize("report", ALL)
def test_csv_has_the_same_rows(api: Api, report: str) -> None:
    reply = api.get(f"retention/{report}", format="csv")
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert reply.headers["Content-Disposition"] == f'attachment; filename="retention-{report}.csv"'
    answer = api.get(f"retention/{report}").json
    rows = answer["results" if report == "restatements" else "cells"]
    found = list(csv.DictReader(io.StringIO(reply.text)))
    assert rows
    assert len(found) == len(rows)
    for line, row in zip(found, rows, strict=True):
        told = {name: "" if value is None else str(value) for name, value in row.items() if name != "recorded_at"}
        assert {name: line[name] for name in told} == told


def test_a_text_that_spreadsheets_would_run_is_made_harmless(program: Program, api: Api) -> None:
    tell(program, [bought("evil", "eve", MARCH, market="=1+1"), bought("evil2", "eve", MARCH + 40 * DAY)])
    refresh(program, date(2025, 6, 10))
    assert Restatement.objects.filter(segment__market="=1+1").exists()
    lines = csv.DictReader(io.StringIO(api.get("retention/restatements", market="=1+1", format="csv").text))
    assert {line["market"] for line in lines} == {"'=1+1"}


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2025-13"}, {"from": "March"}, {"to": "2025-03-01"}, {"from": "2025-04", "to": "2025-03"},
        {"tier": "wood"}, {"format": "xml"}, {"since": "2025-01"}, {"market": "x" * 64},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(api: Api, query: dict[str, str]) -> None:
    assert_problem(api.get("retention/active-rate", **query), 400, "invalid_parameter")


def test_a_program_that_was_never_counted_says_so(foreign_program: Program, make_key: MakeKey) -> None:
    api = Api(make_key(Scope.RETENTION_READ, program=foreign_program))
    for report in REPORTS:
        answer = api.get(f"retention/{report}").json
        assert answer["watermark"] is None
        assert all(cell["state"] == "immature" and cell["n"] is None for cell in answer["cells"]), report
    assert api.get("retention/restatements").json["results"] == []


def test_another_programs_cells_are_not_seen(program: Program, foreign_program: Program, make_key: MakeKey) -> None:
    refresh(foreign_program, date(2025, 6, 10))
    assert Api(make_key(Scope.RETENTION_READ, program=foreign_program)).get("retention/cohorts").json["cells"] == []
