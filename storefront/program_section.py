"""storefront's part of a program file: what the program allows of its checkouts."""

from typing import Annotated

from pydantic import Field, StrictInt

from core.definitions import Definition
from core.models import Program
from core.sections import Journal, Reader, apply_fields
from storefront.models import CheckoutPolicy

KEY = "checkouts"
# A year, and more checkouts than anybody has open: what lies beyond is a mistake.
_MOST_MINUTES = 525_600
_MOST_HOLDS = 1_000
_DEFAULTS = CheckoutPolicy()


class CheckoutEntry(Definition):
    """For how long a hold may last in all, and how many checkouts of one member may be held at a time."""

    maximum_hold_minutes: Annotated[StrictInt, Field(ge=1, le=_MOST_MINUTES)] = _DEFAULTS.maximum_hold_minutes
    holds_per_member: Annotated[StrictInt, Field(ge=1, le=_MOST_HOLDS)] = _DEFAULTS.holds_per_member


def parse_checkouts(reader: Reader) -> CheckoutEntry | None:
    """Read the section; None if it is wrong. A file without one has the defaults."""
    reader.keys.add(KEY)
    return reader.read(KEY, CheckoutEntry) if KEY in reader.document else CheckoutEntry()


def apply_checkouts(journal: Journal, entry: CheckoutEntry) -> None:
    """Bring the policy in line with the file."""
    values = entry.model_dump()
    policy = CheckoutPolicy.objects.filter(program=journal.program).first()
    is_new = policy is None
    if policy is None:
        if entry == CheckoutEntry():
            return
        policy = CheckoutPolicy.objects.create(program=journal.program, **values)
    apply_fields(journal, f"checkouts {journal.program.code}", policy, values, is_new=is_new)


def get_policy(program: Program) -> CheckoutPolicy:
    """Return what a program allows of its checkouts."""
    return CheckoutPolicy.objects.filter(program=program).first() or CheckoutPolicy(program=program)
