"""A worker of its own process for the tests: it delivers one receipt and stops in the middle of the handler.

The handler writes its effect, says so on standard output, and waits there for as long as the test lets it live.
"""

import os
import sys
from datetime import datetime
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"

import django

django.setup()

from core import events  # noqa: E402 needs the settings
from core.services import outbox  # noqa: E402
from tests.core import effects  # noqa: E402


def stop_in_the_middle(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    effects.record_effect(program_id=program_id, payload=payload, at=at)
    sys.stdout.write("in the middle\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    topic, name, at = sys.argv[1:]
    events.subscribe(topic, name=name)(stop_in_the_middle)
    outbox.deliver(at=datetime.fromisoformat(at), limit=1)
