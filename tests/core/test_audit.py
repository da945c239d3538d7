"""The audit trail says who changed what, and nobody can change the trail."""

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction

from core.models import AuditEntry, Program
from core.services import audit
from tests.core.conftest import NOW


@pytest.fixture
def entry(program: Program) -> AuditEntry:
    return audit.record(
        action="program.changed",
        target="program aurora",
        actor="operator",
        at=NOW,
        user=User.objects.create(username="operator"),
        program=program,
        reason="A new name",
        before={"name": "Aurora"},
        after={"name": "Borealis"},
    )


def test_an_entry_keeps_who_what_why_before_and_after(entry: AuditEntry) -> None:
    stored = AuditEntry.objects.get()
    assert (stored.action, stored.target, stored.actor) == ("program.changed", "program aurora", "operator")
    assert stored.user == User.objects.get()
    assert (stored.reason, stored.before, stored.after) == ("A new name", {"name": "Aurora"}, {"name": "Borealis"})
    assert stored.recorded_at == NOW


@pytest.mark.parametrize(
    "statement",
    ["UPDATE core_auditentry SET actor = 'nobody'", "DELETE FROM core_auditentry", "TRUNCATE core_auditentry"],
)
def test_the_database_refuses_to_change_the_trail(entry: AuditEntry, statement: str) -> None:
    with connection.cursor() as cursor:
        # Checks put off to the end would refuse TRUNCATE for a reason of their own.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            cursor.execute(statement)
    assert AuditEntry.objects.get().actor == "operator"
