"""membership's part of a program file: ladders and their tiers."""

from typing import Annotated

from pydantic import StringConstraints

from core.sections import Coded, Journal, Kind, Reader, apply_fields
from membership.definitions import Benefits, LadderDefinition
from membership.models import Ladder, Tier
from membership.services.members import enroll_on_ladder

_NO_BENEFITS = Benefits(points_multiplier="1")


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
        apply_fields(journal, LADDER.target(ladder), ladder, {"name": entry.name}, is_new=is_new)
        journal.problems.extend(f"ladders[{index}].{problem}" for problem in LADDER.check(ladder, entry))
        LADDER.publish(journal, ladder, entry)
        if is_new:
            enroll_on_ladder(ladder=ladder, at=journal.at)


def _check_tiers(ladder: Ladder, definition: LadderDefinition) -> list[str]:
    codes = {tier.code for tier in definition.tiers}
    lost = [tier.code for tier in Tier.objects.filter(ladder=ladder) if tier.code not in codes]
    problems = [f"tiers: {code} is missing; a tier cannot be removed from a ladder" for code in lost]
    main = Ladder.objects.filter(program_id=ladder.program_id).order_by("id").first()
    if main is None or ladder.pk == main.pk or ladder.pk is None:
        return problems
    # Points, prices and shipping read the main ladder alone.
    return problems + [
        f"tiers[{index}].benefits: only tiers of the main ladder {main.code} have benefits; leave them out"
        for index, tier in enumerate(definition.tiers)
        if tier.benefits != _NO_BENEFITS
    ]


def _prepare_tiers(ladder: Ladder, ladder_definition: LadderDefinition) -> None:
    """Give every tier its identity row; their new names show in the ladder's version."""
    present = {tier.code: tier for tier in Tier.objects.filter(ladder=ladder)}
    for definition in ladder_definition.tiers:
        tier = present.get(definition.code)
        if tier is None:
            Tier.objects.create(ladder=ladder, code=definition.code, name=definition.name)
        elif tier.name != definition.name:
            tier.name = definition.name
            tier.save(update_fields=["name"])


LADDER = Kind("ladder", LadderDefinition, check=_check_tiers, prepare=_prepare_tiers)
