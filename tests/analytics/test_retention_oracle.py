"""The cells, what is shown of them and what is restated against the brute-force oracle, on random histories."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics import retention
from analytics.models import Restatement, RetentionState
from analytics.retention import Filters
from analytics.services import cells, months, stats
from core.models import Program
from tests.analytics.customers import bought, bring_back, customers, open_shop, refresh, stored, tell
from tests.oracle import retention as oracle

DAY = timedelta(days=1)
START = datetime(2018, 9, 1, tzinfo=UTC)
ZONES = ("UTC", "America/New_York", "Asia/Kathmandu", "America/Sao_Paulo")
Told = list[tuple[str, datetime, int, dict[str, str]]]
Back = list[tuple[str, datetime, int]]
EVER = Filters(date(2000, 1, 1), date(2100, 1, 1))

instants = st.builds(
    lambda day, seconds: START + day * DAY + timedelta(seconds=seconds),
    st.one_of(st.integers(0, 45), st.sampled_from([0, 29, 30, 31, 60, 61, 90, 91, 122, 180, 181]), st.integers(0, 480)),
    st.sampled_from([0, 1, 2 * 3600, 3 * 3600, 4 * 3600, 5 * 3600 - 1, 18 * 3600 + 900, 86_399.999999]),
)
names = st.sampled_from(["ann", "bob", "cy", "dot", ""])
amounts = st.sampled_from([0, 1, 4_999, 10_000, 30_000, 100_000])
entries = st.fixed_dictionaries(
    {
        "market": st.sampled_from(["uk", "eu"]),
        "country": st.sampled_from(["GB", ""]),
        "channel": st.sampled_from(["web", "app"]),
    }
)
orders_told = st.lists(st.tuples(names, instants, amounts, entries), min_size=1, max_size=14)
refunds_told = st.lists(st.tuples(names, instants, amounts), max_size=4)
FIRST = ("ann", START + 34 * DAY, 10, {"market": "uk", "country": "GB", "channel": "web"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shops")


def last_month(program: Program, through: datetime) -> date:
    return through.astimezone(ZoneInfo(program.time_zone)).date().replace(day=1)


def expected(program: Program, through: datetime) -> oracle.Cells:
    return oracle.cells(customers(program), ZoneInfo(program.time_zone), last_month(program, through))


def assert_verified(program: Program) -> None:
    assert months.find_month_mismatches(program=program) == []
    assert stats.find_stat_mismatches(program=program) == []
    assert cells.find_cell_mismatches(program=program) == []


def assert_shown(program: Program, parts: oracle.Cells, watermark: date, cuts: dict[str, str]) -> None:
    """What is shown is the sum of the parts that the cuts name; nothing is said of what is not over."""
    chosen = {
        (key, part): cell
        for (key, part), cell in parts.items()
        if all(getattr(part, cut) == value for cut, value in cuts.items())
    }
    sums = oracle.whole(chosen)
    filters = Filters(EVER.since, EVER.until, None, cuts)
    ground = retention.get_ground(program=program)
    for row in retention.list_active_rates(ground=ground, filters=filters):
        key = oracle.Key("active", row.key["month"], 0, row.key["tier"], None)
        assert_figure(row.figure, sums.get(key, (0, 0)), oracle.state(key, watermark))
    for row in retention.list_cohorts(ground=ground, filters=filters):
        key = oracle.Key("cohort", row.key["entry_month"], row.key["months_later"], None, None)
        assert_figure(row.figure, sums[key], oracle.state(key, watermark))
    reports = {measure: report for report, measure in retention.DAY_MEASURES.items()}
    for row in retention.list_day_n(ground=ground, filters=filters):
        report, step = reports[row.key["measure"]], row.key["day"]
        if row.key["entry_month"] is not None:
            key = oracle.Key(str(report), row.key["entry_month"], step, None, None)
            assert_figure(row.figure, sums[key], oracle.state(key, watermark))
            continue
        over = {
            key: oracle.state(key, watermark)
            for key in sums
            if (key.report, key.step) == (report, step) and oracle.state(key, watermark) != "immature"
        }
        state = "provisional" if "provisional" in over.values() else "final"
        pooled = (sum(sums[key][0] for key in over), sum(sums[key][1] for key in over))
        assert_figure(row.figure, pooled, state if over else "immature")
    for row in retention.list_migration(ground=ground, filters=filters):
        key = oracle.Key("migration", row.key["month"], 0, row.key["from_tier"], row.key["to_tier"])
        moved = {one: cell[0] for one, cell in sums.items() if one[:4] == key[:4]}
        assert_figure(row.figure, (sum(moved.values()), moved[key]), oracle.state(key, watermark))


def assert_figure(figure: retention.Figure, cell: tuple[int, int], state: str) -> None:
    assert figure.state == state
    assert (figure.n, figure.retained) == ((None, None) if state == "immature" else cell)


def check(folder: Path, zone: str, told: Told, back: Back, late: Told, through: datetime, cuts: dict[str, str]) -> None:
    program = open_shop(folder, zone)
    orders = [bought(f"o{n}", member, at, amount, **entry) for n, (member, at, amount, entry) in enumerate(told)]
    refunds = [bring_back(f"r{n}", member, at, amount) for n, (member, at, amount) in enumerate(back)]
    tell(
        program, [one for one in orders if one.paid_at < through], [one for one in refunds if one.refunded_at < through]
    )
    refresh(program, through)
    before = expected(program, through)
    assert stored(program) == before
    assert_verified(program)
    watermark = RetentionState.objects.get(program=program).watermark
    assert_shown(program, before, watermark, {})
    assert_shown(program, before, watermark, cuts)
    later = [bought(f"l{n}", member, at, amount, **entry) for n, (member, at, amount, entry) in enumerate(late)]
    tell(program, [one for one in later if one.paid_at < through])
    refresh(program, through)
    after = expected(program, through)
    assert stored(program) == after
    assert_verified(program)
    assert restated(program, part=False) == changed(oracle.whole(before), oracle.whole(after), watermark, before, after)
    assert_shown(program, after, watermark, cuts)


def changed(
    before: dict[oracle.Key, tuple[int, int]],
    after: dict[oracle.Key, tuple[int, int]],
    watermark: date,
    parts_before: oracle.Cells,
    parts_after: oracle.Cells,
) -> dict[oracle.Key, tuple[tuple[int, int], tuple[int, int]]]:
    """The final cells of which some part changed, as wholes."""
    touched = {
        key
        for key, part in parts_before.keys() | parts_after.keys()
        if parts_before.get((key, part)) != parts_after.get((key, part))
    }
    return {
        key: (before.get(key, (0, 0)), after.get(key, (0, 0)))
        for key in touched
        if key.report not in ("survival", "ever", "cycle") and oracle.state(key, watermark) == "final"
    }


def restated(program: Program, *, part: bool) -> dict[oracle.Key, tuple[tuple[int, int], tuple[int, int]]]:
    found = {}
    for one in Restatement.objects.filter(program=program, segment__isnull=not part).select_related("tier", "to_tier"):
        tiers = [tier.code if tier else None for tier in (one.tier, one.to_tier)]
        key = oracle.Key(one.report, one.period, one.step, *tiers)
        found[key] = ((one.n_before, one.retained_before), (one.n_after, one.retained_after))
    return found


histories = given(
    zone=st.sampled_from(ZONES),
    told=orders_told.map(lambda told: [FIRST, *told]),
    back=refunds_told,
    late=st.lists(st.tuples(names, instants, amounts, entries), max_size=4),
    through=st.integers(40, 700).map(lambda days: START + days * DAY),
    cuts=st.sampled_from([{"market": "uk"}, {"country": ""}, {"channel": "app", "market": "eu"}]),
)


@pytest.mark.django_db
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@histories
def test_random_histories(
    folder: Path, zone: str, told: Told, back: Back, late: Told, through: datetime, cuts: dict[str, str]
) -> None:
    check(folder, zone, told, back, late, through, cuts)


@pytest.mark.deep
@pytest.mark.django_db
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@histories
def test_many_random_histories(
    folder: Path, zone: str, told: Told, back: Back, late: Told, through: datetime, cuts: dict[str, str]
) -> None:
    check(folder, zone, told, back, late, through, cuts)
