"""What the database refuses: any change to a tier period, a published version or a credit."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection, transaction

from membership.models import LadderVersion, QualifyingCredit, TierPeriod
from tests.membership.tier_worlds import World, cuts, utc

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    world = World.create(cuts("100.00"))
    world.join()
    world.credit("2026-02-10", 5)
    return world


def truncate(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # a table with checks still to make is not truncated at all
        cursor.execute(f"TRUNCATE {table} CASCADE")


REFUSED: dict[str, Callable[[], object]] = {
    "tier": lambda: TierPeriod.objects.update(guaranteed_until=utc("2030-01-01")),
    "valid_from": lambda: TierPeriod.objects.update(valid_from=utc("2030-01-01"), superseded_at=utc("2030-01-01")),
    "period gone": lambda: TierPeriod.objects.all()._raw_delete("default"),
    "periods gone": lambda: truncate("membership_tierperiod"),
    "version": lambda: LadderVersion.objects.update(definition={}),
    "version gone": lambda: LadderVersion.objects.all()._raw_delete("default"),
    "credit": lambda: QualifyingCredit.objects.update(credits=6),
    "credit gone": lambda: QualifyingCredit.objects.all()._raw_delete("default"),
    "credits gone": lambda: truncate("membership_qualifyingcredit"),
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_change_is_refused(world: World, change: str) -> None:
    before = list(TierPeriod.objects.values()), list(QualifyingCredit.objects.values())
    with pytest.raises(IntegrityError, match="refused"), transaction.atomic():
        REFUSED[change]()
    assert (list(TierPeriod.objects.values()), list(QualifyingCredit.objects.values())) == before


def test_a_period_is_superseded_once(world: World) -> None:
    assert TierPeriod.objects.update(superseded_at=utc("2030-01-01")) == 1
    for again in (utc("2031-01-01"), None):
        with pytest.raises(IntegrityError, match="refused"), transaction.atomic():
            TierPeriod.objects.update(superseded_at=again)


def test_two_live_periods_cannot_begin_at_once(world: World) -> None:
    period = TierPeriod.objects.get()
    period.pk = None
    with pytest.raises(IntegrityError, match="tierperiod_live"), transaction.atomic():
        period.save()
