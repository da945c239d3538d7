"""The replay's report equals the brute-force calculation; malformed data are named and leave nothing behind."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from pytest_django import DjangoDbBlocker

from config.environment import PROJECT
from core.models import Program
from membership.models import Member, Refund
from tests.oracle import edge_cases
from tests.oracle.replay import GBP_CUTS, USD_CUTS, compute

GBP = PROJECT / "programs" / "retail_gbp.yaml"
USD = PROJECT / "programs" / "retail_usd.yaml"
SAMPLE = PROJECT / "samples" / "online_retail"
CLEAN = {"mismatches": 0, "chain_breaks": 0}

# Before the first event, at and beside midnights within, with an offset, and years after the last one.
SAMPLE_INSTANTS = [
    "2010-11-01T00:00:00Z", "2011-06-01T00:00:00Z", "2011-06-15T13:30:00+02:00", "2011-12-10T00:00:00Z",
    "2012-07-01T00:00:00Z", "2014-01-01T00:00:00Z",
]  # fmt: skip
EDGE_INSTANTS = [
    "2018-01-01T00:00:00Z", "2019-06-01T00:00:00Z", "2020-02-11T00:00:00Z", "2020-02-10T23:59:59.999999Z",
    "2020-03-01T00:00:00+00:00", "2020-03-01T00:00:00.000001Z", "2021-03-01T00:00:00Z", "2030-01-01T00:00:00Z",
]  # fmt: skip


def run(directory: Path, program: Path, *options: str) -> dict[str, Any]:
    """Replay and return the report."""
    out = io.StringIO()
    call_command("replay", str(directory), "--program", str(program), "--json", "-", *options, stdout=out)
    report: dict[str, Any] = json.loads(out.getvalue())
    return report


def facts(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a replay reports of its data, without what it reports of itself."""
    assert report["seconds"] > 0
    assert report["peak_rss_mb"] > 0
    own = ("seconds", "peak_rss_mb", "program", "rejected")
    return {name: value for name, value in report.items() if name not in own}


def expected(directory: Path, cuts: dict[str, int], **options: Any) -> dict[str, Any]:
    """Return the oracle's report. Its mean is a sum of rounded seconds, the service's is rounded once."""
    report = compute(directory, cuts=cuts, **options) | {"verify": CLEAN}
    mean = report["repurchase"]["mean_days_between_orders"]
    report["repurchase"]["mean_days_between_orders"] = pytest.approx(mean, rel=1e-14, abs=0)
    return report


def count_rows() -> dict[str, int]:
    own = ("core", "membership", "points", "analytics")
    models = [model for model in apps.get_models() if model._meta.app_label in own]
    return {model.__name__: model._default_manager.count() for model in models}


Runs = Callable[[Callable[[], Any]], Any]


