"""Many wrong codes: what is counted in Redis, beside the database, becomes news like any other."""

from datetime import datetime

from django.db import transaction

from core.services import outbox

GUESSED = "coupons.codes_guessed"


@transaction.atomic
def publish_alarm(*, program_id: int, wrong_codes: int, at: datetime) -> None:
    """Publish that more than so many wrong codes of a program were tried within a minute."""
    outbox.publish(program_id=program_id, topic=GUESSED, payload={"wrong_codes": wrong_codes}, at=at)
