"""A worker of its own process for the tests: it announces, says so, and is killed before it commits."""

import os
import sys
from datetime import datetime
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"

import django

django.setup()

from core import events  # noqa: E402 needs the settings
from core.services import outbox  # noqa: E402


def stop_after(handler: events.Handler) -> events.Handler:
    def announce_and_stop(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
        handler(program_id=program_id, payload=payload, at=at)
        sys.stdout.write("announced\n")
        sys.stdout.flush()
        sys.stdin.read()

    return announce_and_stop


if __name__ == "__main__":
    topic, at = sys.argv[1], datetime.fromisoformat(sys.argv[2])
    events._handlers[topic]["storefront.announce"] = stop_after(events.get_handler(topic, "storefront.announce"))
    while outbox.deliver(at=at, limit=1).done:
        """Go on to the receipt that stops."""