@pytest.fixture(scope="module")
def committed(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Runs:
    """Run something that commits, for several tests to look at its outcome, and leave the database empty."""

    def run_and_flush(work: Callable[[], Any]) -> Any:
        with django_db_blocker.unblock():
            try:
                return work()
            finally:
                call_command("flush", interactive=False, verbosity=0)

    return run_and_flush


@pytest.fixture(scope="module")
def sample(committed: Runs) -> tuple[dict[str, Any], dict[str, Any], dict[str, int], dict[str, int]]:
    """Two replays of the sample into one program, with the rows there were after each."""

    def work() -> tuple[dict[str, Any], dict[str, Any], dict[str, int], dict[str, int]]:
        options = ["--into", "twice", "--as-of", *SAMPLE_INSTANTS]
        first, after_first = run(SAMPLE, GBP, *options), count_rows()
        second, after_second = run(SAMPLE, GBP, *options), count_rows()
        return first, second, after_first, after_second

    outcome: tuple[dict[str, Any], dict[str, Any], dict[str, int], dict[str, int]] = committed(work)
    return outcome


def test_the_sample_equals_the_brute_force_calculation(sample: Sequence[Any]) -> None:
    report = facts(sample[0])
    assert report == expected(SAMPLE, GBP_CUTS, as_of=SAMPLE_INSTANTS)
    points = [cell["outstanding"] for cell in report["points"].values()]
    assert points[0] == points[-1] == 0 < min(points[1:-1])


def test_replaying_into_the_same_program_reports_the_same_and_writes_nothing(sample: Sequence[Any]) -> None:
    first, second, after_first, after_second = sample
    assert facts(second) == facts(first)
    assert after_second == after_first
    assert after_first["LedgerTransaction"] > after_first["Order"] / 2 > 0


@pytest.fixture(scope="module")
def edge(committed: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    directory = tmp_path_factory.mktemp("edge")
    edge_cases.write_edge_data(directory)
    return committed(lambda: run(directory, USD, "--as-of", *EDGE_INSTANTS)), directory


def test_the_edge_cases_equal_the_brute_force_calculation(edge: tuple[dict[str, Any], Path]) -> None:
    report, directory = edge
    assert facts(report) == expected(directory, USD_CUTS, as_of=EDGE_INSTANTS)
    assert report["program"].startswith("retail-usd-")


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Asia/Shanghai"])
def test_local_days_decide_and_the_default_as_of_is_the_next_midnight(
    committed: Runs, tmp_path: Path, zone: str
) -> None:
    edge_cases.write_edge_data(tmp_path)
    program = tmp_path / "program.yaml"
    program.write_text(USD.read_text().replace("time_zone: UTC", f"time_zone: {zone}"))
    report = committed(lambda: run(tmp_path, program))
    assert facts(report) == expected(tmp_path, USD_CUTS, time_zone=zone)


# --- malformed data: nothing is written, so these need no committing -------------------------------------------


def refusal(directory: Path, *options: str) -> str:
    """Return the sentences with which a replay refuses, having checked that it left nothing behind."""
    before = count_rows()
    with pytest.raises(CommandError) as refused:
        run(directory, USD, *options)
    assert refused.value.returncode == 1
    assert count_rows() == before
    assert not Program.objects.exists()
    return str(refused.value)


@pytest.mark.django_db
@pytest.mark.parametrize("kind", edge_cases.BAD_KINDS)
def test_a_malformed_row_is_named_and_nothing_is_loaded(tmp_path: Path, kind: str) -> None:
    place = edge_cases.write_bad_rows(tmp_path, kind)
    column = f", column {place.column}" if place.column else ""
    first, *named = refusal(tmp_path).splitlines()
    assert first == "Nothing was loaded: the data set has malformed rows."
    assert named[0].startswith(f"{place.file}, line {place.line}{column}: ")
    # What hangs on a row that is out is named after it; nothing else is.
    assert all(": there is no " in consequence for consequence in named[1:])


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """The sound set with rows that stand alone in being wrong, and one whose own rows hang on it."""
    edge_cases.write_bad_rows(tmp_path, "refund_line_units_over_bought")
    with gzip.open(tmp_path / "orders.csv.gz", "at") as orders:
        orders.write('o4,"m,4",2020-03-01T10:00:00Z,1,EUR\n')
    with gzip.open(tmp_path / "order_lines.csv.gz", "at") as lines:
        lines.write("o4.1,o4,s1,1,1\n")
    return tmp_path


def read_rejects(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as rows:
        return list(csv.DictReader(rows))


@pytest.mark.django_db
def test_skip_bad_keeps_the_bad_rows_in_a_file_and_loads_the_rest(spoiled: Path) -> None:
    rejects = spoiled / "left out.csv"
    report = run(spoiled, USD, "--skip-bad", "--rejects", str(rejects))
    found = [(row["file"], row["line"], row["column"], row["row"]) for row in read_rejects(rejects)]
    assert found == [
        ("orders.csv.gz", "5", "currency", 'o4,"m,4",2020-03-01T10:00:00Z,1,EUR'),
        ("order_lines.csv.gz", "6", "order_id", "o4.1,o4,s1,1,1"),
        ("refund_lines.csv.gz", "2", "qty", "r1.1,r1,m1,2020-02-01T10:00:00Z,s,3,1000,o1.1,o1"),
    ]
    assert all(row["reason"] for row in read_rejects(rejects))
    assert (report["rejected"], report["members"], report["orders"], report["guest_orders"]) == (3, 2, 2, 1)
    # What refund r1 tells above the line that is left is spread over its order: 10 points of o1.1.
    assert report["points"] == {
        "2020-02-04T00:00:00Z": {"earned": 55, "clawed_back": 45, "expired": 0, "outstanding": 10}
    }
    assert set(Member.objects.values_list("external_id", flat=True)) == {"m1", "m2"}
    assert report["verify"] == CLEAN


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "places", "earned"),
    [
        (
            "order_lines_above_it",
            [
                ("orders", 2),
                ("order_lines", 2),
                ("order_lines", 3),
                ("refunds", 2),
                ("refund_lines", 2),
                ("refund_lines", 3),
            ],
            30,
        ),
        ("refund_lines_above_it", [("refunds", 3), ("refund_lines", 4), ("refund_lines", 5)], 55),
        ("refund_line_of_units_of_no_line", [("refund_lines", 3)], 55),
    ],
)
def test_what_sums_above_its_own_row_goes_with_all_that_hangs_on_it(
    tmp_path: Path, kind: str, places: list[tuple[str, int]], earned: int
) -> None:
    edge_cases.write_bad_rows(tmp_path, kind)
    rejects = tmp_path / "rejects.csv"
    report = run(tmp_path, USD, "--skip-bad", "--rejects", str(rejects))
    assert [(row["file"], int(row["line"])) for row in read_rejects(rejects)] == [
        (f"{file}.csv.gz", number) for file, number in places
    ]
    assert [cell["earned"] for cell in report["points"].values()] == [earned]
    assert report["verify"] == CLEAN


@pytest.mark.django_db
def test_rejects_go_beside_the_user_unless_told_otherwise(spoiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = spoiled / "where I am"
    place.mkdir()
    monkeypatch.chdir(place)
    run(spoiled, USD, "--skip-bad")
    assert [path.name for path in place.iterdir()] == ["rejects.csv"]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["column_missing", "line_column_missing"])
def test_a_file_without_a_column_is_no_row_to_skip(tmp_path: Path, kind: str) -> None:
    edge_cases.write_bad_rows(tmp_path, kind)
    assert "the column is missing" in refusal(tmp_path, "--skip-bad", "--rejects", str(tmp_path / "rejects.csv"))
    assert not (tmp_path / "rejects.csv").exists()


@pytest.mark.django_db
def test_only_the_first_problems_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    header, row = edge_cases.COLUMNS["orders"], ["o", "m", "2020-01-01", "1", "USD"]
    edge_cases.write_file(tmp_path / "orders.csv.gz", header, [row] * 25)
    lines = refusal(tmp_path).splitlines()
    assert (len(lines), lines[-1]) == (22, "... and 5 more")


# --- what is wrong as a whole -----------------------------------------------------------------------------------


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(256 - byte & 0xFF for byte in content[middle : middle + 8]) + content[middle + 8 :]


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    edge_cases._sound().write(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "spoil",
    [
        cut,
        flip,
        lambda _content: b"order_id,member_id\n",
        lambda _content: b"",
        lambda content: gzip.compress(gzip.decompress(content) + b"\xff\n"),
        lambda content: gzip.compress(gzip.decompress(content) + b'"never closed\n'),
    ],
    ids=["cut", "flipped", "no gzip", "empty", "no UTF-8", "no CSV"],
)
def test_an_unreadable_file_is_named_in_one_sentence(sound: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = sound / "order_lines.csv.gz"
    path.write_bytes(spoil(path.read_bytes()))
    sentence = refusal(sound)
    if "malformed" in sentence:  # an empty file is a readable one without a header
        assert "order_lines.csv.gz, line 1, column line_id: the column is missing" in sentence
    else:
        assert sentence.startswith(f"{path} cannot be read as gzipped CSV in UTF-8: ")
        assert len(sentence.splitlines()) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(("at", "is_taken"), [("09:59:58", True), ("09:55:00", True), ("09:54:59", False)])
def test_a_refund_dated_a_little_before_its_order_counts_at_its_instant(
    tmp_path: Path, at: str, is_taken: bool
) -> None:
    book = edge_cases._sound()
    book.order("o4", "m1", "2020-01-01T10:00:00Z", (2, 2_000))
    book.refund("r4", "m1", f"2020-01-01T{at}Z", ("o4.1", 1, 1_000), order_id="o4")
    book.refund("r5", "m1", f"2020-01-01T{at}Z", ("o4.1", 1, 1_000))
    book.write(tmp_path / "data")
    if is_taken:
        run(tmp_path / "data", USD)
        kept = Refund.objects.filter(external_id__in=["r4", "r5"]).values_list("refunded_at", flat=True)
        assert list(kept) == [datetime(2020, 1, 1, 10, tzinfo=UTC)] * 2
    else:
        assert "refunds.csv.gz, line 5, column order_id: order o4 was paid later" in refusal(tmp_path / "data")
        assert Refund.objects.count() == 0


@pytest.mark.django_db
def test_other_mistakes_are_told_in_one_sentence(sound: Path, tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere' / 'orders.csv.gz'} does not exist."
    assert "'yesterday' is not an instant of RFC 3339" in refusal(sound, "--as-of", "yesterday")
    without_zone = "2020-01-01T00:00:00"
    assert f"{without_zone!r} is not an instant" in refusal(sound, "--as-of", "2020-01-01T00:00:00Z", without_zone)
    assert "must be lower-case" in refusal(sound, "--into", "No Code")
    target = tmp_path / "no" / "report.json"
    with pytest.raises(CommandError, match=r"report\.json cannot be written: No such file or directory"):
        call_command("replay", str(sound), "--program", str(USD), "--json", str(target))
    with pytest.raises(CommandError, match=r"program\.yaml"):
        call_command("replay", str(sound), "--program", str(tmp_path / "program.yaml"))
    assert not Program.objects.exists()


@pytest.mark.django_db
def test_other_orders_under_known_ids_are_refused(sound: Path) -> None:
    first = run(sound, USD, "--into", "known")
    before = count_rows()
    orders = gzip.decompress((sound / "orders.csv.gz").read_bytes())
    (sound / "orders.csv.gz").write_bytes(gzip.compress(orders.replace(b",3000,", b",3001,")))
    with pytest.raises(CommandError, match="order o2 is already recorded with other content"):
        run(sound, USD, "--into", "known")
    assert count_rows() == before
    (sound / "orders.csv.gz").write_bytes(gzip.compress(orders))
    assert facts(run(sound, USD, "--into", "known")) == facts(first)
