"""points' part of a program file: wallets and earn rules."""

from typing import Annotated

from pydantic import StringConstraints

from core.sections import Coded, Journal, Reader, apply_fields, apply_version
from points.definitions import EarnRuleDefinition, WalletPolicy
from points.models import EarnRule, Wallet


class WalletEntry(WalletPolicy, Coded):
    """A wallet with its policy."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class EarnRuleEntry(EarnRuleDefinition, Coded):
    """An earn rule with its code."""


def parse_wallets(reader: Reader) -> list[WalletEntry]:
    """Read the wallets."""
    return reader.read_list("wallets", WalletEntry)


def parse_earn_rules(reader: Reader, tier_codes: list[str]) -> list[EarnRuleEntry]:
    """Read the earn rules and check the wallets and tiers that they name."""
    entries = reader.read_list("earn_rules", EarnRuleEntry)
    places = {code: index for index, code in enumerate(reader.codes("earn_rules"))}
    wallet_codes = reader.codes("wallets")
    for entry in entries:
        path = f"earn_rules[{places[entry.code]}]"
        reader.require_known(f"{path}.wallet", entry.wallet, wallet_codes, "wallet")
        for index, tier in enumerate(entry.tiers):
            reader.require_known(f"{path}.tiers[{index}]", tier, tier_codes, "tier in the main ladder named")
    return entries


def apply_wallets(journal: Journal, entries: list[WalletEntry]) -> None:
    """Bring the wallets in line. None can be removed: members hold points in it."""
    present = {wallet.code: wallet for wallet in Wallet.objects.filter(program=journal.program)}
    for entry in entries:
        wallet = present.pop(entry.code, None)
        is_new = wallet is None
        if wallet is None:
            wallet = Wallet.objects.create(program=journal.program, code=entry.code, name=entry.name)
        target = f"wallet {entry.code}"
        apply_fields(journal, target, wallet, {"name": entry.name}, is_new=is_new)
        apply_version(journal, target, wallet, entry, WalletPolicy)
    journal.problems.extend(f"wallets: {code} is missing; a wallet cannot be removed" for code in present)


def apply_earn_rules(journal: Journal, entries: list[EarnRuleEntry]) -> None:
    """Bring the earn rules in line. None can be removed: late orders still earn by the rules of their day."""
    present = {rule.code: rule for rule in EarnRule.objects.filter(program=journal.program)}
    for entry in entries:
        rule = present.pop(entry.code, None)
        is_new = rule is None
        if rule is None:
            rule = EarnRule.objects.create(program=journal.program, code=entry.code)
        target = f"earn_rule {entry.code}"
        apply_fields(journal, target, rule, {}, is_new=is_new)
        apply_version(journal, target, rule, entry, EarnRuleDefinition)
    journal.problems.extend(f"earn_rules: {code} is missing; an earn rule cannot be removed" for code in present)
