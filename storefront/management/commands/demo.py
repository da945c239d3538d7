"""`manage.py demo`: the demo program with the shipped sample of real orders."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from core.schema import require_schema
from storefront.management.console import Console
from storefront.replay.report import iter_lines
from storefront.replay.run import replay
from storefront.services import program_file

PROJECT = Path(__file__).parents[3]


class Command(BaseCommand):
    """Load the demo, or complete it, and report; what is loaded already stays as it is."""

    help = "Replays the shipped sample of real orders into the demo program and reports tiers, points and retention."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Replay the sample into the program of programs/aurora.yaml."""
        require_schema()
        console = Console(sys.stderr)
        try:
            found = replay(
                directory=PROJECT / "samples" / "online_retail",
                file=program_file.load(PROJECT / "programs" / "aurora.yaml"),
                as_of=[],
                rejects=None,
                at=datetime.now(UTC),
                progress=console,
            )
            found |= console.usage()
        finally:
            console.close()
        self.stdout.write("\n".join(iter_lines(found)))
        self.stdout.write(f"Program {found['program']}: {found['seconds']} s.")
