"""A published version never changes, and at every instant one version is in force."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from core import versions
from core.models import Program
from points.models import Wallet, WalletVersion
from tests.core.conftest import NOW

LATER = NOW + timedelta(days=30)
TICK = timedelta(microseconds=1)


@pytest.fixture
def wallet(program: Program) -> Wallet:
    return Wallet.objects.create(program=program, code="points", name="Points")


def test_the_first_version_is_in_force_from_the_beginning(wallet: Wallet) -> None:
    version = versions.publish(wallet, {"expiry_days": 365}, at=NOW)
    assert (version.number, version.status, version.published_at, version.effective_at) == (1, "published", NOW, None)
    assert versions.in_force(wallet.versions.all(), NOW - timedelta(days=3_650)) == version


def test_a_later_version_is_in_force_from_its_instant_on(wallet: Wallet) -> None:
    first = versions.publish(wallet, {"expiry_days": 365}, at=NOW)
    second = versions.publish(wallet, {"expiry_days": 730}, at=LATER)
    assert (second.number, second.effective_at) == (2, LATER)
    assert versions.in_force(wallet.versions.all(), LATER - TICK) == first
    assert versions.in_force(wallet.versions.all(), LATER) == second
    assert list(wallet.versions.values_list("status", flat=True)) == ["retired", "published"]


def test_a_draft_is_never_in_force(wallet: Wallet) -> None:
    draft = WalletVersion.objects.create(owner=wallet, number=1, definition={})
    assert versions.in_force([draft], LATER) is None
    published = versions.publish(wallet, {"expiry_days": 365}, at=NOW)
    assert (published.number, published.effective_at) == (1, None)
    assert versions.in_force(wallet.versions.all(), LATER) == published


def test_a_version_cannot_take_effect_before_the_one_it_follows(wallet: Wallet) -> None:
    versions.publish(wallet, {"expiry_days": 365}, at=NOW)
    versions.publish(wallet, {"expiry_days": 730}, at=LATER)
    for at in (LATER, NOW):
        with pytest.raises(versions.VersionOverlap):
            versions.publish(wallet, {"expiry_days": 30}, at=at)
    assert list(wallet.versions.values_list("number", "status")) == [(1, "retired"), (2, "published")]


def test_after_a_version_ended_none_is_in_force_until_another_is_published(wallet: Wallet) -> None:
    first = versions.publish(wallet, {"expiry_days": 365}, at=NOW)
    assert versions.end(wallet, at=LATER) == first
    assert versions.end(wallet, at=LATER) is None
    assert versions.in_force(wallet.versions.all(), LATER - TICK) == first
    assert versions.in_force(wallet.versions.all(), LATER) is None
    with pytest.raises(versions.VersionOverlap):
        versions.publish(wallet, {"expiry_days": 30}, at=LATER - TICK)
    second = versions.publish(wallet, {"expiry_days": 30}, at=LATER)
    assert versions.in_force(wallet.versions.all(), LATER) == second
    with pytest.raises(versions.VersionOverlap):
        versions.end(wallet, at=LATER)
    with pytest.raises(IntegrityError, match="is retired"), transaction.atomic():
        WalletVersion.objects.filter(pk=first.pk).update(ended_at=None)
    with pytest.raises(IntegrityError, match="is published"), transaction.atomic():
        WalletVersion.objects.filter(pk=second.pk).update(ended_at=LATER + TICK)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE points_walletversion SET definition = '{}'",
        "UPDATE points_walletversion SET effective_at = now()",
        "UPDATE points_walletversion SET status = 'draft'",
        "DELETE FROM points_walletversion",
    ],
)
def test_the_database_refuses_to_change_a_published_version(wallet: Wallet, statement: str) -> None:
    versions.publish(wallet, {"expiry_days": 365}, at=NOW)
    with pytest.raises(IntegrityError, match="refused"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert WalletVersion.objects.get().definition == {"expiry_days": 365}


def test_publishing_locks_the_program_and_then_the_owner(wallet: Wallet) -> None:
    with CaptureQueriesContext(connection) as queries:
        versions.publish(wallet, {"expiry_days": 365}, at=NOW)
    statements = [query["sql"] for query in queries if not query["sql"].startswith("SAVEPOINT")]
    assert statements[0].startswith('UPDATE "core_program"')
    assert '"points_wallet"' in statements[1]
    assert statements[1].endswith("FOR NO KEY UPDATE")


@pytest.mark.django_db(transaction=True)
def test_versions_published_at_once_follow_each_other() -> None:
    program = Program.objects.create(code="aurora", name="Aurora", currency="GBP", time_zone="UTC")
    wallet = Wallet.objects.create(program=program, code="points", name="Points")
    instants = [NOW + timedelta(days=day) for day in range(4)]
    together = threading.Barrier(len(instants), timeout=30)

    def publish(at: datetime) -> bool:
        try:
            together.wait()
            versions.publish(wallet, {"expiry_days": 1 + at.day}, at=at)
        except versions.VersionOverlap:
            return False  # one that takes effect later came first
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(len(instants)) as pool:
        published = list(pool.map(publish, instants)).count(True)
    rows = list(wallet.versions.values_list("number", "status"))
    assert rows == [(n, "retired") for n in range(1, published)] + [(published, "published")]
