import threading
from datetime import UTC, datetime
import pytest
from django.db import connections
from core.services import idempotency
from core.models import Program
from tests.api.client import in_parallel
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)

@pytest.mark.django_db(transaction=True)
def test_race():
    p = Program.objects.create(code="x", name="x", currency="GBP", time_zone="UTC", created_at=NOW) if True else None
    errors = []
    def go():
        for i in range(300):
            try:
                b = idempotency.begin(program_id=p.pk, caller="key", key="k", request_digest=b"x"*32, at=NOW)
                if isinstance(b, idempotency.Lease):
                    idempotency.release(b)
            except idempotency.InFlight:
                pass
            except Exception as e:
                errors.append(repr(e)[:150])
    in_parallel([go]*8)
    print(len(errors), errors[:2])
