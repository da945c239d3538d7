"""Everything that is wrong in a program file is said at once, each with its path and what to write instead."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from core.sections import ProgramFileError
from storefront.services import program_file
from tests.storefront.program_files import load_small

Load = Callable[..., program_file.ProgramFile]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return partial(load_small, tmp_path)


def test_all_mistakes_are_reported_at_once_each_with_its_path(load: Load) -> None:
    with pytest.raises(ProgramFileError) as refused:
        load(
            ("time_zone: Europe/Oslo", "time_zone: Europe/Olso"),
            ("upgrade: immediate", "upgrades: immediate"),
            ('"250.00"', '"250.005"'),
            ("expiry_days: 365", "expiry_days: 0"),
            ("wallet: points, trigger: order_line", "wallet: point, trigger: order_line"),
            ("tiers: [gold]", "tiers: [golden]"),
            ("points: 1, ", ""),
        )
    assert refused.value.problems == [
        "markets[1].time_zone: 'Europe/Olso' is no time zone of the IANA database, such as Europe/London or UTC",
        "ladders[0].upgrade: is missing",
        "ladders[0].tiers[1].entry.any_of[0].all_of[0].at_least: 250.005 has more decimal places than GBP allows (2)",
        "ladders[0].upgrades: is an unknown key (did you mean upgrade?)",
        "wallets[0].expiry_days: must be greater than or equal to 1",
        "earn_rules[0].formula.points: is missing",
    ]


def test_references_within_the_file_are_checked(load: Load) -> None:
    with pytest.raises(ProgramFileError) as refused:
        load(("wallet: points, trigger", "wallet: point, trigger"), ("tiers: [gold]", "tiers: [gold, silver]"))
    assert refused.value.problems == [
        "earn_rules[0].wallet: there is no wallet point (did you mean points?)",
        "earn_rules[0].tiers[1]: there is no tier in the main ladder named silver",
    ]


@pytest.mark.parametrize(
    ("replacement", "problem"),
    [
        (
            ("currency: GBP, time_zone: Europe/London}\nm", "currency: GPB, time_zone: UTC}\nm"),
            "program.currency: 'GPB' is no",
        ),
        (("code: uk", 'code: "no"'), r"markets\[1\].code: no is there twice"),
        (
            ("{rolling_days: 365}", "lifetme"),
            r"at_least|window: write one of {rolling_days: ...} | {calendar: ...} | lifetime",
        ),
        (("{rolling_days: 365}", "{rolling_days: 0}"), r"window.rolling_days: must be greater than or equal to 1"),
        (('"250.00"', "250.5"), r"at_least: write it as a whole number or as text in quotes"),
        (("name: Gold", "name: 1"), r"tiers\[1\].name: write text, in quotes if it looks like a number"),
        (("name: Aurora", "name: Aurora, name: Borealis"), r"line 2, column \d+: the key 'name' is repeated"),
        (("markets:", "markets: ["), r"line \d+, column \d+: "),
        (("wallets:", "walets:"), r"walets: unknown key \(did you mean wallets\?\)"),
        (("program:", "programme:"), "program: is missing"),
    ],
)
def test_a_mistake_is_named(load: Load, replacement: tuple[str, str], problem: str) -> None:
    with pytest.raises(ProgramFileError, match=problem):
        load(replacement)


@pytest.mark.parametrize("text", ["", "- a list", "just text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "program.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProgramFileError, match="write a mapping"):
        program_file.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramFileError, match=r"nowhere\.yaml: No such file"):
        program_file.load(tmp_path / "nowhere.yaml")
