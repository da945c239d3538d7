"""points' part of a program file: wallets and earn rules."""

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import StringConstraints, model_validator

from core.sections import Coded, Journal, Kind, Reader, apply_fields, unknown_reference
from membership.models import Ladder, Tier
from points.definitions import EarnRuleDefinition, WalletPolicy
from points.models import EarnRule, Wallet


class WalletEntry(WalletPolicy, Coded):
    """A wallet with its policy."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class EarnRuleEntry(EarnRuleDefinition, Coded):
    """An earn rule with its code.

    What is published anew pays once a day for activities; a file need not say so, and cannot say otherwise.
    """

    @model_validator(mode="before")
    @classmethod
    def _pays_once_a_day(cls, told: Any) -> Any:
        is_of_activities = isinstance(told, dict) and told.get("trigger") == "activity"
        return {"once_per_day": True} | told if is_of_activities else told


def parse_wallets(reader: Reader) -> list[WalletEntry]:
    """Read the wallets."""
    return reader.read_list("wallets", WalletEntry)


def parse_earn_rules(reader: Reader, tier_codes: list[str], channels: Collection[str]) -> list[EarnRuleEntry]:
    """Read the earn rules and check the wallets, tiers and channels that they name. Without channels any will do."""
    entries = reader.read_list("earn_rules", EarnRuleEntry)
    places = {code: index for index, code in enumerate(reader.codes("earn_rules"))}
    wallet_codes = reader.codes("wallets")
    for entry in entries:
        problems = _find_unpublishable(entry, wallet_codes, tier_codes, channels)
        reader.problems.extend(f"earn_rules[{places[entry.code]}].{problem}" for problem in problems)
    return entries


def _find_unpublishable(
    rule: EarnRuleDefinition, wallet_codes: list[str], tier_codes: list[str], channels: Collection[str]
) -> list[str]:
    problems = unknown_reference("wallet", rule.wallet, wallet_codes, "wallet")
    if rule.once_per_day != (rule.trigger == "activity"):
        needed = str(not rule.once_per_day).lower()
        problems.append(f"once_per_day: write {needed}: rules for activities pay once a day, others do not")
    for index, tier in enumerate(rule.tiers):
        problems += unknown_reference(f"tiers[{index}]", tier, tier_codes, "tier in the main ladder named")
    for index, channel in enumerate(rule.channels if channels else ()):
        problems += unknown_reference(f"channels[{index}]", channel, channels, "channel")
    return problems


def apply_wallets(journal: Journal, entries: list[WalletEntry]) -> None:
    """Bring the wallets in line. None can be removed: members hold points in it."""
    present = {wallet.code: wallet for wallet in Wallet.objects.filter(program=journal.program)}
    for entry in entries:
        wallet = present.pop(entry.code, None)
        is_new = wallet is None
        if wallet is None:
            wallet = Wallet.objects.create(program=journal.program, code=entry.code, name=entry.name)
        apply_fields(journal, WALLET.target(wallet), wallet, {"name": entry.name}, is_new=is_new)
        WALLET.publish(journal, wallet, entry)
    journal.problems.extend(f"wallets: {code} is missing; a wallet cannot be removed" for code in present)


def apply_earn_rules(journal: Journal, entries: list[EarnRuleEntry]) -> None:
    """Bring the earn rules in line. One that the file leaves out ends; late orders still earn by it as of their day."""
    present = {rule.code: rule for rule in EarnRule.objects.filter(program=journal.program)}
    for entry in entries:
        rule = present.pop(entry.code, None)
        is_new = rule is None
        if rule is None:
            rule = EarnRule.objects.create(program=journal.program, code=entry.code)
        apply_fields(journal, EARN_RULE.target(rule), rule, {}, is_new=is_new)
        EARN_RULE.publish(journal, rule, entry)
    for rule in present.values():
        EARN_RULE.end(journal, rule)


def _check_references(rule: EarnRule, definition: EarnRuleDefinition) -> list[str]:
    """Compare with the wallets there are and with the tiers of the program's main ladder, its first."""
    wallets = Wallet.objects.filter(program_id=rule.program_id).values_list("code", flat=True)
    main = Ladder.objects.filter(program_id=rule.program_id).order_by("id").values("id")[:1]
    tiers = Tier.objects.filter(ladder__in=main).values_list("code", flat=True)
    return _find_unpublishable(definition, list(wallets), list(tiers), rule.program.channels)


WALLET = Kind("wallet", WalletPolicy)
EARN_RULE = Kind("earn_rule", EarnRuleDefinition, check=_check_references)
