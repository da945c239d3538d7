"""Programs as code: a plan says what would change, applying changes that, and applying again changes nothing."""

import io
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from core.models import AuditEntry, Market, Program
from core.sections import ProgramFileError
from membership.definitions import LadderDefinition
from membership.models import LadderVersion, Tier
from points.definitions import EarnRuleDefinition, PerAmount, WalletPolicy
from points.models import EarnRuleVersion, WalletVersion
from points.services.earning import Terms
from storefront.services import program_file
from tests.storefront.program_files import SMALL, load_small

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
SHIPPED = Path(__file__).parents[2] / "programs"

Load = Callable[..., program_file.ProgramFile]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return partial(load_small, tmp_path)


def _rows() -> dict[str, int]:
    own = ("core", "membership", "points", "analytics")
    return {
        model.__name__: model._default_manager.count() for model in apps.get_models() if model._meta.app_label in own
    }


def _apply(file: program_file.ProgramFile, at: datetime = NOW) -> Program:
    return program_file.apply(file, at=at, actor="test")


@pytest.mark.django_db
def test_a_plan_names_everything_new_and_writes_nothing(load: Load) -> None:
    before = _rows()
    assert program_file.plan(load(), at=NOW) == [
        "+ program aurora",
        "+ market uk",
        "+ market no",
        "+ ladder main",
        "+ ladder main: v1",
        "+ wallet points",
        "+ wallet points: v1",
        "+ earn_rule spend",
        "+ earn_rule spend: v1",
    ]
    assert _rows() == before


@pytest.mark.django_db
def test_applying_makes_the_program_and_applying_again_changes_nothing(load: Load) -> None:
    program = _apply(load())
    assert (program.code, program.currency, program.time_zone) == ("aurora", "GBP", "Europe/London")
    assert list(Market.objects.values_list("code", "countries")) == [("no", ["NO"]), ("uk", ["GB"])]
    assert list(Tier.objects.values_list("code", "name")) == [("basic", "Basic"), ("gold", "Gold")]
    for version in (LadderVersion.objects.get(), WalletVersion.objects.get(), EarnRuleVersion.objects.get()):
        assert (version.number, version.status, version.effective_at) == (1, "published", None)
    before = _rows()
    assert program_file.plan(load(), at=LATER) == []
    assert _apply(load(), LATER) == program
    assert _rows() == before


@pytest.mark.django_db
def test_stored_definitions_read_back_as_what_the_file_says(load: Load) -> None:
    file = load()
    _apply(file)
    context = {"currency": "GBP"}
    ladder = LadderDefinition.model_validate(LadderVersion.objects.get().definition, context=context)
    assert ladder.tiers == file.ladders[0].tiers
    assert ladder.tiers[1].entry is not None
    assert ladder.tiers[1].entry.any_of[0].all_of[0].at_least == 25_000
    assert ladder.tiers[1].benefits.points_multiplier == 15_000
    assert ladder.evaluation == file.ladders[0].evaluation
    assert WalletPolicy.model_validate(WalletVersion.objects.get().definition, context=context).expiry_days == 365
    rule = EarnRuleDefinition.model_validate(EarnRuleVersion.objects.get().definition, context=context)
    assert (rule.formula, rule.tiers) == (file.earn_rules[0].formula, ("gold",))


@pytest.mark.django_db
def test_another_spelling_of_the_same_is_no_change(load: Load) -> None:
    _apply(load())
    respelled = load(
        ('at_least: "250.00"', "at_least: 250"),
        ('points_multiplier: "1.5"', 'points_multiplier: "1.5000"'),
        ("expiry_days: 365", "expiry_days: 365, rounding: line, pending_days: 0"),
        ("upgrade: immediate", "upgrade: immediate\n    minimum_stay_days: 0"),
    )
    assert program_file.plan(respelled, at=LATER) == []


@pytest.mark.django_db
def test_a_changed_definition_becomes_a_new_version_in_force_from_now(load: Load) -> None:
    _apply(load())
    changed = load(
        ('"250.00"', '"300"'),
        ("upgrade: immediate", "upgrade: at_evaluation"),
        ("      - {code: basic, name: Basic}", "      - {code: basic, name: Basic}\n" + SILVER),
        ("expiry_days: 365", ""),
    )
    lines = [
        "~ ladder main: v1 -> v2",
        "    upgrade: immediate -> at_evaluation",
        "    tiers: basic, gold -> basic, silver, gold",
        "    tiers[gold].entry.any_of[0].all_of[0].at_least: 250.00 -> 300.00",
        "    + tiers[silver].code: silver",
        "    + tiers[silver].name: Silver",
        "    + tiers[silver].entry.any_of[0].all_of[0].metric: order_count",
        "    + tiers[silver].entry.any_of[0].all_of[0].at_least: 2",
        "    + tiers[silver].entry.any_of[0].all_of[0].window: lifetime",
        "    + tiers[silver].benefits.points_multiplier: 1",
        "    + tiers[silver].benefits.free_shipping: False",
        "~ wallet points: v1 -> v2",
        "    - expiry_days: 365",
    ]
    assert program_file.plan(changed, at=LATER) == lines
    _apply(changed, LATER)
    assert list(LadderVersion.objects.values_list("number", "status", "effective_at")) == [
        (1, "retired", None),
        (2, "published", LATER),
    ]
    assert set(Tier.objects.values_list("code", flat=True)) == {"basic", "silver", "gold"}
    assert EarnRuleVersion.objects.count() == 1


