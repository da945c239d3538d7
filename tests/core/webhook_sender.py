"""A sender of its own process for the tests: it claims and sends one delivery, and is killed before it writes so."""

import os
import sys
from datetime import datetime

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"

import django

django.setup()

from core.services import webhook_sending  # noqa: E402 needs the settings

if __name__ == "__main__":
    at = datetime.fromisoformat(sys.argv[1])
    (claimed,) = webhook_sending.claim(at=at, limit=1)
    outcome = webhook_sending.send(claimed, clock=lambda: at)
    sys.stdout.write(f"sent {outcome.status}\n")
    sys.stdout.flush()
    sys.stdin.read()
