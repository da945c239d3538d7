"""Programs as code: read a program file, say what applying it would change, apply it."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from django.db import transaction
from pydantic import TypeAdapter, ValidationError

from core import program_section as core_section
from core import versions
from core.definitions import Code
from core.models import Program
from core.sections import Journal, ProgramFileError, Reader
from core.yaml_file import UnreadableFile, read_yaml
from coupons import program_section as coupons_section
from membership import program_section as membership_section
from points import program_section as points_section
from referrals import program_section as referrals_section
from referrals.definitions import ReferralTerms
from storefront import program_section as storefront_section


@dataclass(frozen=True, slots=True)
class ProgramFile:
    """A program file that was read and found sound in itself."""

    program: core_section.ProgramEntry
    markets: list[core_section.MarketEntry]
    ladders: list[membership_section.LadderEntry]
    coupons: list[coupons_section.CouponEntry]
    wallets: list[points_section.WalletEntry]
    earn_rules: list[points_section.EarnRuleEntry]
    referrals: ReferralTerms | None
    checkouts: storefront_section.CheckoutEntry


def load(path: Path, *, code: str | None = None) -> ProgramFile:
    """Read a program file; `code` takes the place of the program's own.

    Raises: ProgramFileError with everything that is wrong in it.
    """
    try:
        document = read_yaml(path)
    except UnreadableFile as error:
        raise ProgramFileError([str(error)]) from error
    if not isinstance(document, dict):
        raise ProgramFileError(
            [f"{path}: write a mapping with the keys program, ladders, coupons, wallets, earn_rules"]
        )
    reader = Reader(document)
    program = core_section.parse_program(reader)
    markets = core_section.parse_markets(reader)
    ladders = membership_section.parse_ladders(reader)
    tier_codes = membership_section.list_main_tier_codes(reader)
    coupons = coupons_section.parse_coupons(reader, tier_codes)
    wallets = points_section.parse_wallets(reader)
    earn_rules = points_section.parse_earn_rules(reader, tier_codes, program.channels if program else ())
    referrals = referrals_section.parse_referrals(reader)
    checkouts = storefront_section.parse_checkouts(reader)
    reader.finish()
    assert program is not None  # noqa: S101 finish() has raised otherwise
    assert checkouts is not None  # noqa: S101 likewise
    file = ProgramFile(program, markets, ladders, coupons, wallets, earn_rules, referrals, checkouts)
    return file if code is None else replace(file, program=_renamed(program, code))


def _renamed(program: core_section.ProgramEntry, code: str) -> core_section.ProgramEntry:
    try:
        TypeAdapter(Code).validate_python(code)
    except ValidationError as error:
        raise ProgramFileError([f"code: {code!r} must be lower-case letters, digits, - and _"]) from error
    return program.model_copy(update={"code": code})


def plan(file: ProgramFile, *, at: datetime) -> list[str]:
    """Return what applying the file would change, in lines; none if nothing.

    It is applied and rolled back: nothing is written, and the plan is what applying does.
    Raises, Locks: as `apply`.
    """
    with transaction.atomic():
        journal = _apply(file, at=at, actor="plan")
        transaction.set_rollback(True)
    return journal.lines


@transaction.atomic
def apply(file: ProgramFile, *, at: datetime, actor: str) -> Program:
    """Bring the database in line with the file: new versions where a definition means something else.

    Applying a file twice changes nothing the second time.
    Raises: ProgramFileError for what the database's history does not allow; VersionOverlap.
    Locks: the program's row, then the owner of each new version.
    """
    return _apply(file, at=at, actor=actor).program


def _apply(file: ProgramFile, *, at: datetime, actor: str) -> Journal:
    program, is_new = core_section.open_program(file.program)
    journal = Journal(program=program, actor=actor, at=at)
    core_section.apply_program(journal, file.program, is_new=is_new)
    core_section.apply_markets(journal, file.markets)
    membership_section.apply_ladders(journal, file.ladders)
    coupons_section.apply_coupons(journal, file.coupons)
    points_section.apply_wallets(journal, file.wallets)
    points_section.apply_earn_rules(journal, file.earn_rules)
    referrals_section.apply_referrals(journal, file.referrals)
    storefront_section.apply_checkouts(journal, file.checkouts)
    if journal.problems:
        raise ProgramFileError(journal.problems)
    if journal.lines:
        versions.note_change(program)
    return journal