SILVER = """      - code: silver
        name: Silver
        entry: {any_of: [{all_of: [{metric: order_count, at_least: 2, window: lifetime}]}]}"""


@pytest.mark.django_db
def test_a_renamed_tier_stays_the_same_tier(load: Load) -> None:
    _apply(load())
    gold = Tier.objects.get(code="gold")
    renamed = load(("name: Gold", "name: Golden"))
    assert "    tiers[gold].name: Gold -> Golden" in program_file.plan(renamed, at=LATER)
    _apply(renamed, LATER)
    assert Tier.objects.get(pk=gold.pk).name == "Golden"


@pytest.mark.django_db
def test_names_and_markets_change_in_place(load: Load) -> None:
    _apply(load())
    market_no = SMALL.splitlines()[4]
    changed = load(("name: Aurora", "name: Borealis"), (market_no + "\n", ""), ("[en-GB]", "[en-GB, cy-GB]"))
    assert program_file.plan(changed, at=LATER) == [
        "~ program aurora",
        "    name: Aurora -> Borealis",
        "~ market uk",
        "    locales: en-GB -> en-GB, cy-GB",
        "- market no",
    ]
    _apply(changed, LATER)
    assert Program.objects.get().name == "Borealis"
    assert Market.objects.get().locales == ["en-GB", "cy-GB"]


@pytest.mark.django_db
def test_every_change_is_audited_with_before_and_after(load: Load) -> None:
    program = _apply(load())
    assert AuditEntry.objects.filter(program=program, actor="test", recorded_at=NOW).count() == 9
    _apply(load(("expiry_days: 365", "expiry_days: 730")), LATER)
    entry = AuditEntry.objects.get(recorded_at=LATER)
    assert (entry.action, entry.target) == ("wallet.changed", "wallet points")
    assert (entry.before or {})["expiry_days"] == 365
    assert (entry.after or {})["expiry_days"] == 730


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("replacement", "problem"),
    [
        (
            ("currency: GBP, time_zone: Europe/London}\nm", "currency: EUR, time_zone: Europe/London}\nm"),
            "program.currency",
        ),
        (("GBP, time_zone: Europe/London}\nm", "GBP, time_zone: Europe/Paris}\nm"), "program.time_zone"),
    ],
)
def test_currency_and_zone_are_fixed_once_there_is_a_fact(
    load: Load, replacement: tuple[str, str], problem: str
) -> None:
    _apply(load())
    changed = load(replacement)
    assert program_file.plan(changed, at=LATER)[0] == "~ program aurora"
    Program.objects.update(opened_at=NOW)
    before = _rows()
    with pytest.raises(ProgramFileError, match=f"{problem}: is fixed at .* since the first fact"):
        _apply(changed, LATER)
    assert _rows() == before
    program = Program.objects.get()
    assert (program.currency, program.time_zone) == ("GBP", "Europe/London")


@pytest.mark.django_db
def test_what_history_refers_to_cannot_be_removed(load: Load) -> None:
    _apply(load())
    gone = load(
        ("code: basic", "code: plain"),
        ("wallet: points", "wallet: stars"),
        ("{code: points,", "{code: stars,"),
        ("{code: spend,", "{code: buy,"),
    )
    before = _rows()
    with pytest.raises(ProgramFileError) as refused:
        program_file.plan(gone, at=LATER)
    assert refused.value.problems == [
        "ladders[0].tiers: basic is missing; a tier cannot be removed from a ladder",
        "wallets: points is missing; a wallet cannot be removed",
    ]
    with pytest.raises(ProgramFileError, match="ladders: main is missing"):
        _apply(load(("- code: main", "- code: other")), LATER)
    assert _rows() == before


@pytest.mark.django_db
def test_a_rule_that_the_file_leaves_out_ends_and_may_come_back(load: Load) -> None:
    program = _apply(load())
    without = load((SMALL[SMALL.index("earn_rules:") :], "earn_rules: []\n"))
    assert program_file.plan(without, at=LATER) == ["- earn_rule spend"]
    assert EarnRuleVersion.objects.get().status == "published"
    _apply(without, LATER)
    ended = EarnRuleVersion.objects.get()
    assert (ended.status, ended.ended_at) == ("retired", LATER)
    before = AuditEntry.objects.get(action="earn_rule.removed").before
    assert before is not None
    assert before["name"] == "Spend"
    revision = Program.objects.get().revision
    assert program_file.plan(without, at=LATER + timedelta(1)) == []
    _apply(without, LATER + timedelta(1))
    assert Program.objects.get().revision == revision
    back = LATER + timedelta(2)
    assert program_file.plan(load(), at=back) == ["+ earn_rule spend: v2"]
    _apply(load(), back)

    def rules(at: datetime) -> list[int]:
        return [rule.version_id for rule in Terms(program).rules_at(at, "order_line")]

    first, second = EarnRuleVersion.objects.order_by("number")
    tick = timedelta(microseconds=1)
    # What happened before the end still earns by it, whenever it is told.
    assert [rules(at) for at in (NOW, LATER - tick, LATER, back - tick, back)] == [
        [first.pk], [first.pk], [], [], [second.pk],
    ]  # fmt: skip


