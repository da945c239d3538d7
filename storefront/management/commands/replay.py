"""`manage.py replay DIR --program FILE`: a data set through the same services that everything else uses."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connection

from core.management.arguments import argument
from core.schema import require_schema
from core.sections import ProgramFileError
from core.versions import VersionOverlap
from membership.services.facts import BadFact, FactConflict
from storefront.management.console import Console
from storefront.replay.files import UnreadableFile, instant
from storefront.replay.report import iter_lines
from storefront.replay.run import BadRows, DeliveryFailed, replay
from storefront.services import program_file

# More problems than this do not help; the rest is counted.
SHOWN_PROBLEMS = 20
REJECTS = Path("rejects.csv")
STDOUT = Path("-")


def as_of(text: str) -> tuple[str, datetime]:
    """Read an --as-of value; the report keeps it as it was written."""
    return text, instant(text)


@contextmanager
def _one_sentence(code: str = "") -> Iterator[None]:
    """Turn what a user can mend into the command's refusal."""
    try:
        with connection.wrap_database_errors:  # COPY goes past Django, which would do this
            yield
    except BadRows as error:
        raise CommandError(_describe(error)) from error
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be written: {error.strerror}") from error
    except (OperationalError, InterfaceError) as error:
        reason = str(error).partition("\n")[0]
        raise CommandError(f"The database failed: {reason}. Replay with --into {code} to go on.") from error
    except (UnreadableFile, ProgramFileError, VersionOverlap, BadFact, FactConflict, DeliveryFailed) as error:
        raise CommandError(str(error)) from error


class Command(BaseCommand):
    """Load a data set into a program and report tiers, points and retention."""

    help = "Replays orders and refunds from DIR through the services into a program, and reports what came out."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the data set, the program and the outputs."""
        parser.add_argument("directory", type=Path, metavar="DIR", help="The folder with orders.csv.gz and more")
        parser.add_argument("--program", type=Path, required=True, metavar="FILE", help="The program file, in YAML")
        parser.add_argument("--as-of", type=argument(as_of), nargs="+", action="extend", default=[], metavar="INSTANT")
        parser.add_argument("--json", type=Path, metavar="OUT", help="Where to write the report as JSON (- for stdout)")
        parser.add_argument("--into", metavar="CODE", help="The program to load into (default: a fresh one)")
        parser.add_argument("--skip-bad", action="store_true", help="Leave malformed rows out, into the rejects file")
        parser.add_argument("--rejects", type=Path, default=REJECTS, metavar="FILE", help=f"Default: {REJECTS}")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the replay and print or write its report."""
        require_schema()
        at = datetime.now(UTC)
        target: Path | None = options["json"]
        with _one_sentence():
            if target and target != STDOUT:
                target.open("a").close()  # a place that cannot be written to is better known before the work
            file = program_file.load(options["program"])
            code = options["into"] or f"{file.program.code[:40]}-{at:%Y%m%d%H%M%S%f}"
        with _one_sentence(code), closing(Console(sys.stderr)) as console:
            found = replay(
                directory=options["directory"],
                file=program_file.load(options["program"], code=code),
                as_of=options["as_of"],
                rejects=options["rejects"] if options["skip_bad"] else None,
                at=at,
                progress=console,
            )
            found |= console.usage()
        if found["rejected"]:
            self.stderr.write(f"{found['rejected']} malformed row(s) were left out, see {options['rejects']}")
        self._write(found, target)

    def _write(self, found: dict[str, Any], target: Path | None) -> None:
        text = json.dumps(found, indent=1)
        if target == STDOUT:
            self.stdout.write(text)
            return
        if target:
            target.write_text(text + "\n")
        self.stdout.write("\n".join(iter_lines(found)))
        self.stdout.write(f"Program {found['program']}: {found['seconds']} s, peak memory {found['peak_rss_mb']} MB.")


def _describe(error: BadRows) -> str:
    shown = [str(problem) for problem in error.problems[:SHOWN_PROBLEMS]]
    more = len(error.problems) - len(shown)
    rest = [f"... and {more} more"] if more > 0 else []
    return "\n".join(["Nothing was loaded: the data set has malformed rows.", *shown, *rest])
