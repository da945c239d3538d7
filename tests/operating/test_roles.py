"""The application's own database role: it can do its work, and cannot touch what is written for ever."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction

from core.models import Program
from core.services import outbox, roles
from points.services.expiry import settle_due
from points.services.verify import verify
from tests.architecture.test_models import APPEND_ONLY
from tests.operating.conftest import open_shop
from tests.storefront.shop import DAY, LATER, NOW, order, redeem, refund, tell

ROLE = "perennial_application"


@pytest.fixture
def role(db: None) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {ROLE}")
    roles.grant_application(role=ROLE)
    return ROLE


@contextmanager
def acting_as(role: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {role}")
        try:
            yield
        finally:
            cursor.execute("RESET ROLE")


def attempt(sql: str) -> str:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)
    except ProgrammingError as error:
        return str(error)
    return ""


def test_the_application_does_its_work(shop: Program, role: str) -> None:
    with acting_as(role):
        tell(shop, *(order(f"O{n}", (1, 1_000), at=LATER) for n in range(120)))
        tell(shop, refund("S", ("O1.1", 1, 1_000), at=LATER + DAY))
        redeem(shop, 5, at=LATER + DAY)
        settle_due(program=shop, through=NOW, at=NOW)
        assert not roles.owns_tables()
        assert list(verify(program=shop)) == []


@pytest.mark.parametrize("table", sorted(APPEND_ONLY))
def test_the_application_cannot_change_what_is_written_for_ever(shop: Program, role: str, table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    changes = [f"UPDATE {table} SET id = id", f"DELETE FROM {table}", f"TRUNCATE {table}"]
    with acting_as(role):
        refusals = [attempt(change) for change in [*changes, f"ALTER TABLE {table} ENABLE TRIGGER USER"]]
    assert ["permission denied" in refusal or "must be owner" in refusal for refusal in refusals] == [True] * 4
    # The control: the owner, whom only the triggers stop.
    assert attempt(f"UPDATE {table} SET id = id") == ""


def test_granting_again_takes_away_what_was_given_besides(shop: Program, role: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"GRANT ALL ON points_ledgerentry TO {role}")
    roles.grant_application(role=role)
    with acting_as(role):
        assert "permission denied" in attempt("DELETE FROM points_ledgerentry")


def test_a_role_that_is_not_there_is_refused(db: None) -> None:
    with pytest.raises(CommandError, match="CREATE ROLE it first"):
        call_command("grant_application", "nobody-of-that-name")


def test_the_outbox_is_delivered_by_the_application(transactional_db: None, tmp_path: Path) -> None:
    program = open_shop(tmp_path)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {ROLE}")
    try:
        roles.grant_application(role=ROLE)
        with acting_as(ROLE):
            assert outbox.drain(at=NOW).failed == 0
        assert Program.objects.get(pk=program.pk).opened_at == NOW
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")
