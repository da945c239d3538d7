"""What had been earned and is corrected: told before the posting that corrects it, with the fact that is the reason."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from core.event_types import EventType
from core.services import feed
from core.services.feed import News
from membership.models import FactKind, Member, OrderEdit
from points.models import Wallet
from points.statement import FACT_NAMES
from storefront.services.announcements import HISTORY_AGE

Named = tuple[int, int]


def announce_corrections(*, program_id: int, corrections: Sequence[Mapping[str, Any]], at: datetime) -> None:
    """Tell whose points are corrected, by how many, and which fact changed what is known.

    Locks: the feed.
    """
    members = Member.objects.filter(pk__in={told["member"] for told in corrections})
    member_names = dict(members.values_list("pk", "external_id"))
    wallets = dict(Wallet.objects.filter(program=program_id).values_list("pk", "code"))
    sources = {(told["source_kind"], told["source"]) for told in corrections}
    facts = {(told["fact_kind"], told["fact"]) for told in corrections}
    names, edited = _read_names(sources | facts), _read_edited(sources)
    news = []
    for told in corrections:
        kind, source_id = told["source_kind"], told["source"]
        fact = (told["fact_kind"], told["fact"])
        name = edited[source_id] if kind == FactKind.ORDER_EDIT else names[kind, source_id]
        data = {
            "member": member_names[told["member"]],
            "wallet": wallets[told["wallet"]],
            "points": told["points"],
            "order": None if kind == FactKind.ACTIVITY else name,
            "activity": name if kind == FactKind.ACTIVITY else None,
            "fact_kind": FactKind(fact[0]).name.lower() if fact in names else None,
            "fact": names.get(fact),
        }
        corrected_at = datetime.fromisoformat(told["at"])
        if corrected_at >= at - HISTORY_AGE:
            news.append(News(EventType.POINTS_CORRECTED, data["member"], data, corrected_at))
    feed.announce(program_id=program_id, news=news, at=at)


def _read_names(named: Iterable[Named]) -> dict[Named, str]:
    """Return what the storefront calls facts."""
    found: dict[Named, str] = {}
    for kind, (model, column) in FACT_NAMES.items():
        ids = [pk for each, pk in named if each == kind]
        if ids:
            found |= {
                (kind, pk): name for pk, name in model._default_manager.filter(pk__in=ids).values_list("pk", column)
            }
    return found


def _read_edited(named: Iterable[Named]) -> dict[int, str]:
    """Return the orders that edits changed."""
    ids = [pk for kind, pk in named if kind == FactKind.ORDER_EDIT]
    return dict(OrderEdit.objects.filter(pk__in=ids).values_list("pk", "order__external_id")) if ids else {}