@pytest.mark.django_db
def test_the_main_ladder_stays_the_first(load: Load) -> None:
    _apply(load())
    club = SMALL[SMALL.index("  - code: main") : SMALL.index("wallets:")].replace("code: main", "code: club")
    club = re.sub(r",? *benefits: \{[^}]*\}", "", club)  # which the main ladder alone has
    _apply(load(("wallets:\n", club + "wallets:\n")), LATER)
    with pytest.raises(ProgramFileError, match=r"ladders\[0\]: main is the main ladder"):
        _apply(load(("ladders:\n", "ladders:\n" + club)), LATER + timedelta(days=1))


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["retail_gbp", "retail_usd", "aurora"])
def test_the_shipped_programs_apply(name: str) -> None:
    file = program_file.load(SHIPPED / f"{name}.yaml")
    _apply(file)
    assert program_file.plan(file, at=LATER) == []


@pytest.mark.parametrize(
    ("name", "currency", "cuts"),
    [
        ("retail_gbp", "GBP", [25_000, 100_000, 300_000, 1_000_000]),
        ("retail_usd", "USD", [5_000, 15_000, 40_000, 100_000]),
    ],
)
def test_the_retail_programs_have_their_cuts(name: str, currency: str, cuts: list[int]) -> None:
    file = program_file.load(SHIPPED / f"{name}.yaml")
    assert (file.program.currency, file.program.time_zone) == (currency, "UTC")
    (ladder,), (wallet,), (rule,) = file.ladders, file.wallets, file.earn_rules
    assert [tier.code for tier in ladder.tiers] == ["bronze", "silver", "gold", "platinum", "diamond"]
    assert [tier.entry.any_of[0].all_of[0].at_least for tier in ladder.tiers if tier.entry] == cuts
    assert (ladder.upgrade, ladder.evaluation.every, ladder.downgrade.when, ladder.downgrade.to) == (
        *("at_evaluation", "month", "at_evaluation", "qualified"),
    )
    assert (ladder.minimum_stay_days, wallet.expiry_days, wallet.pending_days, wallet.rounding) == (0, 365, 0, "line")
    assert (rule.trigger, rule.wallet, rule.formula) == (
        *("order_line", "points", PerAmount.model_construct(points=1, per=100)),
    )
    assert (rule.tier_multiplier, rule.minimum, rule.tiers, rule.skus) == (False, 0, (), ())


@pytest.mark.django_db
def test_the_command_plans_then_applies_under_the_code_it_is_given(load: Load, tmp_path: Path) -> None:
    load()
    path = str(tmp_path / "program.yaml")

    def run(action: str, *options: str) -> list[str]:
        out = io.StringIO()
        call_command("program", action, path, *options, stdout=out)
        return out.getvalue().splitlines()

    assert run("plan", "--code", "aurora-2")[0] == "+ program aurora-2"
    assert not Program.objects.exists()
    assert run("apply", "--code", "aurora-2")[-1] == "applied"
    assert Program.objects.get().code == "aurora-2"
    assert run("plan", "--code", "aurora-2") == run("apply", "--code", "aurora-2") == ["no changes"]
    assert run("plan")[0] == "+ program aurora"
    with pytest.raises(CommandError, match="'Two Words' must be lower-case"):
        run("plan", "--code", "Two Words")


@pytest.mark.django_db
def test_the_command_refuses_a_bad_file_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "program.yaml"
    path.write_text(SMALL.replace("wallet: points", "wallet: point"), encoding="utf-8")
    before = _rows()
    with pytest.raises(CommandError, match=r"cannot be used:\nearn_rules\[0\].wallet: there is no wallet point"):
        call_command("program", "apply", str(path))
    assert _rows() == before


@pytest.mark.django_db
def test_applying_locks_the_program_before_it_compares(load: Load) -> None:
    _apply(load())
    with CaptureQueriesContext(connection) as queries:
        _apply(load(), LATER)
    statements = [q["sql"] for q in queries if not q["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    lock = next(index for index, sql in enumerate(statements) if sql.endswith("FOR NO KEY UPDATE"))
    assert '"core_program"' in statements[lock]
    assert all('"core_program"' in sql for sql in statements[:lock])


@pytest.mark.django_db(transaction=True)
def test_a_file_applied_twice_at_once_makes_one_version(load: Load) -> None:
    file = load()
    together = threading.Barrier(4, timeout=30)

    def apply(_: int) -> None:
        try:
            together.wait()
            _apply(file)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(apply, range(4)))
    assert Program.objects.count() == 1
    assert LadderVersion.objects.count() == WalletVersion.objects.count() == EarnRuleVersion.objects.count() == 1
    assert AuditEntry.objects.count() == 9
