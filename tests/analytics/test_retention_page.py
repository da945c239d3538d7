"""The page, REST and CSV give the numbers of the replay's report, and the page asks the database little."""

import csv
import io
import json
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from analytics import retention
from analytics.services import cells, months
from config.environment import PROJECT
from core.models import Program, Scope
from core.services import api_keys, groups
from tests.analytics.customers import bought, open_shop, refresh, tell
from tests.analytics.histories import NOW
from tests.api.client import Api
from tests.oracle.edge_cases import write_edge_data

PAGE = "admin:analytics_retentionstate_changelist"
DAY = timedelta(days=1)
# Long after the last fact: no cell is immature, so nothing is held back that the report has.
LATER = date(2023, 1, 31)
EVER = {"from": "2000-01", "to": "2023-01"}


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path


def replay(directory: Path, rules: str, code: str) -> tuple[Program, dict[str, Any]]:
    out = io.StringIO()
    file = PROJECT / "programs" / rules
    call_command("replay", str(directory), "--program", str(file), "--into", code, "--json", "-", stdout=out)
    program = Program.objects.get(code=code)
    months.refresh(program=program, through=LATER)
    cells.refresh(program=program, through=LATER, at=NOW)
    report: dict[str, Any] = json.loads(out.getvalue())
    return program, report


def caller(program: Program) -> Api:
    issued = api_keys.issue(program=program, name="test", scopes=[Scope.RETENTION_READ], actor="test", at=NOW)
    return Api(issued.text)


def from_rest(program: Program, report: str, **query: str) -> dict[str, Any]:
    reply = caller(program).get(f"retention/{report}", **{**EVER, **query})
    assert reply.status == 200, reply.text
    found: dict[str, Any] = reply.json
    return found


def assert_same_as_the_report(program: Program, report: dict[str, Any]) -> None:
    assert tiers(from_rest(program, "active-rate"), report) == report["tiers"]
    assert cohorts(from_rest(program, "cohorts")) == report["cohorts"]
    assert day_n(from_rest(program, "day-n")) == report["day_n"]
    found = from_rest(program, "repurchase")["so_far"]
    assert found.pop("members") == report["members"]
    assert found == report["repurchase"]
    assert moves(program, from_rest(program, "migration"), report) == report["tier_moves"]


