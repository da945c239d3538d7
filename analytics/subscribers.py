"""News from membership: what the months of its members depend on has changed."""

from datetime import date
from typing import Any

from analytics.services import months
from core.events import subscribe
from membership.models import Ladder


@subscribe("membership.facts_recorded", name="analytics.mark_facts")
def mark_facts(*, program_id: int, payload: dict[str, Any], **_kwargs: Any) -> None:
    """Mark the members of new facts from the facts' months on."""
    months.mark_dirty(program_id=program_id, members=_by_month(payload))


@subscribe("membership.tiers_moved", name="analytics.mark_tiers")
def mark_tiers(*, program_id: int, payload: dict[str, Any], **_kwargs: Any) -> None:
    """Mark the members who moved on the main ladder from the months of their moves on."""
    main = Ladder.objects.filter(program_id=program_id).order_by("id").first()
    if main is not None and main.pk == payload["ladder_id"]:
        months.mark_dirty(program_id=program_id, members=_by_month(payload))


def _by_month(payload: dict[str, Any]) -> dict[date, list[int]]:
    return {date.fromisoformat(month): ids for month, ids in payload["members"].items()}
