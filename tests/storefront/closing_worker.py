"""A process that closes a program's oldest due day and kills itself before its n-th statement on the database.

A statement may stand anywhere: before a transaction, within one, or between a batch and the note of its progress.
"""

import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"

import django

django.setup()

from django.db import connection  # noqa: E402 needs the settings

from core.models import Program  # noqa: E402
from storefront.services import day_close  # noqa: E402


class Killer:
    """Counts statements, and is deadly at one of them."""

    def __init__(self, deadly: int) -> None:
        self.deadly, self.count = deadly, 0

    def __call__(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*arguments)


if __name__ == "__main__":
    code, at, deadly = sys.argv[1], datetime.fromisoformat(sys.argv[2]), int(sys.argv[3])
    program = Program.objects.get(code=code)
    killer = Killer(deadly)
    with connection.execute_wrapper(killer):
        day = day_close.list_due_days(program=program, at=at)[0]
        day_close.close_day(program=program, day=day, at=at)
    sys.stdout.write(f"{killer.count}\n")