def tiers(answer: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """The report ends with the month of the last order; the cells go on."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for cell in answer["cells"]:
        assert cell["state"] != "immature"
        found[f"{cell['month']}-01"][cell["tier"]] = {"n": cell["n"], "retained": cell["retained"]}
    return {month: found[month] for month in report["tiers"]}


def cohorts(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for cell in answer["cells"]:
        if cell["retained"]:
            found[cell["entry_month"]][str(cell["months_later"])] = cell["retained"]
    return found


def day_n(answer: dict[str, Any]) -> dict[str, Any]:
    names = {
        "within_with_day0": "within_incl_day0",
        "within": "within_excl_day0",
        "on_or_after_so_far": "on_or_after",
    }
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for cell in answer["cells"]:
        if cell["entry_month"] is None and cell["measure"] in names and cell["day"] != 14:
            found[str(cell["day"])][names[cell["measure"]]] = cell["retained"]
    return found


def moves(program: Program, answer: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    ranks = {tier.code: rank for rank, tier in enumerate(retention.get_ground(program=program).tiers.values())}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for cell in answer["cells"]:
        before, now = cell["from_tier"], cell["to_tier"]
        way = (
            "new"
            if before is None
            else ("same", "up", "down")[(ranks[now] > ranks[before]) - (ranks[now] < ranks[before])]
        )
        found[f"{cell['month']}-01"][way] += cell["retained"]
    return {month: {way: found[month][way] for way in ("new", "up", "down", "same")} for month in report["tier_moves"]}


def assert_page_shows_what_rest_answers(program: Program) -> None:
    User.objects.create_superuser("olivia")
    client = Client()
    client.force_login(User.objects.get(username="olivia"))
    asked = {"program": program.code, "since": EVER["from"], "until": EVER["to"]}
    page = client.get(reverse(PAGE), asked)
    assert page.status_code == 200
    names = {tier.name: tier.code for tier in retention.get_ground(program=program).tiers.values()}
    grid = page.context["active"]
    shown = {
        (month, names[label]): (cell.figure.n, cell.figure.retained, cell.figure.rate_bps)
        for label, line in grid.lines
        for month, cell in zip(grid.columns, line, strict=True)
    }
    answered = from_rest(program, "active-rate")["cells"]
    assert shown == {(c["month"], c["tier"]): (c["n"], c["retained"], c["rate_bps"]) for c in answered}
    for report in retention.REPORTS:
        told = b"".join(client.get(reverse(PAGE), asked | {"csv": report}).streaming_content).decode()  # type: ignore[attr-defined]
        rows = [{k: "" if v is None else str(v) for k, v in row.items()} for row in from_rest(program, report)["cells"]]
        assert list(csv.DictReader(io.StringIO(told))) == rows
        assert caller(program).get(f"retention/{report}", **EVER, format="csv").text == told


@pytest.mark.django_db(transaction=True)
def test_the_edge_cases(tmp_path: Path) -> None:
    write_edge_data(tmp_path)
    program, report = replay(tmp_path, "retail_usd.yaml", "edges")
    assert_same_as_the_report(program, report)
    assert_page_shows_what_rest_answers(program)


@pytest.mark.django_db(transaction=True)
def test_the_sample() -> None:
    program, report = replay(PROJECT / "samples" / "online_retail", "retail_gbp.yaml", "sample")
    assert_same_as_the_report(program, report)
    assert_page_shows_what_rest_answers(program)


@pytest.fixture
def shop(db: None, tmp_path: Path) -> Program:
    """Six who buy each month or less, half of them in each market."""
    program = open_shop(tmp_path)
    start = datetime(2025, 1, 5, tzinfo=UTC)
    orders = [
        bought(f"o{n}.{k}", f"m{n}", start + (30 * k + n) * DAY, 6_000, market=("uk", "eu")[n % 2], channel="web")
        for n in range(6)
        for k in range(n + 1)
    ]
    tell(program, orders)
    refresh(program, date(2026, 1, 31))
    return program


@pytest.fixture
def olivia(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olivia"))
    return client


def test_the_page_says_in_words_what_it_shows(shop: Program, olivia: Client) -> None:
    page = olivia.get(reverse(PAGE), {"since": "2025-01", "until": "2025-04"})
    text = page.content.decode()
    said = page.context["active_text"]
    assert said == "Of 5 silver members on 2025-04-01, 3 bought in April 2025: 60.0 % (23.1 to 88.2)."
    assert said in text
    assert "The facts are in through 2026-01-31" in text
    assert '<script id="rt-active" type="application/json">' in text


def test_what_is_not_over_has_no_value(shop: Program, olivia: Client) -> None:
    page = olivia.get(reverse(PAGE), {"since": "2025-12", "until": "2026-02"})
    line = page.context["active"].lines[-1][1]
    assert page.context["active"].columns == ["2025-12", "2026-01"]
    assert [cell.is_provisional for cell in line] == [False, True]
    january = retention.Filters(date(2025, 1, 1), date(2025, 1, 1))
    cohorts = retention.list_cohorts(ground=retention.get_ground(program=shop), filters=january)
    assert cohorts[-1].figure == retention.Figure(6, 0, cohorts[-1].figure.state)
    refresh(shop, datetime(2026, 2, 10, tzinfo=UTC))
    page = olivia.get(reverse(PAGE), {"since": "2026-02", "until": "2026-02"})
    assert all(cell.is_immature and cell.text == "" for _, line in page.context["active"].lines for cell in line)
    assert b'<td class="rt-hatched" title="not over yet">' in page.content


def test_a_cut_counts_its_own_members(shop: Program, olivia: Client) -> None:
    def members(**cuts: str) -> int:
        page = olivia.get(reverse(PAGE), {"since": "2025-01", "until": "2025-01", **cuts})
        return int(page.context["repurchases"][0][1].figure.n)

    assert (members(), members(market="uk"), members(market="eu", channel="web")) == (6, 3, 3)
    assert members(country="-") == 6


def test_the_page_asks_the_database_a_bounded_number_of_times(shop: Program, olivia: Client) -> None:
    counts = []
    for since in ("2025-12", "2025-01"):
        with CaptureQueriesContext(connection) as captured:
            olivia.get(reverse(PAGE), {"since": since, "until": "2026-01"})
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 25, counts


def test_every_group_may_look_and_nobody_else(shop: Program) -> None:
    groups.make_groups()
    for name in ("support", "marketing", "finance", "read-only", "administrator", ""):
        user = User.objects.create_user(f"in {name}", is_staff=True)
        user.groups.set(Group.objects.filter(name=name))
        client = Client()
        client.force_login(user)
        assert client.get(reverse(PAGE)).status_code == (200 if name else 403), name


def test_parameters_that_make_no_sense_are_left_out(shop: Program, olivia: Client) -> None:
    asked = {
        "since": "soon",
        "until": "2025-13",
        "program": "nobody",
        "tier": "nothing",
        "csv": "everything",
        "market": "x" * 99,
    }
    assert olivia.get(reverse(PAGE), asked).status_code == 200


def test_a_fresh_installation_says_what_is_missing(db: None, olivia: Client, tmp_path: Path) -> None:
    assert "There is no program yet" in olivia.get(reverse(PAGE)).content.decode()
    open_shop(tmp_path)
    assert "Nothing has been counted yet" in olivia.get(reverse(PAGE)).content.decode()
