"""membership's part of a program file: ladders and their tiers."""

from typing import Annotated

from pydantic import StringConstraints

from core.sections import Coded, Journal, Reader, apply_fields, apply_version
from membership.definitions import LadderDefinition
from membership.models import Ladder, Tier
from membership.services.members import enroll_on_ladder


class LadderEntry(LadderDefinition, Coded):
    """A ladder with its definition. The first one of a program is its main ladder."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]


def parse_ladders(reader: Reader) -> list[LadderEntry]:
    """Read the ladders."""
    return reader.read_list("ladders", LadderEntry)


def list_main_tier_codes(reader: Reader) -> list[str]:
    """Return the codes of the main ladder's tiers, for what refers to them."""
    return reader.codes("ladders", 0, "tiers")


def apply_ladders(journal: Journal, entries: list[LadderEntry]) -> None:
    """Bring ladders and tiers in line. Neither can be removed: members' histories refer to them."""
    present = {ladder.code: ladder for ladder in Ladder.objects.filter(program=journal.program)}
    codes = [entry.code for entry in entries]
    journal.problems.extend(
        f"ladders: {code} is missing; a ladder cannot be removed" for code in present if code not in codes
    )
    main = next(iter(present), None)
    if main in codes[1:]:
        journal.problems.append(f"ladders[0]: {main} is the main ladder and stays it; list it first")
    for index, entry in enumerate(entries):
        ladder = present.get(entry.code)
        is_new = ladder is None
        if ladder is None:
            ladder = Ladder.objects.create(program=journal.program, code=entry.code, name=entry.name)
        target = f"ladder {entry.code}"
        apply_fields(journal, target, ladder, {"name": entry.name}, is_new=is_new)
        _apply_tiers(journal, ladder, entry, f"ladders[{index}].tiers")
        apply_version(journal, target, ladder, entry, LadderDefinition)
        if is_new:
            enroll_on_ladder(ladder=ladder, at=journal.at)


def _apply_tiers(journal: Journal, ladder: Ladder, entry: LadderEntry, path: str) -> None:
    """Give every tier its identity row; their new names show in the ladder's version."""
    present = {tier.code: tier for tier in Tier.objects.filter(ladder=ladder)}
    for definition in entry.tiers:
        tier = present.pop(definition.code, None)
        if tier is None:
            Tier.objects.create(ladder=ladder, code=definition.code, name=definition.name)
        elif tier.name != definition.name:
            tier.name = definition.name
            tier.save(update_fields=["name"])
    journal.problems.extend(f"{path}: {code} is missing; a tier cannot be removed from a ladder" for code in present)
